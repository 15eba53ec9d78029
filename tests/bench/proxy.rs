//! The yardstick: the least that a reverse proxy on hyper can be, and an origin for it.
//!
//! `bench-proxy proxy LISTEN ORIGIN` forwards, with a pool of kept-alive connections and nothing
//! else; `bench-proxy origin LISTEN` answers 200. Errors of single connections end them silently.

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::net::SocketAddr;
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
        ["proxy", listen, origin] => local.block_on(&runtime, proxy(listen, origin)),
        ["origin", listen] => local.block_on(&runtime, origin(listen)),
        _ => Err("usage: bench-proxy proxy LISTEN ORIGIN | origin LISTEN".into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn proxy(listen: &str, origin: &str) -> Result<(), Failure> {
    let origin: SocketAddr = origin.parse()?;
    let pool = Rc::new(RefCell::new(Vec::new()));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let pool = Rc::clone(&pool);
        spawn_local(async move {
            let forward = service_fn(move |request| forward(request, origin, Rc::clone(&pool)));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), forward).await;
        });
    }
}

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

async fn forward(
    request: Request<Incoming>,
    origin: SocketAddr,
    pool: Pool,
) -> Result<Response<Incoming>, Failure> {
    let kept = pool.borrow_mut().pop();
    let mut sender = match kept.filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(origin).await?,
    };
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    pool.borrow_mut().push(sender);
    Ok(response)
}

async fn connect(origin: SocketAddr) -> Result<SendRequest<Incoming>, Failure> {
    let stream = TcpStream::connect(origin).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    Ok(sender)
}

async fn origin(listen: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        spawn_local(async move {
            let answer = service_fn(|request: Request<Incoming>| async move {
                if !request.headers().contains_key(HOST) {
                    return Err(Failure::from("a request has a host"));
                }
                let body = bytes::Bytes::from_static(b"hello, hello, hello, hello, hello");
                Ok(Response::new(http_body_util::Full::new(body)))
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
