//! JSON text as a serde format that knows the path of every mistake.
//!
//! Small on purpose: it is part of every filter with a configuration. Generic code, which is there once
//! for each type that is read, does little more than call code that is there once; and what no type
//! asks for (floating point, above all) is not linked. The host writes the text, so a mistake in its
//! grammar is rare and told in few words. Knows nothing of what a configuration means.

mod mistake;
mod reader;
#[cfg(test)]
mod tests;

use alloc::{borrow::Cow, format};
use core::marker::PhantomData;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use self::{
    mistake::{FLOAT, Mistake},
    reader::{Reader, Token},
};
use crate::ConfigError;

/// Reads a value that is all of `text`.
///
/// # Errors
/// The first mistake, with the path of its key.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let mut reader = Reader::new(text);
    let value = T::deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|mistake| *mistake.0)
}

type Result<T, E = Mistake> = core::result::Result<T, E>;

impl<'de> Reader<'de> {
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
            return self.token().and_then(|_null| visitor.visit_none());
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

    /// Reads a key, and remembers its text for the path.
    fn key<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<K::Value> {
        self.key = self.reader.key()?;
        seed.deserialize(Key(&self.key)).map_err(|mistake| mistake.under(&self.key))
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
