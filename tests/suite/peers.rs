//! Real programs on either side: Debian's nginx, Python's http.server, grpcio, websockets, curl.
//! Skipped with a visible line where one is missing; in CI none is.

use pillion_tests::peer::{Peer, program, python_with, run};
use pillion_tests::process::{Running, resident_kib};
use pillion_tests::{Origin, Protocol, Sidecar, until};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of the large file: not a round number of anything.
const LARGE: u64 = 200_000_003;
/// What the sidecar may take for it, in KiB.
const MEMORY_MAX_KIB: u64 = 8 * 1024;

/// nginx over `directory`, which also takes files by PUT.
async fn nginx(binary: &Path, directory: &Path) -> (SocketAddr, Running) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port can be bound");
    let address = free.local_addr().expect("a bound socket has an address");
    drop(free);
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .collect();
    let configuration = format!(
        "daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr warn;\n\
         events {{}}\nhttp {{\n{temporary}access_log off;\nclient_max_body_size 0;\n\
         server {{\nlisten {address};\nroot {directory};\ndav_methods PUT;\n}}\n}}\n"
    );
    let file = format!("{directory}/nginx.conf");
    std::fs::write(&file, configuration).expect("the directory can be written");
    let mut command = Command::new(binary);
    command.args(["-c", &file, "-p", &directory.to_string()]).stderr(Stdio::null());
    let process = Running::new(command.spawn().expect("nginx can be started"));
    until("nginx to listen", async || TcpStream::connect(address).ok().map(drop)).await;
    (address, process)
}

/// Bytes that tell their place, so that lost and swapped ones are seen.
fn write_large(path: &Path) {
    let mut file = std::io::BufWriter::new(File::create(path).expect("files can be made"));
    for number in 0..LARGE.div_ceil(8) {
        let left = (LARGE - number * 8).min(8) as usize;
        file.write_all(&number.to_le_bytes()[..left]).expect("files can be written");
    }
}

fn same(one: &Path, two: &Path) -> bool {
    let [mut one, mut two] = [one, two].map(|path| File::open(path).expect("the file is there"));
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = one.read(&mut a).expect("files can be read");
        if length == 0 {
            return two.read(&mut b).expect("files can be read") == 0;
        }
        if two.read_exact(&mut b[..length]).is_err() || a[..length] != b[..length] {
            return false;
        }
    }
}

/// Runs `command` and tells by how many KiB the process grew meanwhile, at most.
async fn growth(pid: u32, command: Command) -> (u64, (i32, String, String)) {
    let before = resident_kib(pid);
    let mut most = before;
    let mut work = Box::pin(run(command));
    let mut turn = tokio::time::interval(std::time::Duration::from_millis(10));
    let output = loop {
        tokio::select! {
            output = &mut work => break output,
            _ = turn.tick() => most = most.max(resident_kib(pid)),
        }
    };
    (most - before, output)
}

