//! What is kept of an exchange for the shadow: what came into the running version's chain, and what
//! it made of it.
//!
//! A worker fills a [`Recording`] at a few points of the data path (`proxy::flow`), by copying, and
//! hands it over at the end; what cannot be kept within the bounds is left out or skipped. Does not
//! know what becomes of it.

use super::queue::{Queue, Room};
use crate::chain::{Direction, Exchange, Outcome};
use crate::http::{BodyLength, Fields, Frame, Name, RequestHead, ResponseHead};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a body that are kept, each before and after the chain. Of a longer one nothing is.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Chunks of a body that are kept, since filters see them. Of a body with more nothing is.
pub const CHUNKS_MAX: usize = 1024;
/// How long bodies are kept of an exchange whose response is on its way. What takes longer is handed
/// over as it is then, without them.
pub const RECORDING_TIME_MAX: Duration = Duration::from_secs(10);

/// What a record takes beside the bytes of its messages.
const RECORD_BYTES: usize = size_of::<Record>();

/// Records the exchanges of one route.
#[derive(Clone)]
pub struct Recorder {
    queue: Arc<Queue>,
    chain: usize,
}

impl Recorder {
    pub(super) fn new(queue: Arc<Queue>, chain: usize) -> Self {
        Recorder { queue, chain }
    }

    /// Begins with an exchange, of the time `began`, whose request is about to enter the chain. None:
    /// there is no room, which is counted.
    pub fn begin(
        &self,
        exchange: &mut Exchange,
        length: BodyLength,
        began: Instant,
    ) -> Option<Box<Recording>> {
        let mut room = self.queue.room();
        let bytes = RECORD_BYTES + request_bytes(&exchange.request);
        if self.queue.is_full() || !room.take(bytes) {
            self.queue.skip();
            return None;
        }
        let mut record = Record::empty(room);
        record.chain = self.chain;
        record.wall = exchange.now();
        record.client = exchange.client;
        record.listener = exchange.listener.clone();
        record.route = exchange.route.clone();
        record.request.enter(exchange.request.clone(), length);
        let queue = self.queue.clone();
        Some(Box::new(Recording {
            queue,
            began,
            heads_only: false,
            is_whole: false,
            record: Some(record),
        }))
    }
}

/// A message on its way into a chain.
#[derive(Debug, Default)]
pub struct Incoming<H> {
    /// As it came.
    pub head: H,
    /// There may be one, of any length.
    pub has_body: bool,
    /// As it came.
    pub body: Body,
    /// Filters got to see the body: it may have left the chain as another.
    pub touched: bool,
}

impl<H> Incoming<H> {
    fn enter(&mut self, head: H, length: BodyLength) {
        self.head = head;
        self.has_body = length != BodyLength::None;
        if matches!(length, BodyLength::Exact(bytes) if bytes > BODY_BYTES_MAX as u64) {
            self.body.extent = Extent::GivenUp;
        }
    }
}

/// A body, as far as it is kept.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    /// Where each chunk ends.
    ends: Vec<usize>,
    /// What came behind it.
    pub trailers: Option<Fields>,
    extent: Extent,
}

/// How much of a body is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// What there was before the exchange went another way.
    #[default]
    Begun,
    /// All of it.
    Whole,
    /// Nothing: it was too much.
    GivenUp,
}

impl Body {
    /// Its bytes, if they are all there.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.extent == Extent::Whole).then_some(&self.bytes)
    }

    /// Was it too much to be kept?
    pub fn is_given_up(&self) -> bool {
        self.extent == Extent::GivenUp
    }

    /// What is there of it, in the chunks in which it came.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }

    fn push(&mut self, chunk: &[u8], room: &mut Room) {
        if self.extent != Extent::Begun || chunk.is_empty() {
            return;
        }
        let fits = self.bytes.len() + chunk.len() <= BODY_BYTES_MAX && self.ends.len() < CHUNKS_MAX;
        if !fits || !room.take(chunk.len()) {
            return self.give_up(room);
        }
        self.bytes.extend_from_slice(chunk);
        self.ends.push(self.bytes.len());
    }

    fn end(&mut self, trailers: Option<&Fields>, room: &mut Room) {
        let trailer_bytes = trailers.map_or(0, Fields::wire_bytes);
        if self.extent != Extent::Begun {
            return;
        }
        if !room.take(trailer_bytes) {
            return self.give_up(room);
        }
        self.extent = Extent::Whole;
        self.trailers = trailers.cloned();
    }

    fn give_up(&mut self, room: &mut Room) {
        let trailer_bytes = self.trailers.as_ref().map_or(0, Fields::wire_bytes);
        room.give_back(self.bytes.len() + trailer_bytes);
        *self = Body { extent: Extent::GivenUp, ..Body::default() };
    }

    /// Forgets what another body takes the place of.
    fn begin_anew(&mut self, room: &mut Room) {
        self.give_up(room);
        self.extent = Extent::Begun;
    }
}

