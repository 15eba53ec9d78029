//! The host's functions, acting on the exchange whose hook runs on this thread.
//!
//! The same modules and functions as `host.rs`, which a component uses. Phases are checked here, the
//! rules of messages in `rules.rs`; capabilities are in `services.rs`.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use super::{
    fields::{Fields, HEAD, TRAILERS},
    host::Host,
    message, rules,
};
use crate::EditErrorKind;

pub(crate) use super::services::{clock, kv, log, metrics, random, rate_limit};

/// The hook that is being called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Request,
    RequestBody,
    RequestTrailers,
    Response,
    ResponseBody,
    ResponseTrailers,
    Complete,
}

/// An exchange between and during hooks.
#[derive(Debug)]
pub(super) struct InProgress {
    pub(super) phase: Phase,
    pub(super) wall: Duration,
    pub(super) started: Duration,
    pub(super) request: Head,
    pub(super) response: Option<(u16, Fields)>,
    pub(super) trailers: Fields,
    pub(super) held: Vec<u8>,
    /// The head of the message whose body is passing is kept back.
    pub(super) waiting: bool,
    pub(super) request_bytes: u64,
    pub(super) notes: BTreeMap<String, String>,
    edits: usize,
    /// Log lines so far.
    pub(super) lines: usize,
}

/// A request head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) scheme: String,
    pub(super) authority: String,
    pub(super) path_with_query: String,
    pub(super) fields: Fields,
    protocol: String,
    client_address: String,
    listener: String,
}

impl InProgress {
    pub(super) fn new(host: &Host, request: &message::Request) -> Self {
        let state = host.0.borrow();
        Self {
            phase: Phase::Request,
            wall: state.wall,
            started: state.monotonic,
            request: Head {
                method: request.method.clone(),
                scheme: request.scheme.clone(),
                authority: request.authority.clone(),
                path_with_query: request.path_with_query.clone(),
                fields: Fields::received(request.headers.clone()),
                protocol: request.protocol.clone(),
                client_address: request.client_address.clone(),
                listener: request.listener.clone(),
            },
            response: None,
            trailers: Fields::default(),
            held: Vec::new(),
            waiting: false,
            request_bytes: 0,
            notes: request.notes.iter().cloned().collect(),
            edits: 0,
            lines: 0,
        }
    }
}

