//! `pillion unpin`: forgets that a version was found bad, so that it may be tried again.

use super::super::ask;
use super::super::say;
use super::{PATIENCE, encoded, json};
use crate::admin::shape::Done;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// What `pillion generations` shows as its `id`.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(in super::super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let admin = arguments.admin.admin()?;
    let path = format!("/pinned/{}", encoded(&arguments.id));
    let _: Done = admin.ask_json("DELETE", &path, json(b""), PATIENCE)?;
    say("unpinned: it may be tried again")?;
    Ok(ExitCode::SUCCESS)
}
