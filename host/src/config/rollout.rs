//! Reads `[rollout]`: how a `next` of filters and routes is tried.
//!
//! How steps are written, `rollout::words` knows; here a problem with one gets its place.

use http::HeaderName;
use std::time::Duration;

use super::check;
use super::limits::JudgeLimits;
use super::model::Rollout;
use super::reader::{TableReader, Text};
use crate::http::edit::is_host_owned;
use crate::http::fields::Name;
use crate::rollout::judge::{MemoryTolerance, Thresholds, Tolerance};
use crate::rollout::words::{WordProblem, check_steps, parse_step, parse_sticky};
use crate::rollout::{Plan, Step, Sticky};

pub(super) fn read(table: &TableReader<'_, '_>) -> Rollout {
    let plan = Plan {
        steps: read_steps(table),
        sticky: read_sticky(table),
        thresholds: thresholds(&JudgeLimits::read(&table.table("judge"))),
        ignored_headers: read_ignored_headers(table),
    };
    let state_dir = table.text("state_dir").and_then(|text| check::read_path(table, &text));
    Rollout {
        plan,
        state_dir,
        version_header: read_own_header(table, "version_header", "x-filter-versions"),
    }
}

/// The steps; those of the default plan where they are not given, or are not usable.
fn read_steps(table: &TableReader<'_, '_>) -> Vec<Step> {
    let default = || Plan::default().steps;
    let Some(node) = table.node("steps") else { return default() };
    let written = node.get_ref().as_array().map_or(0, |list| list.len());
    let texts = table.texts("steps");
    let read: Vec<(&Text, Step)> = texts
        .iter()
        .filter_map(|text| {
            let step = parse_step(&text.value).map_err(|problem| report(table, text, problem));
            Some((text, step.ok()?))
        })
        .collect();
    if read.len() < written {
        return default();
    }
    let steps: Vec<Step> = read.iter().map(|(_, step)| *step).collect();
    let Err((index, problem)) = check_steps(&steps) else { return steps };
    let span = read.get(index).map_or(node.span(), |(text, _)| text.span.clone());
    // It may quote the step before, too.
    let secret = texts.iter().any(|text| text.secret);
    report(table, &Text { value: String::new(), span, secret }, problem);
    default()
}

pub(super) fn read_sticky(table: &TableReader<'_, '_>) -> Sticky {
    let text = table.text("sticky");
    let sticky = text.and_then(|text| {
        parse_sticky(&text.value).map_err(|problem| report(table, &text, problem)).ok()
    });
    sticky.unwrap_or(Sticky::Random)
}

/// A problem that may quote the text: one that is secret is not quoted.
fn report(table: &TableReader<'_, '_>, text: &Text, WordProblem { message, help }: WordProblem) {
    let message =
        if text.secret { format!("`{}` is not usable here", text.shown()) } else { message };
    table.context.error(text.span.clone(), message, help);
}

fn read_ignored_headers(table: &TableReader<'_, '_>) -> Vec<HeaderName> {
    let texts = table.texts("ignore_headers");
    texts.iter().filter_map(|text| read_header_name(table, text)).collect()
}

/// The name of a field in `key`, which is none of the host's own.
pub(super) fn read_own_header(
    table: &TableReader<'_, '_>,
    key: &str,
    example: &str,
) -> Option<HeaderName> {
    let text = table.text(key)?;
    let name = read_header_name(table, &text)?;
    if Name::parse(name.as_str().as_bytes()).is_ok_and(is_host_owned) {
        let message = format!("`{}` belongs to the connection", text.shown());
        let help = format!("choose a name of your own, as in `{example}`");
        table.context.error(text.span, message, help);
        return None;
    }
    Some(name)
}

fn read_header_name(table: &TableReader<'_, '_>, text: &Text) -> Option<HeaderName> {
    let name = text.value.parse().ok();
    if name.is_none() {
        let message = format!("`{}` is no name of a field", text.shown());
        let help = "letters, digits and `-`, as in `x-request-id`";
        table.context.error(text.span.clone(), message, help);
    }
    name
}

