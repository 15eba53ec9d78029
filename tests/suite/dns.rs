//! Endpoints by their names: addresses come and go while requests run, a name server that fails takes
//! nothing away, and a family that leads nowhere costs nobody the connect timeout.
//!
//! The name server is dnsmasq, on loopback.

use http::Response;
use pillion_tests::client::full;
use pillion_tests::names::NameServer;
use pillion_tests::peer;
use pillion_tests::process::{binaries, has_thread, repository};
use pillion_tests::sidecar::Setup;
use pillion_tests::tls::{Front, Goodbye};
use pillion_tests::{Authority, Origin, Protocol, Sidecar, until, within};
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Loopback addresses, all of this host.
const HERE: [IpAddr; 4] = [ip(2), ip(3), ip(4), ip(5)];

/// Asks soon again after a failure, and has patience with a busy machine.
const SOON: &str =
    "timeout = \"20s\"\nretry_min = \"20ms\"\nretry_max = \"100ms\"\nttl_min = \"100ms\"";

const LOOKUPS: &str = "pillion_dns_lookups_total";

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, last))
}

/// A sidecar whose upstream is `app.test` at `port`, as `server` has it.
fn to(setup: Setup, server: &NameServer, port: u16, limits: &str) -> Setup {
    setup.named(&format!("dns://app.test:{port}")).tables(&server.table(limits))
}

/// The addresses that `/status` shows.
async fn shown(sidecar: &Sidecar) -> Vec<String> {
    let status = sidecar.status().await;
    let endpoints = status["upstreams"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    endpoints.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn shows(sidecar: &Sidecar, expected: &[SocketAddr]) {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    until("the addresses to be known", async || (shown(sidecar).await == expected).then_some(()))
        .await;
}

#[tokio::test]
async fn no_request_fails_when_an_address_moves_under_load() {
    moves(Sidecar::new()).await;
}

#[tokio::test]
async fn no_call_fails_when_an_address_moves_under_load() {
    moves(Sidecar::new().h2c()).await;
}

/// Moves the addresses of an upstream while clients send requests, some with a body.
async fn moves(setup: Setup) {
    let [before, after] = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let hosts = [("app", &HERE[..1])];
    let server = NameServer::start(setup.directory(), 1, &hosts, &[]).await;
    let Some(server) = server else { return };
    let sidecar = to(setup, &server, before.address.port(), SOON).start().await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for protocol in [Protocol::Http1, Protocol::Http1, Protocol::Http2, Protocol::Http2] {
        let (mut client, ends) = (sidecar.connect(protocol).await, ends.clone());
        clients.spawn(async move {
            let mut answered = 0;
            while !ends.load(Ordering::SeqCst) {
                let reply = match answered % 2 {
                    0 => client.get("/").await,
                    _ => client.post("/", vec![b'x'; 10_000]).await,
                };
                assert_eq!(reply.status, 200);
                answered += 1;
            }
            answered
        });
    }
    until("load", async || (before.requests() > 20).then_some(())).await;
    assert_eq!(after.requests(), 0);
    for (nth, (addresses, origin)) in
        [(&HERE[1..2], &after), (&HERE[..1], &before), (&HERE[..2], &after), (&HERE[1..2], &after)]
            .into_iter()
            .enumerate()
    {
        server.change(&[("app", addresses)]).await;
        let places: Vec<_> =
            addresses.iter().map(|ip| SocketAddr::new(*ip, origin.address.port())).collect();
        shows(&sidecar, &places).await;
        let served = origin.requests();
        let goes_on = async || (origin.requests() > served + 20).then_some(());
        until(&format!("requests at the new address, {nth}"), goes_on).await;
    }
    ends.store(true, Ordering::SeqCst);
    while let Some(answered) = clients.join_next().await {
        assert!(answered.expect("no request failed") > 0);
    }
    let failures = sidecar.metric("pillion_upstream_failures_total", &[]).await;
    assert_eq!(failures, 0.0);
}

#[tokio::test]
async fn an_endpoint_that_leaves_finishes_what_it_serves_and_its_idle_connections_close() {
    let [before, after] = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &HERE[..1])], &[]).await;
    let Some(server) = server else { return };
    for (h2c, nth) in [(false, 0), (true, 1)] {
        let setup = if h2c { Sidecar::new().h2c() } else { Sidecar::new() };
        let setup = to(setup, &server, before.address.port(), SOON);
        // Only leaving closes them.
        let setup = setup.upstream_limits("keepalive_timeout = \"1h\"");
        let sidecar = setup.start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        assert_eq!(client.get("/").await.status, 200);
        // A request whose body is not complete keeps its connection busy.
        let client = sidecar.connect(Protocol::Http1).await;
        let request = client.request(http::Method::POST, "/");
        let (body, streamed) = pillion_tests::origin::streamed();
        let request = request.body(streamed).expect("the request is valid");
        let mut slow = client;
        let slow = tokio::spawn(async move { slow.fetch(request).await.status });
        let arrived = async || (before.requests() > nth * 2 + 1).then_some(());
        until("the slow request", arrived).await;
        server.change(&[("app", &HERE[1..2])]).await;
        shows(&sidecar, &[after.address]).await;
        let labels = ["upstream=\"app\""];
        let connections = |left: f64| {
            sidecar.metric_is("pillion_upstream_connections", &labels, move |open| open == left)
        };
        if !h2c {
            connections(1.0).await;
        }
        drop(body);
        assert_eq!(slow.await.expect("the request does not fail"), 200);
        connections(0.0).await;
        assert_eq!(sidecar.get("/").await.status, 200);
        server.change(&[("app", &HERE[..1])]).await;
    }
    assert_eq!((before.requests(), after.requests()), (4, 2));
}

