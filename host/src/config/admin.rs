//! Reads `[admin]`: where the admin interface is reached, and what keeps others out.
//!
//! How that is held, `admin` knows.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::check::{read_address, read_path, unspecified};
use super::keys::ADMIN_ADDRESS_DEFAULT;
use super::limits::{SOCKET_PATH_BYTES_MAX, TOKEN_CHARS_MAX, TOKEN_CHARS_MIN};
use super::model::{Admin, Token};
use super::reader::TableReader;

pub(super) fn read(table: &TableReader<'_, '_>) -> Admin {
    let allow_remote = table.flag("allow_remote").unwrap_or_default();
    let text = table.text("address");
    let address = text.as_ref().and_then(|text| read_address(table, text, ADMIN_ADDRESS_DEFAULT));
    if let Some((text, address)) = text.as_ref().zip(address)
        && !address.ip().is_loopback()
        && !allow_remote
    {
        let message = format!("other hosts could reach the admin listener at `{}`", text.shown());
        let help = "use a loopback address, or accept that with `allow_remote = true`";
        table.context.error(text.span.clone(), message, help);
    }
    let address = address.unwrap_or_else(unspecified);
    let tcp = table.flag("tcp").unwrap_or(true);
    if !tcp && !table.has("socket") {
        let message = "the admin interface would have neither an address nor a socket";
        table.context.error(table.span_of("tcp"), message, "name a `socket`, too");
    }
    Admin { tcp, address, allow_remote, socket: read_socket(table), token: read_token(table) }
}

fn read_socket(table: &TableReader<'_, '_>) -> Option<PathBuf> {
    let text = table.text("socket")?;
    let path = read_path(table, &text)?;
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let message = format!("the path of the socket has {bytes} bytes");
        let help = format!("{SOCKET_PATH_BYTES_MAX} is the most that a socket can have");
        table.context.error(text.span, message, help);
        return None;
    }
    Some(path)
}

/// The token, which no message quotes.
fn read_token(table: &TableReader<'_, '_>) -> Option<Token> {
    let text = table.text("token")?;
    let problem = if !text.secret {
        // A message about this line would show it, and be logged.
        Some((
            "the token is in the file itself".to_owned(),
            "write `${file:PATH}` or `${NAME}`, so that it shows up nowhere".to_owned(),
        ))
    } else if !text.value.bytes().all(|byte| byte.is_ascii_graphic()) {
        let help = "visible characters of ASCII without blanks are usable".to_owned();
        Some(("the token has characters that a field cannot carry".to_owned(), help))
    } else if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.value.len()) {
        let side = if text.value.len() < TOKEN_CHARS_MIN { "short" } else { "long" };
        let help = format!("it has to have {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} characters");
        Some((format!("the token is too {side}"), help))
    } else {
        None
    };
    match problem {
        Some((message, help)) => {
            table.context.error(text.span, message, help);
            None
        }
        None => Some(Token(text.value.into())),
    }
}
