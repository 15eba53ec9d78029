//! What the process waits for: signals, and the ends of its workers' threads.

use std::io;
use std::thread::JoinHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal tells.
pub(super) enum Told {
    /// To stop; with the signal's name.
    Stop(&'static str),
    /// To read the files again.
    HangUp,
}

/// The signals that the process listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Told {
        // Cancelled branches lose nothing: `recv` is cancel safe.
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => Told::HangUp,
        }
    }

    /// The name of the next signal to stop.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn stop(&mut self) -> &'static str {
        // Cancelled branches lose nothing: `recv` is cancel safe.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The ends of the workers' threads.
pub(super) struct Ends {
    left: usize,
    ended: mpsc::Receiver<()>,
}

impl Ends {
    /// Joins each thread on one of its own, as joining cannot be bounded.
    pub(super) fn of(threads: Vec<JoinHandle<()>>) -> Self {
        let (sender, ended) = mpsc::channel(threads.len().max(1));
        let left = threads.len();
        for thread in threads {
            let sender = sender.clone();
            let join = move || {
                // A panic was reported by the panic hook.
                let _ = thread.join();
                // There is room for every thread.
                let _ = sender.try_send(());
            };
            let joiner = std::thread::Builder::new().name("join".to_owned()).stack_size(64 * 1024);
            if let Err(error) = joiner.spawn(join) {
                tracing::warn!(%error, "failed to watch a worker");
            }
        }
        Ends { left, ended }
    }

    /// # Cancel safety
    /// No end is lost when the future is dropped.
    pub(super) async fn one(&mut self) {
        let _ = self.ended.recv().await;
        self.left = self.left.saturating_sub(1);
    }

    /// # Cancel safety
    /// No end is lost when the future is dropped.
    pub(super) async fn all(&mut self) {
        while self.left > 0 {
            self.one().await;
        }
    }
}