#[tokio::test]
async fn each_name_is_looked_up_when_its_time_is_over() {
    let [origin, _other] = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let setup = Sidecar::new();
    let options = ["host-record=short.test,127.0.0.2,1", "host-record=long.test,127.0.0.3,300"];
    let server = NameServer::start(setup.directory(), 60, &[], &options).await;
    let Some(server) = server else { return };
    let port = origin.address.port();
    let setup = setup.named(&format!("dns://long.test:{port}"));
    let setup = setup.named(&format!("dns://short.test:{port}"));
    let sidecar =
        setup.tables(&server.table("timeout = \"1m\"\nttl_min = \"100ms\"")).start().await;
    until("four lookups", async || (server.questions("A", "short") >= 4).then_some(())).await;
    for kind in ["A", "AAAA"] {
        assert_eq!(server.questions(kind, "long"), 1, "{kind}");
    }
    let labels = ["upstream=\"app\"", "result=\"answered\""];
    assert!(sidecar.metric(LOOKUPS, &labels).await >= 4.0);
    assert_eq!(sidecar.metric("pillion_dns_addresses", &[]).await, 2.0);
    assert!(sidecar.metric("pillion_dns_answered_seconds", &[]).await > 1e9);
}

#[tokio::test]
async fn a_name_server_that_dies_takes_nothing_away() {
    let [origin, later] = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &HERE[..1])], &[]).await;
    let Some(mut server) = server else { return };
    // A server that is gone is not waited for.
    let limits = SOON.replace("20s", "500ms");
    let sidecar = to(setup, &server, origin.address.port(), &limits).start().await;
    shows(&sidecar, &[origin.address]).await;
    assert_eq!(sidecar.get("/").await.status, 200);
    server.kill();
    let has_failed = async || {
        let failed = sidecar.metric(LOOKUPS, &["result=\"failed\""]).await;
        let late = sidecar.metric(LOOKUPS, &["result=\"timeout\""]).await;
        (failed + late >= 3.0).then_some(())
    };
    until("lookups to fail", has_failed).await;
    for _ in 0..5 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    // A reload keeps them too.
    sidecar.edit("[listener.limits]", "[listener.limits]\nhead_fields = 50");
    sidecar.generation(2).await;
    assert_eq!(sidecar.get("/").await.status, 200);
    // An answer that there is nothing is no better.
    server.start_again(&[]).await;
    server.change(&[]).await;
    sidecar.metric_is(LOOKUPS, &["result=\"not_found\""], |count| count >= 2.0).await;
    assert_eq!(sidecar.get("/").await.status, 200);
    assert_eq!(later.requests(), 0);
    server.change(&[("app", &HERE[1..2])]).await;
    shows(&sidecar, &[later.address]).await;
    assert_eq!(sidecar.get("/").await.status, 200);
    assert_eq!(later.requests(), 1);
    let message = "a name could not be looked up; addresses that are known of it stay in use";
    assert!(!sidecar.log.messages(message).is_empty());
}

