//! What the two directions of an exchange share while they run side by side in one task, and how a
//! body goes through the chain on its way.

use super::deadline::Deadline;
use super::ends::{Sink, Source};
use super::mirror::Copying;
use super::pump::{End, Pump, PumpError, PumpLimits};
use super::reply::Fault;
use super::retry::Retries;
use super::route::{Listener, Taken, Way};
use crate::chain::{BodyPass, Direction, Exchange, Hook, LocalResponse, Outcome, Passed, Progress};
use crate::http::{BodyError, BodyLength, Fields, Frame, PeerIdentity};
use crate::shadow::Recording;
use crate::shadow::record::Finish;
use crate::upstream::Lease;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One exchange on its way. The cells are for the two directions, which take turns.
pub struct Flow<'a> {
    /// What filters act on. Borrowed for the length of a hook or of a poll, never over a wait.
    pub exchange: RefCell<&'a mut Box<Exchange>>,
    /// Where it stands in the chain.
    pub progress: RefCell<Progress>,
    /// The listener it came by.
    pub listener: &'a Listener,
    /// What it got of the route that took it.
    pub route: Taken<'a>,
    /// Its way through the route: the chain, and who counts.
    pub way: &'a Way,
    /// When the request head was complete.
    pub started: Instant,
    /// Body bytes received from the client.
    pub request_bytes: Cell<u64>,
    /// Body bytes handed to the client's connection.
    pub response_bytes: Cell<u64>,
    /// A filter has answered.
    pub local_reply: Cell<bool>,
    /// The response head is on its way: what fails now breaks the message off.
    pub head_sent: Cell<bool>,
    /// The client has not got, and will not get, the whole of what was begun.
    pub broken_off: Cell<bool>,
    /// What failed behind an answer that was there and had not been sent: a reply stands in its place.
    pub replaced_for: Cell<Option<Fault>>,
    /// The whole request is sent, or no more of it will be.
    pub request_sent: Cell<Option<tokio::time::Instant>>,
    /// From `started` to the upstream's response head.
    pub upstream_time: Cell<Option<Duration>>,
    /// Where it was sent.
    pub endpoint: Cell<Option<SocketAddr>>,
    /// Who has proved to be there; none without TLS, and where there was no connection.
    pub endpoint_identity: RefCell<Option<Arc<PeerIdentity>>>,
    /// The client waits for `100 (Continue)` before it sends the body.
    pub awaits_continue: Cell<bool>,
    /// We are to send it.
    pub continue_due: Cell<bool>,
    /// When it has to be over.
    pub deadline: &'a Deadline<'a>,
    /// A gRPC call: both directions may be silent for long.
    pub long_lived: bool,
    /// What is kept of it for a shadow, while there is one.
    pub recording: RefCell<Option<Box<Recording>>>,
    /// The endpoint in use, where somebody wants to know how it does.
    pub lease: RefCell<Option<Lease>>,
    /// None: its requests are not repeated.
    pub retries: Option<Box<Retries<'a>>>,
    /// A copy of the request for the mirror, until the request is whole.
    pub copying: RefCell<Option<Box<Copying<'a>>>>,
}

/// Why an exchange does not go on as it was.
#[derive(Debug)]
pub enum Stop {
    /// A filter answers.
    Respond(LocalResponse),
    /// Something failed.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// The end of a body, with its trailers.
pub type Ending = Option<Fields>;

/// What came out of the chain while a head was kept back.
#[derive(Default)]
pub struct Gathered {
    /// In order.
    pub output: Vec<Bytes>,
    /// The body is complete.
    pub ending: Option<Ending>,
}

impl<'a> Flow<'a> {
    /// An exchange that has found its route.
    pub fn new(
        exchange: &'a mut Box<Exchange>,
        progress: Progress,
        listener: &'a Listener,
        route: Taken<'a>,
        (started, deadline): (Instant, &'a Deadline<'a>),
    ) -> Self {
        Flow {
            exchange: RefCell::new(exchange),
            progress: RefCell::new(progress),
            listener,
            way: route.way,
            route,
            started,
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            local_reply: Cell::new(false),
            head_sent: Cell::new(false),
            broken_off: Cell::new(false),
            replaced_for: Cell::new(None),
            request_sent: Cell::new(None),
            upstream_time: Cell::new(None),
            endpoint: Cell::new(None),
            endpoint_identity: RefCell::default(),
            awaits_continue: Cell::new(false),
            continue_due: Cell::new(false),
            deadline,
            long_lived: deadline.is_grpc,
            lease: RefCell::default(),
            retries: Retries::new(route.upstream, deadline),
            recording: RefCell::default(),
            copying: RefCell::default(),
        }
    }

    /// The request goes to the endpoint at `address`, or it would have.
    pub fn goes_to(&self, address: SocketAddr, identity: Option<&Arc<PeerIdentity>>) {
        self.endpoint.set(Some(address));
        // Mostly there is none before and none now.
        if identity.is_some() || self.endpoint_identity.borrow().is_some() {
            *self.endpoint_identity.borrow_mut() = identity.cloned();
        }
    }

