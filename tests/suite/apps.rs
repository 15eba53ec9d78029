//! Ordinary apps in four languages, each with a sidecar, that call each other in plain HTTP on loopback:
//! what is between the sidecars is sealed, everybody is known to whom they call, and certificates change
//! under load without anybody noticing.
//!
//! What a single pair of sidecars says to each other stands in `tls_upstream`, what becomes of broken
//! files in `tls_rotation`.

use http::header::HOST;
use http::{Method, Request, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, Incoming};
use pillion_tests::peer::{Peer, program, python_with, skip};
use pillion_tests::process::repository;
use pillion_tests::relay::Carried;
use pillion_tests::tls::Connector;
use pillion_tests::{
    Authority, BodyExt, Client, Issued, Origin, Protocol, Relay, Reply, Sidecar, until,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The apps, by the language they are written in.
const NAMES: [&str; 4] = ["python", "node", "ruby", "rust"];

/// How often the certificates of all sidecars change.
const ROTATIONS: u64 = 20;

/// A name that a client claims and does not have.
const SPOOFED: &str = "spiffe://example.test/sa/root";

/// What was said in plain text on one side or the other, and must not be seen in between.
const WORDS: [&str; 9] =
    ["POST", "HTTP", "PRI *", "/via", ".mesh", "x-secret", "s3cr3t", "content-type", "spiffe"];

fn identity(name: &str) -> String {
    format!("spiffe://example.test/sa/{name}")
}

/// What an app saw of a request, and what it was told by the one it asked.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    app: String,
    method: String,
    body: String,
    /// The values of `x-forwarded-client-cert`.
    callers: Vec<String>,
    next: Option<Box<Answer>>,
    #[serde(default)]
    error: String,
}

impl Answer {
    fn of(reply: &Reply) -> Answer {
        let answer: Answer = serde_json::from_slice(&reply.body)
            .unwrap_or_else(|_| panic!("not an app's: {} {}", reply.status, reply.text()));
        assert_eq!(reply.status, 200, "{answer:?}");
        answer
    }

    /// It and those behind it were asked along `path`, each on behalf of the one before.
    fn came_along(&self, path: &[&str]) {
        let mut at = self;
        for (caller, app) in path.iter().zip(&path[1..]) {
            assert_eq!(at.app, *app);
            let [seen] = &at.callers[..] else { panic!("{app} heard of {:?}", at.callers) };
            assert!(seen.starts_with(&format!("By={};", identity(app))), "{app}: {seen}");
            assert!(seen.contains(&format!("URI={}", identity(caller))), "{app}: {seen}");
            assert!(!seen.contains(SPOOFED), "{app}: {seen}");
            if let Some(next) = &at.next {
                at = next;
            }
        }
        assert_eq!(Some(&&*at.app), path.last());
    }
}

/// The programs that run the apps that are not of this process.
struct Languages {
    python: PathBuf,
    node: PathBuf,
    ruby: PathBuf,
}

impl Languages {
    /// None: one of them is missing.
    fn here() -> Option<Languages> {
        let ruby = program("ruby")?;
        let mut command = Command::new(&ruby);
        let webrick = command.args(["-e", "require 'webrick'"]).output();
        if !webrick.is_ok_and(|output| output.status.success()) {
            skip("ruby has no webrick");
            return None;
        }
        Some(Languages { python: python_with("http.server")?, node: program("node")?, ruby })
    }

    fn command(&self, name: &str) -> Command {
        let (program, script) = match name {
            "python" => (&self.python, "app.py"),
            "node" => (&self.node, "app.js"),
            _ => (&self.ruby, "app.rb"),
        };
        let mut command = Command::new(program);
        command.arg(repository().join("tests/peers").join(script)).arg(name);
        command
    }
}

enum App {
    Outside(Peer),
    Ours(Origin),
}

impl App {
    async fn start(languages: &Languages, name: &'static str, outbound: SocketAddr) -> App {
        if name == "rust" {
            let handler = move |request| ours(request, name, outbound);
            return App::Ours(Origin::serve(handler).await);
        }
        let mut command = languages.command(name);
        command.arg(outbound.to_string());
        App::Outside(Peer::start(command).await)
    }

    fn address(&self) -> SocketAddr {
        match self {
            App::Outside(peer) => peer.address,
            App::Ours(origin) => origin.address,
        }
    }
}

