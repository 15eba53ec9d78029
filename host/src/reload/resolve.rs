//! Names of endpoints to addresses, off the workers and in bounded time.
//!
//! A name without more is looked up once a generation, through the system's resolver; one that does not
//! resolve is left out, and logged. Names that are followed are handed to `dns`: with those that the
//! generation before has too, nothing happens, and of others the first answer is waited for.

use super::filters::Loader;
use crate::config::{Config, Endpoint, Upstream};
use crate::dns::Addresses;
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// For all names of one generation. The resolver's own limits are longer.
pub const RESOLVE_TIME: Duration = Duration::from_secs(5);
/// Names looked up at one time.
const THREADS_MAX: usize = 8;

/// The addresses of each upstream of `config`; `before`: the generation in force.
pub(super) fn resolve(
    loader: &Loader,
    config: &Config,
    before: Option<&Snapshot>,
) -> Vec<Arc<Addresses>> {
    let end = Instant::now() + RESOLVE_TIME;
    let endpoints = config.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let named = endpoints.filter(|it| !it.is_followed() && literal(it).is_none());
    let known = look_up(named.map(|it| it.host.clone()).collect(), RESOLVE_TIME, |name| {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    });
    let of = |upstream: &Upstream| {
        let fixed = addresses(upstream, &known);
        let Upstream { name, endpoints, .. } = upstream;
        if !endpoints.iter().any(Endpoint::is_followed) {
            return Addresses::fixed(&each_once(fixed));
        }
        match before.and_then(|before| followed_before(before, upstream, config)) {
            Some(known) => {
                known.renew(&fixed);
                known
            }
            None => {
                let stats = loader.metrics().upstream(name);
                loader.names().follow(name, endpoints, &fixed, &config.dns, stats)
            }
        }
    };
    let all: Vec<Arc<Addresses>> = config.upstreams.iter().map(of).collect();
    all.iter().for_each(|addresses| addresses.wait_for_first(end));
    all
}

/// What the generation in force has of the same upstream, if it is made of the same.
fn followed_before(
    before: &Snapshot,
    upstream: &Upstream,
    config: &Config,
) -> Option<Arc<Addresses>> {
    let mut known = before.config.upstreams.iter().zip(&before.addresses);
    let (_, addresses) = known.find(|(known, _)| known.name == upstream.name)?;
    addresses.is_of(&upstream.endpoints, &config.dns).then(|| addresses.clone())
}

fn literal(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.host.parse().ok()
}

fn each_once(addresses: Vec<Vec<SocketAddr>>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in addresses.into_iter().flatten() {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// The addresses of each endpoint; none of those that are followed.
fn addresses(upstream: &Upstream, known: &BTreeMap<String, Vec<IpAddr>>) -> Vec<Vec<SocketAddr>> {
    let of = |endpoint: &Endpoint| {
        if endpoint.is_followed() {
            return Vec::new();
        }
        let hosts = match literal(endpoint) {
            Some(address) => vec![address],
            None => known.get(&endpoint.host).cloned().unwrap_or_default(),
        };
        if hosts.is_empty() {
            tracing::warn!(
                upstream = %upstream.name, %endpoint,
                "an endpoint has no address and gets no requests until the next reload"
            );
        }
        hosts.into_iter().map(|host| SocketAddr::new(host, endpoint.port)).collect()
    };
    upstream.endpoints.iter().map(of).collect()
}

/// One family of a name's addresses, IPv4 where there is any: a name such as `localhost` has both,
/// and an app that listens on one of them would refuse every other request.
fn one_family(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    addresses.into_iter().filter(|address| address.is_ipv4() == has_v4).collect()
}

/// Looks up every name, or as many as there is time for. A lookup that hangs keeps its thread until
/// the resolver gives up.
fn look_up(
    names: BTreeSet<String>,
    within: Duration,
    resolver: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Copy + Send + 'static,
) -> BTreeMap<String, Vec<IpAddr>> {
    let count = names.len();
    let queue: Arc<Mutex<VecDeque<String>>> = Arc::new(Mutex::new(names.into_iter().collect()));
    let (sender, answers) = mpsc::sync_channel(count);
    for _ in 0..count.min(THREADS_MAX) {
        let (queue, sender) = (queue.clone(), sender.clone());
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = move || {
            while let Some(name) = next() {
                let answer = resolver(&name);
                if sender.send((name, answer)).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("resolve".to_owned()).spawn(work) {
            tracing::warn!(%error, "failed to start a thread for looking up names");
        }
    }
    drop(sender);
    let deadline = Instant::now() + within;
    let mut known = BTreeMap::new();
    for _ in 0..count {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left) {
            Ok((name, Ok(addresses))) => {
                known.insert(name, one_family(addresses));
            }
            Ok((name, Err(error))) => {
                tracing::warn!(host = name, %error, "failed to look up a name");
            }
            Err(_) => {
                let found = known.len();
                tracing::warn!(found, of = count, "names were not looked up in time");
                break;
            }
        }
    }
    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    fn upstreams(endpoints: &str) -> Vec<Upstream> {
        let text = format!(
            "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\
             route = [{{ upstream = \"u\" }}]\n[upstream.u]\nendpoints = {endpoints}\n"
        );
        parse(&text, "p.toml", Path::new("/"), &|_| None).unwrap().config.upstreams
    }

    #[test]
    fn addresses_stay_as_they_are_and_names_become_some() {
        let upstreams = upstreams(r#"["127.0.0.9:1", "[::1]:2", "localhost:3", "[::1]:2"]"#);
        let known = BTreeMap::from([("localhost".to_owned(), vec![[127, 0, 0, 1].into()])]);
        let found = each_once(addresses(&upstreams[0], &known));
        let [first, second, third] = found[..] else { panic!("{found:?}") };
        assert_eq!(first, "127.0.0.9:1".parse().unwrap());
        assert_eq!(second, "[::1]:2".parse().unwrap());
        assert!(third.ip().is_loopback() && third.port() == 3, "{third}");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_left_out() {
        let names = BTreeSet::from(["good".to_owned(), "bad".to_owned()]);
        let known = look_up(names, RESOLVE_TIME, |name| match name {
            "good" => Ok(vec![IpAddr::from([10, 0, 0, 1])]),
            _ => Err(io::Error::other("no such name")),
        });
        assert_eq!(known, BTreeMap::from([("good".to_owned(), vec![IpAddr::from([10, 0, 0, 1])])]));
        let found = addresses(&upstreams(r#"["bad:1", "good:2"]"#)[0], &known);
        assert_eq!(found, [vec![], vec!["10.0.0.1:2".parse().unwrap()]]);
    }

    #[test]
    fn a_resolver_that_hangs_is_not_waited_for() {
        let names = BTreeSet::from(["slow".to_owned()]);
        let hanging = |_: &str| {
            std::thread::park();
            Ok(Vec::new())
        };
        assert!(look_up(names, Duration::ZERO, hanging).is_empty());
    }

    #[test]
    fn of_two_families_one_is_taken() {
        let (v4, v6): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), "::1".parse().unwrap());
        assert_eq!(one_family(vec![v6, v4]), [v4]);
        assert_eq!(one_family(vec![v6]), [v6]);
    }
}
