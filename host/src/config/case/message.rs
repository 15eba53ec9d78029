//! Reads what goes into a filter: requests and answers, with their fields, bodies and notes.
//!
//! Texts are taken as they are written. What has to come out is read in `expect`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use toml::de::{DeTable, DeValue};

use super::base64;
use super::keys::{
    AUTHORITY_DEFAULT, CASE_BODY_BYTES_MAX, CASE_FIELDS_MAX, CHUNK, CHUNKS_MAX, CLIENT_DEFAULT,
    LISTED_MAX, LISTENER_DEFAULT, METHOD_DEFAULT, PATH_DEFAULT,
};
use super::model::{Answer, Payload, Request};
use crate::config::limits::{NOTE_BYTES_MAX, NOTES_MAX};
use crate::config::problems::{BoundedReadError, Span, read_bounded};
use crate::config::reader::{Node, TableReader, whole_number};
use crate::config::words::{did_you_mean, quoted, shortened};
use crate::http::edit::{is_authority, is_host_owned, is_origin_form};
use crate::http::fields::{Name, is_value, trim};
use crate::units::parse_size;

/// What a reader collects besides values.
#[derive(Default)]
pub(super) struct Collected {
    /// Files that bodies came from.
    pub(super) files: Vec<PathBuf>,
}

/// `request`
pub(super) fn request(table: &TableReader<'_, '_>, collected: &mut Collected) -> Request {
    let checked = |key: &str, default: &str, valid: &dyn Fn(&str) -> bool, help: &str| {
        let Some((text, node)) = literal(table, key) else { return default.to_owned() };
        if !valid(&text) {
            let message = format!("`{}` is no {key}", shortened(&text));
            table.context.error(node.span(), message, help);
            return default.to_owned();
        }
        text
    };
    let method = checked(
        "method",
        METHOD_DEFAULT,
        &|text| Method::from_bytes(text.as_bytes()).is_ok() && text != "CONNECT",
        "a method is a word, as in `GET`; `CONNECT` is not offered",
    );
    let path = checked(
        "path",
        PATH_DEFAULT,
        &is_origin_form,
        "path and query begin with `/`, have no fragment, and other characters are written as `%20`",
    );
    let authority = checked(
        "authority",
        AUTHORITY_DEFAULT,
        &is_authority,
        "write host and optional port, as in `api.example:8080`",
    );
    let client = checked(
        "client",
        CLIENT_DEFAULT,
        &|text| text.parse::<IpAddr>().is_ok(),
        "write an address, as in `192.0.2.1` or `2001:db8::1`",
    );
    let listener =
        checked("listener", LISTENER_DEFAULT, &|text| !text.is_empty(), "a listener has a name");
    Request {
        // Both were checked above, or are the defaults.
        method: Method::from_bytes(method.as_bytes()).unwrap_or_default(),
        client: client.parse().unwrap_or(IpAddr::from([192, 0, 2, 1])),
        path,
        secure: table.choice("scheme") == "https",
        authority,
        protocol: table.choice("protocol"),
        listener,
        headers: fields(table, "headers"),
        payload: payload(table, collected),
        notes: notes(table),
    }
}

/// `upstream`
pub(super) fn answer(table: &TableReader<'_, '_>, collected: &mut Collected) -> Answer {
    Answer {
        status: table.limit("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
        headers: fields(table, "headers"),
        payload: payload(table, collected),
        delay: Duration::from_micros(table.limit("delay").unwrap_or(0)),
    }
}

/// A text as it is written, with its node.
pub(super) fn literal<'t>(
    table: &TableReader<'_, 't>,
    key: &str,
) -> Option<(String, &'t Node<'t>)> {
    let node = table.node(key)?;
    Some((text_of(table, key, node)?, node))
}

/// A text as it is written; anything else is reported.
pub(super) fn text_of(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>) -> Option<String> {
    match node.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => {
            table.wrong_type(key, node, "a string");
            None
        }
    }
}

/// An entry of a table whose keys are names.
pub(super) struct Entry<'t> {
    pub(super) name: String,
    /// Where the name is.
    pub(super) at: Span,
    pub(super) node: &'t Node<'t>,
}

/// The entries of a table whose keys are names, or none; anything else is reported.
pub(super) fn entries<'t>(
    table: &TableReader<'_, 't>,
    key: &str,
    expected: &str,
) -> Vec<Entry<'t>> {
    let Some(node) = table.node(key) else { return Vec::new() };
    let DeValue::Table(entries) = node.get_ref() else {
        table.wrong_type(key, node, expected);
        return Vec::new();
    };
    let listed = table.bounded(key, node, entries.len(), CASE_FIELDS_MAX, entries.iter());
    let mut listed: Vec<Entry<'_>> = listed
        .map(|(name, node)| Entry { name: name.get_ref().to_string(), at: name.span(), node })
        .collect();
    // The parser sorts them by name; a person reads them in the order of the file.
    listed.sort_by_key(|entry| entry.at.start);
    listed
}

