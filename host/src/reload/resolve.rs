//! Names of endpoints to addresses, through the system's resolver, off the workers and in bounded
//! time.
//!
//! Looked up once a generation. An endpoint whose name does not resolve is left out, and logged.

use crate::config::{Endpoint, Upstream};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// For all names of one generation. The resolver's own limits are longer.
pub const RESOLVE_TIME: Duration = Duration::from_secs(5);
/// Names looked up at one time.
const THREADS_MAX: usize = 8;

/// The addresses of each upstream, in its order, without repetitions.
pub(super) fn resolve(upstreams: &[Upstream]) -> Vec<Vec<SocketAddr>> {
    let endpoints = upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let names: BTreeSet<String> =
        endpoints.filter(|it| literal(it).is_none()).map(|it| it.host.clone()).collect();
    let known = look_up(names, RESOLVE_TIME, |name| {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    });
    upstreams.iter().map(|upstream| addresses(upstream, &known)).collect()
}

fn literal(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.host.parse().ok()
}

fn addresses(upstream: &Upstream, known: &BTreeMap<String, Vec<IpAddr>>) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for endpoint in &upstream.endpoints {
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
        for host in hosts {
            let address = SocketAddr::new(host, endpoint.port);
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    all
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
        let found = resolve(&upstreams(r#"["127.0.0.9:1", "[::1]:2", "localhost:3"]"#));
        let [first, second, third, ..] = found[0][..] else { panic!("{found:?}") };
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
        assert_eq!(found, ["10.0.0.1:2".parse().unwrap()]);
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
