//! `pillion promote`: goes to the next step of the rollout in progress.

use super::super::ask;
use super::super::say;
use super::{PATIENCE, json, view};
use crate::admin::shape::Rollout;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = arguments.admin.admin()?;
    let rollout: Rollout = admin.ask_json("POST", "/rollout/promote", json(b"{}"), PATIENCE)?;
    let shown = match view::ending(&rollout) {
        Some(ending) => ending,
        None => format!("rollout {}: {}", rollout.id, view::place(&rollout)),
    };
    say(&shown)?;
    Ok(ExitCode::SUCCESS)
}
