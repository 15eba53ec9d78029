//! Values made of text and of what the request holds: `tenant ${header.x-tenant:-none}`.
//!
//! A template is parsed once, at configuration, and rendered for each message. Where the values
//! come from is `Values`, so that nothing here knows the host.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::names;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Variable { variable: Variable, default: String },
}

/// What a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    ClientAddress,
    Method,
    Scheme,
    Authority,
    Path,
    Query,
    Protocol,
    /// A field of the request, by its name in lower case.
    Header(String),
    /// A note of the exchange.
    Note(String),
}

/// Hands out the values of one request.
pub(crate) trait Values {
    /// The value; none where the request has no such thing.
    fn value(&self, variable: &Variable) -> Option<String>;
}

const VARIABLES: &str = "`client.address`, `method`, `scheme`, `authority`, `path`, `query`, \
                         `protocol`, `header.<name>` or `note.<key>`";

impl Template {
    /// Read a template, or say what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        names::check_value(text)?;
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some(after) = after.strip_prefix('{') {
                let (inside, after) = after
                    .split_once('}')
                    .ok_or_else(|| format!("`${{{after}` has no closing `}}`"))?;
                if !literal.is_empty() {
                    parts.push(Part::Text(core::mem::take(&mut literal)));
                }
                parts.push(Part::parse(inside)?);
                rest = after;
            } else {
                return Err("`$` stands alone: write `${name}` for a value or `$$` for a dollar \
                            sign"
                    .to_owned());
            }
        }
        literal.push_str(rest);
        if parts.is_empty() {
            // Nothing to be filled in: what is left to do is done once.
            literal = trimmed(Cow::Owned(literal)).into_owned();
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The text with every variable in place: its value, else its default, else nothing. Blanks at
    /// both ends are cut, as they do not belong to a field value.
    pub(crate) fn render(&self, values: &impl Values) -> Cow<'_, str> {
        match &self.parts[..] {
            [] => Cow::Borrowed(""),
            [Part::Text(text)] => Cow::Borrowed(text),
            [part] => trimmed(part.render(values)),
            parts => {
                let mut text = String::new();
                for part in parts {
                    text.push_str(&part.render(values));
                }
                trimmed(Cow::Owned(text))
            }
        }
    }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(is_blank) && !bytes.last().is_some_and(is_blank) {
        return text;
    }
    Cow::Owned(text.trim_matches([' ', '\t']).to_owned())
}

impl Part {
    fn parse(inside: &str) -> Result<Self, String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, default),
            None => (inside, ""),
        };
        Ok(Self::Variable { variable: Variable::parse(name)?, default: default.to_owned() })
    }

    fn render(&self, values: &impl Values) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Variable { variable, default } => match values.value(variable) {
                Some(value) if !value.is_empty() => Cow::Owned(value),
                _ => Cow::Borrowed(default),
            },
        }
    }
}

impl Variable {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(header) = name.strip_prefix("header.") {
            return names::readable(header).map(Self::Header);
        }
        if let Some(key) = name.strip_prefix("note.")
            && !key.is_empty()
        {
            return Ok(Self::Note(key.to_owned()));
        }
        match name {
            "client.address" => Ok(Self::ClientAddress),
            "method" => Ok(Self::Method),
            "scheme" => Ok(Self::Scheme),
            "authority" => Ok(Self::Authority),
            "path" => Ok(Self::Path),
            "query" => Ok(Self::Query),
            "protocol" => Ok(Self::Protocol),
            _ => Err(format!("unknown variable `{name}`, expected {VARIABLES}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request;

    impl Values for Request {
        fn value(&self, variable: &Variable) -> Option<String> {
            let value = match variable {
                Variable::ClientAddress => "192.0.2.7",
                Variable::Method => "GET",
                Variable::Scheme => "https",
                Variable::Authority => "example.org",
                Variable::Path => "/a",
                Variable::Protocol => "HTTP/2",
                Variable::Header(name) if name == "x-tenant" => "blue",
                Variable::Header(name) if name == "x-empty" => "",
                Variable::Note(key) if key == "auth.user" => "ann",
                Variable::Query | Variable::Header(_) | Variable::Note(_) => return None,
            };
            Some(value.to_owned())
        }
    }

    fn render(text: &str) -> String {
        Template::parse(text).unwrap().render(&Request).into_owned()
    }

    #[test]
    fn plain_text_stays() {
        for text in ["", "plain", "{not} a: variable }", "50 % \u{e9}"] {
            assert_eq!(render(text), text);
        }
    }

    #[test]
    fn every_variable_has_its_value() {
        assert_eq!(
            render("${client.address} ${method} ${scheme}://${authority}${path} ${protocol}"),
            "192.0.2.7 GET https://example.org/a HTTP/2"
        );
        assert_eq!(render("${header.X-Tenant}/${note.auth.user}"), "blue/ann");
    }

    #[test]
    fn what_is_missing_or_empty_is_the_default_or_nothing() {
        assert_eq!(render("[${query}]"), "[]");
        assert_eq!(render("[${query:-none}]"), "[none]");
        assert_eq!(render("[${header.x-empty:-none}]"), "[none]");
        assert_eq!(render("[${header.x-tenant:-none}]"), "[blue]");
        assert_eq!(render("[${header.x-other:-a:-b}]"), "[a:-b]");
        assert_eq!(render("[${note.other}]"), "[]");
    }

    #[test]
    fn two_dollar_signs_are_one() {
        assert_eq!(render("$$5"), "$5");
        assert_eq!(render("$${method}"), "${method}");
        assert_eq!(render("$$$$${method}$$"), "$$GET$");
    }

    #[test]
    fn blanks_at_the_ends_are_cut() {
        assert_eq!(render("  a b "), "a b");
        assert_eq!((render("\ta"), render("a\t")), ("a".to_owned(), "a".to_owned()));
        assert_eq!(render("tenant ${query}"), "tenant");
        assert_eq!(render("${query} \t"), "");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("${metod}", "unknown variable `metod`, expected `client.address`, `method`"),
            ("${}", "unknown variable ``"),
            ("${note.}", "unknown variable `note.`"),
            ("${Method}", "unknown variable `Method`"),
            ("${header.}", "a field name must not be empty"),
            ("${header.x y}", "`x y` is not a field name"),
            ("a ${path", "`${path` has no closing `}`"),
            ("costs $5", "`$` stands alone"),
            ("$", "`$` stands alone"),
            ("a\r\nb: c", "a field value must not hold control characters"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }
}
