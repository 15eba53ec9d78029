//! One exchange: runs the hooks of a filter in the order of the host, with its body decisions.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use super::{
    fake::{self, InProgress, Phase},
    fields::Fields,
    host::{Host, Loaded},
    message::{Forwarded, Reply, Request, Response},
    rules,
};
use crate::{
    BodyDecision, Chunk, Decision, Filter, Hooks, LocalResponse, Outcome, Result, message,
    message::Body,
};

/// An exchange after the request hooks: forwarded, answered locally, or failed.
#[derive(Debug)]
pub struct Exchange<F> {
    run: Run<F>,
    end: End<Forwarded>,
}

/// An exchange after the response hooks.
#[derive(Debug)]
pub struct Answered<F> {
    run: Run<F>,
    end: End<Reply>,
}

/// How a pass through the hooks ended.
#[derive(Debug)]
enum End<T> {
    Through(T),
    Replied(Reply),
    Failed(String),
}

/// What the hooks of one exchange run on.
#[derive(Debug)]
struct Run<F> {
    filter: Rc<RefCell<F>>,
    wanted: Hooks,
    host: Host,
    /// Absent only while a hook runs, or after one panicked.
    state: Option<InProgress>,
}

/// Why a pass ended before its end.
enum Stop {
    Respond(LocalResponse),
    Failed(String),
}

pub(super) fn begin<F: Filter>(loaded: &Loaded<F>, request: Request) -> Exchange<F> {
    let (host, filter) = (loaded.host.clone(), Rc::clone(&loaded.filter));
    let state = Some(InProgress::new(&host, &request));
    let mut run = Run { filter, wanted: loaded.wanted, host, state };
    let end = match run.request(&request) {
        Ok(forwarded) => End::Through(forwarded),
        Err(stop) => local(stop),
    };
    Exchange { run, end }
}

fn local<T>(stop: Stop) -> End<T> {
    let checked = match stop {
        Stop::Respond(response) => rules::local_response(response),
        Stop::Failed(failure) => Err(failure),
    };
    match checked {
        Ok(LocalResponse { status, headers, body }) => {
            End::Replied(Reply { status, headers, body, trailers: Vec::new() })
        }
        Err(failure) => End::Failed(failure),
    }
}

impl<F: Filter> Exchange<F> {
    /// The request as it was forwarded.
    ///
    /// # Panics
    /// If it was not forwarded: the message says what happened instead.
    pub fn forwarded(&self) -> &Forwarded {
        match &self.end {
            End::Through(request) => request,
            End::Replied(reply) => panic!("the filter answered locally with {}", reply.status),
            End::Failed(failure) => panic!("the filter failed: {failure}"),
        }
    }

    /// The local response, if the filter made one.
    pub fn local_response(&self) -> Option<&Reply> {
        match &self.end {
            End::Replied(reply) => Some(reply),
            End::Through(_) | End::Failed(_) => None,
        }
    }

    /// Why the filter failed, if it did: the text in the host's log.
    pub fn failure(&self) -> Option<&str> {
        match &self.end {
            End::Failed(failure) => Some(failure),
            End::Through(_) | End::Replied(_) => None,
        }
    }

    /// The text of a note.
    pub fn note(&self, key: &str) -> Option<String> {
        self.run.note(key)
    }

    /// Answers as the upstream: runs the response hooks.
    ///
    /// # Panics
    /// If the request was not forwarded.
    pub fn answer(mut self, response: Response) -> Answered<F> {
        self.forwarded();
        let end = match self.run.response(&response) {
            Ok(reply) => End::Through(reply),
            Err(stop) => local(stop),
        };
        Answered { run: self.run, end }
    }

    /// Ends an exchange without an answer of an upstream: runs `on_complete`.
    ///
    /// # Errors
    /// What the hook returns.
    pub fn complete(mut self, outcome: &Outcome) -> Result<()> {
        self.run.complete(outcome)
    }
}

impl<F: Filter> Answered<F> {
    /// The response as the client gets it: the upstream's after the hooks, or the filter's own.
    ///
    /// # Panics
    /// If the filter failed: the message says why.
    pub fn response(&self) -> &Reply {
        match &self.end {
            End::Through(reply) | End::Replied(reply) => reply,
            End::Failed(failure) => panic!("the filter failed: {failure}"),
        }
    }

