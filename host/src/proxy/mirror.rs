//! Copies of a share of a route's requests, sent to a second upstream whose answers nobody reads.
//!
//! A copy is what was forwarded: the head after the hooks, and the body as far as it is small
//! enough to be kept. It is sent once the request is whole, by a task of its own, so that the
//! request neither waits for it nor hears of it. No more than `requests_max` are under way on a
//! worker.

use super::ends::{Sink, Source};
use crate::chain::Exchange;
use crate::config;
use crate::http::{BodyLength, Frame, Name, RequestHead, ResponseHead};
use crate::http2;
use crate::rollout::choice::Lots;
use crate::rollout::{Share, Sticky};
use crate::telemetry::{Mirrored, RouteStats};
use crate::upstream::{Connection, Http1, Lent, Upstream, Wanted};
use bytes::Bytes;
use std::cell::Cell;
use std::future::poll_fn;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

/// The field that tells an upstream that it has a copy before it.
const MARK: Name<'static> = Name::known("x-pillion-mirrored");

/// Bytes of an answer's body that are read so that its connection can be used again.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Interim responses to one copy, beyond which its connection is given up.
pub const INTERIM_MAX: usize = 16;

/// Where the copies of a route's requests go, on one worker.
pub struct Mirror {
    share: Share,
    lots: Lots,
    requests_max: usize,
    body_max: usize,
    upstream: Rc<Upstream>,
    under_way: Rc<Cell<usize>>,
    stats: Arc<RouteStats>,
}

/// A copy while the request is on its way.
pub struct Copying<'m> {
    mirror: &'m Mirror,
    body: Vec<u8>,
    place: Place,
}

/// One of those that may be under way.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Mirror {
    /// As `config` says, on one worker, whose view of all upstreams is `upstreams`.
    pub fn new(
        config: &config::Mirror,
        upstreams: &[Rc<Upstream>],
        stats: Arc<RouteStats>,
        worker: usize,
    ) -> Self {
        Mirror {
            share: config.share,
            lots: Lots::new(Sticky::Random, RandomState::new(), worker),
            requests_max: config.requests_max,
            body_max: config.body,
            upstream: upstreams[config.upstream].clone(),
            under_way: Rc::default(),
            stats,
        }
    }

    /// Begins a copy of the request, if there is to be one. A switch of protocols is not copied.
    pub fn begin(&self, exchange: &Exchange) -> Option<Box<Copying<'_>>> {
        let is_drawn = self.share.takes(self.lots.of(exchange.client, |_| None));
        if !is_drawn || exchange.request.upgrade.is_some() {
            return None;
        }
        if self.under_way.get() >= self.requests_max {
            self.stats.mirror.count(Mirrored::TooMany);
            return None;
        }
        self.under_way.set(self.under_way.get() + 1);
        let place = Place(self.under_way.clone());
        Some(Box::new(Copying { mirror: self, body: Vec::new(), place }))
    }
}

impl Copying<'_> {
    /// Keeps pieces of the body. False: it is too large, and there will be no copy.
    pub fn keep(&mut self, pieces: &[Bytes]) -> bool {
        for piece in pieces {
            if self.body.len() + piece.len() > self.mirror.body_max {
                self.mirror.stats.mirror.count(Mirrored::TooLarge);
                return false;
            }
            self.body.extend_from_slice(piece);
        }
        true
    }

    /// Sends the copy, behind the back of the request. `length`: how long the request's body is.
    pub fn send(self, head: &RequestHead, length: BodyLength) {
        let Copying { mirror, body, place } = self;
        let mut head = head.clone();
        head.expects_continue = false;
        head.fields.set(MARK, b"1");
        let length = match length {
            BodyLength::None => BodyLength::None,
            BodyLength::Exact(_) | BodyLength::Unknown => BodyLength::Exact(body.len() as u64),
        };
        let (upstream, stats) = (mirror.upstream.clone(), mirror.stats.clone());
        tokio::task::spawn_local(async move {
            let limits = &upstream.limits;
            let timeout = limits.connect_timeout + limits.response_timeout;
            let delivering = deliver(&upstream, &head, length, body.into());
            let end = match tokio::time::timeout(timeout, delivering).await {
                Ok(Some(())) => Mirrored::Answered,
                Ok(None) | Err(_) => Mirrored::Failed,
            };
            stats.mirror.count(end);
            drop(place);
        });
    }
}

/// Sends a request and reads its answer away. None: there was no answer.
async fn deliver(
    upstream: &Upstream,
    head: &RequestHead,
    length: BodyLength,
    body: Bytes,
) -> Option<()> {
    let Lent { connection, lease, .. } = upstream.lend(Wanted::whatever()).await.ok()?;
    let status = exchange(upstream, connection, head, length, body).await;
    if let Some(lease) = lease {
        match status {
            Some(status) => lease.answered(status, None),
            None => lease.failed(),
        }
    }
    status.map(|_| ())
}

/// The status of the answer.
async fn exchange(
    upstream: &Upstream,
    connection: Connection,
    head: &RequestHead,
    length: BodyLength,
    body: Bytes,
) -> Option<u16> {
    match connection {
        Connection::Http1(mut connection) => {
            connection.writer.request_head(head, length);
            write(Sink::Http1(&mut connection.writer), body).await?;
            over_http1(upstream, connection, head).await
        }
        Connection::Http2(client) => {
            let (mut answer, writer) = client.request(head, length, body.is_empty()).ok()?;
            write(writer.map_or(Sink::None, Sink::Http2), body).await?;
            let mut response = ResponseHead::default();
            for _ in 0..=INTERIM_MAX {
                let head = poll_fn(|cx| answer.poll_head(cx, &mut response)).await.ok()?;
                if let http2::Answer::Final(..) = head {
                    // Dropping the stream resets it, which leaves the connection as it was.
                    return Some(response.status);
                }
            }
            None
        }
    }
}

async fn write(mut sink: Sink<'_>, body: Bytes) -> Option<()> {
    if !body.is_empty() {
        sink.data(body).ok()?;
    }
    sink.end(None).ok()?;
    poll_fn(|cx| sink.poll_flush(cx)).await.ok()
}

async fn over_http1(
    upstream: &Upstream,
    mut connection: Box<Http1>,
    head: &RequestHead,
) -> Option<u16> {
    let mut response = ResponseHead::default();
    let mut interim = 0;
    let framing = loop {
        let (reader, limits) = (&mut connection.reader, &upstream.head_limits);
        let read = poll_fn(|cx| reader.poll_response_head(cx, &head.method, &mut response, limits));
        let framing = read.await.ok()?;
        if !(100..=199).contains(&response.status) {
            break framing;
        }
        interim += 1;
        if response.status == 101 || interim > INTERIM_MAX {
            return None;
        }
    };
    let mut left = ANSWER_BYTES_MAX;
    let mut source = Source::Http1(&mut connection.reader);
    // A connection whose answer is too long or breaks off is closed: the head is what counts.
    while let Ok(frame) = poll_fn(|cx| source.poll_frame(cx)).await {
        match frame {
            Frame::Data(bytes) if bytes.len() <= left => left -= bytes.len(),
            Frame::Data(_) => break,
            Frame::End | Frame::Trailers(_) => {
                if framing.keep_alive {
                    connection.keep(upstream);
                }
                break;
            }
        }
    }
    Some(response.status)
}