/// What the scripts do, on hyper.
async fn ours(request: Request<Incoming>, name: &str, outbound: SocketAddr) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let callers = head.headers.get_all("x-forwarded-client-cert").iter().map(text).collect();
    let mut seen = Answer {
        app: name.to_owned(),
        method: head.method.to_string(),
        body: String::from_utf8_lossy(&body).into_owned(),
        callers,
        ..Answer::default()
    };
    let mut names = head.uri.path().split('/').skip(2);
    if let Some(other) = names.next() {
        let path = names.fold("/via".to_owned(), |path, name| format!("{path}/{name}"));
        let mut request =
            Request::builder().method(head.method).uri(path).header(HOST, format!("{other}.mesh"));
        for (field, value) in head.headers.iter().filter(|(it, _)| it.as_str().starts_with("x-")) {
            request = request.header(field, value);
        }
        let request = request.body(full(body)).expect("the request is valid");
        let mut client = Client::connect(outbound, Protocol::Http1).await;
        seen.next = Some(Box::new(Answer::of(&client.fetch(request).await)));
    }
    Response::new(full(serde_json::to_vec(&seen).expect("texts are always JSON")))
}

/// One app with its sidecar, and the relays before both.
struct Place {
    name: &'static str,
    sidecar: Sidecar,
    app: App,
    /// Between its sidecar and the app.
    near: Relay,
    /// Between the other sidecars and its own.
    between: Relay,
}

impl Place {
    fn outbound(&self) -> SocketAddr {
        self.sidecar.listener("outbound")
    }

    /// Replaces the pair, the certificate first: for a moment the two do not belong together.
    fn rotate(&self, issued: &Issued) {
        self.sidecar.write("own.crt", &issued.certificate);
        self.sidecar.write("own.key", &issued.key);
    }
}

struct Mesh {
    authority: Authority,
    places: Vec<Place>,
}

impl Mesh {
    /// Sidecars that speak `protocol` to each other. None: a language is missing.
    async fn of(protocol: &str) -> Option<Mesh> {
        let languages = Languages::here()?;
        let authority = Authority::new("mesh");
        let mut relays = Vec::new();
        for name in NAMES {
            relays.push((name, Relay::new().await, Relay::new().await));
        }
        let addresses: Vec<_> =
            relays.iter().map(|(name, _, between)| (*name, between.address)).collect();
        let mut places = Vec::new();
        for (name, near, between) in relays {
            let own = authority.issue(&[&identity(name), "in.mesh"]);
            let sidecar = Sidecar::with(&file(name, near.address, &addresses, protocol))
                .file("own.crt", &own.certificate)
                .file("own.key", &own.key)
                .file("ca.crt", &authority.pem)
                .start()
                .await;
            between.to(sidecar.listener("inbound"));
            let app = App::start(&languages, name, sidecar.listener("outbound")).await;
            near.to(app.address());
            places.push(Place { name, sidecar, app, near, between });
        }
        Some(Mesh { authority, places })
    }

    fn place(&self, name: &str) -> &Place {
        self.places.iter().find(|place| place.name == name).expect("it is in the mesh")
    }
}

