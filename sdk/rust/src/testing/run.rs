//! What the hooks of one exchange run on: their order, and what their decisions make of a message.
//!
//! The order is that of the host's chain for one filter. What a test sees of it is in `exchange.rs`.

use std::{rc::Rc, time::Duration};

use super::{
    fake::{self, InProgress, Phase},
    fields::Fields,
    host::{Host, Instance, Loaded},
    message::{Forwarded, Reply, Request, Response},
    rules,
};
use crate::{
    BodyDecision, Chunk, Decision, Error, Filter, Hooks, LocalResponse, Outcome, Result, message,
    message::Body,
};

/// An exchange and the filter that it goes through.
#[derive(Debug)]
pub(super) struct Run<F> {
    instance: Rc<Instance<F>>,
    wanted: Hooks,
    host: Host,
    /// Absent only while a hook runs, or after one panicked.
    state: Option<InProgress>,
    /// From the request's head to the response's.
    upstream: Option<Duration>,
    /// Bytes of the message's body that have gone on.
    sent_bytes: u64,
}

/// Why a pass ended before its end.
pub(super) enum Stop {
    Respond(LocalResponse),
    Failed(String),
}

impl<F: Filter> Run<F> {
    pub(super) fn new(loaded: &Loaded<F>, request: &Request) -> Self {
        let (host, instance) = (loaded.host.clone(), Rc::clone(&loaded.instance));
        let state = Some(InProgress::new(&host, request));
        Self { instance, wanted: loaded.wanted, host, state, upstream: None, sent_bytes: 0 }
    }

    pub(super) fn request(&mut self, request: &Request) -> Result<Forwarded, Stop> {
        let decision = self.hook(Phase::Request, "on-request", Decision::Proceed, |filter| {
            filter.on_request(&mut message::Request::token())
        })?;
        let body = self.body(Body::Request, decision, &request.chunks)?;
        let trailers = self.trailers(Phase::RequestTrailers, &request.trailers, |filter| {
            filter.on_request_trailers(&message::Request::token(), &mut message::Trailers::token())
        })?;
        let head = &self.state().request;
        Ok(Forwarded {
            method: head.method.clone(),
            scheme: head.scheme.clone(),
            authority: head.authority.clone(),
            path_with_query: head.path_with_query.clone(),
            headers: head.fields.lines().to_vec(),
            body,
            trailers,
        })
    }

    pub(super) fn response(&mut self, response: &Response) -> Result<Reply, Stop> {
        self.upstream = Some(self.elapsed());
        let fields = Fields::received(response.headers.clone());
        self.state_mut().response = Some((response.status, fields));
        let decision = self.hook(Phase::Response, "on-response", Decision::Proceed, |filter| {
            filter.on_response(&message::Request::token(), &mut message::Response::token())
        })?;
        let has_body = self.has_body(response.status) && self.has_body(self.status());
        let chunks = if has_body { &response.chunks[..] } else { &[] };
        let mut body = self.body(Body::Response, decision, chunks)?;
        let trailers = if has_body { &response.trailers[..] } else { &[] };
        let mut trailers = self.trailers(Phase::ResponseTrailers, trailers, |filter| {
            filter.on_response_trailers(
                &message::Request::token(),
                &message::Response::token(),
                &mut message::Trailers::token(),
            )
        })?;
        // The body hook may have set another status while the head waited.
        if !self.has_body(self.status()) {
            (body, trailers) = Default::default();
        }
        let (status, fields) = self.state().response.as_ref().expect("set at the top");
        Ok(Reply { status: *status, headers: fields.lines().to_vec(), body, trailers })
    }

    pub(super) fn complete(&mut self, outcome: &Outcome) -> Result<()> {
        if !self.wanted.has(hook_of(Phase::Complete)) {
            return Ok(());
        }
        let filter = self.instance.take(&self.host).map_err(Error::new)?;
        let hook = |filter: &mut F| filter.on_complete(&message::Request::token(), outcome);
        self.call(filter, Phase::Complete, hook)
    }