    /// Takes over what was recorded of it for a shadow, if it is to be recorded.
    pub fn go_on_recording(&self, recording: Option<Box<Recording>>) {
        if let Some(mut recording) = recording {
            if self.long_lived {
                recording.heads_only();
            }
            *self.recording.borrow_mut() = Some(recording);
        }
    }

    /// Has the recording, where there is one, take something down.
    pub fn record(&self, take_down: impl FnOnce(&mut Recording)) {
        if let Some(recording) = self.recording.borrow_mut().as_deref_mut() {
            take_down(recording);
        }
    }

    /// Puts a part of the request into the copy for the mirror, where there is one, and sends that with
    /// its end.
    pub fn copy(&self, length: BodyLength, pieces: &[Bytes], ended: bool) {
        let mut place = self.copying.borrow_mut();
        let Some(copying) = place.as_mut() else { return };
        if !copying.keep(pieces) {
            *place = None;
        } else if ended && let Some(copying) = place.take() {
            copying.send(&self.exchange.borrow().request, length);
        }
    }

    /// The response head is on its way: a recording that would be kept for too long ends here.
    fn end_long_recording(&self) {
        let mut place = self.recording.borrow_mut();
        if place.as_ref().is_some_and(|recording| recording.is_due(Instant::now()))
            && let Some(mut recording) = place.take()
        {
            recording.heads_only();
            let exchange = self.exchange.borrow();
            let status = Some(exchange.response.status);
            let outcome = Outcome { status, complete: true, ..Outcome::default() };
            let failed = !self.progress.borrow().failed.is_empty();
            recording.finish(&exchange, Finish { failed, failed_closed: false, outcome });
        }
    }

    /// Bounds on a direction.
    pub fn limits(&self, direction: Direction) -> PumpLimits {
        let down = &self.listener.limits;
        let up = &self.route.upstream.limits;
        let (down_idle, up_idle, rate_min) = if self.long_lived {
            (up.stream_idle_timeout, up.stream_idle_timeout, 0)
        } else {
            (down.body_idle_timeout, up.idle_timeout, down.body_rate_min)
        };
        let (rate_grace, buffer) = (down.body_rate_grace, down.buffer_bytes);
        match direction {
            Direction::Request => PumpLimits {
                source_idle: down_idle,
                sink_idle: up_idle,
                source_rate_min: rate_min,
                sink_rate_min: 0,
                rate_grace,
                buffer,
            },
            Direction::Response => PumpLimits {
                source_idle: up_idle,
                sink_idle: down_idle,
                source_rate_min: 0,
                sink_rate_min: rate_min,
                rate_grace,
                buffer,
            },
        }
    }

    /// The pass of a body over the chain, if a filter wants it.
    pub fn body_pass(&self, direction: Direction) -> Option<BodyPass> {
        BodyPass::new(&self.way.chain, &self.progress.borrow(), direction)
    }

    /// Moves a body from `source` through the chain into `sink`, to its end.
    pub async fn run(
        &self,
        direction: Direction,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
        pass: &mut Option<BodyPass>,
        pump: &mut Pump<'_>,
    ) -> Result<(), Stop> {
        let mut output = Vec::new();
        loop {
            if direction == Direction::Response {
                self.end_long_recording();
            }
            // What has come with the head needs no wait, and no future for one.
            let frame = match pump.at_hand(source) {
                Some(frame) => frame,
                None => pump.next(source, sink).await,
            };
            let frame = frame.map_err(|error| fault_of(direction, &error))?;
            let ending = self.take(direction, pass.as_mut(), frame, &mut output)?;
            self.put(direction, sink, &mut output)?;
            if let Some(trailers) = ending {
                return self.finish(direction, sink, trailers.as_ref(), pump).await;
            }
            if sink.queued() >= pump.buffer() {
                pump.drain(sink, pump.buffer() / 2)
                    .await
                    .map_err(|error| fault_of(direction, &error))?;
            }
        }
    }

    /// Takes a body through the chain for as long as a filter keeps the head back.
    pub async fn gather(
        &self,
        direction: Direction,
        source: &mut Source<'_>,
        pass: &mut BodyPass,
        pump: &mut Pump<'_>,
    ) -> Result<Gathered, Stop> {
        let mut gathered = Gathered::default();
        while gathered.ending.is_none() && pass.keeps_head() {
            let frame = pump
                .next(source, &mut Sink::None)
                .await
                .map_err(|error| fault_of(direction, &error))?;
            gathered.ending = self.take(direction, Some(pass), frame, &mut gathered.output)?;
        }
        Ok(gathered)
    }

