//! The field section of a message: its lines in one buffer, in order, as HTTP/1 writes them.
//!
//! Made for heads of some ten fields that are read, edited a little and forwarded: no hash table, no
//! allocation per field, and none at all once a section is reused; to forward them is to copy a run of
//! bytes. Names are kept in lower case, as HTTP/2 wants them and HTTP/1 allows (RFC 9110 section 5.1).
//! What may be edited by whom is the matter of `edit`, not of this file.

/// A field name, any case, with what tells it from most others: build it once, look it up often.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    text: &'a [u8],
    key: u32,
    /// Union of the classes of its bytes.
    classes: u8,
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

    /// The name at the beginning of `text`, and what follows it: nothing, or a byte no name has.
    pub fn split(text: &'a [u8]) -> Result<(Self, &'a [u8]), InvalidName> {
        let mut classes = 0;
        let mut end = 0;
        for byte in text {
            let class = CLASSES[*byte as usize];
            if class & NO_TOKEN != 0 {
                break;
            }
            classes |= class;
            end += 1;
        }
        if end == 0 || end > u16::MAX as usize {
            return Err(InvalidName);
        }
        let (text, rest) = text.split_at(end);
        Ok((Name { text, key: key(text), classes }, rest))
    }

    /// The name as it was given, any case.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.text
    }

    /// Does it have a `_`, which some servers read as `-`?
    pub fn has_underscore(&self) -> bool {
        self.classes & UNDERSCORE != 0
    }

    const fn new(text: &[u8]) -> Option<Name<'_>> {
        if text.is_empty() || text.len() > u16::MAX as usize {
            return None;
        }
        let mut classes = 0;
        let mut at = 0;
        while at < text.len() {
            classes |= CLASSES[text[at] as usize];
            at += 1;
        }
        if classes & NO_TOKEN != 0 {
            return None;
        }
        Some(Name { text, key: key(text), classes })
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
    !text.is_empty() && text.iter().all(|byte| CLASSES[*byte as usize] & NO_TOKEN == 0)
}

/// May these bytes stand in a field value (RFC 9110 section 5.5)? Visible ASCII, blank, tab and
/// obs-text; no other control byte.
pub fn is_value(value: &[u8]) -> bool {
    let (words, rest) = value.as_chunks::<8>();
    let words = words.iter().fold(0, |bad, word| bad | controls(u64::from_le_bytes(*word)));
    let control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
    words == 0
        && match value.last_chunk::<8>() {
            // The rest, and some bytes before it once more.
            Some(last) => controls(u64::from_le_bytes(*last)) == 0,
            None => !rest.iter().any(control),
        }
}

/// The highest bit of each byte that is a control other than a tab. No sum carries from one byte into
/// the next.
const fn controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = 0x80 * ONES;
    const LOW: u64 = 0x7f * ONES;
    let low = word & LOW;
    let from_blank = low + 0x60 * ONES;
    let no_tab = (low ^ (0x09 * ONES)) + LOW;
    let no_delete = (low ^ LOW) + LOW;
    ((!from_blank & no_tab) | !no_delete) & !word & HIGH
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
    /// Bytes of the arena that lines have.
    live: usize,
}

/// Where `name: value` and CRLF stand in the arena.
#[derive(Clone, Copy, Debug)]
struct Line {
    key: u32,
    start: u32,
    value_length: u32,
    name_length: u16,
}

