//! From records to addresses: rules without I/O.
//!
//! The families of a name are interleaved (RFC 8305 section 4). Of a service the targets of the lowest
//! priority that have addresses are used, and their weights become shares (RFC 2782).

use super::{Missing, Place, Slot};
use crate::config::Endpoint;
use crate::telemetry::LookupResult;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The weight of an address among equals.
pub const WEIGHT_EVEN: u32 = 1_000;

/// What a lookup brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// With weights; at least one.
    pub(super) places: Vec<(SocketAddr, u32)>,
    /// The shortest TTL of all records.
    pub(super) ttl: Duration,
    /// What it says nothing about.
    pub(super) unknown: Unknown,
    /// Addresses beyond those that are used.
    pub(super) left_out: usize,
}

/// What a lookup says nothing about, since a name server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Nothing,
    V4,
    V6,
    /// Some of the targets of a service.
    Targets,
}

impl Found {
    pub(super) fn result(&self) -> LookupResult {
        match self.unknown {
            Unknown::Nothing => LookupResult::Answered,
            Unknown::V4 | Unknown::V6 | Unknown::Targets => LookupResult::Incomplete,
        }
    }

    /// With those of `before` that the lookup says nothing about.
    pub(super) fn with_kept(self, before: &[(SocketAddr, u32)]) -> Vec<(SocketAddr, u32)> {
        let unknown = self.unknown;
        let is_kept = |address: &SocketAddr| match unknown {
            Unknown::Nothing => false,
            Unknown::V4 => address.is_ipv4(),
            Unknown::V6 => address.is_ipv6(),
            Unknown::Targets => true,
        };
        let mut places = self.places;
        for (address, weight) in before.iter().filter(|(address, _)| is_kept(address)) {
            if !places.iter().any(|(known, _)| known == address) {
                places.push((*address, *weight));
            }
        }
        places
    }
}

/// One record of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// The records in groups of one priority, the lowest first.
pub(super) fn by_priority(mut services: Vec<Service>) -> Vec<Vec<Service>> {
    services.sort_by(|a, b| (a.priority, &a.target, a.port).cmp(&(b.priority, &b.target, b.port)));
    services.chunk_by(|a, b| a.priority == b.priority).map(<[Service]>::to_vec).collect()
}

/// The addresses of targets with their weights as shares, which are [`WEIGHT_EVEN`] on average; those
/// of one target share its weight. A weight of 0 counts as 1: next to others it is chosen seldom, as
/// RFC 2782 wants it.
pub(super) fn weighted(targets: &[(u16, Vec<SocketAddr>)]) -> Vec<(SocketAddr, u32)> {
    let mut raw: Vec<(SocketAddr, f64)> = Vec::new();
    for (weight, addresses) in targets {
        let share = f64::from((*weight).max(1)) / addresses.len() as f64;
        for address in addresses {
            match raw.iter_mut().find(|(known, _)| known == address) {
                Some((_, sum)) => *sum += share,
                None => raw.push((*address, share)),
            }
        }
    }
    let mean = raw.iter().map(|(_, share)| share).sum::<f64>() / raw.len() as f64;
    let scaled = |share: f64| (share / mean * f64::from(WEIGHT_EVEN)).round().max(1.0) as u32;
    raw.into_iter().map(|(address, share)| (address, scaled(share))).collect()
}

/// The families in turns, IPv6 first, each in its order, without repetitions and without addresses that
/// no server has.
pub(super) fn interleaved(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = addresses.into_iter().filter(is_usable).collect();
    // Name servers turn the order round; it is no reason to tell of a change.
    all.sort_unstable();
    all.dedup();
    let split = all.iter().position(IpAddr::is_ipv6).unwrap_or(all.len());
    let (v4, v6) = all.split_at(split);
    let longer = v4.len().max(v6.len());
    (0..longer).flat_map(|at| [v6.get(at), v4.get(at)]).flatten().copied().collect()
}

/// Name servers that block a name answer with 0.0.0.0, where this host itself would be met.
fn is_usable(address: &IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || is_broadcast)
}