    /// Queues what was gathered.
    pub fn put(
        &self,
        direction: Direction,
        sink: &mut Sink<'_>,
        output: &mut Vec<Bytes>,
    ) -> Result<(), Stop> {
        if let (Direction::Request, Some(retries)) = (direction, &self.retries) {
            retries.keep(output);
        }
        for bytes in output.drain(..) {
            self.record(|recording| recording.left(direction, &bytes));
            if direction == Direction::Response {
                self.response_bytes.set(self.response_bytes.get() + bytes.len() as u64);
            }
            sink.data(bytes).map_err(|error| fault_of(direction, &error.into()))?;
        }
        Ok(())
    }

    /// Queues the end and sends everything.
    pub async fn finish(
        &self,
        direction: Direction,
        sink: &mut Sink<'_>,
        trailers: Option<&Fields>,
        pump: &mut Pump<'_>,
    ) -> Result<(), Stop> {
        if let (Direction::Request, Some(retries)) = (direction, &self.retries) {
            retries.keep_ending(trailers);
        }
        self.record(|recording| recording.ended(direction, trailers));
        sink.end(trailers).map_err(|error| fault_of(direction, &error.into()))?;
        pump.drain(sink, 0).await.map_err(|error| fault_of(direction, &error))?;
        Ok(())
    }

    /// One frame through the chain; its end, if it is one.
    fn take(
        &self,
        direction: Direction,
        pass: Option<&mut BodyPass>,
        frame: Frame,
        output: &mut Vec<Bytes>,
    ) -> Result<Option<Ending>, Stop> {
        self.record(|recording| {
            let hook = match direction {
                Direction::Request => Hook::OnRequestTrailers,
                Direction::Response => Hook::OnResponseTrailers,
            };
            let touched = pass.is_some() || self.way.chain.has(hook);
            recording.arrived(direction, &frame, touched);
        });
        let (chunk, ending) = match frame {
            Frame::Data(bytes) => (bytes, None),
            Frame::End => (Bytes::new(), Some(None)),
            Frame::Trailers(fields) => (Bytes::new(), Some(Some(fields))),
        };
        if direction == Direction::Request {
            self.request_bytes.set(self.request_bytes.get() + chunk.len() as u64);
        }
        let before = output.len();
        match pass {
            None if chunk.is_empty() => {}
            None => output.push(chunk),
            Some(pass) => {
                let mut exchange = self.exchange.borrow_mut();
                let mut progress = self.progress.borrow_mut();
                let last = ending.is_some();
                let chain = &self.way.chain;
                match pass.push(chain, &mut exchange, &mut progress, chunk, last, output) {
                    Passed::Forward => {}
                    Passed::Respond(response) => return Err(Stop::Respond(response)),
                    Passed::Failed => return Err(Stop::Fault(Fault::FilterFailed)),
                }
            }
        }
        if direction == Direction::Request {
            self.copy(BodyLength::Unknown, &output[before..], ending.is_some());
        }
        match ending {
            Some(Some(trailers)) => {
                let mut exchange = self.exchange.borrow_mut();
                let mut progress = self.progress.borrow_mut();
                let chain = &self.way.chain;
                let edited = match direction {
                    Direction::Request => {
                        chain.request_trailers(&mut exchange, &mut progress, trailers)
                    }
                    Direction::Response => {
                        chain.response_trailers(&mut exchange, &mut progress, trailers)
                    }
                };
                Ok(Some(Some(edited.map_err(|_| Fault::FilterFailed)?)))
            }
            ending => Ok(ending),
        }
    }
}

/// The fault behind a pump that stopped.
pub(super) fn fault_of(direction: Direction, error: &PumpError) -> Fault {
    match (direction, error) {
        (Direction::Request, PumpError::Source(error)) => match error {
            BodyError::Truncated | BodyError::Io(_) => Fault::RequestIncomplete,
            BodyError::Malformed(_) => Fault::RequestMalformed,
            BodyError::TrailersTooLarge(_) => Fault::RequestTrailersTooLarge,
        },
        (Direction::Request, PumpError::Stalled(End::Source)) => Fault::RequestBodyTimeout,
        (Direction::Request, PumpError::Stalled(End::Sink)) => Fault::UpstreamWriteTimeout,
        (Direction::Request, PumpError::Sink(_) | PumpError::Gone) => Fault::UpstreamReset,
        (Direction::Response, PumpError::Source(error)) => match error {
            BodyError::Truncated | BodyError::Io(_) => Fault::UpstreamIncomplete,
            BodyError::Malformed(_) => Fault::UpstreamMalformed,
            BodyError::TrailersTooLarge(_) => Fault::UpstreamHeadTooLarge,
        },
        (Direction::Response, PumpError::Stalled(End::Source)) => Fault::UpstreamIdleTimeout,
        (Direction::Response, PumpError::Stalled(End::Sink)) => Fault::ResponseWriteTimeout,
        (Direction::Response, PumpError::Sink(super::ends::SinkError::Length)) => {
            Fault::UpstreamIncomplete
        }
        (Direction::Response, PumpError::Sink(_) | PumpError::Gone) => Fault::ClientGone,
    }
}
