//! Which responses are worth compressing, and may be: by type, status and what is said of them.
//!
//! Pure: fields are looked up through a function.

use alloc::format;
use alloc::string::{String, ToString};

use crate::accept::trim;

/// Types that come piece by piece, each to be read at once.
const STREAMED: [&str; 2] = ["text/event-stream", "application/x-ndjson"];
/// Digests of the bytes that are sent, which would be others (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// A pattern of types.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `application/json`
    Exact(String),
    /// `text/*`, without its star.
    Below(String),
    /// `+json`
    Suffix(String),
}

impl Type {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let token = |text: &str| {
            let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
            !text.is_empty() && text.bytes().all(belongs)
        };
        let lower = text.to_ascii_lowercase();
        if lower.strip_prefix('+').is_some_and(token) {
            return Ok(Self::Suffix(lower));
        }
        match lower.split_once('/') {
            Some((main, "*")) if token(main) => Ok(Self::Below(format!("{main}/"))),
            Some((main, sub)) if token(main) && token(sub) => Ok(Self::Exact(lower)),
            _ => Err(format!(
                "`{}` is not a type: write `application/json`, `text/*` or `+json`",
                text.escape_debug()
            )),
        }
    }

    fn matches(&self, media_type: &str) -> bool {
        match self {
            Self::Exact(exact) => media_type == exact,
            Self::Below(main) => media_type.starts_with(main.as_str()),
            Self::Suffix(suffix) => media_type.ends_with(suffix.as_str()),
        }
    }
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Not for us.
    Other,
    /// Worth compressing; `streamed` where nothing of it should wait.
    Compressible { streamed: bool },
}

/// Judges a response by its status and fields. `fields` answers with every line of a name.
pub(crate) fn judge(
    types: &[Type],
    status: u16,
    fields: impl Fn(&str) -> alloc::vec::Vec<String>,
) -> Content {
    // A part of other bytes than ours would be (206), or no content at all.
    if matches!(status, 101 | 204 | 205 | 206 | 304) {
        return Content::Other;
    }
    let content_type = fields("content-type");
    let [content_type] = &*content_type else { return Content::Other };
    let media_type = trim(content_type.split(';').next().unwrap_or_default()).to_ascii_lowercase();
    if !types.iter().any(|pattern| pattern.matches(&media_type)) {
        return Content::Other;
    }
    let is_identity = |line: &String| trim(line).eq_ignore_ascii_case("identity");
    if !fields("content-encoding").iter().all(is_identity)
        || forbids_transforming(&fields("cache-control"))
        || !fields("content-range").is_empty()
        || DIGESTS.iter().any(|name| !fields(name).is_empty())
    {
        return Content::Other;
    }
    Content::Compressible { streamed: STREAMED.contains(&&*media_type) }
}

/// Does `cache-control` have `no-transform` (RFC 9111 section 5.2.2.6)?
pub(crate) fn forbids_transforming(lines: &[String]) -> bool {
    let mut directives = lines.iter().flat_map(|line| line.split(','));
    directives.any(|directive| trim(directive).eq_ignore_ascii_case("no-transform"))
}

/// The weak form of a strong entity tag: the bytes are others, the content is the same (RFC 9110
/// section 8.8.1).
pub(crate) fn weak(tag: &str) -> Option<String> {
    tag.starts_with('"').then(|| format!("W/{tag}"))
}

/// Does `if-none-match` have this entity tag?
pub(crate) fn has_tag(lines: &[String], tag: &str) -> bool {
    // A comma within a tag makes two pieces, neither of which is one.
    lines.iter().flat_map(|line| line.split(',')).any(|own| trim(own) == tag)
}

/// Does `vary` name this field already?
pub(crate) fn names(vary: &[String], field: &str) -> bool {
    let mut names = vary.iter().flat_map(|line| line.split(',')).map(trim);
    names.any(|name| name == "*" || name.eq_ignore_ascii_case(field))
}

/// What is compressed where nothing is configured: text by nature, and not compressed by itself.
pub(crate) fn default_types() -> alloc::vec::Vec<String> {
    [
        "text/*",
        "+json",
        "+xml",
        "+text",
        "application/json",
        "application/javascript",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
        "application/wasm",
        "application/vnd.ms-fontobject",
        "font/ttf",
        "font/otf",
        "image/bmp",
        "image/x-icon",
    ]
    .map(|name| name.to_string())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::vec::Vec;

    use super::*;

    fn judged(status: u16, fields: &[(&str, &str)]) -> Content {
        let types: Vec<Type> =
            default_types().iter().map(|text| Type::parse(text).unwrap()).collect();
        judge(&types, status, |name| {
            fields.iter().filter(|it| it.0 == name).map(|it| it.1.to_owned()).collect()
        })
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn types_are_told_apart() {
        for (name, compressible) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/CSS", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("application/json", true),
            ("application/json5", false),
            ("image/png", false),
            ("application/grpc", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            let is = judged(200, &[("content-type", name)]) != Content::Other;
            assert_eq!(is, compressible, "{name}");
        }
        assert_eq!(judged(200, &[]), Content::Other);
        assert_eq!(judged(200, &[JSON, JSON]), Content::Other);
        let events = judged(200, &[("content-type", "text/event-stream")]);
        assert_eq!(events, Content::Compressible { streamed: true });
        assert_eq!(judged(200, &[JSON]), Content::Compressible { streamed: false });
    }

    #[test]
    fn what_is_said_of_a_response_is_respected() {
        for (name, value, compressible) in [
            ("content-encoding", "identity", true),
            ("content-encoding", "br", false),
            ("cache-control", "max-age=1, No-Transform", false),
            ("cache-control", "max-age=1", true),
            ("content-range", "bytes 0-1/9", false),
            ("content-digest", "sha-256=:AA==:", false),
            ("repr-digest", "sha-256=:AA==:", false),
            ("digest", "sha-256=AA", false),
            ("content-md5", "AA", false),
        ] {
            let is = judged(200, &[JSON, (name, value)]) != Content::Other;
            assert_eq!(is, compressible, "{name}: {value}");
        }
        for (status, compressible) in
            [(200, true), (404, true), (500, true), (204, false), (206, false), (304, false)]
        {
            assert_eq!(judged(status, &[JSON]) != Content::Other, compressible, "{status}");
        }
    }

    #[test]
    fn a_strong_tag_becomes_weak() {
        assert_eq!(weak("\"a\"").as_deref(), Some("W/\"a\""));
        assert_eq!(weak("W/\"a\""), None);
        assert_eq!(weak("a"), None);
        let lines = ["\"b\", W/\"a\"".to_owned()];
        assert!(has_tag(&lines, "W/\"a\"") && has_tag(&lines, "\"b\""));
        assert!(!has_tag(&lines, "\"a\"") && !has_tag(&[], "\"a\""));
    }

    #[test]
    fn a_type_that_is_none_is_refused() {
        for text in ["", "json", "text/", "/json", "*/*", "+", "text/x y", "a/b/c"] {
            assert!(Type::parse(text).unwrap_err().contains("is not a type"), "{text}");
        }
    }
}