    /// The outcome of an exchange whose filter failed.
    pub(super) fn failed(&self) -> Outcome {
        let outcome = if self.head_is_sent() {
            Outcome { complete: false, ..self.outcome(self.status(), self.sent_bytes) }
        } else {
            let length = if self.has_body(500) { rules::FAILURE_REPLY.len() as u64 } else { 0 };
            self.outcome(500, length)
        };
        Outcome { error: Some(rules::FAILURE_ERROR.to_owned()), ..outcome }
    }

    /// The outcome of an exchange whose client got this response, whole.
    pub(super) fn outcome(&self, status: u16, response_bytes: u64) -> Outcome {
        Outcome {
            status: Some(status),
            complete: true,
            error: None,
            request_bytes: self.state().request_bytes,
            response_bytes,
            duration: self.elapsed(),
            upstream: self.upstream,
        }
    }

    /// What a local response, or the failure of the filter, makes of the exchange.
    pub(super) fn local(&self, stop: Stop) -> Result<Reply, String> {
        let response = match stop {
            Stop::Respond(response) => rules::local_response(response)?,
            Stop::Failed(failure) => return Err(failure),
        };
        let LocalResponse { status, headers, mut body } = response;
        if !self.has_body(status) {
            body.clear();
        }
        Ok(Reply { status, headers, body, trailers: Vec::new() })
    }

    /// Is the head of the response on its way to the client?
    pub(super) fn head_is_sent(&self) -> bool {
        let state = self.state();
        match state.phase {
            Phase::ResponseBody => !state.waiting,
            Phase::ResponseTrailers => true,
            _ => false,
        }
    }

    fn elapsed(&self) -> Duration {
        self.host.0.borrow().monotonic.saturating_sub(self.state().started)
    }

    fn status(&self) -> u16 {
        self.state().response.as_ref().map_or(0, |(status, _)| *status)
    }

    /// Can a response of this status to this request have a body?
    fn has_body(&self, status: u16) -> bool {
        rules::response_has_body(&self.state().request.method, status)
    }

    /// Follows a decision on a head, and sends the body through its hook unless that is skipped.
    fn body(
        &mut self,
        body: Body,
        decision: Decision,
        chunks: &[Vec<u8>],
    ) -> Result<Vec<u8>, Stop> {
        let skips = match decision {
            Decision::Respond(response) => return Err(Stop::Respond(response)),
            Decision::SkipBody => true,
            Decision::Proceed => false,
            Decision::WaitForBody => {
                self.state_mut().waiting = true;
                false
            }
        };
        let mut forwarded = Vec::new();
        self.sent_bytes = 0;
        for (index, bytes) in chunks.iter().enumerate() {
            if let Body::Request = body {
                self.state_mut().request_bytes += bytes.len() as u64;
            }
            if skips {
                forwarded.extend_from_slice(bytes);
            } else {
                self.chunk(body, bytes, index + 1 == chunks.len(), &mut forwarded)?;
            }
            self.sent_bytes = forwarded.len() as u64;
        }
        self.state_mut().waiting = false;
        Ok(forwarded)
    }