/// The configuration of the sidecar of `name`.
fn file(
    name: &str,
    app: SocketAddr,
    places: &[(&'static str, SocketAddr)],
    protocol: &str,
) -> String {
    let mut text = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[access_log]\n\
         [upstream.app]\nendpoints = [\"{app}\"]\n\
         [[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:0\"\n\
         route = [{{ upstream = \"app\" }}]\n\
         [listener.tls]\ncertificates = [{{ certificate = \"own.crt\", key = \"own.key\" }}]\n\
         client_auth = \"required\"\nclient_ca = \"ca.crt\"\nclient_allow = [\"{}\"]\n\
         [[listener]]\nname = \"outbound\"\naddress = \"127.0.0.1:0\"\n",
        identity("*")
    );
    let others = || places.iter().filter(|(other, _)| *other != name);
    for (other, _) in others() {
        text.push_str(&format!(
            "[[listener.route]]\nmatch = {{ host = \"{other}.mesh\" }}\nupstream = \"{other}\"\n"
        ));
    }
    for (other, address) in others() {
        text.push_str(&format!(
            "[upstream.{other}]\nendpoints = [\"{address}\"]\nprotocol = \"{protocol}\"\n\
             limits = {{ keepalive_timeout = \"10m\" }}\n\
             tls = {{ ca = \"ca.crt\", verify_sans = [\"{}\"], certificate = \"own.crt\", \
             key = \"own.key\" }}\n",
            identity(other)
        ));
    }
    text
}

/// `/via/...` along `path`, to be sent to where the first one's calls go.
fn call(client_speaks: Protocol, path: &[&str], body: &str) -> Request<Body> {
    let rest: String = path[2..].iter().map(|name| format!("/{name}")).collect();
    let request = Request::builder().method(Method::POST);
    let host = format!("{}.mesh", path[1]);
    let request = match client_speaks {
        Protocol::Http1 => request.uri(format!("/via{rest}")).header(HOST, host),
        Protocol::Http2 => {
            request.uri(format!("http://{host}/via{rest}")).version(http::Version::HTTP_2)
        }
    };
    let request = request
        .header("x-secret", "s3cr3t-field")
        .header("x-forwarded-client-cert", format!("By={SPOOFED};URI={SPOOFED}"));
    request.body(full(body.to_owned())).expect("the request is valid")
}

/// Is it a sequence of records of TLS, and nothing else (RFC 8446 section 5.1)? The last one may be cut.
fn is_sealed(mut bytes: &[u8]) -> bool {
    while let [kind, major, minor, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let is_record =
            matches!((kind, major, minor), (20..=23, 3, 1 | 3)) && length <= 16 * 1024 + 256;
        if !is_record {
            return false;
        }
        bytes = &rest[length.min(rest.len())..];
    }
    true
}

/// The words that are in what was carried.
fn seen(carried: &[Carried]) -> Vec<&'static str> {
    let texts: Vec<_> = carried
        .iter()
        .flat_map(|it| [&it.sent, &it.answered])
        .map(|bytes| String::from_utf8_lossy(bytes).to_lowercase())
        .collect();
    let is_seen = |word: &&str| texts.iter().any(|text| text.contains(&word.to_lowercase()));
    WORDS.into_iter().filter(is_seen).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_of_four_languages_call_each_other_and_nothing_is_readable_between_their_sidecars() {
    for protocol in ["http1", "auto"] {
        let Some(mesh) = Mesh::of(protocol).await else { return };
        for from in NAMES {
            for to in NAMES.into_iter().filter(|to| *to != from) {
                // The app is asked where it listens, and asks the other one through its sidecar.
                let app = &mesh.place(from).app;
                let mut client = Client::connect(app.address(), Protocol::Http1).await;
                let request = call(Protocol::Http1, &["", from, to], "s3cr3t body");
                let answer = Answer::of(&client.fetch(request).await);
                let next = answer.next.expect("it has asked");
                next.came_along(&[from, to]);
                assert_eq!((&*next.method, &*next.body), ("POST", "s3cr3t body"), "{from} {to}");

                // Who was asked knows by whom, and who has asked knows where it went.
                let peer = format!("\"peer\":\"{}\"", identity(from));
                let line = mesh.place(to).sidecar.output.line(&peer).await;
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(line["listener"], "inbound");
                assert_eq!(line["peer"], identity(from));
                let route = format!("\"upstream\":\"{to}\"");
                let line = mesh.place(from).sidecar.output.line(&route).await;
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!((&line["status"], &line["path"]), (&200.into(), &"/via".into()));
                assert_eq!(line["endpoint"], mesh.place(to).between.address.to_string());
                assert_eq!(line["endpoint_peer"], identity(to));
            }
        }
        // All of them, one behind the other, and round about.
        let path = ["python", "node", "ruby", "rust", "python"];
        let mut client = Client::connect(mesh.place("python").outbound(), Protocol::Http1).await;
        let request = call(Protocol::Http1, &path, "s3cr3t body");
        Answer::of(&client.fetch(request).await).came_along(&path);

        for place in &mesh.places {
            let carried = place.between.carried();
            assert!(!carried.is_empty());
            for carried in &carried {
                assert!(carried.sent.len() > 500 && carried.answered.len() > 500);
                assert!(is_sealed(&carried.sent), "{protocol}: towards {}", place.name);
                assert!(is_sealed(&carried.answered), "{protocol}: from {}", place.name);
            }
            // The protocol is agreed on in the open, by its name.
            let words: Vec<_> = seen(&carried).into_iter().filter(|word| *word != "HTTP").collect();
            assert!(words.is_empty(), "{protocol}: {words:?} on the way to {}", place.name);
            // The same words are there to be seen where it is plain.
            let plain = seen(&place.near.carried());
            for word in ["POST", "HTTP", "/via", "x-secret", "s3cr3t", "spiffe"] {
                assert!(plain.contains(&word), "{word} before {}", place.name);
            }
        }
    }
}

/// Asks along `path` through `address` until it is told to stop, on one connection.
async fn load(
    address: SocketAddr,
    protocol: Protocol,
    path: Vec<&'static str>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) {
    let mut client = Client::connect(address, protocol).await;
    while !stop.load(Ordering::SeqCst) {
        let body = format!("{} {}", path[0], done.load(Ordering::SeqCst));
        let answer = Answer::of(&client.fetch(call(protocol, &path, &body)).await);
        assert_eq!(answer.body, body);
        answer.came_along(&path);
        assert!(client.is_open(), "the connection of the client of {} was closed", path[0]);
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_whole_mesh_change_under_load_and_no_request_or_connection_is_lost() {
    for protocol in ["http1", "h2"] {
        let Some(mesh) = Mesh::of(protocol).await else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let (mut clients, mut counts) = (tokio::task::JoinSet::new(), Vec::new());
        for (at, place) in mesh.places.iter().enumerate() {
            // From each place round about.
            let path = (0..=NAMES.len()).map(|step| NAMES[(at + step) % NAMES.len()]);
            let speaks = if at % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
            let done = Arc::<AtomicUsize>::default();
            counts.push(done.clone());
            clients.spawn(load(place.outbound(), speaks, path.collect(), stop.clone(), done));
        }
        let all_went_on = async |what: &str| {
            let before: Vec<_> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
            until(what, async || {
                let mut pairs = counts.iter().zip(&before);
                pairs.all(|(now, before)| now.load(Ordering::SeqCst) > before + 1).then_some(())
            })
            .await;
        };
        all_went_on("the first requests").await;
        let opened = |mesh: &Mesh| -> usize {
            mesh.places.iter().map(|place| place.between.connections()).sum()
        };
        let before = opened(&mesh);
        for turn in 0..ROTATIONS {
            let mut issued = Vec::new();
            for place in &mesh.places {
                let own = mesh.authority.issue(&[&identity(place.name), "in.mesh"]);
                place.rotate(&own);
                issued.push(own);
            }
            for (place, own) in mesh.places.iter().zip(&issued) {
                place.sidecar.generation(turn + 2).await;
                let connector = Connector::new(&mesh.authority, "in.mesh", Some(own), &[]);
                let stream = connector.stream(place.sidecar.listener("inbound")).await;
                let stream = stream.expect("a handshake");
                let shown = stream.get_ref().1.peer_certificates().expect("a certificate");
                assert!(shown[0].to_vec() == own.der(), "{}, turn {turn}", place.name);
            }
            all_went_on("requests after the change").await;
        }
        let after = opened(&mesh);
        stop.store(true, Ordering::SeqCst);
        while let Some(client) = clients.join_next().await {
            client.expect("no request failed and no connection was closed");
        }
        if protocol == "h2" {
            assert_eq!(after, before, "the connections are those of before");
        }
        for place in &mesh.places {
            assert_eq!(place.between.ended(), 0, "{protocol}: connections to {}", place.name);
            let failures = place.sidecar.metric("pillion_upstream_failures_total", &[]).await;
            let errors = place.sidecar.metric("pillion_request_errors_total", &[]).await;
            let retries = place.sidecar.metric("pillion_upstream_retries_total", &[]).await;
            assert_eq!((failures, errors, retries), (0.0, 0.0, 0.0), "{}", place.name);
        }
    }
}

#[tokio::test]
async fn a_caller_without_an_identity_of_the_mesh_comes_in_nowhere() {
    let Some(mesh) = Mesh::of("auto").await else { return };
    let stranger = Authority::new("elsewhere").issue(&[&identity("python")]);
    let outsider = mesh.authority.issue(&["spiffe://elsewhere.test/sa/python"]);
    for place in &mesh.places {
        for identity in [None, Some(&stranger), Some(&outsider)] {
            let connector = Connector::new(&mesh.authority, "in.mesh", identity, &["http/1.1"]);
            // In TLS 1.3 the client hears of a refusal only when it reads.
            let Ok(stream) = connector.stream(place.between.address).await else { continue };
            let mut client = Client::over(stream, Protocol::Http1).await;
            let request = client.request(Method::GET, "/via").body(empty());
            let fetched = client.try_fetch(request.expect("the request is valid")).await;
            assert!(fetched.is_err(), "{}: {fetched:?}", place.name);
        }
        assert_eq!(place.near.connections(), 0, "{} hears of nobody", place.name);
    }
}
