//! Two texts side by side, line by line, short enough to be read.

/// Characters of a text that is told in a sentence.
const SHORT_CHARS_MAX: usize = 72;
/// Lines of either side that are shown.
const LINES_MAX: usize = 40;
/// Lines that both sides have, shown around what differs.
const CONTEXT_LINES: usize = 2;

/// Can it be told in a sentence?
pub(super) fn is_short(text: &str) -> bool {
    !text.contains('\n') && text.chars().count() <= SHORT_CHARS_MAX
}

/// The lines that differ, with `-` what was expected and with `+` what there was.
pub(super) fn diff(expected: &str, got: &str) -> Vec<String> {
    let (expected, got): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), got.lines().collect());
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(one, other)| one == other).count()
    };
    let head = same(&mut expected.iter().zip(&got));
    let (expected_rest, got_rest) = (&expected[head..], &got[head..]);
    let tail = same(&mut expected_rest.iter().rev().zip(got_rest.iter().rev()));
    let mut lines = Vec::new();
    let before = &expected[head.saturating_sub(CONTEXT_LINES)..head];
    if before.len() < head {
        lines.push(format!("  … {} lines alike", head - before.len()));
    }
    lines.extend(before.iter().map(|line| format!("  {line}")));
    for (sign, side) in [('-', expected_rest), ('+', got_rest)] {
        let differing = &side[..side.len() - tail];
        lines.extend(differing.iter().take(LINES_MAX).map(|line| format!("{sign} {line}")));
        if differing.len() > LINES_MAX {
            lines.push(format!("{sign} … {} more lines", differing.len() - LINES_MAX));
        }
    }
    let after = &expected_rest[expected_rest.len() - tail..];
    lines.extend(after.iter().take(CONTEXT_LINES).map(|line| format!("  {line}")));
    if after.len() > CONTEXT_LINES {
        lines.push(format!("  … {} lines alike", after.len() - CONTEXT_LINES));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_with_what_is_around_it() {
        let got = diff("a\nb\nc\nd\ne\nf\ng", "a\nb\nc\nX\nY\ne\nf\ng");
        let expected = [
            "  … 1 lines alike",
            "  b",
            "  c",
            "- d",
            "+ X",
            "+ Y",
            "  e",
            "  f",
            "  … 1 lines alike",
        ];
        assert_eq!(got, expected);
        assert_eq!(diff("a", "b"), ["- a", "+ b"]);
        assert_eq!(diff("", "b"), ["+ b"]);
        assert_eq!(diff("a\na", "a"), ["  a", "- a"]);
        assert!(diff("a", "a").iter().all(|line| line == "  a"));
    }

    #[test]
    fn long_differences_are_cut() {
        for (lines, cut) in [(LINES_MAX - 1, false), (LINES_MAX, false), (LINES_MAX + 1, true)] {
            let shown = diff("a", &"b\n".repeat(lines));
            assert_eq!(shown.iter().any(|line| line == "+ … 1 more lines"), cut, "{lines}");
            assert_eq!(shown.len(), 1 + lines.min(LINES_MAX) + usize::from(cut));
        }
    }

    #[test]
    fn a_sentence_has_a_limit() {
        for (chars, short) in
            [(SHORT_CHARS_MAX - 1, true), (SHORT_CHARS_MAX, true), (SHORT_CHARS_MAX + 1, false)]
        {
            assert_eq!(is_short(&"ü".repeat(chars)), short);
        }
        assert!(!is_short("a\nb"));
    }
}