/// One exchange of the running version.
pub struct Record {
    /// Index of the candidate's chain.
    pub chain: usize,
    /// Wall time of the exchange.
    pub wall: SystemTime,
    /// Who sent it.
    pub client: IpAddr,
    /// By which listener.
    pub listener: Arc<str>,
    /// By which route.
    pub route: Arc<str>,
    /// As the chain got it.
    pub request: Incoming<RequestHead>,
    /// The head that went to the upstream. None: the chain answered before.
    pub forwarded: Option<RequestHead>,
    /// The answer to that, as the chain got it. None: the chain answered before it came.
    pub answer: Option<Incoming<ResponseHead>>,
    /// The head that went to the client.
    pub delivered: ResponseHead,
    /// A filter's response, or the reply to its failure, went to the client.
    pub replaced: bool,
    /// A filter failed, whatever its policy.
    pub failed: bool,
    /// A filter failed, and the exchange with it.
    pub failed_closed: bool,
    /// Time that the filters took.
    pub filter_time: Duration,
    /// What the exchange came to.
    pub outcome: Outcome,
    sent_body: Body,
    delivered_body: Body,
    room: Room,
}

impl Record {
    /// Of nothing yet.
    pub(super) fn empty(room: Room) -> Self {
        Record {
            chain: 0,
            wall: UNIX_EPOCH,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listener: Arc::from(""),
            route: Arc::from(""),
            request: Incoming::default(),
            forwarded: None,
            answer: None,
            delivered: ResponseHead::default(),
            replaced: false,
            failed: false,
            failed_closed: false,
            filter_time: Duration::ZERO,
            outcome: Outcome::default(),
            sent_body: Body::default(),
            delivered_body: Body::default(),
            room,
        }
    }

    /// The request's body as it left the chain.
    pub fn sent_body(&self) -> &Body {
        if self.request.touched { &self.sent_body } else { &self.request.body }
    }

    /// The response's body as it left the chain.
    pub fn delivered_body(&self) -> &Body {
        match &self.answer {
            Some(answer) if !answer.touched && !self.replaced => &answer.body,
            Some(_) | None => &self.delivered_body,
        }
    }
}

/// What is known of an exchange at its end, beside what stands in the exchange itself.
#[derive(Debug, Default)]
pub struct Finish {
    /// A filter failed, whatever its policy.
    pub failed: bool,
    /// A filter failed, and the exchange with it.
    pub failed_closed: bool,
    /// What it came to.
    pub outcome: Outcome,
}

/// A record in the making. Dropped before it is finished, it counts as skipped.
pub struct Recording {
    queue: Arc<Queue>,
    began: Instant,
    /// Bodies are of no interest: it may go on for hours.
    heads_only: bool,
    /// The response came to its end behind the chain.
    is_whole: bool,
    /// None once it was handed over.
    record: Option<Record>,
}

impl Recording {
    /// The exchange may go on for hours: only heads are compared.
    pub fn heads_only(&mut self) {
        self.heads_only = true;
        let Some(record) = &mut self.record else { return };
        let Record { request, answer, sent_body, delivered_body, room, .. } = record;
        let answer = answer.as_mut().map(|answer| &mut answer.body);
        for body in [&mut request.body, sent_body, delivered_body].into_iter().chain(answer) {
            body.give_up(room);
        }
    }