/// Between name and value.
const COLON: &[u8; 2] = b": ";
/// Behind the value.
const LINE_END: &[u8; 2] = b"\r\n";

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
        self.live
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

    /// Every line in order as HTTP/1 writes it, in as few pieces as they stand in.
    pub fn wire(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.chunk_by(|line, next| line.end() == next.start as usize).map(|run| {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            &self.arena[first.start as usize..last.end()]
        })
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
        let line = self.write(name, value);
        self.lines.push(line);
    }

    /// Writes a line into the arena.
    fn write(&mut self, name: Name<'_>, value: &[u8]) -> Line {
        let start = self.arena.len();
        let line = Line {
            key: name.key,
            start: start as u32,
            value_length: value.len() as u32,
            name_length: name.text.len() as u16,
        };
        self.arena.reserve(line.bytes());
        self.arena.extend_from_slice(name.text);
        if name.classes & UPPER != 0 {
            self.arena[start..].make_ascii_lowercase();
        }
        self.arena.extend_from_slice(COLON);
        self.arena.extend_from_slice(value);
        self.arena.extend_from_slice(LINE_END);
        self.live += line.bytes();
        line
    }

    /// Puts one line in place of every line of `name`: where the first one stood, or at the end.
    pub fn set(&mut self, name: Name<'_>, value: &[u8]) {
        let Some(first) = self.lines.iter().position(|line| self.matches(line, name)) else {
            return self.append(name, value);
        };
        self.remove_from(first + 1, name);
        self.compact_if_wasteful();
        self.live -= self.lines[first].bytes();
        self.lines[first] = self.write(name, value);
    }

    /// Removes every line of `name`. Was there one?
    pub fn remove(&mut self, name: Name<'_>) -> bool {
        self.remove_from(0, name)
    }

    /// Removes every line of any of `names`.
    pub fn remove_all(&mut self, names: &[Name<'_>]) {
        let known = |line: &Line| names.iter().any(|name| name.key == line.key);
        if self.lines.iter().any(known) {
            for name in names {
                self.remove(*name);
            }
        }
    }

    /// Removes every line of `name`, and of what differs from it in `_` for `-` alone: some servers take
    /// that for the same name.
    pub fn remove_with_aliases(&mut self, name: Name<'_>) {
        let name = name.as_bytes();
        // Few names have the length, and mostly none has.
        if self.lines.iter().any(|line| usize::from(line.name_length) == name.len()) {
            let same = |one: u8, other: u8| one == other || (one, other) == (b'-', b'_');
            self.retain(|found, _| {
                found.len() != name.len() || !name.iter().zip(found).all(|(a, b)| same(*a, *b))
            });
        }
    }

    /// Lines of `name`, and their bytes as HTTP/1 writes them.
    pub fn weight(&self, name: Name<'_>) -> (usize, usize) {
        let of_name = self.lines.iter().filter(|line| self.matches(line, name));
        of_name.fold((0, 0), |(lines, bytes), line| (lines + 1, bytes + line.bytes()))
    }

    /// Keeps the lines for which `keep(name, value)` holds; names are in lower case.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Fields { arena, lines, live } = self;
        lines.retain(|line| {
            let kept = keep(line.name(arena), line.value(arena));
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
            let hit = here >= start && line.key == name.key && name.is(line.name(arena));
            if hit {
                *live -= line.bytes();
            }
            !hit
        });
        lines.len() != before
    }

    #[inline]
    fn compact_if_wasteful(&mut self) {
        if self.arena.len() > self.live + DEAD_BYTES_MAX {
            self.compact();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let old = std::mem::take(self);
        for line in &old.lines {
            let name = Name { text: old.name_of(line), key: line.key, classes: 0 };
            self.append(name, old.value_of(line));
        }
    }

    #[inline]
    fn matches(&self, line: &Line, name: Name<'_>) -> bool {
        line.key == name.key && self.has_name(line, name)
    }

    /// Of a line of the same key.
    fn has_name(&self, line: &Line, name: Name<'_>) -> bool {
        name.is(self.name_of(line))
    }

    fn name_of(&self, line: &Line) -> &[u8] {
        line.name(&self.arena)
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        line.value(&self.arena)
    }
}

impl Line {
    fn name<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start as usize..][..self.name_length.into()]
    }

    fn value<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize + usize::from(self.name_length) + COLON.len();
        &arena[start..][..self.value_length as usize]
    }

    fn bytes(&self) -> usize {
        let around = COLON.len() + LINE_END.len();
        usize::from(self.name_length) + self.value_length as usize + around
    }

    fn end(&self) -> usize {
        self.start as usize + self.bytes()
    }
}

/// Tells most names apart, whatever their case: made of length, beginning and end, which are two loads
/// and two multiplications for a name of any length. Names of one key are compared as a whole.
const fn key(text: &[u8]) -> u32 {
    let (first, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
            }
            _ => (text[0] as u64, text[text.len() - 1] as u64 | (text[text.len() / 2] as u64) << 8),
        },
    };
    // Bit 5 is the case of a letter.
    const ANY_CASE: u64 = 0x2020_2020_2020_2020;
    let mixed = (first | ANY_CASE).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (last | ANY_CASE).rotate_left(32).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ text.len() as u64;
    (mixed >> 32) as u32 ^ mixed as u32
}

