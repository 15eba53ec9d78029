//! A JSON Schema (draft 2020-12), read once into nodes that refer to each other by number.
//!
//! A subset, on purpose: what it does not have is refused by name, so that no rule is silently without
//! effect. How values are checked is in `check`.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};

/// Keywords that say nothing about which values fit.
const ANNOTATIONS: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentMediaType",
];

/// Number of a node.
pub(crate) type Id = usize;

/// A schema with all it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: Id,
}

/// What a value has to be; what is absent is not looked at.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The schema `false`.
    pub(crate) never: bool,
    pub(crate) kinds: Option<Vec<Kind>>,
    pub(crate) choices: Option<Vec<Value>>,
    pub(crate) properties: BTreeMap<String, Id>,
    pub(crate) additional: Option<Id>,
    pub(crate) required: Vec<String>,
    pub(crate) items: Option<Id>,
    /// Least and most entries of a table, items of a list, characters of a text.
    pub(crate) entries: Range<u64>,
    pub(crate) list: Range<u64>,
    pub(crate) text: Range<u64>,
    pub(crate) number: Range<f64>,
    pub(crate) beyond: Range<f64>,
    pub(crate) reference: Option<Id>,
    pub(crate) all_of: Vec<Id>,
    pub(crate) any_of: Vec<Id>,
    pub(crate) one_of: Vec<Id>,
    pub(crate) not: Option<Id>,
}

/// A least and a most, where there are such.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Range<T> {
    pub(crate) least: Option<T>,
    pub(crate) most: Option<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [(&'static str, Kind); 7] = [
        ("null", Kind::Null),
        ("boolean", Kind::Boolean),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("string", Kind::String),
        ("array", Kind::Array),
        ("object", Kind::Object),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn named(value: &Value) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, kind)| *kind).ok_or_else(|| format!("{value} is not a type"))
    }
}

/// A mistake: where, as a JSON pointer, and what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

impl Schema {
    pub(crate) fn read(document: &Value) -> Result<Self, Mistake> {
        let mut reader = Reader { document, nodes: Vec::new(), known: BTreeMap::new() };
        let root = reader.node("")?;
        Ok(Self { nodes: reader.nodes, root })
    }
}

struct Reader<'s> {
    document: &'s Value,
    nodes: Vec<Node>,
    /// Numbers by pointer, so that a reference to a node in progress finds it.
    known: BTreeMap<String, Id>,
}

impl<'s> Reader<'s> {
    /// The node that this pointer leads to.
    fn node(&mut self, pointer: &str) -> Result<Id, Mistake> {
        if let Some(id) = self.known.get(pointer) {
            return Ok(*id);
        }
        let refuse =
            |message: &str| Mistake { pointer: pointer.to_owned(), message: message.to_owned() };
        let Some(value) = self.document.pointer(pointer) else {
            return Err(refuse("there is no such schema"));
        };
        let id = self.nodes.len();
        self.nodes.push(Node::default());
        self.known.insert(pointer.to_owned(), id);
        let node = match value {
            Value::Bool(fits) => Node { never: !fits, ..Node::default() },
            Value::Object(keywords) => self.keywords(pointer, keywords)?,
            _ => return Err(refuse("a schema is a table, `true` or `false`")),
        };
        if let Some(place) = self.nodes.get_mut(id) {
            *place = node;
        }
        Ok(id)
    }

    fn keywords(
        &mut self,
        pointer: &str,
        keywords: &'s Map<String, Value>,
    ) -> Result<Node, Mistake> {
        let mut node = Node::default();
        for (name, value) in keywords {
            let at = child(pointer, name);
            if !ANNOTATIONS.contains(&&**name) && !self.subschemas(&mut node, &at, name, value)? {
                let taken = simple(&mut node, name, value);
                taken.map_err(|message| Mistake { pointer: at, message })?;
            }
        }
        Ok(node)
    }

    /// Takes a keyword that holds schemas. `false`: it is another one.
    fn subschemas(
        &mut self,
        node: &mut Node,
        at: &str,
        name: &str,
        value: &'s Value,
    ) -> Result<bool, Mistake> {
        match name {
            "properties" => {
                for key in keys(at, value)? {
                    let id = self.node(&child(at, key))?;
                    node.properties.insert(key.clone(), id);
                }
            }
            "additionalProperties" => node.additional = Some(self.node(at)?),
            "items" => node.items = Some(self.node(at)?),
            "not" => node.not = Some(self.node(at)?),
            "allOf" => node.all_of = self.list(at, value)?,
            "anyOf" => node.any_of = self.list(at, value)?,
            "oneOf" => node.one_of = self.list(at, value)?,
            "$ref" => {
                let Some(target) = value.as_str().and_then(|text| text.strip_prefix('#')) else {
                    let message =
                        "leads elsewhere: only references within the schema (`#/…`) are read";
                    return Err(Mistake { pointer: at.to_owned(), message: message.to_owned() });
                };
                node.reference = Some(self.node(target)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn list(&mut self, at: &str, value: &Value) -> Result<Vec<Id>, Mistake> {
        match value.as_array() {
            Some(list) if !list.is_empty() => {
                (0..list.len()).map(|index| self.node(&format!("{at}/{index}"))).collect()
            }
            _ => Err(Mistake {
                pointer: at.to_owned(),
                message: "is not a list of schemas".to_owned(),
            }),
        }
    }
}

fn keys<'v>(at: &str, value: &'v Value) -> Result<impl Iterator<Item = &'v String>, Mistake> {
    match value.as_object() {
        Some(table) => Ok(table.keys()),
        None => {
            Err(Mistake { pointer: at.to_owned(), message: "is not a table of schemas".to_owned() })
        }
    }
}

/// The pointer to an entry (RFC 6901 section 3).
pub(crate) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Takes a keyword without schemas in it.
fn simple(node: &mut Node, name: &str, value: &Value) -> Result<(), String> {
    let count = || value.as_u64().map(Some).ok_or_else(|| format!("{value} is not a count"));
    let number = || value.as_f64().map(Some).ok_or_else(|| format!("{value} is not a number"));
    match name {
        "type" => {
            let kinds = match value {
                Value::Array(list) => list.iter().map(Kind::named).collect::<Result<_, _>>()?,
                one => Vec::from([Kind::named(one)?]),
            };
            node.kinds = Some(kinds);
        }
        "enum" => {
            let list = value.as_array().ok_or_else(|| "is not a list of values".to_string())?;
            node.choices = Some(list.clone());
        }
        "const" => node.choices = Some(Vec::from([value.clone()])),
        "required" => {
            let names = value.as_array().and_then(|list| {
                list.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()
            });
            node.required = names.ok_or_else(|| "is not a list of names".to_string())?;
        }
        "minProperties" => node.entries.least = count()?,
        "maxProperties" => node.entries.most = count()?,
        "minItems" => node.list.least = count()?,
        "maxItems" => node.list.most = count()?,
        "minLength" => node.text.least = count()?,
        "maxLength" => node.text.most = count()?,
        "minimum" => node.number.least = number()?,
        "maximum" => node.number.most = number()?,
        "exclusiveMinimum" => node.beyond.least = number()?,
        "exclusiveMaximum" => node.beyond.most = number()?,
        _ => return Err("is not supported; the filter's documentation lists what is".to_owned()),
    }
    Ok(())
}