    /// A piece of a body enters the chain; `touched`: filters get to see it.
    pub fn arrived(&mut self, direction: Direction, frame: &Frame, touched: bool) {
        let Some(Record { request, answer, replaced, room, .. }) = &mut self.record else { return };
        let body = match (direction, answer) {
            (Direction::Request, _) => {
                request.touched |= touched;
                &mut request.body
            }
            (Direction::Response, Some(answer)) if !*replaced => {
                answer.touched |= touched;
                &mut answer.body
            }
            (Direction::Response, _) => return,
        };
        match frame {
            Frame::Data(chunk) => body.push(chunk, room),
            Frame::Trailers(trailers) => body.end(Some(trailers), room),
            Frame::End => body.end(None, room),
        }
    }

    /// A piece of a body leaves the chain.
    pub fn left(&mut self, direction: Direction, chunk: &[u8]) {
        if let Some((body, room)) = self.leaving(direction) {
            body.push(chunk, room);
        }
    }

    /// A body is complete behind the chain.
    pub fn ended(&mut self, direction: Direction, trailers: Option<&Fields>) {
        self.is_whole |= direction == Direction::Response;
        if let Some((body, room)) = self.leaving(direction) {
            body.end(trailers, room);
        }
    }

    /// The request is sent once more, from its beginning.
    pub fn repeated(&mut self) {
        if let Some(Record { sent_body, room, .. }) = &mut self.record {
            sent_body.begin_anew(room);
        }
    }

    /// Where a body is kept as it leaves the chain; none: it is the one that entered.
    fn leaving(&mut self, direction: Direction) -> Option<(&mut Body, &mut Room)> {
        let Record { request, answer, replaced, sent_body, delivered_body, room, .. } =
            self.record.as_mut()?;
        match direction {
            Direction::Request => request.touched.then_some((sent_body, room)),
            Direction::Response => {
                let changed = *replaced || answer.as_ref().is_none_or(|answer| answer.touched);
                changed.then_some((delivered_body, room))
            }
        }
    }

    /// The chain lets the request through; its head is what stands in the exchange at the end.
    pub fn forwarded(&mut self) {
        if let Some(record) = &mut self.record {
            record.forwarded = Some(RequestHead::default());
        }
    }

    /// A response enters the chain that no filter made: the upstream's, or the reply to a fault.
    pub fn answered(&mut self, head: &ResponseHead, length: BodyLength) {
        const CONTENT_TYPE: Name<'static> = Name::known("content-type");
        let Some(record) = &mut self.record else { return };
        let kept = record.answer.is_none() && !record.replaced;
        if !kept || !record.room.take(response_bytes(head)) {
            // An answer that broke, and a fault in its place: nothing that can be played again.
            return self.skip();
        }
        let content_type = head.fields.get(CONTENT_TYPE).unwrap_or_default();
        let endless = head.status == 101 || content_type.starts_with(b"text/event-stream");
        let answer = record.answer.get_or_insert_default();
        answer.enter(head.clone(), length);
        if endless || self.heads_only {
            self.heads_only();
        }
    }

    /// A filter's response is to be sent, in place of any other.
    pub fn replaced(&mut self) {
        if let Some(Record { replaced, delivered_body, room, .. }) = &mut self.record {
            *replaced = true;
            delivered_body.begin_anew(room);
        }
    }

    /// The reply to the failure of a filter is to be sent, in place of any other response.
    pub fn failed(&mut self) {
        self.replaced();
        if let Some(record) = &mut self.record {
            record.failed_closed = true;
        }
    }

    /// The response is on its way: is this to be handed over now, without bodies?
    pub fn is_due(&self, now: Instant) -> bool {
        self.heads_only || now.saturating_duration_since(self.began) > RECORDING_TIME_MAX
    }

    /// Hands over what there is, with the heads as they stand in the exchange. A response that was
    /// broken off by anything but a filter tells nothing, and is skipped.
    pub fn finish(mut self: Box<Self>, exchange: &Exchange, end: Finish) {
        let tells = self.is_whole || self.heads_only || end.failed_closed;
        let Some(mut record) = self.record.take_if(|_| tells) else { return };
        let forwarded = record.forwarded.is_some();
        let bytes = if forwarded { request_bytes(&exchange.request) } else { 0 };
        if !record.room.take(bytes + response_bytes(&exchange.response)) {
            return self.queue.skip();
        }
        record.forwarded = forwarded.then(|| exchange.request.clone());
        record.delivered = exchange.response.clone();
        record.failed = end.failed;
        record.failed_closed |= end.failed_closed;
        record.filter_time = exchange.filter_time.iter().sum();
        record.outcome = end.outcome;
        self.queue.hand_over(Box::new(record));
    }

