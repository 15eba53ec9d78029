//! Where filters get time and random bytes from: the system, or a [`Script`] that a test moves.
//!
//! The capabilities take times as arguments; this file says which. A script gives what the fake host
//! of the SDK gives, so that one seed means the same bytes natively and in a component.

use super::locked;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How far a script's monotonic clock moves with each look at it.
const LOOK: Duration = Duration::from_micros(1);

/// Who asks for random bytes. Under a script each has numbers of its own: a filter that runs natively
/// has no guest's library beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The filter, through the capability.
    Filter,
    /// The standard library of its language, through WASI.
    Library,
}

/// Where time and random bytes come from.
#[derive(Clone, Debug, Default)]
pub enum Sources {
    /// The clocks and the generator of the system.
    #[default]
    System,
    /// A script.
    Script(Arc<Script>),
}

impl Sources {
    /// The instant by which buckets, maps and quarantines go; `real` is the system's.
    pub fn at(&self, real: Instant) -> Instant {
        match self {
            Sources::System => real,
            Sources::Script(script) => script.instant(),
        }
    }

    /// The instant by which buckets, maps and quarantines go.
    pub fn instant(&self) -> Instant {
        match self {
            Sources::System => Instant::now(),
            Sources::Script(script) => script.instant(),
        }
    }

    /// What the monotonic clock of a filter shows.
    pub fn monotonic(&self) -> Instant {
        match self {
            Sources::System => Instant::now(),
            Sources::Script(script) => script.look(),
        }
    }

    /// Wall time.
    pub fn wall(&self) -> SystemTime {
        match self {
            Sources::System => SystemTime::now(),
            Sources::Script(script) => script.wall(),
        }
    }

    /// Fills `bytes` at random.
    pub fn fill(&self, asker: Asker, bytes: &mut [u8]) {
        match self {
            Sources::System => rand::Rng::fill_bytes(&mut rand::rng(), bytes),
            Sources::Script(_) => bytes.chunks_mut(8).for_each(|part| {
                part.copy_from_slice(&self.number(asker).to_le_bytes()[..part.len()]);
            }),
        }
    }

    /// Eight random bytes as a number.
    pub fn number(&self, asker: Asker) -> u64 {
        match self {
            Sources::System => rand::Rng::next_u64(&mut rand::rng()),
            Sources::Script(script) => {
                let mut now = locked(&script.now);
                match asker {
                    Asker::Filter => now.random.next(),
                    Asker::Library => now.library.next(),
                }
            }
        }
    }

    /// The script, where there is one.
    pub fn script(&self) -> Option<&Arc<Script>> {
        match self {
            Sources::System => None,
            Sources::Script(script) => Some(script),
        }
    }
}

/// Time that stands still until it is moved, and random bytes that follow from a seed.
#[derive(Debug)]
pub struct Script {
    start: Instant,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    wall: SystemTime,
    /// Since `start`.
    elapsed: Duration,
    random: Numbers,
    library: Numbers,
}

/// A Weyl sequence through a mixing function (SplitMix64).
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Script {
    /// At `wall`, with the random numbers of `seed`.
    pub fn new(wall: SystemTime, seed: u64) -> Self {
        let (random, library) = (Numbers(seed), Numbers(!seed));
        let now = Now { wall, elapsed: Duration::ZERO, random, library };
        Script { start: Instant::now(), now: Mutex::new(now) }
    }

    /// Moves both clocks; one that cannot go so far stays where it is.
    pub fn advance(&self, by: Duration) {
        let mut now = locked(&self.now);
        now.wall = now.wall.checked_add(by).unwrap_or(now.wall);
        now.elapsed = now.elapsed.saturating_add(by);
    }

    /// Where its monotonic clock stands.
    pub fn instant(&self) -> Instant {
        self.start.checked_add(locked(&self.now).elapsed).unwrap_or(self.start)
    }

    fn look(&self) -> Instant {
        let mut now = locked(&self.now);
        now.elapsed = now.elapsed.saturating_add(LOOK);
        self.start.checked_add(now.elapsed).unwrap_or(self.start)
    }

    /// Where its wall clock stands.
    pub fn wall(&self) -> SystemTime {
        locked(&self.now).wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn script(seed: u64) -> (Arc<Script>, Sources) {
        let script = Arc::new(Script::new(UNIX_EPOCH, seed));
        (script.clone(), Sources::Script(script))
    }

    #[test]
    fn scripted_time_stands_still_until_it_is_moved() {
        let (script, sources) = script(0);
        let start = sources.instant();
        assert_eq!(sources.at(Instant::now()), start);
        script.advance(Duration::from_secs(2));
        assert_eq!(sources.instant(), start + Duration::from_secs(2));
        assert_eq!(sources.wall(), UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(sources.monotonic(), start + Duration::from_secs(2) + LOOK);
        assert_eq!(sources.wall(), UNIX_EPOCH + Duration::from_secs(2), "only the one looked at");
        script.advance(Duration::MAX);
        let _no_panic = (sources.instant(), sources.wall(), sources.monotonic());
    }

    #[test]
    fn a_seed_gives_the_same_bytes_each_time() {
        let bytes = |seed| {
            let mut bytes = [0; 19];
            let (_, sources) = script(seed);
            sources.fill(Asker::Filter, &mut bytes);
            (bytes, sources.number(Asker::Filter))
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        // The first numbers of SplitMix64 with seed 0, as its authors publish them.
        let (_, sources) = script(0);
        assert_eq!(sources.number(Asker::Filter), 0xe220_a839_7b1d_cdaf);
        assert_eq!(sources.number(Asker::Filter), 0x6e78_9e6a_a1b9_65f4);
        // What a guest's library asks for leaves them alone.
        let (_, sources) = script(0);
        assert_ne!(sources.number(Asker::Library), sources.number(Asker::Library));
        assert_eq!(sources.number(Asker::Filter), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn the_system_has_its_own_time_and_bytes() {
        let sources = Sources::System;
        let before = Instant::now();
        assert_eq!(sources.at(before), before);
        assert!(sources.instant() >= before && sources.monotonic() >= before);
        assert!(sources.script().is_none());
        let mut bytes = [[0; 32]; 2];
        bytes.iter_mut().for_each(|bytes| sources.fill(Asker::Filter, bytes));
        assert_ne!(bytes[0], bytes[1]);
        assert_ne!(sources.number(Asker::Filter), sources.number(Asker::Filter));
        assert_ne!(sources.number(Asker::Library), sources.number(Asker::Library));
    }
}
