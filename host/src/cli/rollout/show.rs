//! `pillion rollout`: the rollout in progress, or the last one.

use super::super::ask;
use super::super::say;
use super::view::{self, Style};
use super::watch;
use crate::admin::shape::Rollouts;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Show how it goes, to the end
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print the answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = arguments.admin.admin()?;
    if arguments.json {
        say(admin.get("/rollout")?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Rollouts { in_force, rollout } = admin.get_json("/rollout")?;
    let Some(rollout) = rollout else {
        say(&format!("no rollout since the start; in force: {}", ask::printable(&in_force)))?;
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.watch {
        return watch::watch(&admin, rollout.id);
    }
    let mut lines = view::block(&rollout, Style::Plain);
    lines.extend(view::ending(&rollout));
    say(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