    /// Lets go of what there is.
    fn skip(&mut self) {
        if self.record.take().is_some() {
            self.queue.skip();
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.skip();
    }
}

fn request_bytes(head: &RequestHead) -> usize {
    head.fields.wire_bytes() + head.target.len() + head.authority.len()
}

fn response_bytes(head: &ResponseHead) -> usize {
    head.fields.wire_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::queue::{BYTES_MAX, Message};
    use super::*;
    use bytes::Bytes;
    use std::sync::mpsc::Receiver;

    struct Fixture {
        queue: Arc<Queue>,
        records: Receiver<Message>,
        exchange: Box<Exchange>,
        began: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (queue, records) = Queue::new();
            Fixture { queue, records, exchange: Box::default(), began: Instant::now() }
        }

        fn begin(&mut self, length: BodyLength) -> Option<Box<Recording>> {
            let recorder = Recorder::new(self.queue.clone(), 0);
            recorder.begin(&mut self.exchange, length, self.began)
        }

        fn finish(&self, mut recording: Box<Recording>) -> Box<Record> {
            recording.ended(Direction::Response, None);
            recording.finish(&self.exchange, Finish::default());
            match self.records.try_recv() {
                Ok(Message::Replay(record)) => record,
                _ => panic!("a record"),
            }
        }
    }

