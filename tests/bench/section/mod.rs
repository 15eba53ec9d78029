//! The sections: one file for what is measured together. Each adds tables to the report.

pub(crate) mod balance;
pub(crate) mod bodies;
pub(crate) mod cpu;
pub(crate) mod curves;
pub(crate) mod latency;
pub(crate) mod memory;
pub(crate) mod start;
pub(crate) mod swap;
pub(crate) mod workers;

use crate::report::Report;
use crate::subject::{Proxy, Subject};
use std::net::SocketAddr;

/// Starts each subject; those that do not answer are left out, with the reason.
pub(crate) async fn start_all<'s>(
    subjects: impl IntoIterator<Item = &'s Subject>,
    origin: SocketAddr,
    report: &mut Report,
) -> Vec<(&'static str, Proxy)> {
    let mut running = Vec::new();
    for subject in subjects {
        match subject.start(origin).await {
            Ok(proxy) => running.push((subject.name, proxy)),
            Err(reason) => report.skip(reason),
        }
    }
    running
}