#[tokio::test]
async fn a_sidecar_starts_before_the_name_is_there() {
    let [origin] = Origin::echoes_at([HERE[0]]).await;
    let setup = Sidecar::new();
    let Some(server) = NameServer::start(setup.directory(), 1, &[], &[]).await else { return };
    let sidecar = to(setup, &server, origin.address.port(), SOON).start().await;
    sidecar.metric_is(LOOKUPS, &["result=\"not_found\""], |count| count >= 1.0).await;
    let reply = sidecar.get("/").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(reply.header("proxy-status"), "pillion; error=dns_error");
    sidecar.ready_is(200).await;
    server.change(&[("app", &HERE[..1])]).await;
    shows(&sidecar, &[origin.address]).await;
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn a_name_server_that_says_nothing_has_a_word_of_its_own() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port can be bound");
    let address = silent.local_addr().expect("a bound socket has an address");
    let dns = format!("[dns]\nservers = [\"{address}\"]\nlimits = {{ timeout = \"50ms\" }}");
    let sidecar = Sidecar::new().named("dns://app.test:80").tables(&dns).start().await;
    let reply = sidecar.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("proxy-status"), "pillion; error=dns_timeout");
    sidecar.metric_is(LOOKUPS, &["result=\"timeout\""], |count| count >= 1.0).await;
}

#[tokio::test]
async fn a_name_has_so_many_addresses() {
    let origins = Origin::echoes_at(HERE).await;
    let setup = Sidecar::new();
    let Some(server) = NameServer::start(setup.directory(), 1, &[], &[]).await else { return };
    let port = origins[0].address.port();
    let limits = format!("{SOON}\naddresses_max = 3");
    let sidecar = to(setup, &server, port, &limits).start().await;
    const LEFT_OUT: &str = "pillion_dns_addresses_left_out_total";
    for count in [2, 3, 4] {
        server.change(&[("app", &HERE[..count])]).await;
        let used = &HERE[..count.min(3)];
        let places: Vec<_> = used.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        shows(&sidecar, &places).await;
        let left_out = sidecar.metric(LEFT_OUT, &[]).await;
        assert!(count > 3 || left_out == 0.0, "{count}: {left_out}");
    }
    sidecar.metric_is(LEFT_OUT, &[], |left_out| left_out >= 1.0).await;
    let message = "a name has more addresses than `dns.limits.addresses_max`";
    sidecar.log.event("a warning", |event| event.message() == message).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_datagram_is_asked_for_over_tcp() {
    let addresses: Vec<IpAddr> = (1..=120).map(ip).collect();
    let setup = Sidecar::new();
    let hosts = [("app", &addresses[..])];
    let Some(server) = NameServer::start(setup.directory(), 60, &hosts, &[]).await else { return };
    let sidecar = to(setup, &server, 9, SOON).start().await;
    sidecar.metric_is("pillion_dns_addresses", &[], |known| known == 64.0).await;
    assert_eq!(sidecar.metric("pillion_dns_addresses_left_out_total", &[]).await, 56.0);
    assert!(server.questions("A", "app") >= 2, "in a datagram, and over TCP");
}

#[tokio::test]
async fn a_service_has_ports_priorities_and_weights() {
    let (often, seldom) = (Origin::echo().await, Origin::echo().await);
    let spare = Origin::echo().await;
    let setup = Sidecar::new();
    let record = |origin: &Origin, priority: u16, weight: u16| {
        let port = origin.address.port();
        format!("srv-host=_http._tcp.svc.test,app.test,{port},{priority},{weight}")
    };
    let first = [record(&often, 10, 3), record(&seldom, 10, 1), record(&spare, 20, 100)];
    let options: Vec<&str> = first.iter().map(String::as_str).collect();
    let hosts = [("app", &[ip(1)][..])];
    let server = NameServer::start(setup.directory(), 1, &hosts, &options).await;
    let Some(mut server) = server else { return };
    let setup = setup.named("dns+srv://_http._tcp.svc.test").tables(&server.table(SOON));
    let sidecar = setup.runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..400 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(often.requests() + seldom.requests(), 400);
    assert!((50..150).contains(&seldom.requests()), "{}", seldom.requests());
    server.kill();
    server.start_again(&[options[2]]).await;
    shows(&sidecar, &[spare.address]).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(spare.requests(), 1);
}

#[tokio::test]
async fn a_family_that_leads_nowhere_does_not_cost_the_connect_timeout() {
    let here = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let Some((hole, _kept)) = Origin::unreachable_at(here).await else {
        return peer::skip("there is no IPv6 on loopback");
    };
    let (port, requests) = (hole.port(), 20);
    let answers = tokio::net::TcpListener::bind((ip(1), port)).await;
    let Ok(answers) = answers else { return peer::skip("the port is taken") };
    let origin = Origin::echo().await;
    // Both families have one port: bytes are carried from there to the origin.
    tokio::spawn(async move {
        while let Ok((mut one, _)) = answers.accept().await {
            let mut other = tokio::net::TcpStream::connect(origin.address).await.expect("it is up");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut one, &mut other).await });
        }
    });
    let setup = Sidecar::new();
    let hosts = [("app", &[IpAddr::V6(Ipv6Addr::LOCALHOST), ip(1)][..])];
    let server = NameServer::start(setup.directory(), 1, &hosts, &[]).await;
    let Some(server) = server else { return };
    for keys in ["", "balance = \"least_request\""] {
        let setup = to(Sidecar::new(), &server, port, SOON).upstream(keys);
        let times = "connect_timeout = \"2m\"\nconnect_race_delay = \"20ms\"";
        let sidecar = setup.upstream_limits(times).start().await;
        let all = async {
            for _ in 0..requests {
                assert_eq!(sidecar.get("/").await.status, 200);
            }
        };
        within("every request, before one connect timeout", all).await;
        assert_eq!(shown(&sidecar).await.len(), 2);
    }
}

