//! What may stand in a configuration as a field name or a field value.
//!
//! The host refuses the same at run time; here a mistake is found when the configuration is read.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// Fields that belong to the host, as in the contract's `edit-error.host-owned`. With `_` in place
/// of `-` they are refused too, as some servers take the one for the other.
const HOST_OWNED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A name in lower case whose field can be read, or what is wrong with it.
pub(crate) fn readable(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("a field name must not be empty".to_owned());
    }
    if !name.bytes().all(is_token_byte) {
        return Err(format!(
            "`{}` is not a field name: use letters, digits and `-`",
            name.escape_debug()
        ));
    }
    Ok(name.to_ascii_lowercase())
}

/// A name in lower case whose field can be edited, or what is wrong with it.
pub(crate) fn editable(name: &str) -> Result<String, String> {
    if name.starts_with(':') {
        return Err(format!("`{}` belongs to the host and cannot be edited", name.escape_debug()));
    }
    let name = readable(name)?;
    if HOST_OWNED.contains(&name.replace('_', "-").as_str()) {
        return Err(format!("`{name}` belongs to the host and cannot be edited"));
    }
    Ok(name)
}

/// Is this text fit to be part of a field value (RFC 9110 section 5.5)?
pub(crate) fn check_value(text: &str) -> Result<(), String> {
    match text.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)) {
        true => Ok(()),
        false => Err("a field value must not hold control characters".to_owned()),
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_in_lower_case() {
        assert_eq!(readable("X-Tenant").unwrap(), "x-tenant");
        assert_eq!(readable("a!#$%&'*+-.^_`|~9").unwrap(), "a!#$%&'*+-.^_`|~9");
        assert_eq!(readable("Host").unwrap(), "host");
        for name in ["", "x y", "x:", "x\n", "x\u{e9}", "\"x\"", "(x)", "x,y", ":path"] {
            assert!(readable(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn fields_of_the_host_cannot_be_edited() {
        for name in HOST_OWNED {
            let error = editable(&name.to_uppercase()).unwrap_err();
            assert_eq!(error, format!("`{name}` belongs to the host and cannot be edited"));
        }
        assert!(editable(":path").unwrap_err().contains("belongs to the host"));
        assert!(editable("transfer_encoding").unwrap_err().contains("belongs to the host"));
        assert_eq!(editable("Hosts").unwrap(), "hosts");
    }

    #[test]
    fn values_hold_no_control_characters() {
        for text in ["", "a b", "a\tb", "\u{e9}"] {
            assert!(check_value(text).is_ok(), "{text:?}");
        }
        for text in ["\r", "\n", "\0", "\u{1f}", "\u{7f}"] {
            assert!(check_value(text).is_err(), "{text:?}");
        }
    }
}