/// Class of bytes that no token has.
const NO_TOKEN: u8 = 1;
/// Class of upper-case letters.
const UPPER: u8 = 2;
/// Class of `_`.
const UNDERSCORE: u8 = 4;

/// The class of every byte.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' => UPPER,
            b'_' => UNDERSCORE,
            b'a'..=b'z' | b'0'..=b'9' => 0,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`'
            | b'|' | b'~' => 0,
            _ => NO_TOKEN,
        };
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
    fn lines_stand_as_they_are_written_in_as_few_pieces_as_can_be() {
        let wire = |fields: &Fields| fields.wire().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut fields = section(&[("A", "1"), ("b", ""), ("c", "3"), ("d", "4")]);
        assert_eq!(wire(&fields), [b"a: 1\r\nb: \r\nc: 3\r\nd: 4\r\n"]);
        fields.remove(Name::known("b"));
        assert_eq!(wire(&fields), [&b"a: 1\r\n"[..], b"c: 3\r\nd: 4\r\n"]);
        fields.set(Name::known("C"), b"5");
        assert_eq!(wire(&fields), [&b"a: 1\r\n"[..], b"c: 5\r\n", b"d: 4\r\n"]);
        assert_eq!(fields.wire_bytes(), wire(&fields).concat().len());
        fields.compact();
        assert_eq!(wire(&fields), [b"a: 1\r\nc: 5\r\nd: 4\r\n"]);
        fields.clear();
        assert_eq!(wire(&fields), [[0; 0]; 0]);
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
    fn keys_do_not_depend_on_case() {
        for name in ["a", "te", "AbC", "host", "X-Tenant", "x-forwarded-for", "Content-Length"] {
            for other in [name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let [name, other] = [name, &other].map(|n| Name::parse(n.as_bytes()).unwrap());
                assert_eq!(name.key, other.key);
                assert_eq!(name, other);
            }
        }
        // Names of one key are still different names.
        let [one, other] = ["aaaaaaaa-b-cccccccc", "aaaaaaaa-d-cccccccc"].map(Name::known);
        assert_eq!(one.key, other.key);
        assert_ne!(one, other);
    }

    #[test]
    fn a_set_of_names_is_removed_and_the_rest_stays() {
        let mut fields = section(&[("a", "1"), ("b", "2"), ("A", "3"), ("c", "4")]);
        assert_eq!(fields.weight(Name::known("a")), (2, "a: 1\r\na: 3\r\n".len()));
        fields.remove_all(&[Name::known("c"), Name::known("a"), Name::known("d")]);
        assert_eq!(text(&fields), [("b".to_owned(), "2".to_owned())]);
        fields.remove_all(&[Name::known("x")]);
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn a_name_ends_where_no_token_goes_on() {
        let (name, rest) = Name::split(b"Host: a").unwrap();
        assert_eq!((name, rest), (Name::known("host"), &b": a"[..]));
        assert_eq!(Name::split(b"a_B").unwrap().0.as_bytes(), b"a_B");
        assert!(Name::split(b"a_B").unwrap().0.has_underscore());
        assert_eq!(Name::split(b"").unwrap_err(), InvalidName);
        assert_eq!(Name::split(b":").unwrap_err(), InvalidName);
        assert!(Name::split("a".repeat(65_535).as_bytes()).is_ok());
        assert!(Name::split("a".repeat(65_536).as_bytes()).is_err());
    }

    #[test]
    fn a_value_has_no_control_bytes() {
        assert!(is_value(b"a\tb c\xff") && is_value(b""));
        for (length, at) in (1..=17).flat_map(|length| (0..length).map(move |at| (length, at))) {
            // Neighbours that a sum could carry from, or into.
            for (neighbour, byte) in [b'a', b'\t', 0x7e, 0xff]
                .into_iter()
                .flat_map(|neighbour| (0..=u8::MAX).map(move |byte| (neighbour, byte)))
            {
                let mut value = vec![neighbour; length];
                value[at] = byte;
                let wanted = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
                assert_eq!(is_value(&value), wanted, "{value:?}");
            }
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
