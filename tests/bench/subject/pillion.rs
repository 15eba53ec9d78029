//! Pillion as it is measured: the default settings, with one worker for the one processor it gets.

use super::Ends;
use pillion_tests::Sidecar;
use pillion_tests::sidecar::Setup;

/// What is added to the plain settings.
type Settings = fn(Setup) -> Setup;

/// The settings of the roster, by name.
pub(super) const ALL: [(&str, Settings); 7] = [
    (super::PILLION, |setup| setup),
    ("Pillion, a no-op filter", |setup| no_ops(setup, 1)),
    (super::PILLION_THREE, three),
    ("Pillion, ten no-op filters", |setup| no_ops(setup, 10)),
    ("Pillion, trace", trace),
    ("Pillion, headers", headers),
    ("Pillion, rate-limit", rate_limit),
];

/// Room for every connection that a section opens.
const CONNECTIONS: &str = "connections_max = 50000";

/// At `ends`, without filters.
pub(super) fn between(ends: Ends, workers: usize) -> Setup {
    let setup = Sidecar::new().address(ends.address).endpoint(ends.origin);
    setup.runtime(&format!("workers = {workers}")).runtime(CONNECTIONS)
}

/// The three shipped filters, each doing its work on every request and refusing none.
pub(crate) fn three(setup: Setup) -> Setup {
    rate_limit(headers(trace(setup)))
}

/// So many filters that do nothing.
pub(crate) fn no_ops(setup: Setup, count: usize) -> Setup {
    let path = pillion_tests::guests::path("noop").to_string_lossy();
    (0..count).fold(setup, |setup, index| setup.filter(&format!("noop-{index}"), &path, ""))
}

fn trace(setup: Setup) -> Setup {
    setup.builtin("trace", "")
}

fn headers(setup: Setup) -> Setup {
    let request = "set = { name = \"x-client\", value = \"${client.address}\" }";
    let response = "set = { name = \"x-served-by\", value = \"pillion\" }";
    let config =
        format!("config = {{ request = [{{ {request} }}], response = [{{ {response} }}] }}");
    setup.builtin("headers", &config)
}

fn rate_limit(setup: Setup) -> Setup {
    setup.builtin("rate-limit", "grants = { rate-limit = { requests = 1000000000, per = \"1s\" } }")
}