/// The host and, within a hook, the exchange that calls on this thread mean.
pub(super) struct Scope {
    pub(super) host: Host,
    pub(super) exchange: Option<InProgress>,
    /// The call is that of `migrate`.
    pub(super) migrates: bool,
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Runs `call` as a hook of `exchange`, or as `configure` where there is none.
pub(super) fn run<R>(
    host: &Host,
    exchange: Option<InProgress>,
    call: impl FnOnce() -> R,
) -> (R, Option<InProgress>) {
    SCOPE.set(Some(Scope { host: host.clone(), exchange, migrates: false }));
    let result = call();
    (result, SCOPE.take().and_then(|scope| scope.exchange))
}

/// Runs `call` as `migrate`.
pub(super) fn migrate<R>(host: &Host, call: impl FnOnce() -> R) -> R {
    SCOPE.set(Some(Scope { host: host.clone(), exchange: None, migrates: true }));
    let result = call();
    SCOPE.set(None);
    result
}

pub(super) fn scope<R>(with: impl FnOnce(&mut Scope) -> R) -> R {
    SCOPE.with_borrow_mut(|scope| {
        let scope = scope.as_mut().expect(
            "a host function was called outside a filter: run hooks through `pillion_sdk::testing`",
        );
        with(scope)
    })
}

pub(super) fn state<R>(with: impl FnOnce(&mut super::host::State) -> R) -> R {
    scope(|scope| with(&mut scope.host.0.borrow_mut()))
}

/// The exchange in progress, for reading.
fn exchange<R>(with: impl FnOnce(&InProgress) -> R) -> R {
    scope(|scope| {
        let exchange = scope.exchange.as_ref();
        with(exchange.expect("a message was read in `new`, where there is no exchange: this traps"))
    })
}

/// An edit: refused in the wrong phase and beyond the limit of edits.
fn edit<R>(
    phases: impl FnOnce(&InProgress) -> bool,
    change: impl FnOnce(&mut InProgress) -> Result<R, EditErrorKind>,
) -> Result<R, EditErrorKind> {
    scope(|scope| {
        let exchange = scope.exchange.as_mut().ok_or(EditErrorKind::WrongPhase)?;
        if !phases(exchange) {
            return Err(EditErrorKind::WrongPhase);
        }
        if exchange.edits >= rules::EDITS {
            return Err(EditErrorKind::LimitExceeded);
        }
        let result = change(exchange)?;
        exchange.edits += 1;
        Ok(result)
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The functions for fields; `$read` and `$edit` find the fields in the exchange.
macro_rules! fields {
    ($read:ident, $edit:ident, $limits:expr) => {
        pub(crate) fn header(name: &str) -> Option<String> {
            $read(|fields| fields.first(name).map(text))
        }

        pub(crate) fn header_bytes(name: &str) -> Option<Vec<u8>> {
            $read(|fields| fields.first(name).map(<[u8]>::to_vec))
        }

        pub(crate) fn headers() -> Vec<Field> {
            $read(|fields| fields.lines().to_vec())
        }

        pub(crate) fn set_header(name: &str, value: &str) -> Result<(), EditErrorKind> {
            $edit(|fields| fields.set(name, value.as_bytes(), $limits))
        }

        pub(crate) fn append_header(name: &str, value: &str) -> Result<(), EditErrorKind> {
            $edit(|fields| fields.append(name, value.as_bytes(), $limits))
        }

        pub(crate) fn remove_header(name: &str) -> Result<bool, EditErrorKind> {
            $edit(|fields| fields.remove(name))
        }
    };
}

/// The functions that heads have and trailers have not.
macro_rules! head {
    ($read:ident, $edit:ident) => {
        fields!($read, $edit, HEAD);

        pub(crate) fn header_all(name: &str) -> Vec<String> {
            $read(|fields| fields.named(name).map(text).collect())
        }

        pub(crate) fn set_header_bytes(name: &str, value: &[u8]) -> Result<(), EditErrorKind> {
            $edit(|fields| fields.set(name, value, HEAD))
        }
    };
}

pub(crate) mod request {
    use super::{EditErrorKind, Fields, HEAD, Head, InProgress, Phase, exchange, rules, text};
    use crate::Field;

    fn editable(exchange: &InProgress) -> bool {
        match exchange.phase {
            Phase::Request => true,
            Phase::RequestBody => exchange.waiting,
            _ => false,
        }
    }

    fn read<R>(with: impl FnOnce(&Fields) -> R) -> R {
        exchange(|exchange| with(&exchange.request.fields))
    }

    fn edit<R>(
        change: impl FnOnce(&mut Fields) -> Result<R, EditErrorKind>,
    ) -> Result<R, EditErrorKind> {
        super::edit(editable, |exchange| change(&mut exchange.request.fields))
    }

    fn part<R>(with: impl FnOnce(&Head) -> R) -> R {
        exchange(|exchange| with(&exchange.request))
    }

    fn set_part(
        value: &str,
        rule: impl FnOnce(&Head, &str) -> Result<(), EditErrorKind>,
        part: impl FnOnce(&mut Head) -> &mut String,
    ) -> Result<(), EditErrorKind> {
        super::edit(editable, |exchange| {
            rule(&exchange.request, value)?;
            value.clone_into(part(&mut exchange.request));
            Ok(())
        })
    }

    head!(read, edit);

    pub(crate) fn method() -> String {
        part(|head| head.method.clone())
    }

    pub(crate) fn scheme() -> String {
        part(|head| head.scheme.clone())
    }

    pub(crate) fn authority() -> String {
        part(|head| head.authority.clone())
    }

    pub(crate) fn path_with_query() -> String {
        part(|head| head.path_with_query.clone())
    }

    pub(crate) fn path() -> String {
        let target = path_with_query();
        target.split_once('?').map_or(target.as_str(), |(path, _)| path).to_owned()
    }

    pub(crate) fn query() -> Option<String> {
        path_with_query().split_once('?').map(|(_, query)| query.to_owned())
    }

    pub(crate) fn protocol() -> String {
        part(|head| head.protocol.clone())
    }

    pub(crate) fn client_address() -> String {
        part(|head| head.client_address.clone())
    }

    pub(crate) fn listener() -> String {
        part(|head| head.listener.clone())
    }

    pub(crate) fn set_method(method: &str) -> Result<(), EditErrorKind> {
        set_part(method, |head, text| rules::method(&head.method, text), |head| &mut head.method)
    }

    pub(crate) fn set_scheme(scheme: &str) -> Result<(), EditErrorKind> {
        set_part(scheme, |_, text| rules::scheme(text), |head| &mut head.scheme)
    }

    pub(crate) fn set_authority(authority: &str) -> Result<(), EditErrorKind> {
        set_part(authority, |_, text| rules::authority(text), |head| &mut head.authority)
    }

    pub(crate) fn set_path_with_query(target: &str) -> Result<(), EditErrorKind> {
        set_part(target, |_, text| rules::target(text), |head| &mut head.path_with_query)
    }
}

pub(crate) mod response {
    use super::{EditErrorKind, Fields, HEAD, InProgress, Phase, exchange, rules, text};
    use crate::Field;

    const NONE: &str = "the response was read before there is one: this traps";

    fn editable(exchange: &InProgress) -> bool {
        match exchange.phase {
            Phase::Response => true,
            Phase::ResponseBody => exchange.waiting,
            _ => false,
        }
    }

    fn read<R>(with: impl FnOnce(&Fields) -> R) -> R {
        exchange(|exchange| with(&exchange.response.as_ref().expect(NONE).1))
    }

    fn edit<R>(
        change: impl FnOnce(&mut Fields) -> Result<R, EditErrorKind>,
    ) -> Result<R, EditErrorKind> {
        super::edit(editable, |exchange| {
            change(&mut exchange.response.as_mut().expect("the phase is a response's").1)
        })
    }

    head!(read, edit);

    pub(crate) fn status() -> u16 {
        exchange(|exchange| exchange.response.as_ref().expect(NONE).0)
    }

    pub(crate) fn set_status(status: u16) -> Result<(), EditErrorKind> {
        super::edit(editable, |exchange| {
            let (present, _) = exchange.response.as_mut().expect("the phase is a response's");
            rules::status(*present, status)?;
            *present = status;
            Ok(())
        })
    }
}

pub(crate) mod trailers {
    use super::{EditErrorKind, Fields, InProgress, Phase, TRAILERS, exchange, text};
    use crate::Field;

    fn present(exchange: &InProgress) -> bool {
        matches!(exchange.phase, Phase::RequestTrailers | Phase::ResponseTrailers)
    }

    fn read<R>(with: impl FnOnce(&Fields) -> R) -> R {
        exchange(|exchange| {
            if present(exchange) { with(&exchange.trailers) } else { with(&Fields::default()) }
        })
    }

    fn edit<R>(
        change: impl FnOnce(&mut Fields) -> Result<R, EditErrorKind>,
    ) -> Result<R, EditErrorKind> {
        super::edit(present, |exchange| change(&mut exchange.trailers))
    }

    fields!(read, edit, TRAILERS);
}

/// The functions for held bytes, which exist only in the body hook of that phase.
macro_rules! held {
    ($module:ident, $phase:ident) => {
        pub(crate) mod $module {
            use super::{Phase, exchange};

            pub(crate) fn held() -> Vec<u8> {
                exchange(|exchange| match exchange.phase {
                    Phase::$phase => exchange.held.clone(),
                    _ => Vec::new(),
                })
            }

            pub(crate) fn held_length() -> u64 {
                held().len() as u64
            }
        }
    };
}

held!(request_body, RequestBody);
held!(response_body, ResponseBody);

pub(crate) mod notes {
    use super::{rules, scope};
    use crate::NoteError;

    pub(crate) fn note(key: &str) -> Option<String> {
        scope(|scope| scope.exchange.as_ref().and_then(|exchange| exchange.notes.get(key).cloned()))
    }

    pub(crate) fn set_note(key: &str, value: &str) -> Result<(), NoteError> {
        scope(|scope| {
            let notes = &mut scope.exchange.as_mut().ok_or(NoteError::WrongPhase)?.notes;
            let is_one_too_many = !notes.contains_key(key) && notes.len() >= rules::NOTES;
            if is_one_too_many || key.len() + value.len() > rules::NOTE_BYTES {
                return Err(NoteError::LimitExceeded);
            }
            notes.insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }
}