    fn data(bytes: usize) -> Frame {
        Frame::Data(Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn a_body_is_kept_up_to_its_limit() {
        for bytes in [BODY_BYTES_MAX - 1, BODY_BYTES_MAX, BODY_BYTES_MAX + 1] {
            let kept = bytes <= BODY_BYTES_MAX;
            let mut fixture = Fixture::new();
            let mut recording = fixture.begin(BodyLength::Unknown).unwrap();
            recording.arrived(Direction::Request, &data(bytes - 1), true);
            recording.arrived(Direction::Request, &data(1), true);
            recording.arrived(Direction::Request, &Frame::End, true);
            recording.left(Direction::Request, &vec![b'y'; bytes]);
            recording.ended(Direction::Request, None);
            let record = fixture.finish(recording);
            assert_eq!(record.request.body.whole().map(<[u8]>::len), kept.then_some(bytes));
            assert_eq!(record.sent_body().whole().map(<[u8]>::len), kept.then_some(bytes));
            assert_eq!(record.request.body.is_given_up(), !kept);

            let mut recording = fixture.begin(BodyLength::Exact(bytes as u64)).unwrap();
            recording.arrived(Direction::Request, &data(1), true);
            let record = fixture.finish(recording);
            assert_eq!(record.request.body.is_given_up(), !kept, "its length told so");
        }
    }

    #[test]
    fn chunks_are_kept_as_they_came_up_to_their_number() {
        for chunks in [CHUNKS_MAX - 1, CHUNKS_MAX, CHUNKS_MAX + 1] {
            let mut fixture = Fixture::new();
            let mut recording = fixture.begin(BodyLength::Unknown).unwrap();
            for _ in 0..chunks {
                recording.arrived(Direction::Request, &data(2), false);
            }
            recording.arrived(Direction::Request, &Frame::End, false);
            let record = fixture.finish(recording);
            let kept = if chunks <= CHUNKS_MAX { chunks } else { 0 };
            assert_eq!(record.request.body.chunks().filter(|it| it.len() == 2).count(), kept);
            assert_eq!(record.sent_body().whole().is_some(), kept > 0, "the one that came");
        }
    }

    #[test]
    fn an_exchange_without_room_is_skipped_and_a_body_without_room_is_given_up() {
        let mut fixture = Fixture::new();
        let mut others = fixture.queue.room();
        let (head, body) = (RECORD_BYTES, 100);
        assert!(others.take(BYTES_MAX - head - body));
        let mut recording = fixture.begin(BodyLength::Unknown).unwrap();
        recording.arrived(Direction::Request, &data(body), false);
        assert!(!recording.record.as_ref().unwrap().request.body.is_given_up());
        recording.arrived(Direction::Request, &data(1), false);
        assert!(recording.record.as_ref().unwrap().request.body.is_given_up());
        assert!(others.take(body), "its bytes came back");
        assert!(fixture.begin(BodyLength::Unknown).is_none());
        assert_eq!(fixture.queue.skipped(), 1);
        drop(fixture.finish(recording));
        assert!(others.take(head), "all came back");
    }

    #[test]
    fn an_exchange_that_finds_a_full_queue_is_not_begun() {
        let mut fixture = Fixture::new();
        for _ in 0..crate::shadow::queue::RECORDS_MAX {
            fixture.queue.hand_over(Box::new(Record::empty(fixture.queue.room())));
        }
        assert!(fixture.begin(BodyLength::None).is_none());
        assert_eq!(fixture.queue.skipped(), 1);
    }

    #[test]
    fn what_takes_long_is_due_without_bodies() {
        let mut fixture = Fixture::new();
        let began = fixture.began;
        let mut recording = fixture.begin(BodyLength::Unknown).unwrap();
        let nanosecond = Duration::from_nanos(1);
        assert!(!recording.is_due(began));
        assert!(!recording.is_due(began + RECORDING_TIME_MAX - nanosecond));
        assert!(!recording.is_due(began + RECORDING_TIME_MAX));
        assert!(recording.is_due(began + RECORDING_TIME_MAX + nanosecond));
        recording.arrived(Direction::Request, &data(10), false);
        recording.heads_only();
        assert!(recording.is_due(began));
        assert!(fixture.finish(recording).request.body.is_given_up());
    }

    #[test]
    fn event_streams_and_switches_of_protocol_are_due_at_once() {
        for (status, content_type) in [(101, ""), (200, "text/event-stream; charset=utf-8")] {
            let mut fixture = Fixture::new();
            let mut recording = fixture.begin(BodyLength::None).unwrap();
            recording.forwarded();
            let mut head = ResponseHead { status, ..ResponseHead::default() };
            head.fields.append(Name::known("content-type"), content_type.as_bytes());
            recording.answered(&head, BodyLength::Unknown);
            assert!(recording.is_due(fixture.began), "{status}");
            recording.arrived(Direction::Response, &data(10), false);
            assert!(fixture.finish(recording).delivered_body().is_given_up());
        }
    }

    #[test]
    fn what_is_broken_off_is_skipped() {
        let mut fixture = Fixture::new();
        let mut recording = fixture.begin(BodyLength::None).unwrap();
        recording.forwarded();
        recording.finish(&fixture.exchange, Finish::default());
        assert_eq!(fixture.queue.skipped(), 1);
        // By a filter.
        let recording = fixture.begin(BodyLength::None).unwrap();
        let failed = Finish { failed: true, failed_closed: true, ..Finish::default() };
        recording.finish(&fixture.exchange, failed);
        assert!(matches!(fixture.records.try_recv(), Ok(Message::Replay(_))));
        // An answer that broke while a filter held it, and the reply to that.
        let mut recording = fixture.begin(BodyLength::None).unwrap();
        let head = ResponseHead { status: 200, ..ResponseHead::default() };
        recording.answered(&head, BodyLength::Unknown);
        recording.answered(&head, BodyLength::Exact(0));
        assert_eq!(fixture.queue.skipped(), 2);
        drop(recording);
        assert_eq!(fixture.queue.skipped(), 2, "once");
    }

    #[test]
    fn the_body_that_a_response_in_place_of_another_has_is_the_one_that_counts() {
        let mut fixture = Fixture::new();
        let mut recording = fixture.begin(BodyLength::None).unwrap();
        let head = ResponseHead { status: 200, ..ResponseHead::default() };
        recording.answered(&head, BodyLength::Unknown);
        recording.arrived(Direction::Response, &data(3), true);
        recording.replaced();
        recording.left(Direction::Response, b"first");
        recording.replaced();
        recording.arrived(Direction::Response, &data(9), true);
        recording.left(Direction::Response, b"second");
        recording.ended(Direction::Response, None);
        let record = fixture.finish(recording);
        assert_eq!(record.delivered_body().whole(), Some(&b"second"[..]));
        assert_eq!(record.answer.unwrap().body.chunks().count(), 1);
    }
}