/// The entries of a table within a value, all of which have to be known.
pub(super) fn known_entries<'t>(
    table: &TableReader<'_, '_>,
    entries: &'t DeTable<'t>,
    known: &[&str],
) -> Vec<(String, &'t Node<'t>)> {
    let mut found = Vec::new();
    for (key, node) in entries.iter() {
        let name: &str = key.get_ref();
        if known.contains(&name) {
            found.push((name.to_owned(), node));
            continue;
        }
        let help = did_you_mean(name, known.iter().copied())
            .unwrap_or_else(|| format!("known here: {}", quoted(known)));
        let message = format!("unknown key `{}`", shortened(name));
        table.context.error(key.span(), message, help);
    }
    found
}

/// The name of a field that may be written in a case file, in lower case.
pub(super) fn field_name(table: &TableReader<'_, '_>, entry: &Entry<'_>) -> Option<String> {
    let written = &entry.name;
    let shown = shortened(written);
    let Ok(name) = Name::parse(written.as_bytes()) else {
        let message = format!("`{shown}` is no field name");
        table.context.error(entry.at.clone(), message, "field names have letters, digits and `-`");
        return None;
    };
    let lower = written.to_ascii_lowercase();
    if is_host_owned(name) {
        let help = match lower.as_str() {
            "host" => "write it as `authority` of the request",
            "content-length" | "transfer-encoding" => "it follows from `body`",
            _ => "it frames or routes the message, and no filter sees it",
        };
        table.context.error(entry.at.clone(), format!("`{shown}` belongs to the host"), help);
        return None;
    }
    Some(lower)
}

/// The value of a field line, without blanks around it.
pub(super) fn field_value(
    table: &TableReader<'_, '_>,
    name: &str,
    node: &Node<'_>,
) -> Option<Vec<u8>> {
    let value = match node.get_ref() {
        DeValue::Table(entries) => {
            let entries = known_entries(table, entries, &["base64"]);
            let [(_, inner)] = entries.as_slice() else {
                let help = "write a string, or `{ base64 = \"...\" }` for bytes that are no text";
                table.context.error(node.span(), format!("`{name}` has no value"), help);
                return None;
            };
            base64_of(table, inner)?
        }
        _ => text_of(table, name, node)?.into_bytes(),
    };
    if !is_value(&value) || trim(&value) != value {
        let message = format!("no line of `{name}` can have this value");
        let help = "values are without control characters and without blanks around them";
        table.context.error(node.span(), message, help);
        return None;
    }
    Some(value)
}

pub(super) fn base64_of(table: &TableReader<'_, '_>, node: &Node<'_>) -> Option<Vec<u8>> {
    let bytes = base64::decode(&text_of(table, "base64", node)?);
    if bytes.is_none() {
        let help = "standard Base64 with padding, as `base64` prints it";
        table.context.error(node.span(), "this is no Base64", help);
    }
    bytes
}

/// The bytes of a file that a case names.
pub(super) fn file_of(
    table: &TableReader<'_, '_>,
    node: &Node<'_>,
    collected: &mut Collected,
) -> Option<Vec<u8>> {
    let name = text_of(table, "file", node)?;
    let path = table.context.base.join(&name);
    let is_file = std::fs::metadata(&path).map(|it| it.is_file());
    let read = match is_file {
        Err(error) => Err(BoundedReadError::Io(error)),
        Ok(false) => Err(BoundedReadError::Io(std::io::Error::other("it is not a regular file"))),
        Ok(true) => read_bounded(&path, CASE_BODY_BYTES_MAX),
    };
    let problem = match read {
        Ok(bytes) => {
            collected.files.push(path);
            return Some(bytes);
        }
        Err(BoundedReadError::Io(error)) => error.to_string(),
        Err(BoundedReadError::TooLarge) => format!("it has more than {CASE_BODY_BYTES_MAX} bytes"),
    };
    let message = format!("cannot read `{}`: {problem}", shortened(&name));
    table.context.error(node.span(), message, "paths are relative to this file");
    None
}

