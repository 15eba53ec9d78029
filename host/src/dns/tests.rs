//! What becomes of a list while lookups come and fail.

use super::records::Unknown;
use super::*;
use crate::config::DnsLimits;
use crate::telemetry::Metrics;
use std::time::UNIX_EPOCH;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn endpoint(host: &str, lookup: Lookup) -> Endpoint {
    Endpoint { host: host.to_owned(), port: 80, lookup }
}

fn found(lasts: &[u8], ttl: u64) -> Result<Found, Failure> {
    let places = lasts.iter().map(|last| (address(*last), WEIGHT_EVEN)).collect();
    let (ttl, unknown) = (Duration::from_secs(ttl), Unknown::Nothing);
    Ok(Found { places, ttl, unknown, left_out: 0 })
}

fn failure(result: LookupResult) -> Result<Found, Failure> {
    Err(Failure { result, detail: "no reason".to_owned() })
}

/// Of two names around an address.
fn addresses() -> Arc<Addresses> {
    let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
    let endpoints = [
        endpoint("a.local", Lookup::Addresses),
        endpoint("10.0.0.9", Lookup::Once),
        endpoint("b.local", Lookup::Services),
    ];
    Addresses::followed("app".into(), &endpoints, &Dns::default(), stats)
}

fn places(addresses: &Addresses) -> Vec<SocketAddr> {
    addresses.list().places.iter().map(|place| place.address).collect()
}

#[test]
fn the_list_has_the_order_of_the_file_and_each_address_once() {
    let addresses = addresses();
    addresses.renew(&[Vec::new(), vec![address(9)], Vec::new()]);
    addresses.take(2, found(&[3, 9], 60), &mut 0);
    addresses.take(0, found(&[1, 3], 60), &mut 0);
    assert_eq!(places(&addresses), [1, 3, 9].map(address));
    let names: Vec<_> = addresses.list().places.iter().map(|place| place.name).collect();
    assert_eq!(names, [Some(0), Some(0), None]);
    addresses.renew(&[Vec::new(), vec![address(8)], Vec::new()]);
    assert_eq!(places(&addresses), [1, 3, 8, 9].map(address));
}

#[test]
fn the_version_grows_with_a_change_and_with_nothing_else() {
    let addresses = addresses();
    let changes = addresses.changes().unwrap();
    addresses.take(0, found(&[1], 60), &mut 0);
    let version = addresses.version();
    assert!(version > 0 && version == addresses.list().version && version == *changes.borrow());
    addresses.take(0, found(&[1], 5), &mut 0);
    addresses.take(0, failure(LookupResult::Failed), &mut 0);
    assert_eq!(addresses.version(), version);
    addresses.take(0, found(&[2], 60), &mut 0);
    assert_eq!((addresses.version(), *changes.borrow()), (version + 1, version + 1));
}

#[test]
fn a_lookup_that_fails_takes_nothing_away() {
    let addresses = addresses();
    addresses.take(0, found(&[1, 2], 60), &mut 0);
    for result in [LookupResult::NotFound, LookupResult::Timeout, LookupResult::Failed] {
        addresses.take(0, failure(result), &mut 0);
        assert_eq!(places(&addresses), [1, 2].map(address), "{result:?}");
        assert_eq!(addresses.list().missing, None);
    }
}

#[test]
fn without_an_address_it_is_known_why() {
    let addresses = addresses();
    assert_eq!(addresses.list().missing, Some(Missing::TimedOut), "no answer yet");
    for (result, missing) in [
        (LookupResult::NotFound, Missing::NotFound),
        (LookupResult::Timeout, Missing::TimedOut),
        (LookupResult::Failed, Missing::NotFound),
    ] {
        addresses.take(0, failure(result), &mut 0);
        assert_eq!(addresses.list().missing, Some(missing), "{result:?}");
    }
    addresses.take(2, found(&[1], 60), &mut 0);
    assert_eq!(addresses.list().missing, None, "the other name has one");
}

