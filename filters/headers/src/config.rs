//! The filter's configuration: as it is written, and checked into rules.
//!
//! Every mistake names the path of its key, as in `request[2].set.name`, so that the host can point
//! at the line. What the rules do with a message is in `rule`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use pillion_sdk::ConfigError;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};

use crate::condition::{Condition, FieldTest, PathTest};
use crate::names;
use crate::rule::{Edit, Rule};
use crate::template::Template;

/// The `config` table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    request: Vec<RawRule>,
    response: Vec<RawRule>,
}

/// One entry of `request` or `response`: exactly one edit, and when it applies.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    set: Option<RawValue>,
    append: Option<RawValue>,
    remove: Option<RawName>,
    rename: Option<RawRename>,
    when: RawCondition,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawValue {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawName {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRename {
    name: String,
    to: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCondition {
    method: Option<OneOrMore>,
    path: Option<String>,
    path_prefix: Option<String>,
    header: Option<RawFieldTest>,
    response_header: Option<RawFieldTest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFieldTest {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    present: Option<bool>,
}

/// A text, or a list of texts.
#[derive(Debug)]
struct OneOrMore(Vec<String>);

/// The rules of both directions, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) request: Vec<Rule>,
    pub(crate) response: Vec<Rule>,
}

/// Which message a rule edits.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Request,
    Response,
}

impl Config {
    /// Check every rule; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Rules, ConfigError> {
        let Self { request, response } = self;
        Ok(Rules {
            request: check_list(request, Direction::Request)
                .map_err(|error| error.under("request"))?,
            response: check_list(response, Direction::Response)
                .map_err(|error| error.under("response"))?,
        })
    }
}

fn check_list(rules: Vec<RawRule>, direction: Direction) -> Result<Vec<Rule>, ConfigError> {
    rules
        .into_iter()
        .enumerate()
        .map(|(index, rule)| {
            rule.check(direction).map_err(|error| error.under(&format!("[{index}]")))
        })
        .collect()
}

impl RawRule {
    fn check(self, direction: Direction) -> Result<Rule, ConfigError> {
        let Self { set, append, remove, rename, when } = self;
        let edit = match (set, append, remove, rename) {
            (Some(RawValue { name, value }), None, None, None) => Edit::Set {
                name: editable(&name, "set.name")?,
                value: template(&value, "set.value")?,
            },
            (None, Some(RawValue { name, value }), None, None) => Edit::Append {
                name: editable(&name, "append.name")?,
                value: template(&value, "append.value")?,
            },
            (None, None, Some(RawName { name }), None) => {
                Edit::Remove { name: editable(&name, "remove.name")? }
            }
            (None, None, None, Some(RawRename { name, to })) => {
                let name = editable(&name, "rename.name")?;
                let to = editable(&to, "rename.to")?;
                if name == to {
                    return Err(ConfigError::at("rename.to", "is the same as `name`"));
                }
                Edit::Rename { name, to }
            }
            (None, None, None, None) => {
                let message = "has no edit: add `set`, `append`, `remove` or `rename`";
                return Err(ConfigError::whole(message));
            }
            _ => {
                let message = "has more than one of `set`, `append`, `remove` and `rename`: make \
                               each a rule of its own";
                return Err(ConfigError::whole(message));
            }
        };
        let when = when.check(direction).map_err(|error| error.under("when"))?;
        Ok(Rule { edit, when })
    }
}

impl RawCondition {
    fn check(self, direction: Direction) -> Result<Condition, ConfigError> {
        let Self { method, path, path_prefix, header, response_header } = self;
        if response_header.is_some() && direction == Direction::Request {
            let message = "a rule for the request cannot look at the response";
            return Err(ConfigError::at("response_header", message));
        }
        let methods = method.map_or_else(Vec::new, |OneOrMore(methods)| methods);
        if let Some(method) = methods.iter().find(|method| names::readable(method).is_err()) {
            let message = format!("`{}` is not a method", method.escape_debug());
            return Err(ConfigError::at("method", message));
        }
        Ok(Condition {
            methods,
            path: path_test(path, path_prefix)?,
            header: header.map(|test| test.check("header")).transpose()?,
            response_header: response_header
                .map(|test| test.check("response_header"))
                .transpose()?,
        })
    }
}

fn path_test(
    path: Option<String>,
    prefix: Option<String>,
) -> Result<Option<PathTest>, ConfigError> {
    let (key, text) = match (&path, &prefix) {
        (Some(_), Some(_)) => {
            let message = "stands beside `path`: keep one of them";
            return Err(ConfigError::at("path_prefix", message));
        }
        (Some(path), None) => ("path", path),
        (None, Some(prefix)) => ("path_prefix", prefix),
        (None, None) => return Ok(None),
    };
    // `*` is the path of `OPTIONS *`.
    let is_path = text.starts_with('/') || (key == "path" && text == "*");
    if !is_path {
        let message = format!("`{}` does not begin with `/`", text.escape_debug());
        return Err(ConfigError::at(key, message));
    }
    if text.contains(['?', '#']) {
        return Err(ConfigError::at(
            key,
            "a path has neither `?` nor `#`: the query is not compared",
        ));
    }
    Ok(path.map(PathTest::Exact).or(prefix.map(PathTest::Prefix)))
}

impl RawFieldTest {
    fn check(self, key: &str) -> Result<FieldTest, ConfigError> {
        let Self { name, value, present } = self;
        let name = names::readable(&name)
            .map_err(|message| ConfigError::at(format!("{key}.name"), message))?;
        match (value, present) {
            (Some(_), Some(_)) => {
                let message = "stands beside `value`: keep one of them";
                Err(ConfigError::at(format!("{key}.present"), message))
            }
            (Some(value), None) => Ok(FieldTest::Equals { name, value }),
            (None, Some(false)) => Ok(FieldTest::Absent { name }),
            (None, Some(true) | None) => Ok(FieldTest::Present { name }),
        }
    }
}

fn editable(name: &str, key: &str) -> Result<String, ConfigError> {
    names::editable(name).map_err(|message| ConfigError::at(key, message))
}

fn template(text: &str, key: &str) -> Result<Template, ConfigError> {
    Template::parse(text).map_err(|message| ConfigError::at(key, message))
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A hint: a list comes as one. Without it the reading of floating-point numbers is linked.
        deserializer.deserialize_str(OneOrMoreVisitor)
    }
}

struct OneOrMoreVisitor;

impl<'de> Visitor<'de> for OneOrMoreVisitor {
    type Value = OneOrMore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
        Ok(OneOrMore(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(OneOrMore(texts))
    }
}
