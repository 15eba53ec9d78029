//! Whole requests: the sidecar under callgrind, a client and an origin outside of it. One request at
//! a time on one connection, so that every run sees the same events in the same order.

use crate::callgrind::{Callgrind, of_one_round};
use crate::filters::THREE;
use pillion::app::{self, Options};
use pillion_tests::process::Running;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const PLAIN: &str = "a request through the sidecar, no filters";
const FILTERED: &str = "a request through the sidecar, three filters";

/// Everything that is counted here.
pub(crate) const NAMES: &[&str] = &[PLAIN, FILTERED];

/// Requests of the short run; the long one has three times as many.
const REQUESTS: u64 = 300;
/// Far more than a start, or an answer, takes under valgrind on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

const REQUEST: &[u8] = b"GET /v1/orders HTTP/1.1\r\nhost: orders.test\r\naccept: */*\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

/// The sidecar, until it is told to stop.
pub(crate) fn serve(file: &Path) -> Result<(), String> {
    let options =
        Options { config: file.to_owned(), log: Some("error".to_owned()), on_ready: None };
    app::run(options).map(drop).map_err(|error| error.to_string())
}

/// Counts the instructions of one request.
pub(crate) fn count(callgrind: &Callgrind, name: &str, cache: &Path) -> Result<u64, String> {
    let chain: &[&str] = if name == FILTERED { &THREE } else { &[] };
    let short = total(callgrind, name, chain, cache, REQUESTS)?;
    let long = total(callgrind, name, chain, cache, 3 * REQUESTS)?;
    Ok(of_one_round((short, REQUESTS), (long, 3 * REQUESTS)))
}

fn total(
    callgrind: &Callgrind,
    name: &str,
    chain: &[&str],
    cache: &Path,
    requests: u64,
) -> Result<u64, String> {
    let fail = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let origin = TcpListener::bind("127.0.0.1:0").map_err(fail("the origin"))?;
    let origin_address = origin.local_addr().map_err(fail("the origin"))?;
    std::thread::spawn(move || answer(&origin));
    let address = free_address().map_err(fail("a free port"))?;
    let profile = format!("{}-{requests}", name.replace([' ', ','], "-"));
    let file = callgrind.place().join(format!("{profile}.toml"));
    std::fs::write(&file, configuration(address, origin_address, chain, cache))
        .map_err(fail("the configuration"))?;

    let mut command = callgrind.command(&profile, &["serve".as_ref(), file.as_os_str()])?;
    let mut sidecar = Running::new(command.spawn().map_err(fail("valgrind"))?);
    let mut client = connect(address, &mut sidecar)?;
    client.set_read_timeout(Some(PATIENCE)).map_err(fail("the client"))?;
    for _ in 0..requests {
        exchange(&mut client).map_err(|error| format!("`{name}`: {error}"))?;
    }
    drop(client);
    sidecar.terminate();
    let status = sidecar.child().wait().map_err(fail("the sidecar"))?;
    if !status.success() {
        return Err(format!("`{name}`: the sidecar ended with {status}"));
    }
    callgrind.total(&profile)
}

fn configuration(address: SocketAddr, origin: SocketAddr, chain: &[&str], cache: &Path) -> String {
    // Everything takes fifty times as long as it does without valgrind.
    let limits = "limits = { time = \"1s\", exchange_time = \"10s\", configure_time = \"10s\" }";
    let filters = chain.iter().map(|name| {
        let keys = match *name {
            "headers" => {
                "config = { request = [{ set = { name = \"x-client\", value = \
                 \"${client.address}\" } }], response = [{ set = { name = \"x-served-by\", value = \
                 \"pillion\" } }] }"
            }
            "rate-limit" => {
                "grants = { rate-limit = { requests = 1000000000, per = \"1s\", burst = 1000000000 } }"
            }
            _ => "",
        };
        format!("[filter.{name}]\nsource = \"builtin:{name}\"\n{limits}\n{keys}\n")
    });
    let filters: String = filters.collect();
    format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n\
         [runtime]\nworkers = 1\nwatch = false\ncache_dir = {:?}\n\
         [[listener]]\nname = \"inbound\"\naddress = \"{address}\"\n\
         route = [{{ chain = {chain:?}, upstream = \"app\" }}]\n\
         [upstream.app]\nendpoints = [\"{origin}\"]\n{filters}",
        cache.display().to_string(),
    )
}

/// The one connection of the run, as soon as there is somebody to take it.
fn connect(address: SocketAddr, sidecar: &mut Running) -> Result<TcpStream, String> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(code) = sidecar.exit_code() {
            return Err(format!("the sidecar ended with code {code} before it answered"));
        }
        if let Ok(stream) = TcpStream::connect(address) {
            return Ok(stream);
        }
        std::thread::yield_now();
    }
    Err("the sidecar did not listen".to_owned())
}

/// One request and its whole answer.
fn exchange(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(b"\r\n\r\nhello") {
        match client.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    let is_ok = answer.starts_with(b"HTTP/1.1 200 ");
    is_ok.then_some(()).ok_or_else(|| std::io::Error::other("the answer is not 200"))
}

/// Answers the requests of each connection, one write each; ends with this program.
fn answer(origin: &TcpListener) {
    for stream in origin.incoming().flatten() {
        std::thread::spawn(move || {
            let mut stream = stream;
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                request.extend_from_slice(&piece[..length]);
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
