//! The text that `/metrics` answers: OpenMetrics 1.0, encoded by `prometheus-client` from what the
//! counters say at the moment of the scrape.

use super::counters::DeadlineResult;
use super::custom;
use super::dns_stats;
use super::families::{self, Family};
use super::filter_stats::Decision;
use super::guards;
use super::handshakes::{HandshakeResult, HandshakeVersion};
use super::histogram::{BOUNDS, Distribution, Histogram};
use super::metrics::Live;
use super::{counters, metrics::Metrics, mirror, overload, rollout};
use crate::chain::{FailureKind, Hook};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::registry::Registry;
use std::fmt::Error;
use std::sync::Arc;

/// `content-type` of [`expose`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Everything there is, as OpenMetrics text.
pub(super) fn expose(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(View(metrics.clone())));
    let mut text = String::with_capacity(16 * 1024);
    match text::encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing into a string does not fail, and nothing in here does either.
        Err(Error) => String::from("# EOF\n"),
    }
}

#[derive(Debug)]
struct View(Arc<Metrics>);

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let live = self.0.live();
        let mut out = Output { encoder: &mut encoder };
        process(&mut out, &self.0)?;
        listeners(&mut out, &live)?;
        routes(&mut out, &live)?;
        mirror::encode(&mut out, &live)?;
        overload::encode(&mut out, &live)?;
        upstreams(&mut out, &live)?;
        guards::encode(&mut out, &live)?;
        dns_stats::encode(&mut out, &live)?;
        certificates(&mut out, &live)?;
        filter_calls(&mut out, &live)?;
        filter_instances(&mut out, &live)?;
        if let Some(numbers) = self.0.rollout() {
            rollout::encode(&mut out, &numbers)?;
        }
        custom::encode(out.encoder, &live.custom)
    }
}

fn process(out: &mut Output, metrics: &Metrics) -> Result<(), Error> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family(&families::BUILD)?.encode_info(&&version[..])?;
    out.family(&families::START_TIME)?.encode_gauge(&metrics.start_seconds())?;
    let process = metrics.process();
    out.family(&families::GENERATION)?.encode_gauge(&process.generation())?;

    let (ok, failed) = process.reloads();
    let mut family = out.family(&families::RELOADS)?;
    counter(&mut family, &[("result", "ok")], ok)?;
    counter(&mut family, &[("result", "failed")], failed)?;

    let mut family = out.family(&families::CACHE_LOOKUPS)?;
    for result in counters::CacheLookup::ALL {
        let count = process.cache_lookups(result);
        counter(&mut family, &[("result", result.name())], count)?;
    }
    let mut family = out.family(&families::ROLLOUTS)?;
    for end in counters::RolloutEnd::ALL {
        counter(&mut family, &[("result", end.name())], process.rollouts_ended(end))?;
    }
    let mut family = out.family(&families::SWALLOWED)?;
    for (what, count) in process.swallowed_errors() {
        counter(&mut family, &[("what", what)], count)?;
    }
    for (family, sink) in [
        (&families::LOG_LINES, metrics.log_sink()),
        (&families::ACCESS_LOG_LINES, metrics.access_log_sink()),
    ] {
        let mut family = out.family(family)?;
        if let Some(sink) = sink {
            counter(&mut family, &[("result", "written")], sink.lines_written())?;
            counter(&mut family, &[("result", "dropped")], sink.lines_dropped())?;
        }
    }
    Ok(())
}

fn listeners(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::CONNECTIONS)?;
    for listener in &live.listeners {
        gauge(&mut family, &[("listener", listener.name())], listener.open())?;
    }
    let mut family = out.family(&families::CONNECTIONS_ACCEPTED)?;
    for listener in &live.listeners {
        counter(&mut family, &[("listener", listener.name())], listener.accepted())?;
    }
    let mut family = out.family(&families::CONNECTIONS_REFUSED)?;
    for listener in &live.listeners {
        counter(&mut family, &[("listener", listener.name())], listener.refused())?;
    }
    let mut family = out.family(&families::HANDSHAKES)?;
    for listener in &live.listeners {
        let count = |result, version| listener.handshakes(result, version);
        handshakes(&mut family, ("listener", listener.name()), count)?;
    }
    let mut family = out.family(&families::DEADLINES)?;
    for listener in &live.listeners {
        for result in DeadlineResult::ALL {
            let labels = [("listener", listener.name()), ("result", result.name())];
            counter(&mut family, &labels, listener.deadlines(result))?;
        }
    }
    Ok(())
}