#[test]
fn an_answer_is_used_for_its_time_and_failures_pause_longer_and_longer() {
    let (addresses, mut failures) = (addresses(), 0);
    let limits = DnsLimits::default();
    let pause = addresses.take(0, found(&[1], 60), &mut failures);
    assert_eq!((pause, failures), (Duration::from_secs(60), 0));
    assert_eq!(addresses.take(0, found(&[1], 0), &mut failures), limits.ttl_min);
    assert_eq!(addresses.take(0, found(&[1], 86_400), &mut failures), limits.ttl_max);
    for (nth, bound) in [(1, 1), (2, 2), (3, 4)] {
        let pause = addresses.take(0, failure(LookupResult::Failed), &mut failures);
        let bound = Duration::from_secs(bound);
        assert!((bound / 2..=bound).contains(&pause) && failures == nth, "{pause:?}");
    }
    addresses.take(0, found(&[1], 60), &mut failures);
    assert_eq!(failures, 0);
}

#[test]
fn half_an_answer_is_used_and_asked_for_again_soon() {
    let (addresses, mut failures) = (addresses(), 0);
    let v6 = SocketAddr::from(([0xFD00, 0, 0, 0, 0, 0, 0, 1], 80));
    let both = Found {
        places: vec![(v6, WEIGHT_EVEN), (address(1), WEIGHT_EVEN)],
        ..found(&[], 60).unwrap()
    };
    addresses.take(0, Ok(both), &mut failures);
    let half = Found { unknown: Unknown::V6, ..found(&[2], 60).unwrap() };
    let pause = addresses.take(0, Ok(half), &mut failures);
    assert_eq!(places(&addresses), [address(2), v6]);
    assert!(failures == 1 && pause <= Duration::from_secs(1), "{pause:?}");
}

#[test]
fn an_upstream_has_so_many_endpoints() {
    let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
    let endpoints =
        [endpoint("a.local", Lookup::Addresses), endpoint("b.local", Lookup::Addresses)];
    for (count, used) in [(499, 999), (500, 1_000), (501, 1_000)] {
        let addresses =
            Addresses::followed("app".into(), &endpoints, &Dns::default(), stats.clone());
        let range = |net: u8, count: u16| {
            let address = |at: u16| SocketAddr::from(([10, net, (at >> 8) as u8, at as u8], 80));
            let places = (0..count).map(|at| (address(at), WEIGHT_EVEN)).collect();
            Ok(Found { places, ..found(&[], 60).unwrap() })
        };
        addresses.take(0, range(1, count), &mut 0);
        addresses.take(1, range(2, 500), &mut 0);
        assert_eq!(places(&addresses).len(), used, "{count}");
    }
}

#[test]
fn it_is_known_what_it_was_made_of() {
    let addresses = addresses();
    let endpoints = addresses.followed.as_ref().unwrap().endpoints.clone();
    let other = Dns { servers: vec![address(1)], ..Dns::default() };
    assert!(addresses.is_of(&endpoints, &Dns::default()));
    assert!(
        !addresses.is_of(&endpoints, &other) && !addresses.is_of(&endpoints[1..], &Dns::default())
    );
    assert!(!Addresses::fixed(&[address(1)]).is_of(&endpoints, &Dns::default()));
}

#[test]
fn a_first_lookup_is_waited_for_and_no_longer_than_that() {
    let addresses = addresses();
    addresses.wait_for_first(Instant::now());
    assert!(addresses.list().places.is_empty(), "its time was over");
    let other = addresses.clone();
    let looks = std::thread::spawn(move || {
        other.take(2, failure(LookupResult::NotFound), &mut 0);
        other.take(0, found(&[1], 60), &mut 0);
    });
    addresses.wait_for_first(Instant::now() + Duration::from_secs(60));
    assert_eq!(places(&addresses), [address(1)]);
    looks.join().unwrap();
}
