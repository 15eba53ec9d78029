//! The grammar of JSON (RFC 8259): what comes next in a text.
//!
//! Nothing here is generic, so it is in a component once. Takes some liberties with numbers and control
//! characters, which the host does not use; any text is read without a panic. Knows nothing of serde.

use alloc::{
    borrow::{Cow, ToOwned},
    format,
};

use super::{Result, mistake::Mistake};

/// Lists and tables within one another.
const DEPTH_MAX: usize = 128;

/// A text, and how far it is read.
pub(super) struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: usize,
}

/// What comes next: a whole value, or the beginning of one with items.
pub(super) enum Token<'de> {
    Text(Cow<'de, str>),
    List,
    Table,
    Bool(bool),
    Null,
    Unsigned(u64),
    Signed(i64),
    /// As it is written.
    Float(&'de str),
}

impl<'de> Reader<'de> {
    pub(super) fn new(text: &'de str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The next byte that is no blank.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Takes this byte if it is the next.
    fn take(&mut self, wanted: u8) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    /// Takes this byte, which must be the next; `what` names it.
    pub(super) fn expect(&mut self, wanted: u8, what: &str) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.broken(what)) }
    }

    /// Takes a key, and the colon behind it.
    #[inline(never)]
    pub(super) fn key(&mut self) -> Result<Cow<'de, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.broken("a key"));
        }
        let key = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    #[cold]
    fn broken(&self, expected: &str) -> Mistake {
        Mistake::new(format!("not JSON: expected {expected} at byte {}", self.at))
    }

    /// Takes a word such as `true` if it is next.
    fn word(&mut self, word: &str) -> Result<()> {
        match self.rest().starts_with(word) {
            true => self.at += word.len(),
            false => return Err(self.broken("a value")),
        }
        Ok(())
    }

    fn rest(&self) -> &'de str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// There must be nothing more.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.peek().is_some() { Err(self.broken("the end")) } else { Ok(()) }
    }

    /// Takes what comes next.
    #[inline(never)]
    pub(super) fn token(&mut self) -> Result<Token<'de>> {
        Ok(match self.peek() {
            Some(b'"') => self.string().map(Token::Text)?,
            Some(b'[') => self.open().map(|()| Token::List)?,
            Some(b'{') => self.open().map(|()| Token::Table)?,
            Some(b't') => self.word("true").map(|()| Token::Bool(true))?,
            Some(b'f') => self.word("false").map(|()| Token::Bool(false))?,
            Some(b'n') => self.word("null").map(|()| Token::Null)?,
            _ => self.number()?,
        })
    }

    fn number(&mut self) -> Result<Token<'de>> {
        let rest = self.rest();
        let belongs = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.bytes().take_while(|&byte| belongs(byte)).count();
        let Some(written) = rest.get(..length).filter(|written| !written.is_empty()) else {
            return Err(self.broken("a value"));
        };
        self.at += length;
        if let Ok(number) = written.parse() {
            return Ok(Token::Unsigned(number));
        }
        Ok(written.parse().map_or(Token::Float(written), Token::Signed))
    }

    /// Takes an opening bracket.
    pub(super) fn open(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(Mistake::new(format!("more than {DEPTH_MAX} levels within one another")));
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    /// Takes a closing bracket. It is not there where a type such as a tuple was given too much.
    #[inline(never)]
    pub(super) fn close(&mut self, bracket: u8) -> Result<()> {
        self.depth -= 1;
        if self.take(bracket) {
            return Ok(());
        }
        Err(match self.take(b',') {
            true => Mistake::new("more values than expected".to_owned()),
            false => self.broken("`,` or a closing bracket"),
        })
    }

    /// Takes a text, whose opening quote is next.
    pub(super) fn string(&mut self) -> Result<Cow<'de, str>> {
        self.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let Some(length) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\')) else {
                return Err(self.broken("`\"`"));
            };
            let plain = rest.get(..length).unwrap_or_default();
            if text.is_empty() {
                text = Cow::Borrowed(plain);
            } else {
                text.to_mut().push_str(plain);
            }
            self.at += length + 1;
            if rest.as_bytes().get(length) == Some(&b'"') {
                return Ok(text);
            }
            text.to_mut().push(self.escape()?);
        }
    }

    /// A character, after its backslash.
    fn escape(&mut self) -> Result<char> {
        let Some(&byte) = self.text.as_bytes().get(self.at) else {
            return Err(self.broken("an escape"));
        };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.broken("an escape")),
        })
    }

    /// A character of four hexadecimal digits, or of twice four (RFC 8259 section 7).
    fn unicode(&mut self) -> Result<char> {
        let mut unit = self.unit()?;
        if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with("\\u") {
            self.at += 2;
            let low = self.unit()?.wrapping_sub(0xdc00);
            // Beyond 0x3ff it was no second half, and the sum is made to be no character.
            let valid = low < 0x400;
            unit = if valid { 0x1_0000 + ((unit - 0xd800) << 10 | low) } else { u32::MAX };
        }
        char::from_u32(unit).ok_or_else(|| self.broken("a character"))
    }

    fn unit(&mut self) -> Result<u32> {
        let digits =
            self.rest().get(..4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.broken("four digits"))?;
        self.at += 4;
        Ok(unit)
    }
}
