//! Which endpoints are left out for how they answer: errors in a row, or too few good answers in an
//! interval. What is counted is shared by the workers, so that they agree.
//!
//! An endpoint is left out for `ejection_time`, the second time twice as long, and so on up to
//! `ejection_time_max`; each `interval` in use lets one time be forgotten. No more than `ejected_max`
//! of the endpoints are left out at once; of two or more always one may be, and one alone never is.

use super::state::{EndpointState, State, lock};
use crate::config::Outlier;
use crate::telemetry::EjectionCause;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Shares are in millionths.
const WHOLE: u64 = 1_000_000;

/// How an endpoint has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// As it should.
    Well,
    /// With an error of its own: 500 and above, but for the next ones.
    Error,
    /// As a gateway that has no answer (502, 503, 504), or not at all.
    Gateway,
}

impl Answered {
    /// What a status says; `grpc`: the status of gRPC, where the head has one.
    pub(super) fn of(status: u16, grpc: Option<u8>) -> Self {
        match (status, grpc) {
            (502..=504, _) | (_, Some(14)) => Answered::Gateway,
            // UNKNOWN, INTERNAL, DATA_LOSS.
            (500.., _) | (_, Some(2 | 13 | 15)) => Answered::Error,
            _ => Answered::Well,
        }
    }
}

/// Judges the endpoints of one upstream of one generation.
pub(super) struct Judge {
    settings: Outlier,
    shared: Arc<State>,
    /// Each address once.
    endpoints: Vec<Arc<EndpointState>>,
}

impl Judge {
    pub(super) fn new(
        settings: Outlier,
        shared: Arc<State>,
        endpoints: &[Arc<EndpointState>],
    ) -> Self {
        let mut once: Vec<Arc<EndpointState>> = Vec::new();
        for endpoint in endpoints {
            if !once.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
                once.push(endpoint.clone());
            }
        }
        Judge { settings, shared, endpoints: once }
    }

    /// Takes an answer down, and leaves the endpoint out if that was one too many.
    pub(super) fn record(&self, endpoint: &EndpointState, answered: Answered, now: u64) {
        let settings = &self.settings;
        let of_5xx = in_a_row(&endpoint.consecutive_5xx, answered != Answered::Well);
        let of_gateway = in_a_row(&endpoint.consecutive_gateway, answered == Answered::Gateway);
        if settings.success_rate_min > 0 {
            endpoint.answers.fetch_add(1, Ordering::Relaxed);
            let good = u32::from(answered == Answered::Well);
            endpoint.good_answers.fetch_add(good, Ordering::Relaxed);
            if now >= self.shared.interval_end.load(Ordering::Relaxed) {
                self.judge_rates(now);
            }
        }
        let too_many = |count: u32, max: usize| max > 0 && count as usize >= max;
        if too_many(of_gateway, settings.consecutive_gateway) {
            let _alone = lock(&self.shared.judging);
            self.eject(endpoint, EjectionCause::ConsecutiveGateway, now);
        } else if too_many(of_5xx, settings.consecutive_5xx) {
            let _alone = lock(&self.shared.judging);
            self.eject(endpoint, EjectionCause::Consecutive5xx, now);
        }
    }

    /// At the end of an interval: leaves out endpoints with too few good answers, unless the others
    /// together have too few as well, for then it is not the endpoint.
    fn judge_rates(&self, now: u64) {
        let _alone = lock(&self.shared.judging);
        let end = self.shared.interval_end.load(Ordering::Relaxed);
        if now < end {
            return;
        }
        let next = now + millis(self.settings.interval);
        self.shared.interval_end.store(next, Ordering::Relaxed);
        if end == 0 {
            // The first answer of all.
            return;
        }
        let take = |count: &AtomicU32| u64::from(count.swap(0, Ordering::Relaxed));
        let counts: Vec<(u64, u64)> =
            self.endpoints.iter().map(|it| (take(&it.answers), take(&it.good_answers))).collect();
        let (all, all_good) =
            counts.iter().fold((0, 0), |(all, good), (n, ok)| (all + n, good + ok));
        let reaches =
            |good: u64, answers: u64| good * WHOLE >= answers * self.settings.success_rate_min;
        for (endpoint, (answers, good)) in self.endpoints.iter().zip(counts) {
            let others = all - answers;
            // A worker may have counted an answer and not yet that it was good.
            let others_good = all_good.saturating_sub(good);
            if answers >= self.settings.success_rate_requests as u64
                && !reaches(good, answers)
                && others > 0
                && reaches(others_good, others)
            {
                self.eject(endpoint, EjectionCause::SuccessRate, now);
            }
        }
    }

    /// The lock of judging is held.
    fn eject(&self, endpoint: &EndpointState, cause: EjectionCause, now: u64) {
        if endpoint.is_ejected(now) {
            return;
        }
        let ejected = self.endpoints.iter().filter(|it| it.is_ejected(now)).count();
        if ejected >= ejections_max(self.endpoints.len(), self.settings.ejected_max) {
            self.shared.stats().guards.ejection_withheld();
            // Another try takes as many errors as the first.
            endpoint.consecutive_5xx.store(0, Ordering::Relaxed);
            endpoint.consecutive_gateway.store(0, Ordering::Relaxed);
            return;
        }
        let in_use = now.saturating_sub(endpoint.ejected_until.load(Ordering::Relaxed));
        let forgotten = in_use / millis(self.settings.interval).max(1);
        let remembered = u64::from(endpoint.ejections.load(Ordering::Relaxed));
        let times = remembered.saturating_sub(forgotten) + 1;
        let time = millis(self.settings.ejection_time).saturating_mul(times);
        let time = time.min(millis(self.settings.ejection_time_max));
        endpoint.ejections.store(u32::try_from(times).unwrap_or(u32::MAX), Ordering::Relaxed);
        endpoint.consecutive_5xx.store(0, Ordering::Relaxed);
        endpoint.consecutive_gateway.store(0, Ordering::Relaxed);
        endpoint.ejected_until.store(now.saturating_add(time), Ordering::Relaxed);
        self.shared.changed();
        self.shared.stats().guards.ejected(cause);
        tracing::warn!(
            upstream = %self.shared.name(), endpoint = %endpoint.address, cause = cause.name(),
            milliseconds = time, times,
            "An endpoint is left out for a while because of its answers."
        );
    }
}