#[tokio::test]
async fn a_family_that_refuses_leaves_its_requests_to_the_other() {
    let [origin] = Origin::echoes_at([ip(1)]).await;
    let setup = Sidecar::new();
    let hosts = [("app", &[IpAddr::V6(Ipv6Addr::LOCALHOST), ip(1)][..])];
    let server = NameServer::start(setup.directory(), 1, &hosts, &[]).await;
    let Some(server) = server else { return };
    // What is refused is not waited for.
    let setup = to(setup, &server, origin.address.port(), SOON);
    let setup = setup.upstream_limits("connect_race_delay = \"10s\"\nconnect_timeout = \"2m\"");
    let sidecar = setup.start().await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    assert_eq!(origin.requests(), 10);
}

#[tokio::test]
async fn health_checks_follow_the_addresses() {
    let [origin, _taken] = Origin::echoes_at([HERE[0], HERE[2]]).await;
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &HERE[..1])], &[]).await;
    let Some(server) = server else { return };
    let health = "health = { check = \"tcp\", interval = \"20ms\", unhealthy = 1 }";
    let setup = to(setup, &server, origin.address.port(), SOON).upstream(health);
    let sidecar = setup.start().await;
    const ENDPOINTS: &str = "pillion_upstream_endpoints";
    let unhealthy = ["state=\"unhealthy\""];
    sidecar.metric_is(ENDPOINTS, &["state=\"available\""], |count| count == 1.0).await;
    // Nothing listens at the second.
    server.change(&[("app", &HERE[..2])]).await;
    sidecar.metric_is(ENDPOINTS, &unhealthy, |count| count == 1.0).await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    server.change(&[("app", &HERE[..1])]).await;
    shows(&sidecar, &[origin.address]).await;
    sidecar.metric_is(ENDPOINTS, &unhealthy, |count| count == 0.0).await;
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn a_hash_finds_its_endpoint_among_those_that_there_are() {
    let origins = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let port = origins[0].address.port();
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &HERE[..1])], &[]).await;
    let Some(server) = server else { return };
    let setup = to(setup, &server, port, SOON);
    let setup = setup.upstream("balance = \"maglev\"\nhash_key = \"header:x-user\"");
    let sidecar = setup.start().await;
    let all = async || {
        for user in 0..40 {
            let user = user.to_string();
            assert_eq!(sidecar.get_with("/", &[("x-user", &user)]).await.status, 200);
        }
    };
    all().await;
    assert_eq!(origins.each_ref().map(Origin::requests), [40, 0]);
    server.change(&[("app", &HERE[..2])]).await;
    shows(&sidecar, &[origins[0].address, origins[1].address]).await;
    all().await;
    let [first, second] = origins.each_ref().map(Origin::requests);
    assert!(first > 40 && second > 0, "{first} {second}");
    all().await;
    let again = origins.each_ref().map(Origin::requests);
    assert_eq!(again, [first + (first - 40), second * 2], "the same users meet the same ones");
}

