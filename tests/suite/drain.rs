//! Stopping: readiness goes off, what is in flight finishes, the whole has a bound, a second signal
//! cuts it short, and no guest can hold it up.

use http::Response;
use pillion_tests::client::full;
use pillion_tests::{Origin, Protocol, Sidecar, Wire, within};
use tokio::sync::mpsc;

/// An origin that tells when it is asked, and answers when it is told.
async fn held() -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (asked, was_asked) = mpsc::channel(8);
    let (release, released) = mpsc::channel::<()>(8);
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let origin = Origin::serve(move |_| {
        let (asked, released) = (asked.clone(), released.clone());
        async move {
            asked.send(()).await.expect("the test listens");
            released.lock().await.recv().await;
            Response::new(full("finished"))
        }
    })
    .await;
    (origin, was_asked, release)
}

#[tokio::test]
async fn requests_in_flight_finish_and_then_the_process_ends_with_success() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (origin, mut asked, release) = held().await;
        let mut sidecar = Sidecar::new().origin(&origin).start().await;
        sidecar.ready_is(200).await;
        let mut client = sidecar.connect(protocol).await;
        let request = tokio::spawn(async move { client.get("/").await });
        within("the origin to be asked", asked.recv()).await;
        sidecar.terminate();
        sidecar.ready_is(503).await;
        release.send(()).await.expect("the origin waits");
        let reply = request.await.expect("the client does not panic");
        assert_eq!((reply.status, reply.text().as_str()), (200, "finished"), "{protocol:?}");
        if protocol == Protocol::Http1 {
            assert_eq!(reply.header("connection"), "close");
        }
        assert_eq!(sidecar.exit_code().await, 0, "{protocol:?}");
    }
}

#[tokio::test]
async fn connections_without_a_request_are_closed_at_once() {
    let origin = Origin::echo().await;
    let mut sidecar = Sidecar::new().origin(&origin).start().await;
    let mut http1 = sidecar.connect(Protocol::Http1).await;
    let mut http2 = sidecar.connect(Protocol::Http2).await;
    for client in [&mut http1, &mut http2] {
        assert_eq!(client.get("/").await.status, 200);
    }
    sidecar.terminate();
    http1.closed().await;
    http2.closed().await;
    assert_eq!(sidecar.exit_code().await, 0);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut() {
    let (origin, mut asked, _release) = held().await;
    let setup = Sidecar::new().origin(&origin).runtime("drain_timeout = \"500ms\"");
    let mut sidecar = setup.start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within("the origin to be asked", asked.recv()).await;
    sidecar.terminate();
    sidecar.exit_code().await;
    let (answer, _) = wire.rest().await;
    assert!(!String::from_utf8_lossy(&answer).contains("finished"));
}

#[tokio::test]
async fn a_second_signal_cuts_the_wait_short() {
    let (origin, mut asked, _release) = held().await;
    let setup = Sidecar::new().origin(&origin).runtime("drain_timeout = \"1h\"");
    let mut sidecar = setup.start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within("the origin to be asked", asked.recv()).await;
    sidecar.terminate();
    sidecar.ready_is(503).await;
    sidecar.terminate();
    sidecar.exit_code().await;
}

#[tokio::test]
async fn a_guest_that_spins_does_not_keep_the_process_from_ending() {
    let origin = Origin::echo().await;
    let mut sidecar = Sidecar::new()
        .origin(&origin)
        .runtime("drain_timeout = \"500ms\"\nworkers = 1")
        .guest("spin", "limits = { time = \"10s\", exchange_time = \"60s\" }")
        .start()
        .await;
    let mut wire: Wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Poison: 1\r\n\r\n").await;
    // The worker is in the guest: the connection behind it gets no answer.
    let mut behind = sidecar.wire().await;
    behind.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    sidecar.terminate();
    let ended = std::pin::pin!(sidecar.exit_code());
    within("the process to end", ended).await;
}

#[tokio::test]
async fn the_admin_can_drain_too() {
    let origin = Origin::echo().await;
    let mut sidecar = Sidecar::new().origin(&origin).start().await;
    assert_eq!(sidecar.admin_as("POST", "/drain").await.status, 202);
    assert_eq!(sidecar.exit_code().await, 0);
}

#[tokio::test]
async fn an_upgraded_connection_is_cut_when_the_time_is_over() {
    let origin = super::upgrade::echoing().await;
    let setup = Sidecar::new().origin(&origin).runtime("drain_timeout = \"500ms\"");
    let mut sidecar = setup.start().await;
    let mut wire = sidecar.wire().await;
    super::upgrade::switch(&mut wire).await;
    sidecar.terminate();
    wire.send("late").await;
    assert_eq!(wire.exactly(4).await, b"late", "a tunnel goes on while there is time");
    sidecar.exit_code().await;
    wire.rest().await;
}