/// How many endpoints may be left out at once.
fn ejections_max(endpoints: usize, share: u64) -> usize {
    match (endpoints, share) {
        (0 | 1, _) | (_, 0) => 0,
        (endpoints, share) => ((endpoints as u64).saturating_mul(share) / WHOLE).max(1) as usize,
    }
}

/// Counts how often in a row something was so. Written to only when it changes.
fn in_a_row(count: &AtomicU32, is_so: bool) -> u32 {
    if is_so {
        return count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    }
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
    0
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::state::States;
    use super::*;
    use crate::telemetry::Metrics;
    use std::net::SocketAddr;
    use std::time::{Duration, UNIX_EPOCH};

    const START: u64 = 1_000_000;

    fn judge(count: u16, change: impl FnOnce(&mut Outlier)) -> Judge {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let addresses: Vec<SocketAddr> =
            (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let state = States::default().of(&Arc::from("app"), &addresses, &stats);
        let endpoints = state.take_up(&addresses, None);
        let mut settings = Outlier::default();
        change(&mut settings);
        Judge::new(settings, state, &endpoints)
    }

    fn times(judge: &Judge, at: usize, answered: Answered, count: usize, now: u64) {
        (0..count).for_each(|_| judge.record(&judge.endpoints[at], answered, now));
    }

    fn is_ejected(judge: &Judge, at: usize, now: u64) -> bool {
        judge.endpoints[at].is_ejected(now)
    }

    #[test]
    fn statuses_say_whose_error_it_is() {
        for (status, grpc, answered) in [
            (200, None, Answered::Well),
            (404, None, Answered::Well),
            (499, None, Answered::Well),
            (500, None, Answered::Error),
            (501, None, Answered::Error),
            (502, None, Answered::Gateway),
            (504, None, Answered::Gateway),
            (505, None, Answered::Error),
            (200, Some(0), Answered::Well),
            (200, Some(5), Answered::Well),
            (200, Some(13), Answered::Error),
            (200, Some(14), Answered::Gateway),
        ] {
            assert_eq!(Answered::of(status, grpc), answered, "{status} {grpc:?}");
        }
    }

    #[test]
    fn so_many_errors_in_a_row_leave_an_endpoint_out() {
        let judge = judge(3, |it| it.consecutive_gateway = 0);
        times(&judge, 0, Answered::Error, 4, START);
        assert!(!is_ejected(&judge, 0, START));
        times(&judge, 0, Answered::Well, 1, START);
        times(&judge, 0, Answered::Gateway, 4, START);
        assert!(!is_ejected(&judge, 0, START), "the row was broken");
        times(&judge, 0, Answered::Error, 1, START);
        assert!(is_ejected(&judge, 0, START + 29_999));
        assert!(!is_ejected(&judge, 0, START + 30_000));
        let guards = &judge.shared.stats().guards;
        assert_eq!(guards.ejections(EjectionCause::Consecutive5xx), 1);
    }

    #[test]
    fn errors_of_a_gateway_have_a_row_of_their_own() {
        let judge = judge(3, |it| {
            it.consecutive_gateway = 2;
            it.consecutive_5xx = 0;
        });
        times(&judge, 0, Answered::Error, 9, START);
        times(&judge, 0, Answered::Gateway, 1, START);
        times(&judge, 0, Answered::Error, 1, START);
        times(&judge, 0, Answered::Gateway, 1, START);
        assert!(!is_ejected(&judge, 0, START));
        times(&judge, 0, Answered::Gateway, 1, START);
        assert!(is_ejected(&judge, 0, START));
    }

    #[test]
    fn each_time_is_longer_until_it_is_forgotten() {
        let judge = judge(3, |it| it.ejection_time_max = Duration::from_secs(60));
        let mut now = START;
        for (pause, seconds) in [(0, 30), (1, 60), (1, 60), (20_000, 60), (50_000, 30)] {
            now += pause;
            times(&judge, 0, Answered::Error, 5, now);
            assert!(is_ejected(&judge, 0, now + seconds * 1_000 - 1), "{pause} {seconds}");
            assert!(!is_ejected(&judge, 0, now + seconds * 1_000), "{pause} {seconds}");
            now += seconds * 1_000;
        }
    }

    #[test]
    fn no_more_than_their_share_are_left_out() {
        for (endpoints, share, max) in [
            (1, WHOLE, 0),
            (2, 0, 0),
            (2, 1, 1),
            (3, 500_000, 1),
            (4, 499_999, 1),
            (4, 500_000, 2),
            (4, 500_001, 2),
            (4, WHOLE, 4),
        ] {
            assert_eq!(ejections_max(endpoints, share), max, "{endpoints} {share}");
            let judge = judge(endpoints as u16, |it| it.ejected_max = share);
            (0..endpoints).for_each(|at| times(&judge, at, Answered::Error, 5, START));
            let ejected = (0..endpoints).filter(|at| is_ejected(&judge, *at, START)).count();
            assert_eq!(ejected, max, "{endpoints} {share}");
            let withheld = judge.shared.stats().guards.ejections_withheld();
            assert_eq!(withheld as usize, endpoints - max);
        }
    }

    #[test]
    fn too_few_good_answers_in_an_interval_leave_an_endpoint_out() {
        for (answers, good, ejected) in
            [(50, 39, true), (50, 40, false), (49, 0, false), (51, 40, true), (51, 41, false)]
        {
            let judge = judge(3, |it| {
                (it.success_rate_min, it.consecutive_5xx, it.consecutive_gateway) = (800_000, 0, 0);
            });
            times(&judge, 1, Answered::Well, 1, START);
            times(&judge, 1, Answered::Well, 99, START);
            times(&judge, 0, Answered::Well, good, START);
            times(&judge, 0, Answered::Error, answers - good, START);
            assert!(!is_ejected(&judge, 0, START), "the interval is not over");
            times(&judge, 1, Answered::Well, 1, START + 10_000);
            assert_eq!(is_ejected(&judge, 0, START + 10_000), ejected, "{good} of {answers}");
        }
    }

    #[test]
    fn an_endpoint_is_not_left_out_for_what_all_of_them_do() {
        let judge = judge(3, |it| {
            (it.success_rate_min, it.consecutive_5xx, it.consecutive_gateway) = (800_000, 0, 0);
        });
        for at in 0..3 {
            times(&judge, at, Answered::Error, 100, START);
        }
        times(&judge, 1, Answered::Well, 1, START + 10_000);
        assert!((0..3).all(|at| !is_ejected(&judge, at, START + 10_000)));
    }
}
