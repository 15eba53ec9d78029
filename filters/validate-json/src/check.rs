//! Whether a value fits a schema, and where it does not.
//!
//! The work is bounded by the size of the body, and so is the nesting, whatever the schema refers to.

use alloc::format;
use alloc::string::{String, ToString};

use serde_json::{Number, Value};

use crate::schema::{Id, Kind, Node, Range, Schema, child};

/// Checks of a value against a node, for each byte of the body.
const CHECKS_PER_BYTE: u64 = 4;
/// Checks that a body has beyond these.
const CHECKS_MIN: u64 = 10_000;
/// Checks within one another.
const DEPTH_MAX: usize = 256;

/// Where a value does not fit, as a JSON pointer, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// Checks a value, read from a body of so many bytes.
pub(crate) fn check(schema: &Schema, value: &Value, bytes: usize) -> Result<(), Misfit> {
    let left = CHECKS_MIN.saturating_add(CHECKS_PER_BYTE.saturating_mul(bytes as u64));
    let mut checker = Checker { schema, left };
    checker.node(schema.root, value, 0).map_err(|failure| match failure {
        Failure::Misfit(misfit) => misfit,
        Failure::TooMuch => {
            let message = "takes too long to check".to_string();
            Misfit { pointer: String::new(), message }
        }
    })
}

struct Checker<'s> {
    schema: &'s Schema,
    left: u64,
}

enum Failure {
    Misfit(Misfit),
    TooMuch,
}

fn misfit(message: impl Into<String>) -> Failure {
    Failure::Misfit(Misfit { pointer: String::new(), message: message.into() })
}

impl Failure {
    /// The same, seen from the list or table around it.
    fn under(self, key: &str) -> Self {
        match self {
            Self::Misfit(Misfit { pointer, message }) => {
                Self::Misfit(Misfit { pointer: format!("{}{pointer}", child("", key)), message })
            }
            Self::TooMuch => Self::TooMuch,
        }
    }
}

