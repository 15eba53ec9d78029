//! One exchange as a test sees it: after the request hooks, and after the response hooks.
//!
//! How the hooks are run is in `run.rs`.

use super::{
    host::Loaded,
    message::{Forwarded, Reply, Request, Response},
    run::{Run, Stop},
};
use crate::{Filter, Outcome, Result};

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
    Failed { failure: String, broken_off: bool },
}

pub(super) fn begin<F: Filter>(loaded: &Loaded<F>, request: Request) -> Exchange<F> {
    let mut run = Run::new(loaded, &request);
    let end = match run.request(&request) {
        Ok(forwarded) => End::Through(forwarded),
        Err(stop) => ended(&run, stop),
    };
    Exchange { run, end }
}

fn ended<F: Filter, T>(run: &Run<F>, stop: Stop) -> End<T> {
    match run.local(stop) {
        Ok(reply) => End::Replied(reply),
        Err(failure) => End::Failed { failure, broken_off: run.head_is_sent() },
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
            End::Failed { failure, .. } => panic!("the filter failed: {failure}"),
        }
    }

    /// The local response, if the filter made one.
    pub fn local_response(&self) -> Option<&Reply> {
        match &self.end {
            End::Replied(reply) => Some(reply),
            End::Through(_) | End::Failed { .. } => None,
        }
    }

    /// Why the filter failed, if it did: the text in the host's log.
    pub fn failure(&self) -> Option<&str> {
        match &self.end {
            End::Failed { failure, .. } => Some(failure),
            End::Through(_) | End::Replied(_) => None,
        }
    }

    /// The text of a note.
    pub fn note(&self, key: &str) -> Option<String> {
        self.run.state().notes.get(key).cloned()
    }

    /// Keys and texts of all notes, by key.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.run.state().notes.iter().map(|(key, text)| (&**key, &**text))
    }

    /// Answers as the upstream: runs the response hooks.
    ///
    /// # Panics
    /// If the request was not forwarded.
    pub fn answer(mut self, response: Response) -> Answered<F> {
        self.forwarded();
        let end = match self.run.response(&response) {
            Ok(reply) => End::Through(reply),
            Err(stop) => ended(&self.run, stop),
        };
        Answered { run: self.run, end }
    }

    /// What a client that got the local response, or the reply to a failure, makes of the exchange.
    ///
    /// # Panics
    /// If the request was forwarded: [`answer`](Self::answer) it.
    pub fn outcome(&self) -> Outcome {
        match &self.end {
            End::Replied(reply) => self.run.outcome(reply.status, reply.body.len() as u64),
            End::Failed { .. } => self.run.failed(),
            End::Through(_) => panic!("the request was forwarded: answer it"),
        }
    }

    /// Ends an exchange without an answer of an upstream: runs `on_complete`.
    ///
    /// # Errors
    /// What the hook returns.
    pub fn complete(&mut self, outcome: &Outcome) -> Result<()> {
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
            End::Failed { failure, .. } => panic!("the filter failed: {failure}"),
        }
    }

    /// Why the filter failed, if it did: the text in the host's log.
    pub fn failure(&self) -> Option<&str> {
        match &self.end {
            End::Failed { failure, .. } => Some(failure),
            End::Through(_) | End::Replied(_) => None,
        }
    }

    /// The text of a note.
    pub fn note(&self, key: &str) -> Option<String> {
        self.run.state().notes.get(key).cloned()
    }

    /// Keys and texts of all notes, by key.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.run.state().notes.iter().map(|(key, text)| (&**key, &**text))
    }

    /// The local response, if the filter put one in place of the upstream's.
    pub fn local_response(&self) -> Option<&Reply> {
        match &self.end {
            End::Replied(reply) => Some(reply),
            End::Through(_) | End::Failed { .. } => None,
        }
    }

    /// Did the filter fail when the head of the response was on its way, so that the client got a
    /// part of it at most?
    pub fn is_broken_off(&self) -> bool {
        matches!(self.end, End::Failed { broken_off: true, .. })
    }

    /// What a client that took everything there was makes of the exchange.
    pub fn outcome(&self) -> Outcome {
        match &self.end {
            End::Through(reply) | End::Replied(reply) => {
                self.run.outcome(reply.status, reply.body.len() as u64)
            }
            End::Failed { .. } => self.run.failed(),
        }
    }

    /// Ends the exchange as a client that got everything would: runs `on_complete` with its
    /// [`outcome`](Self::outcome), and returns that.
    ///
    /// # Errors
    /// What the hook returns.
    pub fn complete(&mut self) -> Result<Outcome> {
        let outcome = self.outcome();
        self.run.complete(&outcome).map(|()| outcome)
    }
}
