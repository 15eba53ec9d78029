//! The JSON Schema of the file, made from the descriptions that the reader works from.
//!
//! Editors use it for completion and first checks. It knows single values; what only shows when
//! several are seen together is found by `pillion validate`.

use serde_json::{Map, Value, json};

use super::keys::ROOT;
use super::limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX};
use super::spec::{Key, Kind, Limit, Presence, Table, Unit};

/// JSON Schema (draft 2020-12) of a configuration file.
pub fn schema() -> Value {
    of(&ROOT, "Pillion configuration")
}

/// JSON Schema of a file whose outermost table is `root`.
pub(super) fn of(root: &Table, title: &str) -> Value {
    let mut schema = table(root);
    if let Value::Object(root) = &mut schema {
        root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".to_owned(), title.into());
    }
    schema
}

fn table(table: &Table) -> Value {
    let properties: Map<String, Value> =
        table.keys.iter().map(|it| (it.name.to_owned(), key(it))).collect();
    let required: Vec<&str> = table
        .keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": table.doc.trim(),
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn key(key: &Key) -> Value {
    let mut schema = kind(key.kind);
    schema["description"] = key.doc.trim().into();
    schema
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Flag { default } => with_default(json!({ "type": "boolean" }), default),
        Kind::Text { default } => with_default(json!({ "type": "string" }), default),
        Kind::Name => name(),
        Kind::Version => json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9._+-]+$",
            "maxLength": VERSION_BYTES_MAX,
        }),
        Kind::Names { max } => {
            json!({ "type": "array", "items": name(), "maxItems": max, "uniqueItems": true })
        }
        Kind::Choice { values, default } => with_default(json!({ "enum": values }), default),
        Kind::Limit(it) => limit(&it),
        Kind::Texts { max } => {
            json!({ "type": "array", "items": { "type": "string" }, "maxItems": max })
        }
        Kind::OneOrMany { max } => json!({ "oneOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": max },
        ] }),
        Kind::Table(it) => table(it),
        Kind::FlagOrTable(it) => json!({ "oneOf": [{ "type": "boolean" }, table(it)] }),
        Kind::Tables { table: it, max } => {
            json!({ "type": "array", "items": table(it), "minItems": 1, "maxItems": max })
        }
        Kind::NamedTables { table: it, max } => json!({
            "type": "object",
            "propertyNames": name(),
            "maxProperties": max,
            "additionalProperties": table(it),
        }),
        Kind::HeaderMatches { max } => {
            json!({ "type": "object", "maxProperties": max, "additionalProperties": { "oneOf": [
            { "type": "string" },
            { "const": true },
            {
                "type": "object",
                "additionalProperties": false,
                "properties": { "prefix": { "type": "string" } },
                "required": ["prefix"],
            },
        ] } })
        }
        Kind::Free => json!({ "type": "object", "default": {} }),
        Kind::Any => json!({}),
    }
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": NAME_BYTES_MAX })
}

/// A string that consists of a number and a unit cannot be bounded by a schema; its range is told
/// in words.
fn limit(limit: &Limit) -> Value {
    let whole = json!({ "type": "integer", "minimum": limit.min, "maximum": limit.max });
    let reference = r"\$\{.*\}";
    let schema = match limit.unit {
        Unit::Duration => {
            json!({ "type": "string", "pattern": format!(r"^[0-9]+ *(us|ms|s|m|h)$|{reference}") })
        }
        Unit::Size => json!({ "oneOf": [
            whole,
            { "type": "string", "pattern": format!(r"^[0-9]+ *(B|KiB|MiB|GiB)$|{reference}") },
        ] }),
        Unit::Percent => {
            json!({ "type": "string", "pattern": format!(r"^[0-9]+(\.[0-9]{{1,4}})? *%$|{reference}") })
        }
        Unit::Count => json!({ "oneOf": [whole, { "type": "string", "pattern": reference }] }),
    };
    let range = format!("From {} to {}.", limit.format(limit.min), limit.format(limit.max));
    let default = limit.default.map(|value| match limit.unit {
        Unit::Count => Value::from(value),
        Unit::Duration | Unit::Size | Unit::Percent => limit.format(value).into(),
    });
    let mut schema = with_default(schema, default);
    schema["$comment"] = range.into();
    schema
}

fn with_default(mut schema: Value, default: Option<impl Into<Value>>) -> Value {
    if let Some(default) = default {
        schema["default"] = default.into();
    }
    schema
}
