//! `pillion dev`: on every save, builds the filter of a project, plays its cases and swaps it into a
//! running sidecar.
//!
//! Whatever fails leaves the last good version running. `sources` says what was saved, `workshop` makes
//! a version of it, `sidecar` is where it runs.

mod sidecar;
mod sources;
mod workshop;

use self::sources::Sources;
use self::workshop::{Made, Version, Workshop};
use super::filter::project_of;
use super::local::Wanted;
use super::say;
use crate::app::{self, Options, Ready};
use crate::reload::chain;
use anyhow::Context;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};

/// What the sidecar logs: reloads are told here, in other words.
const LOG_DEFAULT: &str = "warn,pillion::reload=off,pillion::filter=debug";
/// Changed files that are named.
const NAMED_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The project, or a folder in it
    #[arg(value_name = "DIR", default_value = ".")]
    project: PathBuf,
    #[command(flatten)]
    addresses: Wanted,
    /// What the sidecar logs: a level, or targets and levels as in `info,pillion::filter=debug`
    #[arg(long, value_name = "FILTER", default_value = LOG_DEFAULT)]
    log: String,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { project, addresses, log } = arguments;
    let project = project_of(&project)?;
    let mut sources = Sources::watch(&project)?;
    let workshop = Workshop::new(project.clone());
    let first = first_version(&workshop, &mut sources)?;
    let config = sidecar::file(&project, &addresses, &first.name, &first.table)?;
    sources.take_as_it_is(sidecar::FILE_NAME);
    let app = sidecar::start_app(&config)?;
    tell(&format!("{first}"));

    let (sender, ready) = sync_channel(1);
    let dev = Loop { workshop, sources, running: first };
    std::thread::Builder::new()
        .name("dev".to_owned())
        .spawn(move || dev.run(&ready))
        .context("failed to start the thread that watches the project")?;
    let file = config.clone();
    let on_ready = Box::new(move |ready: &Ready| {
        tell(&instructions(ready, &app, &file));
        // It waits for this, or for the sender to be gone.
        if let Some(admin) = ready.admin {
            let _ = sender.send(admin);
        }
    });
    Ok(app::run(Options { config, log: Some(log), on_ready: Some(on_ready) })?)
}

/// Tries until there is a version that can run.
fn first_version(workshop: &Workshop, sources: &mut Sources) -> anyhow::Result<Version> {
    loop {
        match workshop.make() {
            Ok(Made::Version(version)) => return Ok(version),
            Ok(Made::Nothing(why)) => tell(&format!("{why}; waiting for a change")),
            Err(error) => tell(&format!("{}\nwaiting for a change", chain(error.as_ref()))),
        }
        tell(&changes(&sources.changed()?));
    }
}

/// What goes on while the sidecar runs.
struct Loop {
    workshop: Workshop,
    sources: Sources,
    running: Version,
}

impl Loop {
    /// Ends with the process, or with an explanation.
    fn run(mut self, ready: &Receiver<SocketAddr>) {
        let Ok(admin) = ready.recv() else { return };
        loop {
            match self.sources.changed() {
                Ok(changed) => self.take(&changed, admin),
                Err(error) => {
                    let why = chain(error.as_ref());
                    tell(&format!("{why}\nThe sidecar runs on; changes are not noticed any more."));
                    return;
                }
            }
        }
    }

    fn take(&mut self, changed: &[PathBuf], admin: SocketAddr) {
        tell(&changes(changed));
        let stays = format!("version {} runs on", self.running.version);
        let is_file = |path: &PathBuf| path == Path::new(sidecar::FILE_NAME);
        if !changed.iter().all(is_file) {
            match self.workshop.make() {
                Ok(Made::Version(version)) if version.version == self.running.version => {
                    tell(&format!("the component is the same; {stays}"));
                    if !changed.iter().any(is_file) {
                        return;
                    }
                }
                Ok(Made::Version(version)) => {
                    tell(&version.after(&self.running));
                    self.running = version;
                }
                Ok(Made::Nothing(why)) => return tell(&format!("{why}; {stays}")),
                Err(error) => return tell(&format!("{}\n{stays}", chain(error.as_ref()))),
            }
        }
        match sidecar::reload(admin) {
            Ok(()) => tell("the next request is served by it"),
            Err(error) => tell(&format!("{}\nWhat ran before runs on.", chain(error.as_ref()))),
        }
    }
}

fn changes(files: &[PathBuf]) -> String {
    let named: Vec<String> =
        files.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
    let more = files.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("\nchanged: {}{more}", named.join(", "))
}

fn instructions(ready: &Ready, app: &str, file: &Path) -> String {
    let listeners: Vec<String> =
        ready.listeners.iter().map(|(_, address)| format!("http://{address}")).collect();
    let first = listeners.first().map_or("", String::as_str);
    let admin = match ready.admin {
        Some(admin) => format!("http://{admin}"),
        None => "no address: what you save is not taken until `[admin]` has one".to_owned(),
    };
    format!(
        "\n  sidecar  {}\n  app      {app}\n  admin    {admin}\n  file     {}\n\n\
         Try `curl -i {first}/` in another terminal. Save a file of the project, and see here.\n\
         Ctrl-C ends it.",
        listeners.join(", "),
        file.display()
    )
}

fn tell(text: &str) {
    // Without a standard output there is nobody to read it.
    let _ = say(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_named_up_to_a_number() {
        let files = |count: usize| -> Vec<PathBuf> {
            (0..count).map(|number| format!("f{number}").into()).collect()
        };
        for (count, told) in [
            (3, "\nchanged: f0, f1, f2"),
            (4, "\nchanged: f0, f1, f2, f3"),
            (5, "\nchanged: f0, f1, f2, f3 and 1 more"),
        ] {
            assert_eq!(changes(&files(count)), told);
        }
    }
}
