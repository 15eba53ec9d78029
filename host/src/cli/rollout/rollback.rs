//! `pillion rollback`: ends a rollout, or returns to what was before.

use super::super::ask;
use super::super::say;
use super::{PATIENCE, json};
use crate::admin::shape::Returned;
use serde_json::json as value;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// Return this filter to what it was before its latest change; without a name, end the rollout in
    /// progress, or return to the generation before this one
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Return to this generation, one of those that `pillion generations` shows
    #[arg(long, value_name = "N", conflicts_with = "filter")]
    generation: Option<u64>,
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let body = match (&arguments.filter, arguments.generation) {
        (Some(filter), _) => value!({ "filter": filter }),
        (None, Some(generation)) => value!({ "generation": generation }),
        (None, None) => value!({}),
    };
    let body = body.to_string();
    let admin = arguments.admin.admin()?;
    let Returned { generation } =
        admin.ask_json("POST", "/rollback", json(body.as_bytes()), PATIENCE)?;
    say(&format!("rolled back: generation {generation} is in force"))?;
    Ok(ExitCode::SUCCESS)
}
