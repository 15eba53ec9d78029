//! The pass over a body: every chunk goes through the body hooks of the chain, each of which may
//! hold, replace or answer.
//!
//! One [`BodyPass`] a direction and exchange, made only where a filter wants the body: otherwise
//! frames go from one connection to the other untouched.

use super::exchange::{Exchange, Phase};
use super::filter::{BodyDecision, Hook, LocalResponse};
use super::run::{Chain, Members, Progress, Step, call};
use bytes::Bytes;

/// Bytes a body hook is called with at most.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Which body a pass is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Through the chain in file order.
    Request,
    /// In reverse.
    Response,
}

/// The filters that one body goes through, and what each holds of it.
#[derive(Debug)]
pub struct BodyPass {
    direction: Direction,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    filter: usize,
    held: Vec<u8>,
    /// This filter keeps the head back.
    waits: bool,
    /// It failed open: what comes goes on.
    out: bool,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// The output, if any, is to be forwarded.
    Forward,
    /// A filter answers; the rest of the body is dropped.
    Respond(LocalResponse),
    /// A filter failed closed.
    Failed,
}

impl BodyPass {
    /// The pass over a body, or none where no filter wants it.
    pub fn new(chain: &Chain, progress: &Progress, direction: Direction) -> Option<Self> {
        let (hook, skips, count) = match direction {
            Direction::Request => {
                (Hook::OnRequestBody, progress.skips_request_body, progress.saw_request)
            }
            Direction::Response => {
                (Hook::OnResponseBody, progress.skips_response_body, progress.sees_response)
            }
        };
        if !chain.has(hook) {
            return None;
        }
        let mut stages: Vec<Stage> = (0..count)
            .filter(|index| chain.filter(*index).hooks().has(hook))
            .filter(|index| !skips.has(*index) && !progress.out.has(*index))
            .map(|filter| Stage::new(filter, progress.waits))
            .collect();
        if direction == Direction::Response {
            stages.reverse();
        }
        (!stages.is_empty()).then_some(BodyPass { direction, stages })
    }

    /// Does a filter still keep the head back?
    pub fn keeps_head(&self) -> bool {
        self.stages.iter().any(|stage| stage.waits)
    }

    /// Takes a chunk through the filters; what comes out behind the last is appended to `output`.
    /// `last` is given once. After `Respond` or `Failed` the pass is over.
    pub fn push(
        &mut self,
        chain: &Chain,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        chunk: Bytes,
        last: bool,
        output: &mut Vec<Bytes>,
    ) -> Passed {
        let mut pieces = vec![chunk];
        for at in 0..self.stages.len() {
            let mut next = Vec::new();
            let count = pieces.len();
            for (nth, piece) in pieces.into_iter().enumerate() {
                let ends = last && nth + 1 == count;
                match self.stage(at, chain, exchange, progress, piece, ends, &mut next) {
                    Passed::Forward => {}
                    over => return over,
                }
            }
            pieces = next;
            if pieces.is_empty() {
                if !last {
                    return Passed::Forward;
                }
                // The later filters still have to hear of the end.
                pieces.push(Bytes::new());
            }
        }
        output.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        Passed::Forward
    }

    /// One filter and one piece, which is cut to the size of a hook's chunk.
    #[expect(clippy::too_many_arguments, reason = "the parts of an exchange are lent one by one")]
    fn stage(
        &mut self,
        at: usize,
        chain: &Chain,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        mut piece: Bytes,
        last: bool,
        next: &mut Vec<Bytes>,
    ) -> Passed {
        loop {
            let chunk = piece.split_to(piece.len().min(CHUNK_BYTES_MAX));
            let ends = last && piece.is_empty();
            match self.hook(at, chain, exchange, progress, chunk, ends, next) {
                Passed::Forward if piece.is_empty() => return Passed::Forward,
                Passed::Forward => {}
                over => return over,
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an exchange are lent one by one")]
    fn hook(
        &mut self,
        at: usize,
        chain: &Chain,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        chunk: Bytes,
        last: bool,
        next: &mut Vec<Bytes>,
    ) -> Passed {
        let keeps_head = self.keeps_head();
        let stage = &mut self.stages[at];
        if stage.out || (chunk.is_empty() && !last) {
            next.push(chunk);
            return Passed::Forward;
        }
        let filter = chain.filter(stage.filter);
        let held = &stage.held;
        let phase = match (self.direction, keeps_head) {
            (Direction::Request, true) => Phase::RequestHead,
            (Direction::Request, false) => Phase::RequestBody,
            (Direction::Response, true) => Phase::ResponseHead,
            (Direction::Response, false) => Phase::ResponseBody,
        };
        exchange.lap = None;
        let answer = call(exchange, stage.filter, phase, |exchange| match self.direction {
            Direction::Request => filter.on_request_body(exchange, held, &chunk, last),
            Direction::Response => filter.on_response_body(exchange, held, &chunk, last),
        });
        let decision = match chain.settle(stage.filter, answer, progress) {
            Step::Next(decision) => decision,
            Step::Out => {
                stage.out = true;
                BodyDecision::Pass
            }
            Step::Failed => return self.over(at, Passed::Failed, progress),
        };
        match decision {
            BodyDecision::Hold if !last => {
                if stage.held.len() + chunk.len() > filter.body_bytes_max() {
                    let overflow = filter.body_overflow();
                    return match chain.settle::<()>(stage.filter, Err(overflow), progress) {
                        Step::Failed => self.over(at, Passed::Failed, progress),
                        Step::Next(()) | Step::Out => {
                            stage.out = true;
                            stage.release(chunk, next);
                            Passed::Forward
                        }
                    };
                }
                stage.held.extend_from_slice(&chunk);
                Passed::Forward
            }
            BodyDecision::Hold | BodyDecision::Pass => {
                stage.release(chunk, next);
                Passed::Forward
            }
            BodyDecision::Replace(bytes) => {
                stage.held = Vec::new();
                stage.release(Bytes::from(bytes), next);
                Passed::Forward
            }
            BodyDecision::Respond(response) => self.over(at, Passed::Respond(response), progress),
        }
    }

    /// Ends the pass: the filters before the one that answered see the answer.
    fn over(&mut self, at: usize, passed: Passed, progress: &mut Progress) -> Passed {
        progress.sees_response = progress.sees_response.min(self.stages[at].filter);
        progress.waits = Members::default();
        self.stages.clear();
        passed
    }
}

impl Stage {
    fn new(filter: usize, waits: Members) -> Self {
        Stage { filter, held: Vec::new(), waits: waits.has(filter), out: false }
    }

    /// What was held, and then this, goes on.
    fn release(&mut self, chunk: Bytes, next: &mut Vec<Bytes>) {
        self.waits = false;
        if !self.held.is_empty() {
            next.push(Bytes::from(std::mem::take(&mut self.held)));
        }
        if !chunk.is_empty() {
            next.push(chunk);
        }
    }
}