const THREE: [(&str, &str); 3] = [
    ("trace", ""),
    (
        "headers",
        "config = { response = [{ set = { name = \"x-served-by\", value = \"pillion\" } }] }",
    ),
    ("rate-limit", "grants = { rate-limit = { requests = 1, per = \"1h\", burst = 4 } }"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_to_nginx_shows_trace_headers_and_limit_and_large_files_cost_no_memory() {
    let (Some(binary), Some(curl)) = (program("nginx"), program("curl")) else { return };
    let setup = Sidecar::new();
    let place = setup.directory().to_owned();
    let (address, _nginx) = nginx(&binary, &place).await;
    std::fs::write(place.join("small.txt"), "hello from nginx\n").unwrap();
    write_large(&place.join("large.bin"));
    let setup = THREE.iter().fold(setup.endpoint(address), |s, (name, keys)| s.builtin(name, keys));
    let sidecar = setup.start().await;
    let curl = |arguments: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail-with-body", "--max-time", "300"]).args(arguments);
        command.current_dir(&place);
        command
    };

    let (code, head, error) = run(curl(&["-i", &sidecar.url("/small.txt")])).await;
    assert_eq!(code, 0, "{error}");
    for part in ["HTTP/1.1 200 OK", "server: nginx", "x-served-by: pillion", "hello from nginx"] {
        assert!(head.to_lowercase().contains(&part.to_lowercase()), "{part} is not in {head}");
    }

    let large = sidecar.url("/large.bin");
    let (grown, (code, _, error)) = growth(sidecar.id(), curl(&["-o", "got.bin", &large])).await;
    assert_eq!(code, 0, "{error}");
    assert!(same(&place.join("large.bin"), &place.join("got.bin")), "the download differs");
    assert!(grown < MEMORY_MAX_KIB, "the download cost {grown} KiB");

    let url = sidecar.url("/put.bin");
    let upload = curl(&["-T", "large.bin", &url]);
    let (grown, (code, _, error)) = growth(sidecar.id(), upload).await;
    assert_eq!(code, 0, "{error}");
    assert!(same(&place.join("large.bin"), &place.join("put.bin")), "the upload differs");
    assert!(grown < MEMORY_MAX_KIB, "the upload cost {grown} KiB");

    let h2c = run(curl(&["--http2-prior-knowledge", "-i", &sidecar.url("/small.txt")])).await;
    assert!(h2c.1.starts_with("HTTP/2 200"), "{h2c:?}");
    let refused = run(curl(&["-i", &sidecar.url("/small.txt")])).await;
    assert!(refused.1.starts_with("HTTP/1.1 429"), "{refused:?}");
    assert!(refused.1.to_lowercase().contains("retry-after:"), "{refused:?}");
}

#[tokio::test]
async fn an_http_server_of_python_is_an_origin_as_any() {
    let (Some(python), Some(curl)) = (python_with("http.server"), program("curl")) else { return };
    let setup = Sidecar::new();
    std::fs::write(setup.directory().join("page.txt"), "hello from python\n").unwrap();
    let mut command = Command::new(&python);
    let script = pillion_tests::process::repository().join("tests/peers/http_server.py");
    command.arg("-u").arg(script).arg(setup.directory());
    let server = Peer::start(command).await;
    let setup = setup.endpoint(server.address);
    let sidecar = setup.builtin("trace", "config = { response = [\"trace-id\"] }").start().await;
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let mut command = Command::new(&curl);
        command.args(["-sS", "-i", "--max-time", "60", version, &sidecar.url("/page.txt")]);
        let (code, text, error) = run(command).await;
        assert_eq!(code, 0, "{version}: {error}");
        assert!(text.contains("hello from python"), "{version}: {text}");
        assert!(text.to_lowercase().contains("x-trace-id: "), "{version}: {text}");
    }
    let reply = sidecar.connect(Protocol::Http2).await.get("/missing").await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn curl_waits_for_continue_and_uploads_in_chunks() {
    let Some(curl) = program("curl") else { return };
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).file("body.txt", vec![b'x'; 100_000]);
    let sidecar = setup.start().await;
    let cases: [&[&str]; 3] = [
        &["--data-binary", "@body.txt", "-H", "Expect: 100-continue"],
        &["-T", "body.txt", "-H", "Transfer-Encoding: chunked"],
        &["--http2-prior-knowledge", "--data-binary", "@body.txt"],
    ];
    for arguments in cases {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--max-time", "60"]).args(arguments).arg(sidecar.url("/"));
        command.current_dir(sidecar.directory());
        let (code, text, error) = run(command).await;
        assert_eq!(code, 0, "{arguments:?}: {error}");
        assert!(text.contains("\"body_bytes\":100000"), "{arguments:?}: {text:.300}");
    }
}

#[tokio::test]
async fn grpc_passes_unary_and_streaming_both_ways() {
    let Some(python) = python_with("grpc") else { return };
    let server = Peer::python(&python, "grpc_server.py").await;
    let setup = Sidecar::new().endpoint(server.address).h2c().builtin("trace", "");
    let sidecar = setup.start().await;
    let mut command = Command::new(&python);
    command.arg(pillion_tests::process::repository().join("tests/peers/grpc_client.py"));
    command.arg(sidecar.address().to_string()).env("no_proxy", "*").env("no_grpc_proxy", "*");
    let (code, text, error) = run(command).await;
    assert_eq!((code, text.as_str()), (0, "unary ok\nchat ok\nfailure ok\n"), "{error}");
}

#[tokio::test]
async fn a_websocket_passes() {
    let Some(python) = python_with("websockets") else { return };
    let server = Peer::python(&python, "websocket_server.py").await;
    let setup = Sidecar::new().endpoint(server.address).builtin("trace", "");
    let sidecar = setup.start().await;
    let mut command = Command::new(&python);
    command.arg(pillion_tests::process::repository().join("tests/peers/websocket_client.py"));
    command.arg(sidecar.address().to_string()).env("no_proxy", "*");
    let (code, text, error) = run(command).await;
    assert_eq!((code, text.as_str()), (0, "websocket ok\n"), "{error}");
}
