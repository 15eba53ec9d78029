//! Guarded swaps from the command line: one file for each verb, and `view` and `watch`, which show
//! how a rollout goes.
//!
//! Everything is asked of the admin interface; nothing is decided here.

mod generations;
mod promote;
mod rollback;
mod show;
mod swap;
mod unpin;
mod view;
mod watch;

pub(super) use generations::{Arguments as GenerationsArguments, main as generations};
pub(super) use promote::{Arguments as PromoteArguments, main as promote};
pub(super) use rollback::{Arguments as RollbackArguments, main as rollback};
pub(super) use show::{Arguments as ShowArguments, main as show};
pub(super) use swap::{Arguments as SwapArguments, main as swap};
pub(super) use unpin::{Arguments as UnpinArguments, main as unpin};

use super::ask::Body;
use crate::admin::RELOAD_TIMEOUT;
use std::time::Duration;

/// For what may compile a filter: longer than the sidecar waits itself, so that it gets to say so.
const PATIENCE: Duration = RELOAD_TIMEOUT.saturating_add(Duration::from_secs(10));

fn json(bytes: &[u8]) -> Body<'_> {
    Body { media_type: "application/json", bytes }
}

/// A text as a segment of a path or a value of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |encoded, byte| {
        if plain(byte) {
            encoded + (byte as char).encode_utf8(&mut [0; 4])
        } else {
            encoded + &format!("%{byte:02X}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_for_a_target() {
        assert_eq!(encoded("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encoded("canary 5%, é/&?"), "canary%205%25%2C%20%C3%A9%2F%26%3F");
    }
}
