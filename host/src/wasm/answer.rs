//! What a guest may answer: turns decisions as they crossed the boundary into the chain's own, or says
//! what is wrong with them.

use super::instance::Crash;
use super::prepared::Limits;
use super::types;
use crate::capability::log;
use crate::chain::exchange::Phase;
use crate::chain::{BodyDecision, FailureKind, HeadDecision, LocalResponse};
use crate::http::edit::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, is_host_owned};
use crate::http::fields::{Name, is_value};

/// The answer of a head hook.
pub(super) fn head(decision: types::Head, limits: &Limits) -> Result<HeadDecision, Crash> {
    Ok(match decision {
        types::Head::Proceed => HeadDecision::Proceed,
        types::Head::SkipBody => HeadDecision::SkipBody,
        types::Head::WaitForBody => HeadDecision::WaitForBody,
        types::Head::Respond(response) => {
            let response = local_response(*response, limits.local_reply_bytes)?;
            HeadDecision::Respond(Box::new(response))
        }
    })
}

/// The answer of a body hook that was called in `phase`.
pub(super) fn body(
    decision: types::BodyDecision,
    phase: Phase,
    limits: &Limits,
) -> Result<BodyDecision, Crash> {
    match decision {
        types::BodyDecision::Pass => Ok(BodyDecision::Pass),
        types::BodyDecision::Hold => Ok(BodyDecision::Hold),
        types::BodyDecision::Replace(bytes) if bytes.len() > limits.body_bytes => {
            let message = format!(
                "it put {} bytes in place of a body chunk, over the limit `body` of {}",
                bytes.len(),
                limits.body_bytes
            );
            Err(Crash { kind: FailureKind::BodyLimit, message })
        }
        types::BodyDecision::Replace(bytes) => Ok(BodyDecision::Replace(bytes)),
        // A response whose head is gone cannot be taken back.
        types::BodyDecision::Respond(_) if phase == Phase::ResponseBody => {
            let message = "it answered `respond` to a response body whose head is on its way; \
                           `wait-for-body` keeps the head back";
            Err(Crash { kind: FailureKind::InvalidOutput, message: message.to_owned() })
        }
        types::BodyDecision::Respond(response) => {
            local_response(response, limits.local_reply_bytes).map(BodyDecision::Respond)
        }
    }
}

/// Checks a response that a guest made.
fn local_response(response: types::LocalResponse, body_max: usize) -> Result<LocalResponse, Crash> {
    let refused = |message| Err(Crash { kind: FailureKind::InvalidOutput, message });
    let types::LocalResponse { status, headers, body } = response;
    if !(200..=599).contains(&status) {
        return refused(format!("its local response has status {status}; 200 to 599 are allowed"));
    }
    if body.len() > body_max {
        return refused(format!(
            "its local response has {} bytes, over the limit `local_reply` of {body_max}",
            body.len()
        ));
    }
    let mut bytes = 0;
    for field in &headers {
        bytes += field.name.len() + field.value.len() + 4;
        let shown = log::printable(&field.name, 64);
        let Ok(name) = Name::parse(field.name.as_bytes()) else {
            return refused(format!("its local response has a field `{shown}`, which is no name"));
        };
        if is_host_owned(name) {
            return refused(format!(
                "its local response sets `{shown}`, which belongs to the host"
            ));
        }
        if !is_value(&field.value) {
            return refused(format!("its local response has control bytes in field `{shown}`"));
        }
    }
    if headers.len() > HEAD_FIELDS_MAX || bytes > HEAD_BYTES_MAX {
        return refused(format!(
            "its local response has {} fields of {bytes} bytes; {HEAD_FIELDS_MAX} of \
             {HEAD_BYTES_MAX} are allowed",
            headers.len()
        ));
    }
    let headers = headers.into_iter().map(|field| (field.name, field.value)).collect();
    Ok(LocalResponse { status, headers, body })
}