#[tokio::test]
async fn a_certificate_has_the_name_as_it_is_written() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &[ip(1)][..])], &[]).await;
    let Some(server) = server else { return };
    for (name, status) in [("app.test", 200), ("127.0.0.1", 502)] {
        let identity = authority.issue(&[name]);
        let front = Front::before(origin.address, &identity, None, &[], Goodbye::Said).await;
        let setup = Sidecar::new().file("ca.crt", &authority.pem);
        let setup = to(setup, &server, front.address.port(), SOON);
        let sidecar = setup.upstream("tls = { ca = \"ca.crt\" }").start().await;
        assert_eq!(sidecar.get("/").await.status, status, "{name}");
    }
}

#[tokio::test]
async fn without_servers_the_system_says_whom_to_ask_and_where_to_search() {
    let programs = ["dnsmasq", "curl"].map(peer::program);
    let [Some(dnsmasq), Some(curl)] = programs else { return };
    let namespaces = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--net"]);
        command
    };
    let mut allowed = namespaces();
    let allowed = allowed
        .args(["ip", "link", "set", "lo", "up"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        return peer::tell("skipped: namespaces are not to be had here");
    }
    let file = "[admin]\naddress = \"127.0.0.1:9901\"\n[[listener]]\nname = \"inbound\"\n\
                address = \"127.0.0.1:8080\"\nroute = [{ upstream = \"app\" }]\n\
                [upstream.app]\nendpoints = [\"dns://app:9\"]\n";
    let setup = Sidecar::new().file("pillion.toml", file);
    let mut command = namespaces();
    command.arg("sh").arg(repository().join("tests/peers/resolv_conf.sh"));
    command.arg(dnsmasq).arg(binaries().join("pillion")).arg(curl).arg(setup.directory());
    command.env("XDG_STATE_HOME", setup.directory()).env("XDG_CACHE_HOME", setup.directory());
    let (code, output, log) = peer::run(command).await;
    assert_eq!(code, 0, "{output}\n{log}");
    let of = |result: &str| {
        let label = format!("result=\"{result}\"}} ");
        let value = output.lines().find_map(|line| line.split(&label).nth(1));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    // One family of the name is found, the other is searched for to the end of the list.
    assert!(of("answered") >= Some(2), "{output}");
    assert_eq!((of("incomplete"), of("failed")), (Some(0), Some(0)), "{output}");
}

#[tokio::test]
async fn names_and_addresses_stand_side_by_side() {
    let [named, fixed] = Origin::echoes_at([HERE[0], HERE[1]]).await;
    let setup = Sidecar::new();
    let server = NameServer::start(setup.directory(), 1, &[("app", &HERE[..1])], &[]).await;
    let Some(server) = server else { return };
    let setup = to(setup.origin(&fixed), &server, named.address.port(), SOON);
    let sidecar = setup.runtime("workers = 1").start().await;
    assert_eq!(shown(&sidecar).await, [fixed.address, named.address].map(|it| it.to_string()));
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((named.requests(), fixed.requests()), (5, 5));
}

#[tokio::test]
async fn who_has_no_such_name_has_no_thread_for_it() {
    let held = Arc::new(Notify::new());
    let told = held.clone();
    let origin = Origin::serve(move |_| {
        told.notify_one();
        async { Response::new(full("x")) }
    })
    .await;
    let nobody = "[dns]\nservers = [\"127.0.0.1:9\"]";
    let sidecar = Sidecar::new().origin(&origin).tables(nobody).start().await;
    assert_eq!(sidecar.get("/").await.status, 200);
    within("the request", held.notified()).await;
    assert!(!has_thread(sidecar.id(), "names"));
    sidecar.edit("endpoints = [", "endpoints = [\"dns://app.test:80\", ");
    sidecar.generation(2).await;
    assert!(has_thread(sidecar.id(), "names"));
    let shows =
        async || sidecar.admin("/metrics").await.text().contains("pillion_dns_lookups_total{");
    assert!(shows().await);
    sidecar.edit("\"dns://app.test:80\", ", "");
    sidecar.generation(3).await;
    until("its numbers to go", async || (!shows().await).then_some(())).await;
}
