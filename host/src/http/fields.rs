//! The field section of a message: names and values in one buffer, in order.
//!
//! Made for heads of some ten fields that are read, edited a little and forwarded: no hash table, no
//! allocation per field, and none at all once a section is reused. Names are kept in lower case, as
//! HTTP/2 wants them and HTTP/1 allows (RFC 9110 section 5.1). What may be edited by whom is the
//! matter of `edit`, not of this file.

/// A field name, any case, with its hash: build it once, look it up often.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    text: &'a [u8],
    key: u32,
}

/// The text is not a field name: a token of at most 65,535 bytes (RFC 9110 section 5.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a field name")]
pub struct InvalidName;

impl<'a> Name<'a> {
    /// A name known when this program is compiled; anything but a token fails to compile when the
    /// result is a constant.
    pub const fn known(text: &'static str) -> Name<'static> {
        match Name::new(text.as_bytes()) {
            Some(name) => name,
            None => panic!("a known field name is a token"),
        }
    }

    /// Checks that `text` is a token.
    pub fn parse(text: &'a [u8]) -> Result<Self, InvalidName> {
        Name::new(text).ok_or(InvalidName)
    }

    /// The name as it was given, any case.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.text
    }

    const fn new(text: &[u8]) -> Option<Name<'_>> {
        if text.is_empty() || text.len() > u16::MAX as usize {
            return None;
        }
        let mut key = HASH_START;
        let mut at = 0;
        while at < text.len() {
            let lower = TOKEN_LOWER[text[at] as usize];
            if lower == 0 {
                return None;
            }
            key = hash_step(key, lower);
            at += 1;
        }
        Some(Name { text, key })
    }

    fn is(&self, lower: &[u8]) -> bool {
        self.text.eq_ignore_ascii_case(lower)
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.text.eq_ignore_ascii_case(other.text)
    }
}

impl Eq for Name<'_> {}

/// Is every byte one that a token may have (RFC 9110 section 5.6.2), and is there one?
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN_LOWER[*byte as usize] != 0)
}

/// May these bytes stand in a field value (RFC 9110 section 5.5)? Visible ASCII, blank, tab and
/// obs-text; no other control byte.
pub fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

/// `value` without leading and trailing blanks and tabs (OWS, RFC 9110 section 5.6.3).
pub fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// An ordered list of field lines. The default is empty and allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    arena: Vec<u8>,
    lines: Vec<Line>,
    /// Bytes of live names and values.
    live: usize,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    key: u32,
    name_length: u16,
    name: u32,
    value: u32,
    value_length: u32,
}

/// Dead bytes in the arena beyond which it is rebuilt, so that edits in a loop stay bounded.
const DEAD_BYTES_MAX: usize = 64 * 1024;

impl Fields {
    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// No field lines?
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Size of the section as HTTP/1 writes it: names, values, and four bytes a line (`: ` and CRLF).
    pub fn wire_bytes(&self) -> usize {
        self.live + 4 * self.lines.len()
    }

    /// Drops every line and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.lines.clear();
        self.live = 0;
    }

    /// Every line in order: lower-case name, value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.name_of(line), self.value_of(line)))
    }

    /// The first value of `name`.
    pub fn get(&self, name: Name<'_>) -> Option<&[u8]> {
        self.lines.iter().find(|line| self.matches(line, name)).map(|line| self.value_of(line))
    }

    /// Every value of `name`, in order.
    pub fn get_all<'f>(&'f self, name: Name<'f>) -> impl Iterator<Item = &'f [u8]> {
        self.lines
            .iter()
            .filter(move |line| self.matches(line, name))
            .map(|line| self.value_of(line))
    }

    /// Is there a line of this name?
    pub fn contains(&self, name: Name<'_>) -> bool {
        self.get(name).is_some()
    }

    /// Adds a line behind the others. The value is taken as it is: check it with [`is_value`] where
    /// it comes from outside.
    pub fn append(&mut self, name: Name<'_>, value: &[u8]) {
        self.compact_if_wasteful();
        let start = self.arena.len();
        self.arena.extend(name.text.iter().map(u8::to_ascii_lowercase));
        let value_start = self.arena.len();
        self.arena.extend_from_slice(value);
        self.live += name.text.len() + value.len();
        self.lines.push(Line {
            key: name.key,
            name_length: name.text.len() as u16,
            name: start as u32,
            value: value_start as u32,
            value_length: value.len() as u32,
        });
    }

    /// Puts one line in place of every line of `name`: where the first one stood, or at the end.
    pub fn set(&mut self, name: Name<'_>, value: &[u8]) {
        let Some(first) = self.lines.iter().position(|line| self.matches(line, name)) else {
            return self.append(name, value);
        };
        self.remove_from(first + 1, name);
        self.compact_if_wasteful();
        let value_start = self.arena.len() as u32;
        self.arena.extend_from_slice(value);
        let line = &mut self.lines[first];
        self.live = self.live - line.value_length as usize + value.len();
        line.value = value_start;
        line.value_length = value.len() as u32;
    }

    /// Removes every line of `name`. Was there one?
    pub fn remove(&mut self, name: Name<'_>) -> bool {
        self.remove_from(0, name)
    }

    /// Keeps the lines for which `keep(name, value)` holds; names are in lower case.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Fields { arena, lines, live } = self;
        lines.retain(|line| {
            let kept = keep(
                slice(arena, line.name, line.name_length.into()),
                slice(arena, line.value, line.value_length),
            );
            if !kept {
                *live -= line.bytes();
            }
            kept
        });
    }

    fn remove_from(&mut self, start: usize, name: Name<'_>) -> bool {
        let Fields { arena, lines, live } = self;
        let before = lines.len();
        let mut at = 0;
        lines.retain(|line| {
            let here = at;
            at += 1;
            let hit = here >= start
                && line.key == name.key
                && name.is(slice(arena, line.name, line.name_length.into()));
            if hit {
                *live -= line.bytes();
            }
            !hit
        });
        lines.len() != before
    }

    fn compact_if_wasteful(&mut self) {
        if self.arena.len() > self.live + DEAD_BYTES_MAX {
            let old = std::mem::take(self);
            for line in &old.lines {
                let name = Name { text: old.name_of(line), key: line.key };
                self.append(name, old.value_of(line));
            }
        }
    }

    fn matches(&self, line: &Line, name: Name<'_>) -> bool {
        line.key == name.key && name.is(self.name_of(line))
    }

    fn name_of(&self, line: &Line) -> &[u8] {
        slice(&self.arena, line.name, line.name_length.into())
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        slice(&self.arena, line.value, line.value_length)
    }
}

