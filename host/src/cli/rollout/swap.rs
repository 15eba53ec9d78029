//! `pillion swap`: tries a component as the next version of a filter.

use super::super::ask::{self, Body};
use super::super::say;
use super::{PATIENCE, encoded, watch};
use crate::admin::shape::Started;
use crate::reload::read_component;
use crate::rollout::words::{parse_step, parse_steps, parse_sticky};
use crate::rollout::{Stage, Step, Sticky, WordProblem};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// How long `--canary` lasts where it does not say.
const CANARY_TIME: &str = "10m";

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The filter's name in the configuration
    name: String,
    /// The component to try
    file: PathBuf,
    /// Try it on this share of requests for 10m, or as long as it says, as in `5%` or `'5% 2m'`; then
    /// on all
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["steps", "now"])]
    canary: Option<Canary>,
    /// Try it in these steps, as in `'shadow 10m, canary 5% 10m, full'`, not those of `[rollout]`
    #[arg(long, conflicts_with = "now")]
    steps: Option<Steps>,
    /// Use it for everything at once
    #[arg(long)]
    now: bool,
    /// Keep a client on one version: by `client`, `random` (do not) or `header:NAME`
    #[arg(long, value_name = "BY", value_parser = parse_sticky)]
    sticky: Option<Sticky>,
    /// A name for this version, for people
    #[arg(long, value_name = "NAME")]
    version_name: Option<String>,
    /// Show how it goes, to the end
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    admin: ask::AdminArguments,
}

/// Steps as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steps(Vec<Step>);

impl FromStr for Steps {
    type Err = WordProblem;

    fn from_str(text: &str) -> Result<Self, WordProblem> {
        parse_steps(text).map(Steps)
    }
}

/// The one step before all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Canary(Step);

impl FromStr for Canary {
    type Err = WordProblem;

    fn from_str(text: &str) -> Result<Self, WordProblem> {
        let has_time = text.split_ascii_whitespace().count() > 1;
        let time = if has_time { "" } else { CANARY_TIME };
        parse_step(&format!("canary {text} {time}")).map(Canary)
    }
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = arguments.admin.admin()?;
    let component = read_component(&arguments.file)
        .with_context(|| format!("failed to read component `{}`", arguments.file.display()))?;
    let body = Body { media_type: "application/wasm", bytes: &component };
    let Started { rollout } = admin.ask_json("POST", &target(arguments), body, PATIENCE)?;
    if arguments.watch || arguments.now {
        return watch::watch(&admin, rollout);
    }
    say(&format!(
        "rollout {rollout} has begun\n\
         see it with `pillion rollout --watch`, end it with `pillion rollback`"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn target(arguments: &Arguments) -> String {
    let Arguments { name, canary, steps, now, sticky, version_name, .. } = arguments;
    let full = Step { stage: Stage::Full, hold: crate::rollout::Hold::UntilTold };
    let steps = match (canary, steps, now) {
        (Some(Canary(canary)), ..) => Some(vec![*canary, full]),
        (None, Some(Steps(steps)), _) => Some(steps.clone()),
        (None, None, true) => Some(vec![full]),
        (None, None, false) => None,
    };
    let steps = steps.map(|steps| {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        steps.join(", ")
    });
    let parameters = [
        ("steps", steps),
        ("sticky", sticky.as_ref().map(ToString::to_string)),
        ("version", version_name.clone()),
    ];
    let given: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))))
        .collect();
    format!("/filters/{}/next?{}", encoded(name), given.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(options: &[&str]) -> Result<Arguments, clap::Error> {
        let line = ["swap", "limit", "new.wasm"].iter().chain(options);
        Line::try_parse_from(line).map(|line| line.arguments)
    }

    #[test]
    fn options_become_parameters() {
        for (options, parameters) in [
            (&[][..], ""),
            (&["--now"], "steps=full"),
            (&["--canary", "5%"], "steps=canary%205%25%2010m%2C%20full"),
            (&["--canary", "5% 2m"], "steps=canary%205%25%202m%2C%20full"),
            (&["--steps", "shadow,canary 5%,full"], "steps=shadow%2C%20canary%205%25%2C%20full"),
            (
                &["--sticky", "header:X-User", "--version-name", "v2"],
                "sticky=header%3Ax-user&version=v2",
            ),
        ] {
            let target = target(&parsed(options).unwrap());
            assert_eq!(target, format!("/filters/limit/next?{parameters}"), "{options:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_mistake() {
        for (options, message) in [
            (&["--canary", "5% 2m", "--now"][..], "cannot be used with"),
            (&["--canary", "5%", "--steps", "full"], "cannot be used with"),
            (&["--canary", "5"], "`5` is no share; write the percentage of requests"),
            (&["--canary", "5% soon"], "`soon` is no duration"),
            (&["--steps", "shadow"], "the last step is `full`: add it"),
            (&["--sticky", "cookie"], "requests cannot be sticky by `cookie`"),
            (&["--admin", "nonsense"], "write an address with a port"),
        ] {
            let error = parsed(options).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(message), "{options:?}: {error}");
        }
    }
}
