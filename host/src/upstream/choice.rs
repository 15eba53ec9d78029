//! Whom a worker may choose for an upstream, as long as its addresses stay what they are: its endpoints
//! and what chooses among them.

use super::balance::{Balancer, Member};
use super::pool::{Endpoints, InUse};
use super::state::State;
use crate::config::{Policy, UpstreamLimits};
use crate::dns::{List, Missing, Place, WEIGHT_EVEN};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The endpoints of an upstream, by one list of addresses.
pub(super) struct Choice {
    /// Of the list.
    pub(super) version: u64,
    pub(super) endpoints: Vec<InUse>,
    /// None: endpoints take turns, whatever becomes of their requests.
    pub(super) balancer: Option<Rc<Balancer>>,
    /// Why there are no endpoints.
    pub(super) missing: Option<Missing>,
    /// By the places of the endpoints; empty where no name has both families.
    names: Vec<Option<usize>>,
}

impl Choice {
    pub(super) fn new(
        list: &List,
        (policy, limits): (&Policy, &UpstreamLimits),
        endpoints: &Endpoints,
        trust: Option<blake3::Hash>,
        state: &Arc<State>,
        worker: usize,
    ) -> Self {
        let List { version, places, missing } = list;
        let addresses: Vec<SocketAddr> = places.iter().map(|place| place.address).collect();
        let endpoints: Vec<InUse> =
            addresses.iter().map(|address| InUse::new(endpoints.of(*address, trust))).collect();
        let states = state.take_up(&addresses, policy.retry.as_ref().map(|retry| &retry.budget));
        let is_weighted = places.iter().any(|place| place.weight != WEIGHT_EVEN);
        let wants_balancer = *policy != Policy::default() || limits.requests_max > 0 || is_weighted;
        let balancer = wants_balancer.then(|| {
            let members = endpoints.iter().zip(states).zip(places);
            let members = members.map(|((endpoint, state), place)| Member {
                endpoint: endpoint.endpoint().clone(),
                state,
                weight: place.weight,
            });
            Rc::new(Balancer::new(policy, members.collect(), state.clone(), worker))
        });
        Choice {
            version: *version,
            endpoints,
            balancer,
            missing: *missing,
            names: if has_two_families(places) {
                places.iter().map(|place| place.name).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// The endpoint that may stand in for the one at `at`: another address of its name, of the other
    /// family, that is in use.
    pub(super) fn stand_in(&self, at: usize) -> Option<usize> {
        let name = self.names.get(at).copied().flatten()?;
        let family = |at: usize| self.endpoints[at].endpoint().address().is_ipv4();
        let fits = |other: &usize| {
            self.names[*other] == Some(name)
                && family(*other) != family(at)
                && self.balancer.as_ref().is_none_or(|it| it.is_in_use(*other))
        };
        // Neighbours in the list first, so that not all stand-ins are the same one.
        (at + 1..self.endpoints.len()).chain(0..at).find(fits)
    }
}

/// Does some name have addresses of both families?
fn has_two_families(places: &[Place]) -> bool {
    let differs = |a: &Place, b: &Place| {
        a.name.is_some() && a.name == b.name && a.address.is_ipv4() != b.address.is_ipv4()
    };
    places.windows(2).any(|pair| differs(&pair[0], &pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::time::UNIX_EPOCH;

    fn choice(policy: &Policy, places: &[(&str, u32, Option<usize>)]) -> (Choice, Arc<State>) {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let place = |(address, weight, name): &(&str, u32, Option<usize>)| Place {
            address: address.parse().unwrap(),
            weight: *weight,
            name: *name,
        };
        let places = places.iter().map(place).collect();
        let list = List { version: 1, places, missing: None };
        let state = State::alone("app".into(), &[], stats);
        let limits = UpstreamLimits::default();
        let made = Choice::new(&list, (policy, &limits), &Endpoints::default(), None, &state, 0);
        (made, state)
    }

    #[test]
    fn only_an_address_of_the_same_name_and_the_other_family_stands_in() {
        let (choice, _) = choice(
            &Policy::default(),
            &[
                ("[fd00::1]:80", 1_000, Some(0)),
                ("10.0.0.1:80", 1_000, Some(0)),
                ("10.0.0.2:80", 1_000, Some(0)),
                ("10.0.0.3:80", 1_000, None),
                ("[fd00::4]:80", 1_000, None),
                ("10.0.0.5:80", 1_000, Some(1)),
            ],
        );
        let all: Vec<_> = (0..6).map(|at| choice.stand_in(at)).collect();
        assert_eq!(all, [Some(1), Some(0), Some(0), None, None, None]);
    }

    #[test]
    fn without_two_families_nobody_looks_for_a_stand_in() {
        let places = [("10.0.0.1:80", 1_000, Some(0)), ("10.0.0.2:80", 1_000, Some(0))];
        let (choice, _) = choice(&Policy::default(), &places);
        assert!(choice.names.is_empty() && choice.stand_in(0).is_none());
    }

    #[tokio::test]
    async fn an_unhealthy_endpoint_does_not_stand_in() {
        let policy = Policy { outlier: Some(Default::default()), ..Policy::default() };
        let places = [
            ("[fd00::1]:80", 1_000, Some(0)),
            ("10.0.0.1:80", 1_000, Some(0)),
            ("[fd00::2]:80", 1_000, Some(0)),
        ];
        let (choice, state) = choice(&policy, &places);
        let balancer = choice.balancer.as_ref().unwrap();
        assert_eq!(choice.stand_in(1), Some(2));
        state.set_healthy(&balancer.member(2).state, false);
        assert_eq!(choice.stand_in(1), Some(0));
        state.set_healthy(&balancer.member(0).state, false);
        assert_eq!(choice.stand_in(1), None);
    }

    #[test]
    fn weights_need_a_balancer() {
        let even = [("10.0.0.1:80", 1_000, Some(0)), ("10.0.0.2:80", 1_000, Some(0))];
        assert!(choice(&Policy::default(), &even).0.balancer.is_none());
        let uneven = [("10.0.0.1:80", 500, Some(0)), ("10.0.0.2:80", 1_500, Some(0))];
        assert!(choice(&Policy::default(), &uneven).0.balancer.is_some());
    }
}