fn routes(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::REQUESTS_ACTIVE)?;
    for route in &live.routes {
        let labels = [("listener", route.listener()), ("route", route.route())];
        gauge(&mut family, &labels, route.active())?;
    }
    let mut family = out.family(&families::REQUESTS)?;
    for route in &live.routes {
        for (class, count) in counters::STATUS_CLASSES.iter().zip(route.finished()) {
            let labels =
                [("listener", route.listener()), ("route", route.route()), ("status", class)];
            counter(&mut family, &labels, count)?;
        }
    }
    let mut family = out.family(&families::REQUEST_ERRORS)?;
    for route in &live.routes {
        for (word, count) in happened(route.errors()) {
            let labels =
                [("listener", route.listener()), ("route", route.route()), ("error", word)];
            counter(&mut family, &labels, count)?;
        }
    }
    let mut family = out.family(&families::REQUEST_DURATION)?;
    for route in &live.routes {
        let labels = [("listener", route.listener()), ("route", route.route())];
        histogram::<6>(&mut family, &labels, &route.durations())?;
    }
    Ok(())
}

fn upstreams(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::UPSTREAM_CONNECTIONS)?;
    for upstream in &live.upstreams {
        gauge(&mut family, &[("upstream", upstream.name())], upstream.open())?;
    }
    let mut family = out.family(&families::UPSTREAM_CONNECTIONS_OPENED)?;
    for upstream in &live.upstreams {
        counter(&mut family, &[("upstream", upstream.name())], upstream.opened())?;
    }
    let mut family = out.family(&families::UPSTREAM_CONNECTIONS_REUSED)?;
    for upstream in &live.upstreams {
        counter(&mut family, &[("upstream", upstream.name())], upstream.reused())?;
    }
    let mut family = out.family(&families::UPSTREAM_HANDSHAKES)?;
    for upstream in &live.upstreams {
        let count = |result, version| upstream.handshakes(result, version);
        handshakes(&mut family, ("upstream", upstream.name()), count)?;
    }
    let mut family = out.family(&families::UPSTREAM_REQUESTS)?;
    for upstream in &live.upstreams {
        counter(&mut family, &[("upstream", upstream.name())], upstream.requests())?;
    }
    let mut family = out.family(&families::UPSTREAM_FAILURES)?;
    for upstream in &live.upstreams {
        for (word, count) in happened(upstream.failures()) {
            counter(&mut family, &[("upstream", upstream.name()), ("error", word)], count)?;
        }
    }
    let mut family = out.family(&families::UPSTREAM_RESPONSE)?;
    for upstream in &live.upstreams {
        let labels = [("upstream", upstream.name())];
        histogram::<6>(&mut family, &labels, &upstream.response_times())?;
    }
    Ok(())
}

/// Those that happened.
fn handshakes(
    family: &mut MetricEncoder,
    owner: (&str, &str),
    count: impl Fn(HandshakeResult, HandshakeVersion) -> u64,
) -> Result<(), Error> {
    for result in HandshakeResult::ALL {
        for version in HandshakeVersion::ALL {
            let count = count(*result, version);
            if count > 0 {
                let labels = [owner, ("result", result.name()), ("version", version.name())];
                counter(family, &labels, count)?;
            }
        }
    }
    Ok(())
}

fn certificates(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::CERTIFICATE_EXPIRY)?;
    for certificate in &live.certificates {
        let (side, owner, file) = certificate.labels();
        let labels = [(side, owner), ("file", file)];
        family.encode_family(&&labels[..])?.encode_gauge(&certificate.not_after())?;
    }
    Ok(())
}

