//! Asks name servers. The only place that knows the library that speaks to them.

use super::records::{Found, Service, Unknown, WEIGHT_EVEN, by_priority, interleaved, weighted};
use super::{Lookup, lock};
use crate::config::{Dns, DnsLimits, Endpoint};
use crate::telemetry::LookupResult;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup as Answer;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Resolver as Library, TokioResolver};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes of the system's file that are read.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// Targets of one service whose addresses are asked for at one time: each question has a socket.
pub const TARGETS_AT_ONCE: usize = 8;

/// Where the system names its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What a system means that names none (resolv.conf(5)).
const RESOLV_CONF_DEFAULT: &[u8] = b"nameserver 127.0.0.1\n";
/// A question that is lost is asked once more.
const REPETITIONS: usize = 1;
/// The part of the time of a lookup that there is for the answer to a question, so that there is some left
/// when one family of a name was asked for twice in vain.
const QUESTION_SHARE: u32 = 3;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) result: LookupResult,
    /// For the log.
    pub(super) detail: String,
}

/// Asks as `[dns]` says.
pub(super) struct Resolver {
    dns: Dns,
    /// With the text of the system's file that it was made of.
    made: Mutex<Option<(Vec<u8>, TokioResolver)>>,
}

impl Resolver {
    pub(super) fn new(dns: Dns) -> Self {
        Resolver { dns, made: Mutex::default() }
    }

    /// The addresses of `endpoint`.
    ///
    /// # Errors
    /// There are none, or nobody told.
    pub(super) async fn look_up(&self, endpoint: &Endpoint) -> Result<Found, Failure> {
        let library = self.library()?;
        // Time is kept by whoever asks: an answer is never asked for before its time is over.
        library.clear_cache();
        match endpoint.lookup {
            Lookup::Once | Lookup::Addresses => {
                let hosts = hosts(&library, &endpoint.host).await?;
                let address = |ip: IpAddr| (SocketAddr::new(ip, endpoint.port), WEIGHT_EVEN);
                let places = hosts.addresses.into_iter().map(address).collect();
                Ok(self.bounded(places, hosts.ttl, hosts.unknown))
            }
            Lookup::Services => self.services(&library, &endpoint.host).await,
        }
    }

    fn bounded(
        &self,
        mut places: Vec<(SocketAddr, u32)>,
        ttl: Duration,
        unknown: Unknown,
    ) -> Found {
        let left_out = places.len().saturating_sub(self.dns.limits.addresses_max);
        places.truncate(self.dns.limits.addresses_max);
        Found { places, ttl, unknown, left_out }
    }

    async fn services(&self, library: &TokioResolver, name: &str) -> Result<Found, Failure> {
        let answer = library.lookup(name, RecordType::SRV).await.map_err(Failure::from)?;
        let mut ttl = ttl_of(&answer);
        let services = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(Service {
                priority: service.priority,
                weight: service.weight,
                port: service.port,
                target: service.target.to_ascii(),
            }),
            _ => None,
        });
        // A target `.` says that there is no such service.
        let services = services.filter(|it| it.port != 0 && it.target != ".").collect();
        let mut failed = None;
        for mut group in by_priority(services) {
            // Each has one address at least: more are of no use.
            let beyond = group.len().saturating_sub(self.dns.limits.addresses_max);
            group.truncate(self.dns.limits.addresses_max);
            let (mut targets, mut unknown) = (Vec::new(), Unknown::Nothing);
            for (service, found) in addresses_of_all(library, group).await {
                match found {
                    Ok(hosts) => {
                        ttl = ttl.min(hosts.ttl);
                        if hosts.unknown != Unknown::Nothing {
                            unknown = Unknown::Targets;
                        }
                        let address = |ip| SocketAddr::new(ip, service.port);
                        let addresses = hosts.addresses.into_iter().map(address).collect();
                        targets.push((service.weight, addresses));
                    }
                    Err(failure) if failure.result == LookupResult::NotFound => {}
                    Err(failure) => {
                        unknown = Unknown::Targets;
                        failed = Some(failure);
                    }
                }
            }
            if !targets.is_empty() {
                let found = self.bounded(weighted(&targets), ttl, unknown);
                return Ok(Found { left_out: found.left_out + beyond, ..found });
            }
        }
        Err(failed.unwrap_or_else(|| Failure {
            result: LookupResult::NotFound,
            detail: "the service has no target with an address".to_owned(),
        }))
    }

    /// What asks; made anew when the system's file has changed.
    fn library(&self) -> Result<TokioResolver, Failure> {
        let text = if self.dns.servers.is_empty() { resolv_conf() } else { Ok(Vec::new()) };
        let text = text.map_err(|error| Failure::of(format!("`{RESOLV_CONF}`: {error}")))?;
        let mut made = lock(&self.made);
        if let Some((_, known)) = made.as_ref().filter(|(known, _)| *known == text) {
            return Ok(known.clone());
        }
        let (config, options) = if self.dns.servers.is_empty() {
            parse_resolv_conf(&text)
                .map_err(|error| Failure::of(format!("`{RESOLV_CONF}`: {error}")))?
        } else {
            let servers = self.dns.servers.iter().map(|address| name_server(*address));
            (ResolverConfig::from_name_servers(servers.collect()), ResolverOpts::default())
        };
        let builder = Library::builder_with_config(config, TokioRuntimeProvider::default());
        let built = builder.with_options(within(options, &self.dns.limits)).build();
        let built = built.map_err(|error| Failure::of(error.to_string()))?;
        *made = Some((text, built.clone()));
        Ok(built)
    }
}

