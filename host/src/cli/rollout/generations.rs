//! `pillion generations`: what can be returned to, and which versions are not taken any more.

use super::super::ask::{self, printable};
use super::super::say;
use super::view;
use crate::admin::shape::{Generations, PinnedVersions};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = arguments.admin.admin()?;
    let generations = admin.get_json("/generations")?;
    let pinned = admin.get_json("/pinned")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    say(table(&generations, &pinned, now).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn table(generations: &Generations, pinned: &PinnedVersions, now: u64) -> String {
    let ago = |at: u64| view::time(Duration::from_secs(now.saturating_sub(at)));
    let mut shown = String::new();
    // Writing into a string does not fail.
    for it in &generations.generations {
        let mark = if it.in_force { "*" } else { " " };
        let age = format!("{} ago", ago(it.published_unix_seconds));
        let _ = writeln!(
            shown,
            "{mark} generation {:<6} {age:<14} by {}",
            it.generation,
            printable(&it.cause)
        );
        for filter in &it.filters {
            let _ =
                writeln!(shown, "    {} {}", printable(&filter.name), printable(&filter.version));
        }
    }
    if generations.generations.is_empty() {
        shown.push_str("no generation is kept yet\n");
    }
    if !pinned.pinned.is_empty() {
        shown.push_str("\nfound bad, and not tried again until their content changes:\n");
    }
    for it in &pinned.pinned {
        let _ = writeln!(
            shown,
            "  {} ({} ago)\n    {}\n    id {}",
            printable(&it.what),
            ago(it.at_unix_seconds),
            printable(&it.reason),
            printable(&it.id)
        );
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::shape::{FilterVersion, Generation, Pinned};

    #[test]
    fn what_is_in_force_is_marked_and_what_is_bad_is_told() {
        let generation = |generation, in_force| Generation {
            generation,
            published_unix_seconds: 1_000,
            cause: "file".to_owned(),
            filters: vec![FilterVersion { name: "limit".into(), version: "0123 (v2)".into() }],
            in_force,
        };
        let generations =
            Generations { generations: vec![generation(12, true), generation(11, false)] };
        let none = PinnedVersions { pinned: Vec::new() };
        let expected = "* generation 12     1m 30s ago     by file\n    limit 0123 (v2)\n  \
                        generation 11     1m 30s ago     by file\n    limit 0123 (v2)\n";
        assert_eq!(table(&generations, &none, 1_090), expected);
        let pinned = Pinned {
            id: "abc".to_owned(),
            what: "filter limit".to_owned(),
            reason: "worse:\u{1b}[2J 37 of 412".to_owned(),
            at_unix_seconds: 1_089,
        };
        let shown = table(&generations, &PinnedVersions { pinned: vec![pinned] }, 1_090);
        let expected = "\nfound bad, and not tried again until their content changes:\n  \
                        filter limit (1s ago)\n    worse:\u{fffd}[2J 37 of 412\n    id abc\n";
        assert!(shown.ends_with(expected), "{shown}");
        let nothing = Generations { generations: Vec::new() };
        assert_eq!(table(&nothing, &none, 0), "no generation is kept yet\n");
    }
}