    /// Why the filter failed, if it did: the text in the host's log.
    pub fn failure(&self) -> Option<&str> {
        match &self.end {
            End::Failed(failure) => Some(failure),
            End::Through(_) | End::Replied(_) => None,
        }
    }

    /// The text of a note.
    pub fn note(&self, key: &str) -> Option<String> {
        self.run.note(key)
    }

    /// Ends the exchange as a client that got everything would: runs `on_complete` with the counts
    /// and times of this exchange, and returns them.
    ///
    /// # Errors
    /// What the hook returns.
    pub fn complete(mut self) -> Result<Outcome> {
        let response_bytes = self.response().body.len() as u64;
        let state = self.run.state();
        let duration = self.run.host.0.borrow().monotonic.saturating_sub(state.started);
        let outcome = Outcome {
            status: Some(self.response().status),
            complete: true,
            error: None,
            request_bytes: state.request_bytes,
            response_bytes,
            duration,
            upstream: Some(duration),
        };
        self.run.complete(&outcome).map(|()| outcome)
    }
}

impl<F: Filter> Run<F> {
    fn request(&mut self, request: &Request) -> Result<Forwarded, Stop> {
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

    fn response(&mut self, response: &Response) -> Result<Reply, Stop> {
        let fields = Fields::received(response.headers.clone());
        self.state_mut().response = Some((response.status, fields));
        let decision = self.hook(Phase::Response, "on-response", Decision::Proceed, |filter| {
            filter.on_response(&message::Request::token(), &mut message::Response::token())
        })?;
        let body = self.body(Body::Response, decision, &response.chunks)?;
        let trailers = self.trailers(Phase::ResponseTrailers, &response.trailers, |filter| {
            filter.on_response_trailers(
                &message::Request::token(),
                &message::Response::token(),
                &mut message::Trailers::token(),
            )
        })?;
        let (status, fields) = self.state().response.as_ref().expect("set at the top");
        Ok(Reply { status: *status, headers: fields.lines().to_vec(), body, trailers })
    }

    fn complete(&mut self, outcome: &Outcome) -> Result<()> {
        if !self.wanted.has(hook_of(Phase::Complete)) {
            return Ok(());
        }
        self.call(Phase::Complete, |filter| filter.on_complete(&message::Request::token(), outcome))
    }

    /// Follows a decision on a head, and sends the body through its hook unless that is skipped.
    fn body(
        &mut self,
        body: Body,
        decision: Decision,
        chunks: &[Vec<u8>],
    ) -> Result<Vec<u8>, Stop> {
        if let Body::Request = body {
            self.state_mut().request_bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        }
        match decision {
            Decision::Respond(response) => return Err(Stop::Respond(response)),
            Decision::SkipBody => return Ok(chunks.concat()),
            Decision::Proceed => {}
            Decision::WaitForBody => self.state_mut().waiting = true,
        }
        let mut forwarded = Vec::new();
        for (index, bytes) in chunks.iter().enumerate() {
            self.chunk(body, bytes, index + 1 == chunks.len(), &mut forwarded)?;
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
                    return Err(Stop::Failed(format!("held more than {most} bytes of a body")));
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
                    return Err(Stop::Failed(format!("replaced a body with over {most} bytes")));
                }
                state.held.clear();
                forwarded.extend_from_slice(&replacement);
            }
            BodyDecision::Respond(response) => {
                if matches!(body, Body::Response) && !state.waiting {
                    let failure = "answered locally when the response head was already forwarded";
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
        self.call(phase, hook)
            .map_err(|error| Stop::Failed(format!("hook `{name}` failed: {error}")))
    }

    fn call<R>(&mut self, phase: Phase, hook: impl FnOnce(&mut F) -> R) -> R {
        let mut state = self.state.take().expect("no other hook of this exchange is running");
        state.phase = phase;
        let filter = Rc::clone(&self.filter);
        let (result, state) = fake::run(&self.host, Some(state), || hook(&mut filter.borrow_mut()));
        self.state = state;
        result
    }

    fn state(&self) -> &InProgress {
        self.state.as_ref().expect("no hook of this exchange is running")
    }

    fn state_mut(&mut self) -> &mut InProgress {
        self.state.as_mut().expect("no hook of this exchange is running")
    }

    fn note(&self, key: &str) -> Option<String> {
        let notes: &BTreeMap<String, String> = &self.state().notes;
        notes.get(key).cloned()
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
