//! The time that a request says it has: read off its head, held to, and told to the upstream.
//!
//! It covers everything from the complete head of the request to the last byte of its answer: the wait
//! for a place, each attempt, the waits between them. How it is written, `http::timeout` knows.

use super::reply::Fault;
use super::route::Listener;
use super::timer::Timer;
use crate::clock;
use crate::http::timeout::{self, Form, GRPC_TIMEOUT};
use crate::http::{Fields, Name, RequestHead};
use crate::telemetry::{DeadlineResult, ListenerStats};
use http::HeaderName;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// When an exchange has to be over.
pub struct Deadline<'l> {
    /// The request is a call of gRPC.
    pub is_grpc: bool,
    /// None: it may take as long as it takes.
    passes: Cell<Option<Instant>>,
    field: Field<'l>,
    stats: &'l ListenerStats,
    worker: usize,
}

/// Where it stands.
#[derive(Clone, Copy)]
enum Field<'l> {
    Grpc,
    Plain(&'l HeaderName, Form),
}

impl<'l> Deadline<'l> {
    /// Of a request whose head is complete. A value that is no time is counted, and left to the
    /// upstream; so are several ones.
    pub fn of(listener: &'l Listener, request: &RequestHead, worker: usize) -> Self {
        let (config, stats) = (&listener.deadline, &*listener.stats);
        let fields = &request.fields;
        let is_grpc = timeout::is_grpc(fields);
        let said = match &config.header {
            _ if is_grpc && config.grpc => only(fields, GRPC_TIMEOUT)
                .map(|value| Some((timeout::parse_grpc(value?)?, Field::Grpc))),
            Some(header) if !is_grpc => only(fields, name_of(header)).map(|value| {
                let (time, form) = timeout::parse(value?)?;
                Some((time, Field::Plain(header, form)))
            }),
            _ => None,
        };
        let none = Deadline { is_grpc, passes: Cell::new(None), field: Field::Grpc, stats, worker };
        match said {
            None => none,
            Some(None) => {
                stats.deadline(worker, DeadlineResult::Malformed);
                none
            }
            Some(Some((time, field))) => {
                let is_longer = time > config.max;
                let result =
                    if is_longer { DeadlineResult::Shortened } else { DeadlineResult::Taken };
                stats.deadline(worker, result);
                let passes = Some(Instant::from(clock::recent()) + time.min(config.max));
                Deadline { passes: Cell::new(passes), field, ..none }
            }
        }
    }

    /// What becomes of `work`, or the fault once the deadline has passed, with `work` given up.
    ///
    /// # Cancel safety
    /// As safe as `work`.
    pub async fn within<T, E: From<Fault>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if !self.leaves(Duration::ZERO) {
            return self.exceeded();
        }
        let mut work = pin!(work);
        let mut timer = Timer::default();
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            match self.passes.get() {
                None => Poll::Pending,
                Some(passes) => timer.poll_expired(cx, passes).map(|()| self.exceeded()),
            }
        })
        .await
    }

    /// Is there one?
    pub fn holds(&self) -> bool {
        self.passes.get().is_some()
    }

    /// Is there time left after a wait?
    pub fn leaves(&self, wait: Duration) -> bool {
        self.passes.get().is_none_or(|passes| Instant::from(clock::recent()) + wait < passes)
    }

    /// It holds no more: what follows is no answer but a tunnel.
    pub fn lift(&self) {
        self.passes.set(None);
    }

    /// Writes the time that is left into the head of a request, where a filter has not taken the field
    /// out.
    pub fn tell(&self, fields: &mut Fields) {
        let Some(passes) = self.passes.get() else { return };
        let left = passes.saturating_duration_since(clock::recent().into());
        let (name, value) = match self.field {
            Field::Grpc => (GRPC_TIMEOUT, timeout::write_grpc(left)),
            Field::Plain(name, form) => (name_of(name), timeout::write(left, form)),
        };
        if fields.contains(name) {
            fields.set(name, value.as_bytes());
        }
    }

    fn exceeded<T, E: From<Fault>>(&self) -> Result<T, E> {
        self.stats.deadline(self.worker, DeadlineResult::Exceeded);
        Err(Fault::DeadlineExceeded.into())
    }
}

fn name_of(header: &HeaderName) -> Name<'_> {
    Name::parse(header.as_str().as_bytes()).expect("both take the tokens of RFC 9110 for names")
}

/// The value of a field: none where it is not there, and none of it where it is there several times.
#[expect(clippy::option_option, reason = "no value, and no value that counts, are two answers")]
fn only<'f>(fields: &'f Fields, name: Name<'f>) -> Option<Option<&'f [u8]>> {
    let mut values = fields.get_all(name);
    let first = values.next()?;
    Some(values.next().is_none().then_some(first))
}