impl Checker<'_> {
    fn node(&mut self, id: Id, value: &Value, depth: usize) -> Result<(), Failure> {
        if self.left == 0 || depth > DEPTH_MAX {
            return Err(Failure::TooMuch);
        }
        self.left -= 1;
        let schema = self.schema;
        let Some(node) = schema.nodes.get(id) else { return Ok(()) };
        plain(node, value)?;
        self.combined(node, value, depth + 1)?;
        match value {
            Value::Object(table) => {
                for (key, item) in table {
                    if let Some(id) = node.properties.get(key).copied().or(node.additional) {
                        self.node(id, item, depth + 1).map_err(|failure| failure.under(key))?;
                    }
                }
            }
            Value::Array(list) => {
                let Some(id) = node.items else { return Ok(()) };
                for (index, item) in list.iter().enumerate() {
                    let checked = self.node(id, item, depth + 1);
                    checked.map_err(|failure| failure.under(&index.to_string()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The schemas that are applied to the same value.
    fn combined(&mut self, node: &Node, value: &Value, depth: usize) -> Result<(), Failure> {
        for id in node.reference.iter().chain(&node.all_of) {
            self.node(*id, value, depth)?;
        }
        if !node.any_of.is_empty() && self.fitting(&node.any_of, value, depth, 1)? == 0 {
            return Err(misfit("fits none of `anyOf`"));
        }
        if !node.one_of.is_empty() {
            match self.fitting(&node.one_of, value, depth, 2)? {
                0 => return Err(misfit("fits none of `oneOf`")),
                1 => {}
                _ => return Err(misfit("fits more than one of `oneOf`")),
            }
        }
        match node.not {
            Some(id) if self.fitting(&[id], value, depth, 1)? > 0 => {
                Err(misfit("is what `not` excludes"))
            }
            _ => Ok(()),
        }
    }

    /// How many of these schemas the value fits, counted up to `enough`.
    fn fitting(
        &mut self,
        ids: &[Id],
        value: &Value,
        depth: usize,
        enough: usize,
    ) -> Result<usize, Failure> {
        let mut count = 0;
        for id in ids {
            match self.node(*id, value, depth) {
                Ok(()) => count += 1,
                Err(Failure::Misfit(_)) => {}
                Err(Failure::TooMuch) => return Err(Failure::TooMuch),
            }
            if count == enough {
                break;
            }
        }
        Ok(count)
    }
}

/// What a node says of a value without looking at other nodes.
fn plain(node: &Node, value: &Value) -> Result<(), Failure> {
    if node.never {
        return Err(misfit("is not allowed"));
    }
    if let Some(kinds) = &node.kinds
        && !kinds.iter().any(|kind| is(value, *kind))
    {
        let names: alloc::vec::Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        return Err(misfit(format!("is not of type {}", names.join(" or "))));
    }
    if let Some(choices) = &node.choices
        && !choices.iter().any(|choice| equal(choice, value))
    {
        return Err(misfit("is not one of the values allowed here"));
    }
    match value {
        Value::Object(table) => {
            if let Some(name) = node.required.iter().find(|name| !table.contains_key(*name)) {
                return Err(misfit(format!("lacks the property `{name}`")));
            }
            within(node.entries, table.len() as u64, "properties")
        }
        Value::Array(list) => within(node.list, list.len() as u64, "items"),
        Value::String(text) => within(node.text, text.chars().count() as u64, "characters"),
        Value::Number(number) => in_range(node, number),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn within(range: Range<u64>, count: u64, what: &str) -> Result<(), Failure> {
    match (range.least, range.most) {
        (Some(least), _) if count < least => Err(misfit(format!("has fewer than {least} {what}"))),
        (_, Some(most)) if count > most => Err(misfit(format!("has more than {most} {what}"))),
        _ => Ok(()),
    }
}

fn in_range(node: &Node, number: &Number) -> Result<(), Failure> {
    let Some(number) = number.as_f64() else { return Ok(()) };
    let Node { number: Range { least, most }, beyond, .. } = node;
    for (bound, holds, word) in [
        (*least, least.is_none_or(|bound| number >= bound), "at least"),
        (*most, most.is_none_or(|bound| number <= bound), "at most"),
        (beyond.least, beyond.least.is_none_or(|bound| number > bound), "more than"),
        (beyond.most, beyond.most.is_none_or(|bound| number < bound), "less than"),
    ] {
        if let Some(bound) = bound.filter(|_| !holds) {
            return Err(misfit(format!("is not {word} {bound}")));
        }
    }
    Ok(())
}

fn is(value: &Value, kind: Kind) -> bool {
    match (value, kind) {
        (Value::Null, Kind::Null)
        | (Value::Bool(_), Kind::Boolean)
        | (Value::Number(_), Kind::Number)
        | (Value::String(_), Kind::String)
        | (Value::Array(_), Kind::Array)
        | (Value::Object(_), Kind::Object) => true,
        // `1.0` is an integer too.
        (Value::Number(number), Kind::Integer) => {
            !number.is_f64() || number.as_f64().is_some_and(|number| number % 1.0 == 0.0)
        }
        _ => false,
    }
}

/// Equal as JSON Schema has it: `1` and `1.0` are.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || ((one.is_f64() || other.is_f64()) && one.as_f64() == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| equal(one, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Where a value does not fit; none where it does.
    fn misfit_of(schema: &Value, value: &Value) -> Option<String> {
        let schema = Schema::read(schema).expect("the schema is valid");
        let checked = check(&schema, value, value.to_string().len());
        checked.err().map(|misfit| format!("{} {}", misfit.pointer, misfit.message))
    }

    #[test]
    fn every_keyword_takes_what_fits_and_refuses_the_rest() {
        for (schema, fits, others) in [
            (json!(true), json!([1, null]), json!([])),
            (json!(false), json!([]), json!([1, null])),
            (json!({"type": "null"}), json!([null]), json!([0, ""])),
            (json!({"type": "boolean"}), json!([true]), json!([0, null])),
            (json!({"type": "integer"}), json!([1, -1, 1.0]), json!([1.5, "1"])),
            (json!({"type": "number"}), json!([1, 1.5]), json!(["1"])),
            (json!({"type": "string"}), json!([""]), json!([1])),
            (json!({"type": "array"}), json!([[]]), json!([{}])),
            (json!({"type": "object"}), json!([{}]), json!([[]])),
            (json!({"type": ["string", "null"]}), json!(["", null]), json!([1])),
            (
                json!({"enum": [1, "a", {"b": [2]}]}),
                json!([1.0, "a", {"b": [2.0]}]),
                json!([2, {}]),
            ),
            (json!({"const": [1]}), json!([[1]]), json!([[], [2], [1, 1]])),
            (json!({"minimum": 1, "maximum": 2}), json!([1, 1.5, 2, "x"]), json!([0.9, 2.1])),
            (json!({"exclusiveMinimum": 1, "exclusiveMaximum": 2}), json!([1.5]), json!([1, 2])),
            (json!({"minLength": 1, "maxLength": 2}), json!(["a", "ä😀", 7]), json!(["", "abc"])),
            (
                json!({"minItems": 1, "maxItems": 2}),
                json!([[1], [1, 2], {}]),
                json!([[], [1, 2, 3]]),
            ),
            (json!({"items": {"type": "null"}}), json!([[], [null], 1]), json!([[null, 1]])),
            (
                json!({"minProperties": 1, "maxProperties": 2}),
                json!([{"a": 1}, {"a": 1, "b": 2}]),
                json!([{}, {"a": 1, "b": 2, "c": 3}]),
            ),
            (json!({"required": ["a"]}), json!([{"a": null}, []]), json!([{}, {"b": 1}])),
            (
                json!({"properties": {"a": {"type": "null"}}, "additionalProperties": false}),
                json!([{}, {"a": null}]),
                json!([{"a": 1}, {"b": null}]),
            ),
            (
                json!({"properties": {"a": true}, "additionalProperties": {"type": "null"}}),
                json!([{"a": 1, "b": null}]),
                json!([{"b": 1}]),
            ),
            (json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), json!([1]), json!([0, 3])),
            (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!([1, 2]), json!([3])),
            (json!({"oneOf": [{"minimum": 1}, {"maximum": 2}]}), json!([0, 3]), json!([1, 2])),
            (json!({"oneOf": [{"const": 1}, {"const": 2}]}), json!([1, 2]), json!([3])),
            (json!({"not": {"type": "null"}}), json!([1]), json!([null])),
            (
                json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}),
                json!([null]),
                json!([1]),
            ),
            (
                json!({"type": "object", "additionalProperties": {"$ref": "#"}, "title": "tree"}),
                json!([{}, {"a": {"b": {}}}]),
                json!([{"a": {"b": 1}}]),
            ),
        ] {
            for value in fits.as_array().unwrap() {
                assert_eq!(misfit_of(&schema, value), None, "{schema} {value}");
            }
            for value in others.as_array().unwrap() {
                assert!(misfit_of(&schema, value).is_some(), "{schema} {value}");
            }
        }
    }

    #[test]
    fn the_place_is_told() {
        let schema = json!({"properties": {"a/b": {"items": {"type": "string", "maxLength": 1}}}});
        let told = misfit_of(&schema, &json!({"a/b": ["x", 1]}));
        assert_eq!(told.as_deref(), Some("/a~1b/1 is not of type string"));
        let told = misfit_of(&schema, &json!({"a/b": ["xx"]}));
        assert_eq!(told.as_deref(), Some("/a~1b/0 has more than 1 characters"));
    }

    #[test]
    fn a_schema_that_leads_nowhere_or_everywhere_ends() {
        let told = misfit_of(&json!({"$ref": "#"}), &json!(1));
        assert_eq!(told.as_deref(), Some(" takes too long to check"));
        let again = json!({"items": {"$ref": "#"}});
        let twice = json!({"oneOf": [again, again, {"type": "null"}]});
        let deep = (0..60).fold(json!(null), |inner, _| json!([inner]));
        assert_eq!(misfit_of(&twice, &deep).as_deref(), Some(" takes too long to check"));
    }

    #[test]
    fn checks_have_a_bound_that_grows_with_the_body() {
        // One check of the list, and one of each item.
        let schema = Schema::read(&json!({"items": true})).unwrap();
        let fits = |items: usize, bytes: usize| {
            check(&schema, &Value::Array(alloc::vec![Value::Null; items]), bytes).is_ok()
        };
        assert!(fits(9_998, 0) && fits(9_999, 0) && !fits(10_000, 0));
        assert!(fits(10_003, 1) && !fits(10_004, 1));
    }

    #[test]
    fn checks_within_one_another_have_a_bound() {
        let fits = |length: usize| {
            let mut schema = json!({"$defs": {}, "$ref": "#/$defs/0"});
            for number in 0..length {
                let next = format!("#/$defs/{}", number + 1);
                schema["$defs"][number.to_string()] = json!({"$ref": next});
            }
            schema["$defs"][length.to_string()] = json!(true);
            misfit_of(&schema, &json!(1)).is_none()
        };
        assert!(fits(DEPTH_MAX - 2) && fits(DEPTH_MAX - 1) && !fits(DEPTH_MAX));
    }
}
