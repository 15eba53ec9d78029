//! What is read, what is refused, and with which words.

use std::{collections::BTreeMap, fmt};

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
fn damaged_text_is_read_as_serde_json_does_or_refused() {
    let sound = r#"{"a": [1, -2, 0.5, 1e3, true, null], "b\"\\": "\u00e9\ud83d\ude00é", "c": {}}"#;
    let bytes = br#" "\,:[]{}u0129-.etrn"#;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for _ in 0..20_000 {
        let mut damaged = sound.as_bytes().to_vec();
        for _ in 0..=next(3) {
            let at = next(damaged.len());
            match next(3) {
                0 => damaged[at] = bytes[next(bytes.len())],
                1 => damaged.insert(at, bytes[next(bytes.len())]),
                _ => damaged.truncate(at.max(1)),
            }
        }
        let Ok(text) = String::from_utf8(damaged) else { continue };
        let read = parse::<Value>(&text);
        // The sign of a zero is all that is lost.
        if let Ok(expected) = serde_json::from_str::<Value>(&text)
            && !text.contains("-0")
        {
            assert_eq!(read, Ok(expected), "{text}");
        }
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
