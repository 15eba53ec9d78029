//! Which requests of a worker the candidate gets: one hash and a comparison.
//!
//! The hash is keyed with a salt, for a candidate that of the rollout, so that a client can neither
//! choose its side nor always be among the first. It is the same on all workers and in all steps.

use super::plan::{Share, Sticky};
use http::HeaderName;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// How the requests of one worker are shared out between what runs and a candidate.
#[derive(Debug)]
pub struct Choice {
    share: Share,
    lots: Lots,
}

/// The numbers by which the requests of one worker are shared out.
#[derive(Debug)]
pub struct Lots {
    sticky: Sticky,
    salt: RandomState,
    worker: usize,
    drawn: Cell<u64>,
}

impl Choice {
    /// The candidate gets `share` of the requests of `worker`.
    pub fn new(share: Share, sticky: Sticky, salt: RandomState, worker: usize) -> Self {
        Choice { share, lots: Lots::new(sticky, salt, worker) }
    }

    /// Is the request of `client` for the candidate? `header` looks up a field of it.
    pub fn takes<'h>(
        &self,
        client: IpAddr,
        header: impl FnOnce(&HeaderName) -> Option<&'h [u8]>,
    ) -> bool {
        self.share.takes(self.lots.of(client, header))
    }
}

impl Lots {
    /// Of `worker`; the same requests get the same lot wherever `sticky` and `salt` are the same.
    pub fn new(sticky: Sticky, salt: RandomState, worker: usize) -> Self {
        Lots { sticky, salt, worker, drawn: Cell::new(0) }
    }

    /// The lot of a request of `client`. `header` looks up a field of it.
    pub fn of<'h>(
        &self,
        client: IpAddr,
        header: impl FnOnce(&HeaderName) -> Option<&'h [u8]>,
    ) -> u64 {
        match &self.sticky {
            Sticky::Client => self.salt.hash_one(client),
            Sticky::Header(name) => match header(name) {
                Some(value) => self.salt.hash_one(value),
                None => self.draw(),
            },
            Sticky::Random => self.draw(),
        }
    }

    fn draw(&self) -> u64 {
        let drawn = self.drawn.get();
        self.drawn.set(drawn.wrapping_add(1));
        self.salt.hash_one((self.worker, drawn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const REQUESTS: u32 = 20_000;

    fn choice(percent: u32, sticky: Sticky, salt: &RandomState, worker: usize) -> Choice {
        Choice::new(Share::from_millionths(percent * 10_000), sticky, salt.clone(), worker)
    }

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    /// Five standard deviations around the share.
    fn assert_is_about(taken: usize, percent: u32) {
        let share = f64::from(percent) / 100.0;
        let expected = f64::from(REQUESTS) * share;
        let slack = 5.0 * (expected * (1.0 - share)).sqrt();
        assert!((taken as f64 - expected).abs() <= slack, "{taken} for {percent} %");
    }

    #[test]
    fn a_share_of_clients_is_taken_and_always_the_same_ones() {
        let salt = RandomState::new();
        for percent in [0, 5, 50, 100] {
            let one = choice(percent, Sticky::Client, &salt, 0);
            let other = choice(percent, Sticky::Client, &salt, 1);
            let taken = (0..REQUESTS).filter(|it| one.takes(client(*it), |_| None)).count();
            assert_is_about(taken, percent);
            assert!((0..1_000).all(|it| {
                one.takes(client(it), |_| None) == other.takes(client(it), |_| None)
            }));
        }
    }

    #[test]
    fn a_client_of_the_candidate_stays_there_while_the_share_grows() {
        let salt = RandomState::new();
        let small = choice(5, Sticky::Client, &salt, 0);
        let large = choice(50, Sticky::Client, &salt, 0);
        assert!(
            (0..REQUESTS).all(|it| {
                !small.takes(client(it), |_| None) || large.takes(client(it), |_| None)
            })
        );
    }

    #[test]
    fn a_header_binds_requests_and_those_without_it_are_shared_out_at_random() {
        let salt = RandomState::new();
        let sticky = Sticky::Header(HeaderName::from_static("x-user"));
        let choice = choice(50, sticky, &salt, 0);
        let of = |user: &[u8]| choice.takes(client(1), |name| (name == "x-user").then_some(user));
        let users: Vec<String> = (0..REQUESTS).map(|it| format!("user-{it}")).collect();
        let first: Vec<bool> = users.iter().map(|user| of(user.as_bytes())).collect();
        let second: Vec<bool> = users.iter().map(|user| of(user.as_bytes())).collect();
        assert_eq!(first, second);
        assert_is_about(first.iter().filter(|taken| **taken).count(), 50);
        let without = (0..REQUESTS).filter(|_| choice.takes(client(1), |_| None)).count();
        assert_is_about(without, 50);
    }

    #[test]
    fn chance_takes_each_request_anew_and_differently_on_each_worker() {
        let salt = RandomState::new();
        let draws = |worker| -> Vec<bool> {
            let choice = choice(50, Sticky::Random, &salt, worker);
            (0..REQUESTS).map(|_| choice.takes(client(1), |_| None)).collect()
        };
        let (one, other) = (draws(0), draws(1));
        assert_is_about(one.iter().filter(|taken| **taken).count(), 50);
        assert_ne!(one, other);
    }
}