/// Fields by name, with one line or several.
fn fields(table: &TableReader<'_, '_>, key: &str) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    for entry in entries(table, key, "a table of field names") {
        let Some(name) = field_name(table, &entry) else { continue };
        let Entry { name: written, node, .. } = &entry;
        let lines = match node.get_ref() {
            DeValue::Array(items) => {
                let items = table.bounded(written, node, items.len(), LISTED_MAX, items.iter());
                items.filter_map(|item| field_value(table, written, item)).collect()
            }
            _ => field_value(table, written, node).into_iter().collect::<Vec<_>>(),
        };
        fields.extend(lines.into_iter().map(|value| (name.clone(), value)));
    }
    fields
}

fn notes(table: &TableReader<'_, '_>) -> Vec<(String, String)> {
    let all = entries(table, "notes", "a table of notes");
    if let (true, Some(node)) = (all.len() > NOTES_MAX, table.node("notes")) {
        let message = format!("`notes` has {} entries, and {NOTES_MAX} is the most", all.len());
        table.context.error(node.span(), message, "no filter can leave more");
    }
    let notes = all.into_iter();
    notes
        .filter_map(|Entry { name, node, .. }| {
            let text = text_of(table, &name, node)?;
            if name.len() + text.len() > NOTE_BYTES_MAX {
                let message = format!("note `{}` is too long", shortened(&name));
                let help = format!("key and text have at most {NOTE_BYTES_MAX} bytes");
                table.context.error(node.span(), message, help);
            }
            Some((name, text))
        })
        .collect()
}

/// `body` and `trailers`.
fn payload(table: &TableReader<'_, '_>, collected: &mut Collected) -> Payload {
    let trailers = fields(table, "trailers");
    let chunks = match table.node("body") {
        // Trailers stand behind a body, if only an empty one.
        None => (!trailers.is_empty()).then(Vec::new),
        Some(node) => Some(body(table, node, collected)),
    };
    Payload { chunks, trailers }
}

fn body(table: &TableReader<'_, '_>, node: &Node<'_>, collected: &mut Collected) -> Vec<Vec<u8>> {
    let DeValue::Table(entries) = node.get_ref() else {
        let text = text_of(table, "body", node).unwrap_or_default();
        return pieces(text.as_bytes(), &[]);
    };
    let (mut bytes, mut sources, mut sizes) = (Vec::new(), 0, Sizes::default());
    for (key, inner) in known_entries(table, entries, &["text", "base64", "file", "chunks"]) {
        let read = match key.as_str() {
            "chunks" => {
                sizes = chunk_sizes(table, inner);
                continue;
            }
            "text" => text_of(table, "text", inner).map(String::into_bytes),
            "base64" => base64_of(table, inner),
            _ => file_of(table, inner, collected),
        };
        sources += 1;
        bytes = read.unwrap_or_default();
    }
    if sources != 1 {
        let message = "a body has one of `text`, `base64` and `file`";
        table.context.error(node.span(), message, "write one of them");
    }
    let sizes = match sizes {
        Sizes::List(sizes) => sizes,
        Sizes::Every(size) => vec![size; bytes.len().div_ceil(size).saturating_sub(1)],
    };
    if sizes.len() >= CHUNKS_MAX {
        let message = format!("the body comes in more than {CHUNKS_MAX} pieces");
        table.context.error(node.span(), message, "make them larger");
        return Vec::new();
    }
    pieces(&bytes, &sizes)
}

enum Sizes {
    List(Vec<usize>),
    Every(usize),
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes::List(Vec::new())
    }
}

fn chunk_sizes(table: &TableReader<'_, '_>, node: &Node<'_>) -> Sizes {
    match node.get_ref() {
        DeValue::Array(items) => {
            let items = table.bounded("chunks", node, items.len(), CHUNKS_MAX, items.iter());
            Sizes::List(items.filter_map(|item| chunk_size(table, item)).collect())
        }
        _ => chunk_size(table, node).map_or(Sizes::default(), Sizes::Every),
    }
}

fn chunk_size(table: &TableReader<'_, '_>, node: &Node<'_>) -> Option<usize> {
    let size = match node.get_ref() {
        DeValue::Integer(number) => whole_number(number),
        DeValue::String(text) => parse_size(text).ok(),
        _ => None,
    };
    let size = size.filter(|size| (CHUNK.min..=CHUNK.max).contains(size));
    if size.is_none() {
        let (min, max) = (CHUNK.format(CHUNK.min), CHUNK.format(CHUNK.max));
        let help = format!("a number of bytes, or a size as in \"16KiB\", from {min} to {max}");
        table.context.error(node.span(), "this is no size of a piece", help);
    }
    size.and_then(|size| usize::try_from(size).ok())
}

/// `bytes` in pieces of these sizes, and the rest in one. No bytes are one empty piece.
fn pieces(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for size in sizes {
        if rest.len() <= *size {
            break;
        }
        let (piece, behind) = rest.split_at(*size);
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces.push(rest.to_vec());
    pieces
}