/// Options that keep to the bounds.
fn within(mut options: ResolverOpts, limits: &DnsLimits) -> ResolverOpts {
    options.timeout = limits.timeout / QUESTION_SHARE;
    options.attempts = REPETITIONS;
    options.cache_size = 0;
    // A name that is to be found there too is written without `dns://`.
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// A file that is not there names nobody.
fn resolv_conf() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match File::open(RESOLV_CONF) {
        Ok(file) => drop(file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let names_any = text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"nameserver"));
    if !names_any {
        text.extend_from_slice(b"\n");
        text.extend_from_slice(RESOLV_CONF_DEFAULT);
    }
    Ok(text)
}

/// The addresses of a host; at least one.
struct Hosts {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    unknown: Unknown,
}

async fn hosts(library: &TokioResolver, name: &str) -> Result<Hosts, Failure> {
    let (v4, v6) =
        tokio::join!(library.lookup(name, RecordType::A), library.lookup(name, RecordType::AAAA),);
    let (mut v4, mut v6) = (v4.map_err(Failure::from), v6.map_err(Failure::from));
    let is_unknown = |failure: &Failure| failure.result != LookupResult::NotFound;
    // Where the system searches for a name, one family may be found while the other, which the name does
    // not have, is searched for further on. The name that was found decides.
    match (&v4, &v6) {
        (Ok(found), Err(failure)) if is_unknown(failure) && was_searched(found, name) => {
            v6 = exactly(library, found, RecordType::AAAA).await;
        }
        (Err(failure), Ok(found)) if is_unknown(failure) && was_searched(found, name) => {
            v4 = exactly(library, found, RecordType::A).await;
        }
        _ => {}
    }
    let unknown = match (&v4, &v6) {
        (Ok(_), Err(failure)) if is_unknown(failure) => Unknown::V6,
        (Err(failure), Ok(_)) if is_unknown(failure) => Unknown::V4,
        _ => Unknown::Nothing,
    };
    let answers: Vec<Answer> = match (v4, v6) {
        // Both have to be of one name where the system searches for it.
        (Ok(v4), Ok(v6)) if v4.query().name() == v6.query().name() => vec![v4, v6],
        (Ok(answer), _) | (_, Ok(answer)) => vec![answer],
        // What is not an answer counts for more than one that there is nothing.
        (Err(v4), Err(v6)) => return Err(if is_unknown(&v4) { v4 } else { v6 }),
    };
    let ttl = answers.iter().map(ttl_of).min().unwrap_or_default();
    let records = answers.iter().flat_map(Answer::answers);
    let addresses = interleaved(records.filter_map(|record| match record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }));
    if addresses.is_empty() {
        let detail = "the answer has no address that a server can have".to_owned();
        return Err(Failure { result: LookupResult::NotFound, detail });
    }
    Ok(Hosts { addresses, ttl, unknown })
}

/// Is it found under another name than it was asked for?
fn was_searched(found: &Answer, name: &str) -> bool {
    let found = found.query().name().to_ascii();
    let without_root = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    without_root(&found) != without_root(name)
}

/// The records of the very name that `found` is about.
async fn exactly(
    library: &TokioResolver,
    found: &Answer,
    kind: RecordType,
) -> Result<Answer, Failure> {
    library.lookup(found.query().name().clone(), kind).await.map_err(Failure::from)
}

/// The addresses of the targets of services, of [`TARGETS_AT_ONCE`] at the same time.
async fn addresses_of_all(
    library: &TokioResolver,
    services: Vec<Service>,
) -> Vec<(Service, Result<Hosts, Failure>)> {
    let mut all = Vec::with_capacity(services.len());
    for some in services.chunks(TARGETS_AT_ONCE) {
        let mut lookups = JoinSet::new();
        for (at, service) in some.iter().enumerate() {
            let (library, target) = (library.clone(), service.target.clone());
            lookups.spawn(async move { (at, hosts(&library, &target).await) });
        }
        let mut found = lookups.join_all().await;
        found.sort_by_key(|(at, _)| *at);
        all.extend(some.iter().cloned().zip(found.into_iter().map(|(_, found)| found)));
    }
    all
}

/// The shortest of all records, those on the way to the address included.
fn ttl_of(answer: &Answer) -> Duration {
    let ttl = answer.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(ttl.unwrap_or_default().into())
}

impl Failure {
    fn of(detail: String) -> Self {
        Failure { result: LookupResult::Failed, detail }
    }

    /// There was no answer within `limit`.
    pub(super) fn timeout(limit: Duration) -> Self {
        let detail = format!("no answer within {} ms", limit.as_millis());
        Failure { result: LookupResult::Timeout, detail }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        let result = match &error {
            NetError::Timeout => LookupResult::Timeout,
            error if error.is_no_records_found() => LookupResult::NotFound,
            _ => LookupResult::Failed,
        };
        // The library shows the question with all its fields.
        let detail = match result {
            LookupResult::NotFound if error.is_nx_domain() => "there is no such name".to_owned(),
            LookupResult::NotFound => "the name has no such record".to_owned(),
            _ => error.to_string(),
        };
        Failure { result, detail }
    }
}
