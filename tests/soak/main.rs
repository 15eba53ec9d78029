//! The soak: one sidecar under constant mixed load, and a swap about every second, good and bad
//! versions mixed, by the file and by the admin interface, through all stages.
//!
//! No request fails but those that a bad version answered within its share, and none after it is
//! gone; streams and tunnels last the whole run; memory, descriptors and threads stay as they are.
//! `load` asks, `streams` stay open, `ledger` is who may be hurt when, `swaps` changes versions,
//! `vitals` watches the process. `PILLION_SOAK_SECONDS` makes it longer.

mod ledger;
mod load;
mod site;
mod streams;
mod swaps;
mod vitals;

use ledger::Ledger;
use pillion_tests::Client;
use pillion_tests::peer::tell;
use site::Site;
use std::sync::Arc;
use std::time::Duration;
use swaps::{ROUND, Swapper};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long versions are swapped, unless the environment says otherwise: one round at least.
const SECONDS: u64 = 60;
/// Fewer tell nothing of memory.
const SECONDS_MIN: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_of_good_and_bad_versions_under_load_hurt_nobody_but_the_share_of_a_bad_one() {
    let ledger = Arc::new(Ledger::default());
    let site = Site::start(&ledger).await;
    let mut tasks = JoinSet::new();
    let shared = load::begin(&site, &ledger, &mut tasks).await;
    streams::begin(&site, &ledger, &mut tasks).await;
    let watch = tokio::spawn(vitals::watch(site.sidecar.id(), Arc::clone(&ledger)));

    let asked = std::env::var("PILLION_SOAK_SECONDS").ok();
    let seconds = asked.map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds.max(SECONDS_MIN));
    let mut swapper = Swapper::new(&site, &ledger);
    let mut round = ROUND.iter().cycle();
    while Instant::now() < end || swapper.outcomes.len() < ROUND.len() {
        swapper.swap(round.next().expect("a cycle has no end")).await;
        // One that failed tells at once.
        let early = tasks.try_join_next();
        assert!(early.is_none(), "the load ended early: {early:?}");
    }
    let Swapper { outcomes, .. } = swapper;

    ledger.stop();
    // Each of them panics at the first thing that is not as it has to be; joining tells.
    tasks.join_all().await;
    assert!(shared.iter().all(Client::is_open), "no connection is closed");
    drop(shared);
    let vitals = watch.await.expect("nobody ends it");
    tell(&swaps::table(&outcomes, &ledger));
    tell(&ledger.table());
    tell(&vitals.table());
    swaps::check(&outcomes, &ledger);
    ledger.check();
    vitals.check();
    site.is_left_clean().await;
}
