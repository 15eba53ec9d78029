//! What follows a switch of protocols: bytes both ways, until both sides have said their last.

use super::ends::{Sink, Source};
use super::flow::{Flow, Stop};
use super::forward::Timers;
use super::pump::Pump;
use crate::chain::Direction;
use crate::http::Frame;
use crate::http1::{Reader, Writer};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Carries bytes between the two connections. A side that ends is passed on as an end of that
/// direction; the tunnel is over when both are, or when it was silent for `stream_idle_timeout`.
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
    let Timers { request, response } = timers;
    let mut up = pin!(one_way(flow, Direction::Request, down_reader, up_writer, request));
    let mut down = pin!(one_way(flow, Direction::Response, up_reader, down_writer, response));
    let (mut up_done, mut down_done) = (false, false);
    // A direction that fails ends the tunnel: dropping the connections tells both sides.
    poll_fn(|cx| {
        if !up_done && let Poll::Ready(over) = up.as_mut().poll(cx) {
            if over.is_err() {
                return Poll::Ready(());
            }
            up_done = true;
        }
        if !down_done && let Poll::Ready(over) = down.as_mut().poll(cx) {
            if over.is_err() {
                return Poll::Ready(());
            }
            down_done = true;
        }
        if up_done && down_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    Ok(())
}

/// The tunnel is over in a direction that failed.
struct Broken;

async fn one_way(
    flow: &Flow<'_>,
    direction: Direction,
    reader: &mut Reader,
    writer: &mut Writer,
    timer: &mut super::timer::Timer,
) -> Result<(), Broken> {
    let idle = flow.route.upstream.limits.stream_idle_timeout;
    let mut limits = flow.limits(direction);
    (limits.source_idle, limits.sink_idle) = (idle, idle);
    (limits.source_rate_min, limits.sink_rate_min) = (0, 0);
    let mut pump = Pump::new(timer, limits);
    let stream = writer.stream().clone();
    let mut source = Source::Http1(reader);
    let mut sink = Sink::Http1(writer);
    while let Frame::Data(bytes) = pump.next(&mut source, &mut sink).await.map_err(|_| Broken)? {
        let count = match direction {
            Direction::Request => &flow.request_bytes,
            Direction::Response => &flow.response_bytes,
        };
        count.set(count.get() + bytes.len() as u64);
        sink.data(bytes).map_err(|_| Broken)?;
        if sink.queued() >= pump.buffer() {
            pump.drain(&mut sink, pump.buffer() / 2).await.map_err(|_| Broken)?;
        }
    }
    pump.drain(&mut sink, 0).await.map_err(|_| Broken)?;
    poll_fn(|cx| stream.poll_shutdown(cx)).await.map_err(|_| Broken)
}
