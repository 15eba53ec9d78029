//! What is open for the whole run: downloads and uploads in numbered pieces, over HTTP/1.1 and
//! HTTP/2, and tunnels that echo. Each piece is looked at.

use crate::ledger::Ledger;
use crate::site::Site;
use bytes::Bytes;
use http::{Method, Request, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, BodySender, Incoming, streamed};
use pillion_tests::wire::Ending;
use pillion_tests::{BodyExt, Client, Origin, Protocol, Reply, Wire, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a piece: enough of them in a second for the rate that a client has to keep up.
const PIECE_BYTES: usize = 256;
/// Tunnels.
const TUNNELS: usize = 2;
const HANDSHAKE: &str = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Looks at pieces as they come, however they are cut.
#[derive(Default)]
struct Pieces {
    count: u64,
    rest: Vec<u8>,
}

impl Pieces {
    fn take(&mut self, data: &[u8]) {
        self.rest.extend_from_slice(data);
        while self.rest.len() >= PIECE_BYTES {
            let expected = piece(self.count);
            assert_eq!(self.rest[..PIECE_BYTES], expected, "piece {}", self.count);
            self.rest.drain(..PIECE_BYTES);
            self.count += 1;
        }
    }

    /// All pieces of a body that ends as it should, counted.
    async fn of(body: &mut Incoming) -> u64 {
        let mut pieces = Pieces::default();
        while let Some(frame) = within("a piece", body.frame()).await {
            let frame = frame.expect("the stream is not broken off");
            if let Some(data) = frame.data_ref() {
                pieces.take(data);
            }
        }
        assert!(pieces.rest.is_empty(), "the stream ended within a piece");
        pieces.count
    }
}

fn piece(number: u64) -> Bytes {
    format!("{number:0>width$}\n", width = PIECE_BYTES - 1).into()
}

/// Sends pieces until the run is over; how many.
async fn send(mut sender: BodySender, ledger: &Ledger) -> u64 {
    let mut pace = tokio::time::interval(PAUSE);
    let mut count = 0;
    while !ledger.stopped() {
        pace.tick().await;
        let sent = within("room for a piece", sender.send_data(piece(count))).await;
        sent.expect("the stream is not broken off");
        count += 1;
    }
    count
}

/// The origin of streams: the number of pieces is what a download ends with and an upload answers.
pub(crate) async fn origin(ledger: Arc<Ledger>) -> Origin {
    Origin::serve(move |request| serve(request, Arc::clone(&ledger))).await
}

async fn serve(request: Request<Incoming>, ledger: Arc<Ledger>) -> Response<Body> {
    if request.method() == Method::POST {
        let count = Pieces::of(&mut request.into_body()).await;
        return Response::new(full(count.to_string()));
    }
    let (sender, body) = streamed();
    tokio::spawn(async move { send(sender, &ledger).await });
    Response::new(body)
}

/// The origin of tunnels, which echoes.
pub(crate) async fn tunnels() -> Origin {
    Origin::script(|mut wire, _| async move {
        if wire.head().await.is_none() {
            return;
        }
        wire.send(SWITCH).await;
        loop {
            let bytes = wire.exactly(8).await;
            if bytes.is_empty() {
                return;
            }
            wire.send(bytes).await;
        }
    })
    .await
}

/// Opens all of them.
pub(crate) async fn begin(site: &Site, ledger: &Arc<Ledger>, tasks: &mut JoinSet<()>) {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = site.sidecar.connect(protocol).await;
        tasks.spawn(download(client, Arc::clone(ledger)));
        let client = site.sidecar.connect(protocol).await;
        tasks.spawn(upload(client, Arc::clone(ledger)));
    }
    for _ in 0..TUNNELS {
        let mut wire = site.sidecar.wire().await;
        wire.send(HANDSHAKE).await;
        assert_eq!(wire.head().await.expect("the origin answers").status(), 101);
        tasks.spawn(tunnel(wire, Arc::clone(ledger)));
    }
}

async fn download(mut client: Client, ledger: Arc<Ledger>) {
    let request = client.request(Method::GET, "/streams/down").body(empty());
    let response = client.send(request.expect("the request is valid")).await;
    let mut response = response.expect("the head comes first");
    assert_eq!(response.status(), 200);
    assert!(Pieces::of(response.body_mut()).await > 0);
    assert!(ledger.stopped(), "a download ended before the run did");
    ledger.fine("download for the whole run");
}

async fn upload(mut client: Client, ledger: Arc<Ledger>) {
    let (sender, body) = streamed();
    let request = client.request(Method::POST, "/streams/up").body(body);
    let answer = async {
        let response = client.send_slowly(request.expect("the request is valid")).await;
        Reply::read(response.expect("the upload is taken")).await.expect("the answer is whole")
    };
    let (reply, count) = tokio::join!(answer, send(sender, &ledger));
    assert_eq!((reply.status, reply.text()), (200, count.to_string()));
    ledger.fine("upload for the whole run");
}

async fn tunnel(mut wire: Wire, ledger: Arc<Ledger>) {
    let mut pace = tokio::time::interval(PAUSE);
    let mut count = 0_u32;
    while !ledger.stopped() {
        pace.tick().await;
        let text = format!("{count:08}");
        wire.send(&text).await;
        assert_eq!(wire.exactly(8).await, text.as_bytes(), "a tunnel was cut");
        count += 1;
    }
    wire.finish().await;
    assert_eq!(wire.ended().await, Ending::Closed);
    ledger.fine("tunnel for the whole run");
}
