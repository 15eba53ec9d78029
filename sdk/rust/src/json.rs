//! JSON text as a serde format that knows the path of every mistake.
//!
//! Small on purpose: it is part of every filter with a configuration. Generic code, which is there once
//! for each type that is read, does little more than call code that is there once; and what no type
//! asks for (floating point, above all) is not linked. The host writes the text, so a mistake in its
//! grammar is rare and told in few words. Knows nothing of what a configuration means.

use alloc::{
    borrow::{Cow, ToOwned},
    boxed::Box,
    format,
    string::{String, ToString},
};
use core::{fmt, marker::PhantomData};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::ConfigError;

/// Lists and tables within one another.
const DEPTH_MAX: usize = 128;

/// Reads a value that is all of `text`.
///
/// # Errors
/// The first mistake, with the path of its key.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let value = T::deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|mistake| *mistake.0)
}

type Result<T, E = Mistake> = core::result::Result<T, E>;

/// A mistake and its path, which grows from the inside out.
#[derive(Debug)]
struct Mistake(Box<ConfigError>);

impl Mistake {
    #[cold]
    fn new(message: String) -> Self {
        Self(Box::new(ConfigError::whole(message)))
    }

    #[cold]
    fn under(self, prefix: &str) -> Self {
        Self(Box::new(self.0.under(prefix)))
    }

    #[cold]
    fn under_index(self, index: usize) -> Self {
        self.under(&format!("[{index}]"))
    }

    /// Puts a floating-point number, as it was written, into the message.
    #[cold]
    fn with_float(mut self, written: &str) -> Self {
        self.0.message = self.0.message.replace(FLOAT, &format!("floating point `{written}`"));
        self
    }
}

/// Stands in a message for a number that only its reader can show: serde has its value, the printing
/// of which is larger than all of this file.
const FLOAT: &str = "floating point number";

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for Mistake {}

impl de::Error for Mistake {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {}, expected {expected}", Found(found)))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid value: {}, expected {expected}", Found(found)))
    }
}

/// What was found, in serde's words.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "boolean `{value}`"),
            Unexpected::Unsigned(value) => write!(f, "integer `{value}`"),
            Unexpected::Signed(value) => write!(f, "integer `{value}`"),
            Unexpected::Float(_) => f.write_str(FLOAT),
            Unexpected::Str(text) => write!(f, "string {text:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("sequence"),
            Unexpected::Map => f.write_str("map"),
            Unexpected::UnitVariant => f.write_str("unit variant"),
            Unexpected::NewtypeVariant => f.write_str("newtype variant"),
            Unexpected::TupleVariant => f.write_str("tuple variant"),
            Unexpected::StructVariant => f.write_str("struct variant"),
            Unexpected::Other(other) => f.write_str(other),
            _ => f.write_str("another value"),
        }
    }
}

struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: usize,
}

/// What comes next: a whole value, or the beginning of one with items.
enum Token<'de> {
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
    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
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

    fn expect(&mut self, wanted: u8, what: &str) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.broken(what)) }
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

    fn end(&mut self) -> Result<()> {
        if self.peek().is_some() { Err(self.broken("the end")) } else { Ok(()) }
    }

    #[inline(never)]
    fn token(&mut self) -> Result<Token<'de>> {
        Ok(match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Token::Text(self.string()?)
            }
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
    fn open(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(Mistake::new(format!("more than {DEPTH_MAX} levels within one another")));
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    /// Takes a closing bracket. It is not there where a type such as a tuple was given too much.
    #[inline(never)]
    fn close(&mut self, bracket: u8) -> Result<()> {
        self.depth -= 1;
        if self.take(bracket) {
            return Ok(());
        }
        Err(match self.take(b',') {
            true => Mistake::new("more values than expected".to_owned()),
            false => self.broken("`,` or a closing bracket"),
        })
    }

    /// A text, after its opening quote.
    fn string(&mut self) -> Result<Cow<'de, str>> {
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

    fn items(&mut self, end: u8) -> Items<'_, 'de> {
        Items { reader: self, end, count: 0, key: Cow::Borrowed("") }
    }

    /// Gives the visitor whatever comes next. What it does not want it refuses itself; a
    /// floating-point number it gets from `float` only.
    fn value<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        float: impl FnOnce(V, &'de str) -> Result<V::Value>,
    ) -> Result<V::Value> {
        let (value, bracket) = match self.token()? {
            Token::Text(text) => return visitor.visit_str(&text),
            Token::Bool(value) => return visitor.visit_bool(value),
            Token::Null => return visitor.visit_unit(),
            Token::Unsigned(number) => return visitor.visit_u64(number),
            Token::Signed(number) => return visitor.visit_i64(number),
            Token::Float(written) => return float(visitor, written),
            Token::List => (visitor.visit_seq(self.items(b']'))?, b']'),
            Token::Table => (visitor.visit_map(self.items(b'}'))?, b'}'),
        };
        self.close(bracket).map(|()| value)
    }
}

