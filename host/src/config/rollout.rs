//! Reads `[rollout]`: how a `next` of filters and routes is tried.
//!
//! How steps are written, `rollout::words` knows; here a problem with one gets its place.

use http::HeaderName;

use super::check;
use super::limits::JudgeLimits;
use super::model::Rollout;
use super::reader::{TableReader, Text};
use crate::http::edit::is_host_owned;
use crate::http::fields::Name;
use crate::rollout::judge::Thresholds;
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
    Rollout { plan, state_dir, version_header: read_version_header(table) }
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

fn read_sticky(table: &TableReader<'_, '_>) -> Sticky {
    let text = table.text("sticky");
    let sticky = text.and_then(|text| {
        parse_sticky(&text.value).map_err(|problem| report(table, &text, problem)).ok()
    });
    sticky.unwrap_or(Sticky::Client)
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

fn read_version_header(table: &TableReader<'_, '_>) -> Option<HeaderName> {
    let text = table.text("version_header")?;
    let name = read_header_name(table, &text)?;
    if Name::parse(name.as_str().as_bytes()).is_ok_and(is_host_owned) {
        let message = format!("`{}` belongs to the connection", text.shown());
        let help = "choose a name of your own, as in `x-filter-versions`";
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

fn thresholds(limits: &JudgeLimits) -> Thresholds {
    let JudgeLimits { samples_min } = limits;
    Thresholds { samples_min: *samples_min as u64, ..Thresholds::default() }
}

/// `thresholds`, the other way round.
pub(super) fn judge_limits(thresholds: &Thresholds) -> JudgeLimits {
    let Thresholds { samples_min, .. } = thresholds;
    JudgeLimits { samples_min: usize::try_from(*samples_min).unwrap_or(usize::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_a_file_and_of_the_judge_are_the_same() {
        assert_eq!(thresholds(&JudgeLimits::default()), Thresholds::default());
        assert_eq!(judge_limits(&Thresholds::default()), JudgeLimits::default());
    }
}
