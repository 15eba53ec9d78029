//! The yardstick: the least that a reverse proxy on hyper can be, and an origin for all.
//!
//! `bench-proxy proxy LISTEN ORIGIN` forwards, with a pool of kept-alive connections and nothing
//! else; `bench-proxy jobs LISTEN ORIGIN` does the work of the three shipped filters too (`jobs`);
//! `bench-proxy origin LISTEN` answers (`origin`); `bench-proxy spin SECONDS` keeps a processor from
//! sleeping. Errors of single connections end them silently.

mod jobs;
mod origin;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jobs::Jobs;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let local = LocalSet::new();
    let served = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["proxy", listen, origin] => local.block_on(&runtime, proxy(listen, origin, None)),
        ["jobs", listen, origin] => {
            local.block_on(&runtime, proxy(listen, origin, Some(Jobs::default())))
        }
        ["origin", listen] => local.block_on(&runtime, origin::serve(listen)),
        ["spin", seconds] => spin(seconds),
        _ => {
            Err("usage: bench-proxy (proxy | jobs) LISTEN ORIGIN | origin LISTEN | spin SECONDS"
                .into())
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes what time there is.
fn spin(seconds: &str) -> Result<(), Failure> {
    let length = std::time::Duration::from_secs(seconds.parse()?);
    let started = std::time::Instant::now();
    while started.elapsed() < length {
        std::hint::spin_loop();
    }
    Ok(())
}

/// What the connections share.
struct Shared {
    origin: SocketAddr,
    pool: RefCell<Vec<SendRequest<Incoming>>>,
    jobs: Option<RefCell<Jobs>>,
}

async fn proxy(listen: &str, origin: &str, jobs: Option<Jobs>) -> Result<(), Failure> {
    let origin: SocketAddr = origin.parse()?;
    let shared = Shared { origin, pool: RefCell::default(), jobs: jobs.map(RefCell::new) };
    let shared = Rc::new(shared);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            let forward = service_fn(move |request| forward(request, peer.ip(), shared.clone()));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), forward).await;
        });
    }
}

async fn forward(
    mut request: Request<Incoming>,
    client: IpAddr,
    shared: Rc<Shared>,
) -> Result<Response<Incoming>, Failure> {
    if let Some(jobs) = &shared.jobs {
        jobs.borrow_mut().request(client, request.headers_mut())?;
    }
    let kept = shared.pool.borrow_mut().pop();
    let mut sender = match kept.filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(shared.origin).await?,
    };
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    shared.pool.borrow_mut().push(sender);
    if shared.jobs.is_some() {
        jobs::response(response.headers_mut());
    }
    Ok(response)
}

async fn connect(origin: SocketAddr) -> Result<SendRequest<Incoming>, Failure> {
    let stream = TcpStream::connect(origin).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    Ok(sender)
}
