//! The `tracestate` field: what other tracing systems pass along with a trace.
//!
//! The filter adds no entry of its own. It checks the list, combines several lines into one, and
//! cuts whole entries where the list is longer than configured. It is asked only for a valid
//! `traceparent`.

use alloc::string::String;
use alloc::vec::Vec;

/// Entries that a list may have.
const MEMBERS_MAX: usize = 32;
/// Characters of a key, and of a value.
const PART_MAX: usize = 256;
/// Entries longer than this go first when the list must be cut.
const LONG_MEMBER: usize = 128;

/// What becomes of the field.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TraceState {
    /// There is none, or it goes on as it is.
    Untouched,
    /// It is invalid or empty.
    Remove,
    /// It goes on as this one line.
    Replace(String),
}

/// Judge the field lines of a request whose `traceparent` is valid; `length_max` is the longest
/// value that is passed on.
pub(crate) fn pass_on(lines: &[String], length_max: usize) -> TraceState {
    if lines.is_empty() {
        return TraceState::Untouched;
    }
    let Some(mut members) = members(lines) else { return TraceState::Remove };
    if members.is_empty() {
        return TraceState::Remove;
    }
    if let [line] = lines
        && line.len() <= length_max
    {
        return TraceState::Untouched;
    }
    cut(&mut members, length_max);
    if members.is_empty() { TraceState::Remove } else { TraceState::Replace(members.join(",")) }
}

/// The entries of all lines in order, without empty ones; none if one is invalid or they are too
/// many.
fn members(lines: &[String]) -> Option<Vec<&str>> {
    let mut members = Vec::new();
    for member in lines.iter().flat_map(|line| line.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        if members.len() == MEMBERS_MAX || !is_member(member) {
            return None;
        }
        members.push(member);
    }
    Some(members)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    is_key(key.as_bytes()) && is_value(value.as_bytes())
}

fn is_key(key: &[u8]) -> bool {
    let starts = matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'));
    let belongs =
        |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    starts && key.len() <= PART_MAX && key.iter().all(belongs)
}

fn is_value(value: &[u8]) -> bool {
    let belongs = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b',' && *byte != b'=';
    !value.is_empty() && value.len() <= PART_MAX && value.iter().all(belongs)
}

/// Drop whole entries until the list fits: long ones first, then others, each from the end.
fn cut(members: &mut Vec<&str>, length_max: usize) {
    let mut length = members.iter().map(|member| member.len() + 1).sum::<usize>() - 1;
    let mut drop_last = |members: &mut Vec<&str>, long_only: bool| {
        while length > length_max {
            let droppable = |member: &&str| !long_only || member.len() > LONG_MEMBER;
            let Some(last) = members.iter().rposition(droppable) else { return };
            length = length.saturating_sub(members.remove(last).len() + 1);
        }
    };
    drop_last(members, true);
    drop_last(members, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(lines: &[&str]) -> TraceState {
        pass_within(lines, 512)
    }

    fn pass_within(lines: &[&str], length_max: usize) -> TraceState {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        pass_on(&lines, length_max)
    }

    fn replaced(text: &str) -> TraceState {
        TraceState::Replace(text.to_owned())
    }

    #[test]
    fn a_valid_line_stays_as_it_is() {
        for line in [
            "rojo=00f067aa0ba902b7",
            "rojo=1,congo=t61rcWkgMzE",
            "a=1 , b=2\t,,c=3",
            "0tenant@vendor/x_y-z*=a b!~",
            "foo= leading blanks belong to the value",
            "a=1,a=2",
        ] {
            assert_eq!(pass(&[line]), TraceState::Untouched, "{line}");
        }
        assert_eq!(pass(&[]), TraceState::Untouched);
    }

    #[test]
    fn several_lines_become_one() {
        assert_eq!(pass(&["a=1", "b=2, c=3"]), replaced("a=1,b=2,c=3"));
        assert_eq!(pass(&["a=1", "", " ,"]), replaced("a=1"));
    }

    #[test]
    fn an_invalid_entry_drops_the_whole_list() {
        for line in [
            "foo",
            "foo=",
            "=1",
            "foo=1=2",
            "Foo=1",
            "_foo=1",
            "foo bar=1",
            "foo =1",
            "foo=\u{e9}",
            "foo=1,bar",
            "foo=a\tb",
        ] {
            assert_eq!(pass(&[line]), TraceState::Remove, "{line}");
        }
        assert_eq!(pass(&["a=1", "b"]), TraceState::Remove);
    }

    #[test]
    fn an_empty_list_is_not_sent() {
        assert_eq!(pass(&[""]), TraceState::Remove);
        assert_eq!(pass(&[" , ,", ""]), TraceState::Remove);
    }

    #[test]
    fn a_list_has_at_most_32_entries() {
        let list = |count: usize| {
            (0..count).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(pass(&[&list(31)]), TraceState::Untouched);
        assert_eq!(pass(&[&list(32)]), TraceState::Untouched);
        assert_eq!(pass(&[&list(33)]), TraceState::Remove);
        assert_eq!(pass(&[&list(20), &list(13)]), TraceState::Remove);
        assert_eq!(pass(&[&format!("{},,", list(32))]), TraceState::Untouched);
    }

    #[test]
    fn keys_and_values_have_at_most_256_characters() {
        for (length, valid) in [(255, true), (256, true), (257, false)] {
            let part = "a".repeat(length);
            for line in [format!("{part}=1"), format!("k={part}")] {
                assert_eq!(pass(&[&line]) == TraceState::Untouched, valid, "{length}");
            }
        }
    }

    #[test]
    fn a_list_over_the_limit_loses_long_entries_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(124));
        assert_eq!(long.len(), 129);
        let edge = format!("edge={}", "x".repeat(123));
        assert_eq!(edge.len(), 128);
        let list = format!("a=1,{long},{edge},b=2");
        let exact = list.len();
        assert_eq!(pass_within(&[&list], exact), TraceState::Untouched);
        assert_eq!(pass_within(&[&list], exact + 1), TraceState::Untouched);
        assert_eq!(pass_within(&[&list], exact - 1), replaced(&format!("a=1,{edge},b=2")));
        assert_eq!(pass_within(&[&list], 136), replaced(&format!("a=1,{edge},b=2")));
        assert_eq!(pass_within(&[&list], 135), replaced(&format!("a=1,{edge}")));
        assert_eq!(pass_within(&[&list], 131), replaced("a=1"));
        assert_eq!(pass_within(&[&list], 2), TraceState::Remove);
    }
}
