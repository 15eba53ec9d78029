//! What a filter does on the fake host of the SDK it does as a component in the real runtime.
//!
//! Random exchanges under random configurations go through both, and every effect is compared: what
//! the upstream got, what the client got, failures, notes, log lines, metrics. What `kv`, buckets,
//! clocks and random bytes answer is in the notes of the guests.
//!
//! `PILLION_PARITY_EXCHANGES` sets how many, `PILLION_PARITY_SEED` where to begin.

mod configs;
pub(crate) mod dice;
mod messages;
mod native;
mod real;
mod script;
mod seen;

#[path = "../../guests/everything.rs"]
mod everything;
#[path = "../../guests/script.rs"]
mod script_guest;

use dice::Dice;
use native::Native;
use pillion::capability::kv::KvGrant;
use pillion::cases::recording;
use pillion::config::case::LogLevel;
use pillion::wasm::{Compiler, FilterCode};
use pillion_sdk::ConfigError;
use pillion_sdk::rate_limit::Policy;
use pillion_tests::guests;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Exchanges of a run, unless the environment says otherwise.
const EXCHANGES: u64 = 10_000;
/// Exchanges that one instance sees, at most.
const SESSION: usize = 10;

/// A filter and the world it is loaded in.
#[derive(Debug)]
struct Session {
    filter: &'static str,
    config: Value,
    seed: u64,
    now: SystemTime,
    level: LogLevel,
    limit: Policy,
    kv: KvGrant,
}

/// A filter in both forms, and how its configurations are made.
struct Subject {
    filter: &'static str,
    code: Arc<FilterCode>,
    native: fn(&Session) -> Result<Box<dyn Native>, ConfigError>,
    config: fn(&mut Dice) -> Value,
}

#[test]
fn what_the_fake_host_does_is_what_the_real_one_does() {
    let subjects = subjects();
    let from = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")),
        Err(_) => default,
    };
    let (exchanges, first) =
        (from("PILLION_PARITY_EXCHANGES", EXCHANGES), from("PILLION_PARITY_SEED", 1));
    let mut played = vec![0; subjects.len()];
    recording(|| {
        let mut seed = first;
        while played.iter().sum::<u64>() < exchanges {
            let mut dice = Dice::new(seed);
            // Half of all for the guest that calls everything at random.
            let at = if dice.chance(50) { 0 } else { dice.below(subjects.len()) };
            let subject = &subjects[at];
            let session = session(&mut dice, subject);
            played[at] += play(&mut dice, subject, &session).unwrap_or_else(|difference| {
                panic!(
                    "PILLION_PARITY_SEED={seed} plays it again: {difference}\n`{}` with {}",
                    session.filter, session.config
                )
            });
            seed += 1;
        }
    });
    let names = subjects.iter().map(|subject| subject.filter);
    println!("{:?}", names.zip(&played).collect::<Vec<_>>());
    assert!(played.iter().all(|count| *count > 0), "every filter has its turn: {played:?}");
}

fn subjects() -> Vec<Subject> {
    let compiler = Compiler::in_process().expect("the runtime starts");
    let compile = |name, bytes: &[u8]| {
        compiler
            .load(name, bytes)
            .unwrap_or_else(|error| panic!("`{name}` does not compile: {error}"))
    };
    let guest = |name, native, config| {
        let bytes = std::fs::read(guests::path(name)).expect("the guest is built");
        Subject { filter: name, code: compile(name, &bytes), native, config }
    };
    let shipped = |name, native, config| {
        let shipped = pillion_filters::shipped(name).expect("it is shipped");
        Subject { filter: name, code: compile(name, shipped.component), native, config }
    };
    vec![
        guest(
            "script",
            native::load::<script_guest::Guest>,
            script::config as fn(&mut Dice) -> Value,
        ),
        guest("everything", native::load::<everything::Guest>, |_| serde_json::json!({})),
        shipped("headers", native::load::<pillion_filter_headers::Headers>, configs::headers),
        shipped(
            "rate-limit",
            native::load::<pillion_filter_rate_limit::RateLimit>,
            configs::rate_limit,
        ),
        shipped("trace", native::load::<pillion_filter_trace::Trace>, configs::trace),
    ]
}

fn session(dice: &mut Dice, subject: &Subject) -> Session {
    Session {
        filter: subject.filter,
        config: (subject.config)(dice),
        seed: dice.number(),
        now: UNIX_EPOCH + Duration::from_millis(dice.number() % 4_000_000_000_000),
        level: dice.pick(&LogLevel::ALL),
        limit: Policy {
            requests: dice.pick(&[1, 2, 3, 7, 1000]),
            per: Duration::from_millis(dice.pick(&[1, 70, 1000, 1500, 60_000])),
            burst: dice.pick(&[1, 2, 5, 100]),
        },
        kv: KvGrant { entries: dice.pick(&[1, 3, 100]), value_bytes: 64 },
    }
}

/// Plays a session on both hosts; the number of exchanges, or what differed.
fn play(dice: &mut Dice, subject: &Subject, session: &Session) -> Result<u64, String> {
    let real = real::load(session, &subject.code);
    let native = (subject.native)(session);
    let (real, mut native) = match (real, native) {
        (Ok(real), Ok(native)) => (real, native),
        (Err(real), Err(native)) if real == (native.key.clone(), native.message.clone()) => {
            return Ok(0);
        }
        (real, native) => {
            let (real, native) = (real.err(), native.err());
            return Err(format!("loading:\n  native: {native:?}\n  real:   {real:?}"));
        }
    };
    let exchanges = 1 + dice.below(SESSION);
    for nth in 1..=exchanges {
        let step = messages::step(dice);
        let real = real::exchange(&real, &step);
        match native.exchange(&step) {
            Ok(native) if native == real => {}
            Ok(native) => {
                let differences = native.differences(&real);
                return Err(format!("exchange {nth} differs:\n{differences}{step:?}"));
            }
            // A panic ends the fake exchange with no more to see of it: the real one failed by it.
            Err(panic) if real.failures().iter().any(|text| text.contains(&panic)) => {
                return Ok(nth as u64);
            }
            Err(panic) => {
                let failures = real.failures();
                return Err(format!("exchange {nth} panicked with {panic:?}; real: {failures:?}"));
            }
        }
    }
    Ok(exchanges as u64)
}
