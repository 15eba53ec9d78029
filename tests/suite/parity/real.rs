//! The component of a filter in the real runtime: an exchange, and what came of it.

use super::Session;
use super::seen::Seen;
use pillion::capability::metrics::Kind;
use pillion::capability::rate_limit::Policy;
use pillion::cases::play::Player;
use pillion::chain::FailPolicy;
use pillion::config::case::{self, Case, Step};
use pillion::wasm::{FilterCode, FilterSpec, Grants, Isolation, Limits, LoadError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any machine is busy: the fake host has no deadlines.
const TIME: Duration = Duration::from_secs(300);

/// Loads it as the session says. `Err`: key and message of a refused configuration.
pub(super) fn load(session: &Session, code: &Arc<FilterCode>) -> Result<Player, (String, String)> {
    let limit = session.limit;
    let policy =
        Policy { requests: limit.requests, per: limit.per, burst: limit.burst, keys: 100_000 };
    let spec = FilterSpec {
        name: session.filter.into(),
        label: None,
        config_json: session.config.to_string(),
        grants: Grants {
            log: true,
            clock: true,
            random: true,
            metrics: true,
            kv: Some(session.kv),
            rate_limit: Some(policy),
        },
        limits: Limits {
            time: TIME,
            exchange_time: TIME,
            configure_time: TIME,
            ..Limits::default()
        },
        fail_policy: FailPolicy::Closed,
        isolation: Isolation::PerWorker,
    };
    Player::load(&case(session), spec, code.clone()).map_err(|error| match error {
        LoadError::Refused { key, message, .. } => (key, message),
        error => panic!("`{}` does not load: {error}", session.filter),
    })
}

fn case(session: &Session) -> Case {
    let text = "filter = \"builtin:headers\"\n[[case]]\nname = \"random\"\nrequest = {}\n";
    let file = case::parse(text, "random.toml", Path::new("/"), &|_| None);
    let file = file.unwrap_or_else(|problems| panic!("{problems}"));
    let mut case = file.cases.into_iter().next().expect("it has one");
    (case.now, case.seed, case.setup.log_level) = (session.now, session.seed, session.level);
    case
}

/// Sends a request, answers it, and looks at what came of it.
pub(super) fn exchange(player: &Player, step: &Step) -> Seen {
    player.advance(step.advance);
    let (observed, _) = player.exchange(step);
    let mut seen = Seen::default();
    if let Some(sent) = &observed.forwarded {
        let scheme = sent.scheme.as_deref().unwrap_or_default();
        let line = [&*sent.method, scheme, &*sent.authority, &*sent.path];
        seen.forwarded(&line, &sent.headers, &sent.body, &sent.trailers);
    }
    for failure in observed.failures.iter().flatten() {
        let message = failure.message.as_str();
        let words = message.split_once("; its last words: ").map_or(message, |(_, words)| words);
        seen.failure(words.to_owned());
    }
    if observed.complete {
        seen.reply(observed.status, &observed.headers, &observed.body, &observed.trailers);
    } else {
        seen.broken_off();
    }
    for (key, text) in observed.notes.iter().flatten() {
        seen.note(key, text);
    }
    for line in observed.log.iter().flatten() {
        // What the guest `everything` prints becomes a line here alone.
        if !line.text.starts_with("levels (") {
            seen.log(line.level, &line.text);
        }
    }
    for metric in observed.metrics.iter().flatten() {
        for series in &metric.series {
            let labels = series.labels.iter().map(|label| &**label);
            let observations =
                (metric.kind == Kind::Histogram).then(|| series.buckets.iter().sum());
            seen.series(&metric.name, labels, series.value, observations);
        }
    }
    seen
}