/// The largest values of `time` and `memory`.
const TIME_MAX: Duration = Duration::from_secs(3_600);
const MEMORY_MAX: usize = 64 << 30;
/// All of them: a tolerance that nothing exceeds.
const ALL: u64 = 1_000_000;

fn thresholds(limits: &JudgeLimits) -> Thresholds {
    let part = |millionths: u64| millionths as f64 / ALL as f64;
    let share = |millionths: u64| (millionths < ALL).then(|| part(millionths));
    let tolerance = |ratio: u64, share: u64| Tolerance { ratio: part(ratio), share: part(share) };
    let deciding = |ratio: u64, share: u64| (share < ALL).then(|| tolerance(ratio, share));
    let memory = MemoryTolerance { ratio: part(limits.memory_ratio), bytes: limits.memory as u64 };
    Thresholds {
        samples_min: limits.samples_min as u64,
        error_chance: part(limits.error_chance),
        margin: part(limits.margin),
        failures: tolerance(limits.failures_ratio, limits.failures_share),
        errors: deciding(limits.errors_ratio, limits.errors_share),
        local_replies: deciding(limits.local_replies_ratio, limits.local_replies_share),
        time: (limits.time < TIME_MAX).then_some(limits.time),
        memory: (limits.memory < MEMORY_MAX).then_some(memory),
        shadow_status: share(limits.shadow_status),
        shadow_headers: share(limits.shadow_headers),
        shadow_body: share(limits.shadow_body),
        shadow_slower: share(limits.shadow_slower),
    }
}

/// `thresholds`, the other way round.
pub(super) fn judge_limits(thresholds: &Thresholds) -> JudgeLimits {
    let millionths = |part: f64| (part * ALL as f64).round() as u64;
    let share = |share: Option<f64>| share.map_or(ALL, millionths);
    let defaults = JudgeLimits::default();
    let tolerance = |tolerance: Option<Tolerance>, ratio: u64| match tolerance {
        Some(Tolerance { ratio, share }) => (millionths(ratio), millionths(share)),
        None => (ratio, ALL),
    };
    let failures = tolerance(Some(thresholds.failures), defaults.failures_ratio);
    let errors = tolerance(thresholds.errors, defaults.errors_ratio);
    let local_replies = tolerance(thresholds.local_replies, defaults.local_replies_ratio);
    let memory = thresholds.memory.map_or((defaults.memory_ratio, MEMORY_MAX), |memory| {
        (millionths(memory.ratio), usize::try_from(memory.bytes).unwrap_or(usize::MAX))
    });
    JudgeLimits {
        samples_min: usize::try_from(thresholds.samples_min).unwrap_or(usize::MAX),
        error_chance: millionths(thresholds.error_chance),
        margin: millionths(thresholds.margin),
        failures_ratio: failures.0,
        failures_share: failures.1,
        errors_ratio: errors.0,
        errors_share: errors.1,
        local_replies_ratio: local_replies.0,
        local_replies_share: local_replies.1,
        time: thresholds.time.unwrap_or(TIME_MAX),
        memory_ratio: memory.0,
        memory: memory.1,
        shadow_status: share(thresholds.shadow_status),
        shadow_headers: share(thresholds.shadow_headers),
        shadow_body: share(thresholds.shadow_body),
        shadow_slower: share(thresholds.shadow_slower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_a_file_and_of_the_judge_are_the_same() {
        assert_eq!(thresholds(&JudgeLimits::default()), Thresholds::default());
        assert_eq!(judge_limits(&Thresholds::default()), JudgeLimits::default());
    }

    #[test]
    fn the_largest_tolerance_of_a_measure_keeps_it_from_deciding() {
        let none = Thresholds {
            errors: None,
            local_replies: None,
            time: None,
            memory: None,
            shadow_status: Some(0.0),
            shadow_slower: Some(0.25),
            ..Thresholds::default()
        };
        let limits = judge_limits(&none);
        assert_eq!((limits.errors_share, limits.time, limits.memory), (ALL, TIME_MAX, MEMORY_MAX));
        assert_eq!((limits.shadow_status, limits.shadow_slower), (0, ALL / 4));
        assert_eq!(thresholds(&limits), none);
    }
}
