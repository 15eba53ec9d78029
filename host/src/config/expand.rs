//! References in strings: `${NAME}` for an environment variable, `${file:PATH}` for the text of a
//! file, and how to write a dollar sign that is none.
//!
//! Pure: what a reference stands for is looked up by the caller.

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// `${NAME}`
    Variable(&'a str),
    /// `${file:PATH}`
    File(&'a str),
}

/// Which texts in braces are references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// All of them; one that is no reference is a mistake. `$$` is a dollar sign.
    Strict,
    /// Only variables in upper case, and files: the strings of a filter's `config`, which may have
    /// a syntax of their own. `$${NAME}` is the text `${NAME}`; every other `$` stays.
    FilterConfig,
}

/// Why a string has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpandError<E> {
    /// `${` without `}`.
    Unclosed,
    /// What is in the braces is no reference.
    NoReference(String),
    /// The lookup failed.
    Lookup(E),
}

/// A string with its references replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Was there a reference?
    pub(super) referenced: bool,
}

/// Replaces the references of `text`. What replaces them is not looked at again.
pub(super) fn expand<E>(
    text: &str,
    syntax: Syntax,
    mut lookup: impl FnMut(Reference<'_>) -> Result<String, E>,
) -> Result<Expanded, ExpandError<E>> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), referenced: false };
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.text.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let (piece, taken) = match syntax {
            Syntax::Strict => strict(rest)?,
            Syntax::FilterConfig => in_filter_config(rest),
        };
        match piece {
            Piece::Text(piece) => expanded.text.push_str(piece),
            Piece::Reference(reference) => {
                expanded.text.push_str(&lookup(reference).map_err(ExpandError::Lookup)?);
                expanded.referenced = true;
            }
        }
        rest = &rest[taken..];
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

enum Piece<'a> {
    Text(&'a str),
    Reference(Reference<'a>),
}

/// The piece at the `$` that `rest` begins with, and its length.
fn strict<E>(rest: &str) -> Result<(Piece<'_>, usize), ExpandError<E>> {
    if rest.starts_with("$$") {
        return Ok((Piece::Text("$"), 2));
    }
    if !rest.starts_with("${") {
        return Ok((Piece::Text("$"), 1));
    }
    let inner = braced(rest).ok_or(ExpandError::Unclosed)?;
    let reference = reference(inner).ok_or_else(|| ExpandError::NoReference(inner.to_owned()))?;
    Ok((Piece::Reference(reference), inner.len() + 3))
}

fn in_filter_config(rest: &str) -> (Piece<'_>, usize) {
    let own = |text| {
        braced(text).and_then(|inner| Some((reference(inner)?, inner.len() + 3))).filter(
            |(reference, _)| match reference {
                Reference::Variable(name) => !name.bytes().any(|byte| byte.is_ascii_lowercase()),
                Reference::File(_) => true,
            },
        )
    };
    let escaped = &rest[1..];
    if let Some((_, length)) = own(escaped) {
        return (Piece::Text(&escaped[..length]), length + 1);
    }
    match own(rest) {
        Some((reference, length)) => (Piece::Reference(reference), length),
        None => (Piece::Text("$"), 1),
    }
}

/// What is in the braces of a text that begins with `${`.
fn braced(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?;
    inner.find('}').map(|end| &inner[..end])
}

fn reference(inner: &str) -> Option<Reference<'_>> {
    if let Some(path) = inner.strip_prefix("file:") {
        return (!path.is_empty()).then_some(Reference::File(path));
    }
    let first = inner.bytes().next()?;
    let valid = (first.is_ascii_alphabetic() || first == b'_')
        && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    valid.then_some(Reference::Variable(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, syntax: Syntax) -> Result<String, ExpandError<()>> {
        expand(text, syntax, |reference| match reference {
            Reference::Variable("MISSING") => Err(()),
            Reference::Variable(name) => Ok(format!("<{name}>")),
            Reference::File(path) => Ok(format!("<file {path}>")),
        })
        .map(|expanded| expanded.text)
    }

    #[test]
    fn strict_strings_have_references_and_escaped_dollars() {
        for (text, expected) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("a${B}c${d_1}", Ok("a<B>c<d_1>")),
            ("${file:./key}", Ok("<file ./key>")),
            ("$$", Ok("$")),
            ("$${B}", Ok("${B}")),
            ("$$${B}", Ok("$<B>")),
            ("costs 5$", Ok("costs 5$")),
            ("$B", Ok("$B")),
            ("ü${B}ü", Ok("ü<B>ü")),
            ("${B", Err(ExpandError::Unclosed)),
            ("${}", Err(ExpandError::NoReference(String::new()))),
            ("${file:}", Err(ExpandError::NoReference("file:".to_owned()))),
            ("${1B}", Err(ExpandError::NoReference("1B".to_owned()))),
            ("${header.x}", Err(ExpandError::NoReference("header.x".to_owned()))),
            ("${MISSING}", Err(ExpandError::Lookup(()))),
        ] {
            assert_eq!(run(text, Syntax::Strict), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_filters_own_syntax_reaches_it_unchanged() {
        for (text, expected) in [
            ("${B}", "<B>"),
            ("${file:./key}", "<file ./key>"),
            ("${method}", "${method}"),
            ("${header.x-tenant}", "${header.x-tenant}"),
            ("$$", "$$"),
            ("$${method}", "$${method}"),
            ("$${B}", "${B}"),
            ("$$${B}", "$${B}"),
            ("${", "${"),
            ("$", "$"),
            ("${B}${client.address}", "<B>${client.address}"),
        ] {
            assert_eq!(run(text, Syntax::FilterConfig), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(run("${MISSING}", Syntax::FilterConfig), Err(ExpandError::Lookup(())));
    }

    #[test]
    fn what_replaces_a_reference_is_not_looked_at_again() {
        let twice = expand("${A}", Syntax::Strict, |_| Ok::<_, ()>("${B}$$".to_owned()));
        assert_eq!(twice, Ok(Expanded { text: "${B}$$".to_owned(), referenced: true }));
    }
}