impl Line {
    fn bytes(&self) -> usize {
        self.name_length as usize + self.value_length as usize
    }
}

fn slice(arena: &[u8], start: u32, length: u32) -> &[u8] {
    &arena[start as usize..start as usize + length as usize]
}

/// FNV-1a, 32 bits: one multiplication a byte, and names are short.
const HASH_START: u32 = 0x811c_9dc5;

const fn hash_step(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

/// For every byte: its lower case if a token may have it, else 0.
static TOKEN_LOWER: [u8; 256] = token_lower();

const fn token_lower() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let this = byte as u8;
        if this.is_ascii_alphanumeric()
            || matches!(
                this,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[byte] = this.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(lines: &[(&'static str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(Name::known(name), value.as_bytes());
        }
        fields
    }

    fn text(fields: &Fields) -> Vec<(String, String)> {
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.iter().map(|(name, value)| (owned(name), owned(value))).collect()
    }

    #[test]
    fn names_are_lower_case_and_compare_without_case() {
        let fields = section(&[("X-Tenant", "a"), ("x-other", "b"), ("X-TENANT", "c")]);
        assert_eq!(fields.get(Name::known("x-TeNaNt")), Some(&b"a"[..]));
        let all: Vec<_> = fields.get_all(Name::known("x-tenant")).collect();
        assert_eq!(all, [b"a", b"c"]);
        assert_eq!(text(&fields)[0].0, "x-tenant");
    }

    #[test]
    fn set_replaces_every_line_in_the_place_of_the_first() {
        let mut fields = section(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5")]);
        fields.set(Name::known("A"), b"x");
        let expected = [("a", "x"), ("b", "2"), ("c", "4")];
        assert_eq!(text(&fields), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        fields.set(Name::known("d"), b"new");
        assert_eq!(fields.len(), 4);
        assert_eq!(fields.wire_bytes(), "a: x\r\nb: 2\r\nc: 4\r\nd: new\r\n".len());
    }

    #[test]
    fn remove_says_whether_there_was_one() {
        let mut fields = section(&[("a", "1"), ("b", "2"), ("a", "3")]);
        assert!(fields.remove(Name::known("a")));
        assert!(!fields.remove(Name::known("a")));
        assert_eq!(fields.wire_bytes(), "b: 2\r\n".len());
        fields.retain(|name, _| name != b"b");
        assert!(fields.is_empty());
        assert_eq!(fields.wire_bytes(), 0);
    }

    #[test]
    fn a_name_is_a_token() {
        for good in ["a", "X-Y_z", "!#$%&'*+-.^_`|~0"] {
            assert!(Name::parse(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:", "ä", "a\r", "(", "\""] {
            assert_eq!(Name::parse(bad.as_bytes()), Err(InvalidName), "{bad}");
        }
        let longest = "a".repeat(65_535);
        assert!(Name::parse(longest.as_bytes()).is_ok());
        assert!(Name::parse(format!("{longest}a").as_bytes()).is_err());
    }

    #[test]
    fn a_value_has_no_control_bytes() {
        assert!(is_value(b"a\tb c\xff"));
        for bad in [&b"\r"[..], b"\n", b"\0", b"\x7f", b"\x1b"] {
            assert!(!is_value(bad));
        }
        assert_eq!(trim(b" \t a b \t"), b"a b");
        assert_eq!(trim(b" \t "), b"");
    }

    #[test]
    fn edits_in_a_loop_stay_bounded() {
        let mut fields = section(&[("a", "1"), ("b", "2")]);
        let value = vec![b'x'; 4096];
        for _ in 0..1_000 {
            fields.set(Name::known("a"), &value);
        }
        assert!(fields.arena.capacity() < 4 * DEAD_BYTES_MAX);
        assert_eq!(fields.get(Name::known("b")), Some(&b"2"[..]));
        assert_eq!(fields.get(Name::known("a")), Some(&value[..]));
    }
}
