//! Stub.

use crate::shutdown::Stage;
use crate::snapshot::Shared;
use std::sync::Arc;

/// Starts a worker.
pub fn spawn(index: usize, shared: Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _part = shared.snapshot.load().take_part(index);
        runtime.block_on(shared.shutdown.reached(Stage::Draining));
    })
}