/// For types that hold no floating-point number: it is refused as it is written.
fn no_float<'de, V: Visitor<'de>>(visitor: V, written: &'de str) -> Result<V::Value> {
    let mistake: Mistake = de::Error::invalid_type(Unexpected::Other(FLOAT), &visitor);
    Err(mistake.with_float(written))
}

fn float<'de, V: Visitor<'de>>(visitor: V, written: &'de str) -> Result<V::Value> {
    match written.parse() {
        Ok(number) => {
            visitor.visit_f64(number).map_err(|mistake: Mistake| mistake.with_float(written))
        }
        Err(_) => Err(Mistake::new(format!("`{written}` is not a number"))),
    }
}

/// Hints of the type that all mean the same here.
macro_rules! whatever_comes {
    ($($method:ident($($argument:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value> {
            self.value(visitor, no_float)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Mistake;

    whatever_comes! {
        deserialize_bool() deserialize_char() deserialize_str() deserialize_string()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64()
        deserialize_bytes() deserialize_byte_buf() deserialize_unit() deserialize_identifier()
        deserialize_seq() deserialize_map() deserialize_tuple(usize)
        deserialize_unit_struct(&'static str) deserialize_tuple_struct(&'static str, usize)
        deserialize_struct(&'static str, &'static [&'static str])
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.value(visitor, float)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.value(visitor, float)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.value(visitor, float)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.value(visitor, |visitor, _| visitor.visit_unit())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek() == Some(b'n') {
            return self.word("null").and_then(|()| visitor.visit_none());
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let name = self.string()?;
                visitor.visit_enum((&*name).into_deserializer())
            }
            Some(b'{') => {
                self.open()?;
                let value = visitor.visit_enum(self.items(b'}'))?;
                self.close(b'}').map(|()| value)
            }
            _ => self.value(visitor, no_float),
        }
    }
}

/// The items of a list, of a table, or the one of an enum's case with contents.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    end: u8,
    count: usize,
    key: Cow<'de, str>,
}

impl<'de> Items<'_, 'de> {
    /// Moves to the next item, if there is one.
    #[inline(never)]
    fn advance(&mut self) -> Result<bool> {
        if self.reader.peek() == Some(self.end) {
            return Ok(false);
        }
        if self.count > 0 {
            self.reader.expect(b',', "`,` or a closing bracket")?;
        }
        self.count += 1;
        Ok(true)
    }

    /// Reads a key, and the colon behind it.
    fn key<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<K::Value> {
        self.read_key()?;
        seed.deserialize(Key(&self.key)).map_err(|mistake| mistake.under(&self.key))
    }

    #[inline(never)]
    fn read_key(&mut self) -> Result<()> {
        self.reader.expect(b'"', "a key")?;
        self.key = self.reader.string()?;
        self.reader.expect(b':', "`:`")
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.advance()? {
            return Ok(None);
        }
        let index = self.count - 1;
        let value = seed.deserialize(&mut *self.reader);
        value.map(Some).map_err(|mistake| mistake.under_index(index))
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.advance()? {
            return Ok(None);
        }
        self.key(seed).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.reader).map_err(|mistake| mistake.under(&self.key))
    }
}

impl<'de> EnumAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self)> {
        let name = self.key(seed)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<()> {
        self.newtype_variant_seed(PhantomData)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value> {
        self.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        let value = self.reader.deserialize_tuple(length, visitor);
        value.map_err(|mistake| mistake.under(&self.key))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let value = self.reader.deserialize_map(visitor);
        value.map_err(|mistake| mistake.under(&self.key))
    }
}

/// A key of a table: a text, which may spell a number.
struct Key<'k>(&'k str);

macro_rules! number_keys {
    ($($method:ident $visit:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_str(self.0),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Mistake;

    number_keys! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16
        deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16
        deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_bool visit_bool
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Choice {
        Plain,
        One(u8),
        Two(u8, u8),
        Table { a: u8 },
    }

    /// Asks for any value and takes none.
    #[derive(Debug)]
    struct Anything;

    impl<'de> Deserialize<'de> for Anything {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Nothing;

            impl Visitor<'_> for Nothing {
                type Value = Anything;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("nothing")
                }
            }

            deserializer.deserialize_any(Nothing)
        }
    }

    fn mistake<T: DeserializeOwned + fmt::Debug>(text: &str) -> (String, String) {
        let error = parse::<T>(text).expect_err(text);
        (error.key, error.message)
    }

    fn message<T: DeserializeOwned + fmt::Debug>(text: &str) -> String {
        mistake::<T>(text).1
    }

    #[test]
    fn values_are_those_of_serde_json() {
        for text in [
            "null",
            "true",
            " [ ] ",
            "{}",
            "[0, -1, 18446744073709551615, -9223372036854775808, 1.5, -0.25, 1e3, 1E-2]",
            r#"{"a": {"b": [1, {"c": null}]}, "": "", "a b": [[], [[]]]}"#,
            r#""plain""#,
            r#""\" \\ \/ \b\f\n\r\t \u0041\u00e9\u20ac \ud83d\ude00 é€😀""#,
            "\r\n\t{ \"a\" :\t1 ,\n\"b\" : 2 }\n",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse::<Value>(text).unwrap(), expected, "{text}");
            let written = serde_json::to_string(&expected).unwrap();
            assert_eq!(parse::<Value>(&written).unwrap(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, message) in [
            ("", "not JSON: expected a value at byte 0"),
            ("tru", "not JSON: expected a value at byte 0"),
            ("x", "not JSON: expected a value at byte 0"),
            ("[1", "not JSON: expected `,` or a closing bracket at byte 2"),
            ("[1 2]", "not JSON: expected `,` or a closing bracket at byte 3"),
            ("[1,]", "not JSON: expected a value at byte 3"),
            ("{1: 2}", "not JSON: expected a key at byte 1"),
            (r#"{"a" 1}"#, "not JSON: expected `:` at byte 5"),
            (r#"{"a": 1,}"#, "not JSON: expected a key at byte 8"),
            (r#""a"#, "not JSON: expected `\"` at byte 1"),
            (r#""\x""#, "not JSON: expected an escape at byte 3"),
            (r#""\"#, "not JSON: expected an escape at byte 2"),
            (r#""\u12g4""#, "not JSON: expected four digits at byte 3"),
            (r#""\u12é""#, "not JSON: expected four digits at byte 3"),
            (r#""\ud800""#, "not JSON: expected a character at byte 7"),
            (r#""\ud800\u0041""#, "not JSON: expected a character at byte 13"),
            (r#""\udc00""#, "not JSON: expected a character at byte 7"),
            ("1 2", "not JSON: expected the end at byte 2"),
            ("1-2", "`1-2` is not a number"),
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert_eq!(self::message::<Value>(text), message, "{text}");
        }
    }

    #[test]
    fn lists_and_tables_are_at_most_128_within_one_another() {
        for (depth, fits) in [(127, true), (128, true), (129, false)] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                match parse::<Value>(&text) {
                    Ok(_) => assert!(fits, "{depth}"),
                    Err(error) => {
                        assert!(!fits, "{depth}");
                        assert_eq!(error.message, "more than 128 levels within one another");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_fit_the_type_that_is_read() {
        assert_eq!(parse::<f64>("1"), Ok(1.0));
        assert_eq!(parse::<f64>("-1"), Ok(-1.0));
        assert_eq!(parse::<f64>("0.1"), Ok(0.1));
        assert_eq!(parse::<f32>("0.5"), Ok(0.5));
        assert_eq!(parse::<u8>("255"), Ok(255));
        assert_eq!(parse::<i64>("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(message::<u8>("256"), "invalid value: integer `256`, expected u8");
        assert_eq!(message::<u8>("-1"), "invalid value: integer `-1`, expected u8");
        assert_eq!(message::<u8>("1.5"), "invalid type: floating point `1.5`, expected u8");
        let any = "invalid type: floating point `1.5`, expected nothing";
        assert_eq!(message::<Anything>("1.5"), any);
        assert_eq!(message::<f64>("\"1\""), "invalid type: string \"1\", expected f64");
    }

    #[test]
    fn a_value_of_another_type_is_told() {
        let wanted = "a string";
        for (text, found) in [
            ("true", "boolean `true`"),
            ("null", "null"),
            ("[]", "sequence"),
            ("{}", "map"),
            ("-3", "integer `-3`"),
            ("1e9", "floating point `1e9`"),
        ] {
            let expected = format!("invalid type: {found}, expected {wanted}");
            assert_eq!(message::<String>(text), expected);
        }
    }

    #[test]
    fn cases_of_an_enum_have_contents_or_none() {
        assert_eq!(parse(r#""plain""#), Ok(Choice::Plain));
        assert_eq!(parse(r#"{"plain": null}"#), Ok(Choice::Plain));
        assert_eq!(parse(r#"{"one": 1}"#), Ok(Choice::One(1)));
        assert_eq!(parse(r#"{"two": [1, 2]}"#), Ok(Choice::Two(1, 2)));
        assert_eq!(parse(r#"{"table": {"a": 1}}"#), Ok(Choice::Table { a: 1 }));
        let unknown = "unknown variant `other`, expected one of `plain`, `one`, `two`, `table`";
        assert_eq!(mistake::<Choice>(r#""other""#), (String::new(), unknown.to_owned()));
        assert_eq!(mistake::<Choice>(r#"{"other": 1}"#).1, unknown);
        assert_eq!(mistake::<Choice>(r#"{"two": [1, "b"]}"#).0, "two[1]");
        let missing = ("table".to_owned(), "missing field `a`".to_owned());
        assert_eq!(mistake::<Choice>(r#"{"table": {"b": 1}}"#), missing);
        assert_eq!(mistake::<Choice>(r#"{"one": 1, "two": 2}"#).1, "more values than expected");
        for (text, found) in [
            ("null", "null"),
            ("true", "boolean `true`"),
            ("7", "integer `7`"),
            ("-7", "integer `-7`"),
            ("0.5", "floating point `0.5`"),
            ("[]", "sequence"),
        ] {
            let expected = format!("invalid type: {found}, expected enum Choice");
            assert_eq!(message::<Choice>(text), expected);
        }
    }

    #[test]
    fn lists_of_a_fixed_length_have_that_length() {
        assert_eq!(parse::<(u8, u8)>("[1, 2]"), Ok((1, 2)));
        assert_eq!(message::<(u8, u8)>("[1, 2, 3]"), "more values than expected");
        let short = "invalid length 1, expected a tuple of size 2";
        assert_eq!(message::<(u8, u8)>("[1]"), short);
    }

    #[test]
    fn keys_may_spell_numbers() {
        let table: BTreeMap<u16, bool> = parse(r#"{"80": true, "443": false}"#).unwrap();
        assert_eq!(table, BTreeMap::from([(80, true), (443, false)]));
        let (key, message) = mistake::<BTreeMap<u16, bool>>(r#"{"http": true}"#);
        assert_eq!((&*key, &*message), ("http", "invalid type: string \"http\", expected u16"));
    }

    #[test]
    fn what_may_be_absent_is_absent_or_null() {
        assert_eq!(parse::<Option<u8>>("null"), Ok(None));
        assert_eq!(parse::<Option<u8>>("1"), Ok(Some(1)));
        assert_eq!(parse::<Vec<Option<char>>>(r#"["a", null]"#), Ok(vec![Some('a'), None]));
    }
}
