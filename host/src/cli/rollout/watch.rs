//! Follows a rollout to its end: redraws a block on a terminal, prints a line for each change anywhere
//! else. It asks `GET /rollout` again and again, so it survives a sidecar that reloads.
//!
//! Ctrl-C ends the watching, never the rollout.

use super::super::ask::Admin;
use super::super::say;
use super::view::{self, Style};
use crate::admin::shape::{Rollout, Rollouts, State};
use anyhow::{Context, bail};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a sidecar that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// As of a process that SIGINT ends.
const INTERRUPTED: u8 = 130;

/// What Ctrl-C says.
const GOES_ON: &str = "\nthe watching ends, and the rollout goes on: \
                       `pillion rollout --watch` shows it again, `pillion rollback` ends it";

/// Shows the rollout `id` until it ends. 0: promoted; 1: rolled back, cut short, or lost from sight.
pub(super) fn watch(admin: &Admin, id: u64) -> anyhow::Result<ExitCode> {
    let interrupted = on_interrupt().context("failed to wait for Ctrl-C")?;
    let mut screen = Screen::new();
    let mut heard = Instant::now();
    loop {
        match admin.get_json::<Rollouts>("/rollout") {
            Ok(Rollouts { rollout, .. }) => {
                heard = Instant::now();
                let rollout = followed(rollout, id)?;
                screen.show(&rollout)?;
                if let Some(ending) = view::ending(&rollout) {
                    screen.end(&ending)?;
                    let promoted = rollout.state == State::Promoted;
                    return Ok(if promoted { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
            }
            Err(error) if heard.elapsed() >= PATIENCE => {
                return Err(error.context("the rollout is lost from sight"));
            }
            Err(error) => screen.note(&format!("{error:#}; asking again"))?,
        }
        match interrupted.recv_timeout(INTERVAL) {
            Ok(()) => {
                say(GOES_ON)?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("Ctrl-C cannot be waited for any more"),
        }
    }
}

/// The rollout that is followed, if it is still the one that is shown.
fn followed(shown: Option<Rollout>, id: u64) -> anyhow::Result<Rollout> {
    match shown {
        Some(rollout) if rollout.id == id => Ok(rollout),
        Some(other) => bail!("rollout {id} is over; rollout {} came after it", other.id),
        None => bail!("the sidecar knows no rollout {id} any more: was it restarted?"),
    }
}

/// Receives once on Ctrl-C.
fn on_interrupt() -> io::Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (sender, receiver) = sync_channel(1);
    // In place before this returns: from then on the signal no longer ends the process.
    let mut signal = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        runtime.block_on(signal.recv());
        // Whoever waited is done already.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}

/// Where it is shown.
struct Screen {
    /// On a terminal; none elsewhere.
    style: Option<Style>,
    /// Lines of the block that is there.
    height: usize,
    /// What the last line was about.
    told: Option<(State, usize, String)>,
    /// What was noted last, until something else is shown.
    noted: bool,
}

impl Screen {
    fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if colour { Style::Colour } else { Style::Plain };
        let is_terminal = io::stdout().is_terminal() && !dumb;
        Screen { style: is_terminal.then_some(style), height: 0, told: None, noted: false }
    }

    fn show(&mut self, rollout: &Rollout) -> io::Result<()> {
        self.noted = false;
        let Some(style) = self.style else {
            let change = Some(view::change(rollout));
            if self.told == change {
                return Ok(());
            }
            self.told = change;
            return say(&view::line(rollout));
        };
        let lines = view::block(rollout, style);
        let mut out = io::stdout().lock();
        out.write_all(frame(self.height, &lines).as_bytes())?;
        out.flush()?;
        self.height = lines.len();
        Ok(())
    }

    /// Tells how it ended, apart from the block.
    fn end(&self, ending: &str) -> io::Result<()> {
        say(&if self.style.is_some() { format!("\n{ending}") } else { ending.to_owned() })
    }

    /// Tells what keeps it from showing more, once.
    fn note(&mut self, text: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.noted, true) {
            return Ok(());
        }
        // It stays, below the block as it was.
        self.height = 0;
        say(text)
    }
}

/// Writes `lines` over the `height` lines above. They are not wrapped meanwhile, so that a narrow
/// terminal has as many lines as are counted here.
fn frame(height: usize, lines: &[String]) -> String {
    let up = if height > 0 { format!("\u{1b}[{height}A") } else { String::new() };
    format!("\u{1b}[?7l{up}\r\u{1b}[J{}\n\u{1b}[?7h", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::rollout;
    use super::*;

    #[test]
    fn a_frame_goes_over_the_one_before() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(frame(0, &lines), "\u{1b}[?7l\r\u{1b}[Ja\nb\n\u{1b}[?7h");
        assert_eq!(frame(2, &lines), "\u{1b}[?7l\u{1b}[2A\r\u{1b}[Ja\nb\n\u{1b}[?7h");
    }

    #[test]
    fn another_rollout_is_not_taken_for_this_one() {
        assert_eq!(followed(Some(rollout()), 3).unwrap(), rollout());
        let error = followed(Some(rollout()), 2).unwrap_err().to_string();
        assert_eq!(error, "rollout 2 is over; rollout 3 came after it");
        assert!(followed(None, 2).unwrap_err().to_string().ends_with("was it restarted?"));
    }
}