/// The places of an upstream out of what is known of its entries, each address once; why there are
/// none.
pub(super) fn merged(slots: &[Slot], endpoints: &[Endpoint]) -> (Vec<Place>, Option<Missing>) {
    let mut places: Vec<Place> = Vec::new();
    for (at, (slot, endpoint)) in slots.iter().zip(endpoints).enumerate() {
        let name = endpoint.is_followed().then_some(at);
        for (address, weight) in &slot.places {
            if !places.iter().any(|known| known.address == *address) {
                places.push(Place { address: *address, weight: *weight, name });
            }
        }
    }
    let missing = slots.iter().find_map(|slot| slot.missing).filter(|_| places.is_empty());
    (places, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0xFD00, 0, 0, 0, 0, 0, 0, last], 80))
    }

    #[test]
    fn families_take_turns_and_the_order_of_an_answer_makes_no_difference() {
        let expected = ips(&["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "10.0.0.3"]);
        let answer = ["10.0.0.3", "fd00::2", "10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.2"];
        assert_eq!(interleaved(ips(&answer)), expected);
        assert_eq!(interleaved(ips(&["10.0.0.1"])), ips(&["10.0.0.1"]));
        assert_eq!(interleaved(ips(&["fd00::1"])), ips(&["fd00::1"]));
    }

    #[test]
    fn addresses_that_no_server_has_are_left_out() {
        for bad in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(interleaved(ips(&[bad])).is_empty(), "{bad}");
        }
        for good in ["127.0.0.1", "::1", "192.168.1.255"] {
            assert_eq!(interleaved(ips(&[good])).len(), 1, "{good}");
        }
    }

    #[test]
    fn the_lowest_priority_comes_first() {
        let service = |priority, target: &str| Service {
            priority,
            weight: 1,
            port: 80,
            target: target.to_owned(),
        };
        let groups = by_priority(vec![service(20, "c"), service(10, "b"), service(10, "a")]);
        assert_eq!(groups, [vec![service(10, "a"), service(10, "b")], vec![service(20, "c")]]);
        assert!(by_priority(Vec::new()).is_empty());
    }

    #[test]
    fn weights_become_shares() {
        for (targets, expected) in [
            (vec![(0, vec![1]), (0, vec![2])], vec![1_000, 1_000]),
            (vec![(5, vec![1]), (5, vec![2])], vec![1_000, 1_000]),
            (vec![(1, vec![1]), (3, vec![2])], vec![500, 1_500]),
            (vec![(0, vec![1]), (1, vec![2])], vec![1_000, 1_000]),
            (vec![(0, vec![1]), (99, vec![2])], vec![20, 1_980]),
            // Two addresses of one target share its weight.
            (vec![(10, vec![1, 2]), (10, vec![3])], vec![750, 750, 1_500]),
            // One address under two targets has the weight of both.
            (vec![(10, vec![1]), (10, vec![1]), (20, vec![2])], vec![1_000, 1_000]),
            (vec![(0, vec![1]), (65_535, vec![2])], vec![1, 2_000]),
        ] {
            let targets: Vec<(u16, Vec<SocketAddr>)> = (targets.into_iter())
                .map(|(weight, lasts)| (weight, lasts.into_iter().map(address).collect()))
                .collect();
            let weights: Vec<u32> = weighted(&targets).into_iter().map(|(_, it)| it).collect();
            assert_eq!(weights, expected, "{targets:?}");
        }
        assert_eq!(weighted(&[]), []);
    }

    #[test]
    fn what_an_answer_says_nothing_about_is_kept() {
        let before = [(address(1), 1_000), (v6(1), 1_000)];
        for (unknown, expected) in [
            (Unknown::Nothing, vec![address(2)]),
            (Unknown::V4, vec![address(2), address(1)]),
            (Unknown::V6, vec![address(2), v6(1)]),
            (Unknown::Targets, vec![address(2), address(1), v6(1)]),
        ] {
            let (places, ttl) = (vec![(address(2), 1_000)], Duration::ZERO);
            let found = Found { places, ttl, unknown, left_out: 0 };
            let kept: Vec<SocketAddr> =
                found.with_kept(&before).into_iter().map(|(address, _)| address).collect();
            assert_eq!(kept, expected, "{unknown:?}");
        }
    }
}