fn filter_calls(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::FILTER_CALL)?;
    for filter in &live.filters {
        for hook in Hook::ALL {
            let durations = filter.durations(hook);
            if durations.count() > 0 {
                let labels = [
                    ("filter", &**filter.filter()),
                    ("version", &**filter.version()),
                    ("hook", hook.name()),
                ];
                histogram::<0>(&mut family, &labels, &durations)?;
            }
        }
    }
    let mut family = out.family(&families::FILTER_DECISIONS)?;
    for filter in &live.filters {
        for decision in Decision::ALL {
            let count = filter.decisions(decision);
            if count > 0 {
                let labels = [
                    ("filter", &**filter.filter()),
                    ("version", &**filter.version()),
                    ("decision", decision.name()),
                ];
                counter(&mut family, &labels, count)?;
            }
        }
    }
    let mut family = out.family(&families::FILTER_FAILURES)?;
    for filter in &live.filters {
        for kind in FailureKind::ALL {
            let labels = [
                ("filter", &**filter.filter()),
                ("version", &**filter.version()),
                ("kind", kind.name()),
            ];
            counter(&mut family, &labels, filter.failures(kind))?;
        }
    }
    Ok(())
}

fn filter_instances(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::FILTER_INSTANCES)?;
    for filter in &live.filters {
        let labels = [("filter", &**filter.filter()), ("version", &**filter.version())];
        gauge(&mut family, &labels, filter.instances())?;
    }
    let mut family = out.family(&families::FILTER_INSTANCES_CREATED)?;
    for filter in &live.filters {
        let labels = [("filter", &**filter.filter()), ("version", &**filter.version())];
        counter(&mut family, &labels, filter.instances_created())?;
    }
    let mut family = out.family(&families::FILTER_INSTANCES_RETIRED)?;
    for filter in &live.filters {
        let labels = [("filter", &**filter.filter()), ("version", &**filter.version())];
        counter(&mut family, &labels, filter.instances_retired())?;
    }
    let mut family = out.family(&families::FILTER_QUARANTINED)?;
    for filter in &live.filters {
        let labels = [("filter", &**filter.filter()), ("version", &**filter.version())];
        gauge(&mut family, &labels, filter.quarantined().into())?;
    }
    let mut family = out.family(&families::FILTER_LOG_LINES_DROPPED)?;
    for filter in &live.filters {
        let labels = [("filter", &**filter.filter()), ("version", &**filter.version())];
        counter(&mut family, &labels, filter.log_lines_dropped())?;
    }
    Ok(())
}

pub(super) struct Output<'o, 'e> {
    encoder: &'o mut DescriptorEncoder<'e>,
}

