//! What follows a switch of protocols: bytes both ways, until both sides have said their last.

use super::ends::{Sink, Source};
use super::flow::{Flow, Stop};
use super::forward::Timers;
use super::pump::{Pump, PumpError};
use super::reply::Fault;
use crate::chain::Direction;
use crate::http::Frame;
use crate::http1::{Reader, Writer};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Carries bytes between the two connections. A side that ends is passed on as an end of that
/// direction; the tunnel is over when both are, or when it was silent for `stream_idle_timeout`. A side
/// that breaks off is passed on as that.
///
/// # Errors
/// One side has broken off.
pub async fn run(
    flow: &Flow<'_>,
    (down_reader, down_writer): (&mut Reader, &mut Writer),
    (up_reader, up_writer): (&mut Reader, &mut Writer),
    timers: &mut Timers,
) -> Result<(), Stop> {
    for reader in [&mut *down_reader, &mut *up_reader] {
        reader.tunnel();
    }
    for writer in [&mut *down_writer, &mut *up_writer] {
        writer.tunnel();
    }
    let upstream = up_writer.stream().clone();
    let Timers { request, response } = timers;
    let mut up = pin!(one_way(flow, Direction::Request, down_reader, up_writer, request));
    let mut down = pin!(one_way(flow, Direction::Response, up_reader, down_writer, response));
    let (mut up_done, mut down_done) = (false, false);
    let over = poll_fn(|cx| {
        if !up_done && let Poll::Ready(over) = up.as_mut().poll(cx) {
            match over {
                Over::Silent => return Poll::Ready(Ok(())),
                Over::BrokenOff => return Poll::Ready(Err(Fault::ClientGone)),
                Over::Ended => up_done = true,
            }
        }
        if !down_done && let Poll::Ready(over) = down.as_mut().poll(cx) {
            match over {
                Over::Silent => return Poll::Ready(Ok(())),
                Over::BrokenOff => return Poll::Ready(Err(Fault::UpstreamIncomplete)),
                Over::Ended => down_done = true,
            }
        }
        if up_done && down_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    // Whoever called breaks the client's side off.
    over.inspect_err(|_| upstream.abort()).map_err(Stop::from)
}

/// How a direction came to its end.
enum Over {
    /// Its source has said its last. Or its sink takes no more: whatever that side still had to say is
    /// for the other direction, which soon ends too.
    Ended,
    /// Its source broke off.
    BrokenOff,
    /// Nothing passed for too long.
    Silent,
}

impl From<PumpError> for Over {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Source(_) => Over::BrokenOff,
            PumpError::Sink(_) | PumpError::Gone => Over::Ended,
            PumpError::Stalled(_) => Over::Silent,
        }
    }
}

async fn one_way(
    flow: &Flow<'_>,
    direction: Direction,
    reader: &mut Reader,
    writer: &mut Writer,
    timer: &mut super::timer::Timer,
) -> Over {
    match carry(flow, direction, reader, writer, timer).await {
        Ok(()) => Over::Ended,
        Err(error) => error.into(),
    }
}

async fn carry(
    flow: &Flow<'_>,
    direction: Direction,
    reader: &mut Reader,
    writer: &mut Writer,
    timer: &mut super::timer::Timer,
) -> Result<(), PumpError> {
    let idle = flow.route.upstream.limits.stream_idle_timeout;
    let mut limits = flow.limits(direction);
    (limits.source_idle, limits.sink_idle) = (idle, idle);
    (limits.source_rate_min, limits.sink_rate_min) = (0, 0);
    let mut pump = Pump::new(timer, limits);
    let stream = writer.stream().clone();
    let mut source = Source::Http1(reader);
    let mut sink = Sink::Http1(writer);
    while let Frame::Data(bytes) = pump.next(&mut source, &mut sink).await? {
        let count = match direction {
            Direction::Request => &flow.request_bytes,
            Direction::Response => &flow.response_bytes,
        };
        count.set(count.get() + bytes.len() as u64);
        sink.data(bytes)?;
        if sink.queued() >= pump.buffer() {
            pump.drain(&mut sink, pump.buffer() / 2).await?;
        }
    }
    pump.drain(&mut sink, 0).await?;
    poll_fn(|cx| stream.poll_shutdown(cx)).await.map_err(|_| PumpError::Gone)
}
