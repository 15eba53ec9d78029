//! Words of messages: suggestions, lists, texts of the user made short and printable, and how keys
//! and names are written.
//!
//! Pure; knows nothing of tables and files.

use std::borrow::Cow;

use super::limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX};

/// "did you mean", where one of `known` is close to `word`.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    // Longer words are no typing mistakes of ours, and comparing costs the square of the length.
    let word = Some(plain(word)).filter(|word| word.len() <= NAME_BYTES_MAX)?;
    let tolerated = (word.chars().count() / 3).max(1);
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// `a`, `b`, `c`.
pub(super) fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// A text of the user, short and printable.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX && !text.chars().any(char::is_control) {
        return text.into();
    }
    let mut short: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > CHARS_MAX {
        short.push_str("...");
    }
    short.into()
}

/// `path.key`, with the key quoted where TOML asks for it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let key = if bare { Cow::from(key) } else { Cow::from(format!("{key:?}")) };
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// Why a text is no name of a version, and what would be.
pub(super) fn version_problem(version: &str) -> Option<(&'static str, String)> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    if version.is_empty() {
        return Some(("it is empty", "leave it out, or give one".to_owned()));
    }
    if version.len() > VERSION_BYTES_MAX {
        return Some(("it is too long", format!("{VERSION_BYTES_MAX} bytes is the most")));
    }
    let help = "a version has letters, digits, `-`, `_`, `.` and `+`, and no references".to_owned();
    (!version.bytes().all(allowed)).then_some(("it has other characters", help))
}

/// Why a text is no name of a listener, route, upstream or filter, and what would be.
pub(super) fn name_problem(name: &str) -> Option<(&'static str, String)> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() {
        return Some(("it is empty", String::new()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(("it is too long", format!("{NAME_BYTES_MAX} bytes is the most")));
    }
    let help = "a name has letters, digits, `-` and `_`, and no references".to_owned();
    (!name.bytes().all(allowed)).then_some(("it has other characters", help))
}