    /// Sends a chunk through the body hook and follows its decision.
    fn chunk(
        &mut self,
        body: Body,
        bytes: &[u8],
        last: bool,
        forwarded: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let unasked = BodyDecision::Pass;
        let decision = match body {
            Body::Request => self.hook(Phase::RequestBody, "on-request-body", unasked, |filter| {
                let chunk = Chunk::new(bytes, last, body);
                filter.on_request_body(&mut message::Request::token(), chunk)
            }),
            Body::Response => {
                self.hook(Phase::ResponseBody, "on-response-body", unasked, |filter| {
                    let chunk = Chunk::new(bytes, last, body);
                    let response = &mut message::Response::token();
                    filter.on_response_body(&message::Request::token(), response, chunk)
                })
            }
        }?;
        let state = self.state_mut();
        match decision {
            BodyDecision::Hold if !last => {
                state.held.extend_from_slice(bytes);
                if state.held.len() > rules::BODY_BYTES {
                    let most = rules::BODY_BYTES;
                    return Err(Stop::Failed(format!(
                        "it would hold more than the limit `body` of {most} bytes"
                    )));
                }
                return Ok(());
            }
            BodyDecision::Pass | BodyDecision::Hold => {
                forwarded.append(&mut state.held);
                forwarded.extend_from_slice(bytes);
            }
            BodyDecision::Replace(replacement) => {
                if replacement.len() > rules::BODY_BYTES {
                    let most = rules::BODY_BYTES;
                    return Err(Stop::Failed(format!(
                        "it put {} bytes in place of a body chunk, over the limit `body` of {most}",
                        replacement.len()
                    )));
                }
                state.held.clear();
                forwarded.extend_from_slice(&replacement);
            }
            BodyDecision::Respond(response) => {
                if matches!(body, Body::Response) && !state.waiting {
                    let failure = "it answered `respond` to a response body whose head is on its way; \
                                   `wait-for-body` keeps the head back";
                    return Err(Stop::Failed(failure.to_owned()));
                }
                return Err(Stop::Respond(response));
            }
        }
        state.waiting = false;
        Ok(())
    }

    fn trailers(
        &mut self,
        phase: Phase,
        lines: &[crate::Field],
        hook: impl FnOnce(&mut F) -> Result<()>,
    ) -> Result<Vec<crate::Field>, Stop> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let name = match phase {
            Phase::RequestTrailers => "on-request-trailers",
            _ => "on-response-trailers",
        };
        self.state_mut().trailers = Fields::received(lines.to_vec());
        self.hook(phase, name, (), hook)?;
        Ok(std::mem::take(&mut self.state_mut().trailers).lines().to_vec())
    }

    /// Runs a hook, if it is wanted; its error becomes the text that the panic of a component has.
    fn hook<R>(
        &mut self,
        phase: Phase,
        name: &str,
        unasked: R,
        hook: impl FnOnce(&mut F) -> Result<R>,
    ) -> Result<R, Stop> {
        if !self.wanted.has(hook_of(phase)) {
            return Ok(unasked);
        }
        let filter = self.instance.take(&self.host).map_err(Stop::Failed)?;
        self.call(filter, phase, hook)
            .map_err(|error| Stop::Failed(format!("hook `{name}` failed: {error}")))
    }

    /// Runs a hook; an instance that fails is not used again.
    fn call<R>(
        &mut self,
        mut filter: F,
        phase: Phase,
        hook: impl FnOnce(&mut F) -> Result<R>,
    ) -> Result<R> {
        let mut state = self.state.take().expect("no other hook of this exchange is running");
        state.phase = phase;
        let (result, state) = fake::run(&self.host, Some(state), || hook(&mut filter));
        self.state = state;
        if result.is_ok() {
            self.instance.put(filter);
        }
        result
    }

    pub(super) fn state(&self) -> &InProgress {
        self.state.as_ref().expect("no hook of this exchange is running")
    }

    fn state_mut(&mut self) -> &mut InProgress {
        self.state.as_mut().expect("no hook of this exchange is running")
    }
}

/// The hook of a phase, as a filter names it that wants it.
fn hook_of(phase: Phase) -> Hooks {
    match phase {
        Phase::Request => Hooks::ON_REQUEST,
        Phase::RequestBody => Hooks::ON_REQUEST_BODY,
        Phase::RequestTrailers => Hooks::ON_REQUEST_TRAILERS,
        Phase::Response => Hooks::ON_RESPONSE,
        Phase::ResponseBody => Hooks::ON_RESPONSE_BODY,
        Phase::ResponseTrailers => Hooks::ON_RESPONSE_TRAILERS,
        Phase::Complete => Hooks::ON_COMPLETE,
    }
}