impl Output<'_, '_> {
    pub(super) fn family(&mut self, family: &'static Family) -> Result<MetricEncoder<'_>, Error> {
        self.encoder.encode_descriptor(family.name, family.help, None, family.kind)
    }
}

pub(super) fn counter(family: &mut MetricEncoder, labels: Labels, value: u64) -> Result<(), Error> {
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

pub(super) fn gauge(family: &mut MetricEncoder, labels: Labels, value: u64) -> Result<(), Error> {
    family.encode_family(&labels)?.encode_gauge(&value)
}

fn histogram<const FIRST: u32>(
    family: &mut MetricEncoder,
    labels: Labels,
    distribution: &Distribution,
) -> Result<(), Error> {
    let bounds = Histogram::<FIRST>::bounds_seconds();
    let buckets: [(f64, u64); BOUNDS + 1] = std::array::from_fn(|at| {
        (bounds.get(at).copied().unwrap_or(f64::INFINITY), distribution.buckets[at])
    });
    let sum = distribution.nanoseconds as f64 / 1e9;
    let mut metric = family.encode_family(&labels)?;
    metric.encode_histogram::<NoLabelSet>(sum, distribution.count(), &buckets, None)
}

/// The error words with a count.
fn happened(
    errors: [u64; counters::ERROR_WORDS.len()],
) -> impl Iterator<Item = (&'static str, u64)> {
    counters::ERROR_WORDS.into_iter().zip(errors).filter(|(_, count)| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::sink::{Destination, Sink};
    use super::*;
    use crate::capability::metrics::Kind;
    use crate::chain::Outcome;
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn every_family_is_exposed_and_documented_and_nothing_else() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        metrics.set_rollout(Some(Default::default()));
        let text = metrics.expose();
        let exposed: BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| line.split_once(' ').unwrap())
            .collect();
        let known: BTreeSet<(&str, &str)> =
            families::ALL.iter().map(|family| (family.name, family.kind.as_str())).collect();
        assert_eq!(exposed, known);

        let document = include_str!("../../METRICS.md");
        let documented: BTreeSet<(&str, &str)> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `pillion_"))
            .map(|line| {
                let mut cells = line.split('|').map(str::trim);
                (cells.next().unwrap().trim_end_matches('`'), cells.next().unwrap())
            })
            .collect();
        let known: BTreeSet<(String, &str)> = families::ALL
            .iter()
            .map(|family| {
                let suffix = match family.kind.as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                let name = family.name.strip_prefix("pillion_").unwrap();
                (format!("{name}{suffix}"), family.kind.as_str())
            })
            .collect();
        let known: BTreeSet<(&str, &str)> =
            known.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn samples_say_what_was_counted() {
        let metrics = Metrics::new(2, UNIX_EPOCH + Duration::from_millis(1_500));
        metrics.process().set_generation(3);
        metrics.process().reload_failed();
        metrics.process().swallowed("cache_write");
        let listener = metrics.listener("inbound");
        listener.connection_accepted(0);
        let route = metrics.route("inbound", "inbound/0");
        route.request_started(1);
        let outcome = Outcome {
            status: Some(502),
            error: Some("connection_refused"),
            duration: Duration::from_millis(1),
            ..Outcome::default()
        };
        route.request_finished(1, &outcome);
        let upstream = metrics.upstream("app");
        upstream.failure(0, "connection_refused");
        let filter = metrics.filter("auth", "0123456789ab");
        filter.record_call(0, Hook::OnRequest, Duration::from_micros(3));
        filter.record_decision(0, Decision::Respond);
        filter.record_failure(1, FailureKind::Trap);
        let text = metrics.expose();
        for line in [
            "pillion_start_time_seconds 1.5",
            "pillion_generation 3",
            r#"pillion_reloads_total{result="failed"} 1"#,
            r#"pillion_swallowed_errors_total{what="cache_write"} 1"#,
            r#"pillion_downstream_connections{listener="inbound"} 1"#,
            r#"pillion_requests_total{listener="inbound",route="inbound/0",status="5xx"} 1"#,
            r#"pillion_requests_active{listener="inbound",route="inbound/0"} 0"#,
            r#"pillion_request_errors_total{listener="inbound",route="inbound/0",error="connection_refused"} 1"#,
            r#"pillion_request_duration_seconds_sum{listener="inbound",route="inbound/0"} 0.001"#,
            r#"pillion_request_duration_seconds_bucket{le="0.000512",listener="inbound",route="inbound/0"} 0"#,
            r#"pillion_request_duration_seconds_bucket{le="0.001024",listener="inbound",route="inbound/0"} 1"#,
            r#"pillion_request_duration_seconds_bucket{le="+Inf",listener="inbound",route="inbound/0"} 1"#,
            r#"pillion_upstream_failures_total{upstream="app",error="connection_refused"} 1"#,
            r#"pillion_filter_call_duration_seconds_count{filter="auth",version="0123456789ab",hook="on-request"} 1"#,
            r#"pillion_filter_decisions_total{filter="auth",version="0123456789ab",decision="respond"} 1"#,
            r#"pillion_filter_failures_total{filter="auth",version="0123456789ab",kind="trap"} 1"#,
            r#"pillion_filter_failures_total{filter="auth",version="0123456789ab",kind="memory"} 0"#,
        ] {
            assert!(text.lines().any(|sample| sample == line), "{line}\nis not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn lines_written_and_dropped_are_exposed() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let sink = Sink::start("test", Destination::Writer(Box::new(std::io::sink()))).unwrap();
        metrics.set_access_log_sink(sink.clone());
        sink.push(b"line\n", 1);
        assert!(sink.flush(Duration::from_secs(60)));
        let text = metrics.expose();
        let line = r#"pillion_access_log_lines_total{result="written"} 1"#;
        assert!(text.lines().any(|sample| sample == line), "{text}");
    }

    #[test]
    fn names_from_outside_cannot_break_a_line() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let registry = metrics.custom("a\"b\nc", "v", "{}");
        let number = registry.define(Kind::Gauge, "x", "a\nb\\c\"d", &["l"]).unwrap();
        registry.report(number, &["1\n2\\3\"4"], 1.0).unwrap();
        let text = metrics.expose();
        let help = r#"# HELP pillion_filter_custom_x a\\nb\\c\"d"#;
        assert!(text.lines().any(|line| line == help), "{text}");
        let sample = r#"pillion_filter_custom_x{filter="a\"b\nc",version="v",l="1\n2\\3\"4"} 1.0"#;
        assert!(text.lines().any(|line| line == sample), "{text}");
    }
}
