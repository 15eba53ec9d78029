//! The shadow of a rollout: the next version of a chain gets copies of the exchanges of the running
//! one, and what it would have done is compared.
//!
//! Workers record (`record`), a bounded queue carries (`queue`), one thread with instances of its own
//! replays (`replay`) and compares (`compare`). So a next version that traps, spins or leaks never
//! touches a worker, and no request waits for it. What the next version writes stays in overlays
//! (`capability::State::shadow`). Who starts and judges a shadow is not known here.

pub mod compare;
pub mod queue;
pub mod record;
mod replay;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use record::{Recorder, Recording};

use self::compare::Kind;
use self::queue::{Message, Queue};
use self::replay::{Candidate, Played, Player};
use crate::chain::{Chain, Filter, Members};
use crate::rollout::judge::{Counts, Differences};
use crate::telemetry::histogram::{Distribution, Histogram};
use crate::wasm::WasmFilter;
use http::HeaderName;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Differing exchanges of which a line is kept.
pub const SAMPLES_MAX: usize = 16;

/// What a shadow is to play.
pub struct Setup {
    /// The filters of the next version's chains, those that stay the same too: each prepared with a
    /// state of [`capability::State::shadow`](crate::capability::State::shadow), and with numbers that
    /// nobody is shown, since those of a version would count its copies as exchanges. None: it could
    /// not be loaded, and its fail policy is `open`.
    pub filters: Vec<Option<WasmFilter>>,
    /// The chains that differ from the running ones.
    pub chains: Vec<NextChain>,
    /// Fields that are not compared, since every exchange has another value.
    pub ignored: Vec<HeaderName>,
}

/// The next chain of a route.
pub struct NextChain {
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the route.
    pub route: Arc<str>,
    /// In the order of the request hooks.
    pub links: Vec<Link>,
}

/// A filter of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Index in [`Setup::filters`].
    pub filter: usize,
    /// The running chain does not have this version: its failures count.
    pub differs: bool,
}

/// A shadow at work. Dropped, it ends: its thread after the exchange that it is at, which the limits
/// of the filters bound; nobody waits for that.
pub struct Shadow {
    routes: Vec<(Arc<str>, Arc<str>)>,
    queue: Arc<Queue>,
    tally: Arc<Tally>,
}

impl Shadow {
    /// Starts the thread of a shadow.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let Setup { filters, chains, ignored } = setup;
        let routes = chains.iter().map(|it| (it.listener.clone(), it.route.clone())).collect();
        Shadow::spawn(routes, move || {
            let filters: Vec<Option<Rc<WasmFilter>>> =
                filters.into_iter().map(|filter| filter.map(Rc::new)).collect();
            let candidates = chains.iter().map(|chain| candidate(&filters, &chain.links)).collect();
            let differs = |at: &usize| {
                let links = chains.iter().flat_map(|chain| &chain.links);
                links.filter(|link| link.filter == *at).any(|link| link.differs)
            };
            let differing: Vec<Rc<WasmFilter>> =
                (0..filters.len()).filter(differs).filter_map(|at| filters[at].clone()).collect();
            let memory = move || differing.iter().map(|filter| filter.memory_bytes() as u64).sum();
            (Player::new(candidates, ignored), memory)
        })
    }

    /// A shadow of the player that `make` makes on the shadow's thread, and of the bytes of memory
    /// that its filters have.
    fn spawn<M: Fn() -> u64>(
        routes: Vec<(Arc<str>, Arc<str>)>,
        make: impl FnOnce() -> (Player, M) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, records) = Queue::new();
        let tally = Arc::<Tally>::default();
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        let (seen, counted) = (queue.clone(), tally.clone());
        thread.spawn(move || {
            let (mut player, memory) = make();
            counted.lock().next.memory_bytes = memory();
            replay_all(&mut player, &memory, &seen, records, &counted);
        })?;
        Ok(Shadow { routes, queue, tally })
    }

    /// What records the exchanges of a route; none where its chain stays as it is.
    pub fn recorder(&self, listener: &str, route: &str) -> Option<Recorder> {
        let is_it = |known: &(Arc<str>, Arc<str>)| (&*known.0, &*known.1) == (listener, route);
        let chain = self.routes.iter().position(is_it)?;
        Some(Recorder::new(self.queue.clone(), chain))
    }

    /// What the next version did with its copies, and how it differs from the running one.
    pub fn counts(&self) -> (Counts, Differences) {
        let mut counted = self.tally.lock();
        let mut added_time = Distribution::default();
        counted.added_time.add_to(&mut added_time);
        counted.differences.skipped = self.queue.skipped();
        (Counts { added_time, ..counted.next.clone() }, counted.differences)
    }

    /// The last exchanges that differed, the latest last, in words and without secrets; those with the
    /// same words once, with their number.
    pub fn samples(&self) -> Vec<String> {
        let told = |(line, times): &(String, u64)| match times {
            1 => line.clone(),
            _ => format!("{line} ({times} times)"),
        };
        self.tally.lock().samples.iter().map(told).collect()
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

fn candidate(filters: &[Option<Rc<WasmFilter>>], links: &[Link]) -> Candidate {
    let (mut chain, mut differs) = (Vec::<Rc<dyn Filter>>::new(), Members::default());
    for link in links {
        let Some(Some(filter)) = filters.get(link.filter) else { continue };
        if link.differs {
            differs.insert(chain.len());
        }
        chain.push(filter.clone());
    }
    Candidate { chain: Chain::new(chain), differs }
}

/// The life of the thread.
fn replay_all(
    player: &mut Player,
    memory: &dyn Fn() -> u64,
    queue: &Queue,
    records: impl IntoIterator<Item = Message>,
    tally: &Tally,
) {
    for message in records {
        let Message::Replay(record) = message else { return };
        queue.taken();
        if queue.is_stopped() {
            return;
        }
        let played = player.play(&record);
        // Its room comes back before it is counted: who waits for the count finds it.
        drop(record);
        match played {
            Some(played) => tally.add(played, memory()),
            None => queue.skip(),
        }
    }
}

/// What was counted so far.
#[derive(Default)]
struct Tally(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    /// But for `added_time`.
    next: Counts,
    added_time: Histogram<0>,
    /// But for `skipped`.
    differences: Differences,
    /// Lines with how often each was told.
    samples: VecDeque<(String, u64)>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Every change leaves it consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, played: Played, memory_bytes: u64) {
        let mut counted = self.lock();
        let Counted { next, added_time, differences, samples } = &mut *counted;
        next.memory_bytes = memory_bytes;
        next.exchanges += 1;
        next.failures += u64::from(played.failed);
        next.local_replies += u64::from(played.local_reply);
        next.errors += u64::from(played.errored);
        added_time.observe(played.time, true);
        differences.compared += 1;
        differences.slower += u64::from(played.slower);
        let kind = match &played.difference {
            None => &mut differences.same,
            Some(difference) => match difference.kind {
                Kind::Failed => &mut differences.failed,
                Kind::Status => &mut differences.status,
                Kind::Headers => &mut differences.headers,
                Kind::Body => &mut differences.body,
            },
        };
        *kind += 1;
        if let Some(difference) = played.difference {
            let known = samples.iter().position(|(line, _)| *line == difference.line);
            let times = known.and_then(|at| samples.remove(at)).map_or(0, |(_, times)| times);
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back((difference.line, times + 1));
        }
    }
}
