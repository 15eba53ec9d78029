//! Two sessions over a real connection: what passes, what ends it, and what waits.

use super::super::Stream;
use super::*;
use pillion_tests::tls::{Connector, server_session};
use pillion_tests::{Authority, Issued};
use std::future::poll_fn;
use tokio::net::TcpListener;

/// A server's end and a client's, after the handshake.
async fn pair() -> (Tls, Tls) {
    let authority = Authority::new("a");
    let (mut server, mut client) = begun(&authority, &authority.issue(&["a.test"])).await;
    let (served, asked) = tokio::join!(
        poll_fn(|cx| server.poll_handshake(cx)),
        poll_fn(|cx| client.poll_handshake(cx))
    );
    served.unwrap();
    asked.unwrap();
    (server, client)
}

async fn begun(authority: &Authority, identity: &Issued) -> (Tls, Tls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let session = Connector::new(authority, "a.test", None, &[]).session();
    let client = Tls::new(near.unwrap(), Connection::Client(session));
    let server = Tls::new(far.unwrap().0, Connection::Server(server_session(identity)));
    (server, client)
}

async fn read(stream: &Stream) -> io::Result<Vec<u8>> {
    let mut buffer = BytesMut::with_capacity(buffers::BUFFER_BYTES);
    poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await?;
    Ok(buffer.to_vec())
}

async fn write(stream: &Stream, bytes: &[u8]) {
    let slices = [IoSlice::new(bytes)];
    let written = poll_fn(|cx| stream.poll_write_vectored(cx, &slices)).await.unwrap();
    assert_eq!(written, bytes.len());
    poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
}

fn streams(server: Tls, client: Tls) -> (Stream, Stream) {
    (Stream::tls(Box::new(server)), Stream::tls(Box::new(client)))
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_is_one() {
    let (server, client) = pair().await;
    let (server, client) = streams(server, client);
    write(&client, b"question").await;
    assert_eq!(read(&server).await.unwrap(), b"question");
    write(&server, b"answer").await;
    assert_eq!(read(&client).await.unwrap(), b"answer");
    poll_fn(|cx| client.poll_shutdown(cx)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(&server).await.unwrap(), b"");
        poll_fn(|cx| server.poll_read_ready(cx)).await.unwrap();
    }
    // One direction has ended, the other has not.
    write(&server, b"still").await;
    assert_eq!(read(&client).await.unwrap(), b"still");
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_an_error() {
    let (server, client) = pair().await;
    let (server, client) = streams(server, client);
    // Whoever closes without having read everything resets, which is an error anyway.
    write(&server, b"x").await;
    read(&client).await.unwrap();
    write(&client, b"half").await;
    drop(client);
    assert_eq!(read(&server).await.unwrap(), b"half");
    for _ in 0..2 {
        assert_eq!(read(&server).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn whoever_is_dropped_idle_may_say_goodbye_and_whoever_aborts_may_not() {
    for aborts in [false, true] {
        let (server, client) = pair().await;
        let (server, client) = streams(server, client);
        if aborts {
            client.abort();
            poll_fn(|cx| client.poll_shutdown(cx)).await.unwrap();
        }
        client.say_goodbye();
        drop(client);
        assert_eq!(read(&server).await.is_ok(), !aborts);
    }
}

#[tokio::test]
async fn an_idle_connection_is_quiet_whatever_the_session_says_for_itself() {
    let (server, client) = pair().await;
    let (server, client) = streams(server, client);
    // The tickets that follow a handshake of TLS 1.3 have arrived with this.
    write(&server, b"x").await;
    poll_fn(|cx| client.poll_read_ready(cx)).await.unwrap();
    assert!(!client.quiet());
    assert_eq!(read(&client).await.unwrap(), b"x");
    assert!(client.quiet() && server.quiet());

    let (mut server, client) = pair().await;
    // Nothing but tickets: the socket has bytes, the connection has none.
    poll_fn(|cx| client.socket().poll_read_ready(cx)).await.unwrap();
    let client = Stream::tls(Box::new(client));
    assert!(client.quiet());
    poll_fn(|cx| server.poll_shutdown(cx)).await.unwrap();
    poll_fn(|cx| client.poll_read_ready(cx)).await.unwrap();
    assert!(!client.quiet(), "a goodbye is an end");
}

#[tokio::test]
async fn a_writer_waits_for_a_reader_that_does_not_read() {
    let (server, client) = pair().await;
    let (server, client) = streams(server, client);
    let bytes = vec![7; 256 * 1024];
    let mut cx = Context::from_waker(Waker::noop());
    let mut sent = 0;
    // The socket's buffers fill, then the session's, and then it waits.
    while let Poll::Ready(written) = server.poll_write_vectored(&mut cx, &[IoSlice::new(&bytes)]) {
        let written = written.unwrap();
        assert!(0 < written && written <= 64 * 1024, "{written} at once");
        sent += written;
        assert!(sent < 64 << 20, "nothing holds it back");
    }
    assert!(server.poll_flush(&mut cx).is_pending());
    let mut received = 0;
    while received < sent {
        let flushed = poll_fn(|cx| Poll::Ready(server.poll_flush(cx))).await;
        assert!(!matches!(flushed, Poll::Ready(Err(_))));
        received += read(&client).await.unwrap().len();
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn no_more_than_a_piece_is_decrypted_ahead_of_a_reader() {
    let (server, client) = pair().await;
    let (server, client) = streams(server, client);
    let whole: Vec<u8> = (0..60_000_u32).map(|number| number as u8).collect();
    write(&server, &whole).await;
    let mut got = Vec::new();
    while got.len() < whole.len() {
        let mut small = BytesMut::with_capacity(1000);
        let room = small.capacity();
        let read = poll_fn(|cx| client.poll_read(cx, &mut small)).await.unwrap();
        assert!(read <= room, "no more than there is room for");
        assert_eq!(read, small.len());
        got.extend_from_slice(&small);
    }
    assert!(got == whole);
}

#[tokio::test]
async fn a_peer_that_is_not_believed_is_told_and_both_fail() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let (mut server, mut client) = begun(&one, &other.issue(&["a.test"])).await;
    let (served, asked) = tokio::join!(
        poll_fn(|cx| server.poll_handshake(cx)),
        poll_fn(|cx| client.poll_handshake(cx))
    );
    assert!(matches!(asked, Err(HandshakeError::Refused(rustls::Error::InvalidCertificate(_)))));
    assert!(matches!(served, Err(HandshakeError::Refused(rustls::Error::AlertReceived(_)))));
    let again = poll_fn(|cx| server.poll_handshake(cx)).await;
    assert!(matches!(again, Err(HandshakeError::Refused(_))), "it stays so");
}

#[tokio::test]
async fn a_handshake_that_is_cut_off_is_closed() {
    let authority = Authority::new("a");
    let (mut server, client) = begun(&authority, &authority.issue(&["a.test"])).await;
    drop(client);
    let served = poll_fn(|cx| server.poll_handshake(cx)).await;
    assert!(matches!(served, Err(HandshakeError::Closed)));
}

#[test]
fn only_a_client_from_before_tls_1_2_without_signatures_is_outdated() {
    use rustls::PeerIncompatible as Incompatible;
    let unsigned = Incompatible::SignatureAlgorithmsExtensionRequired.into();
    let old = [22, 3, 1, 0, 50, 1, 0, 0, 46, 3, 2, 7];
    assert!(is_outdated(&unsigned, &old));
    for (at, byte) in [(0, 23), (1, 2), (5, 2), (9, 2), (10, 3), (10, 4)] {
        let mut other = old;
        other[at] = byte;
        assert!(!is_outdated(&unsigned, &other), "{other:?}");
    }
    for cut in [&old[..10], &old[5..], &[]] {
        assert!(!is_outdated(&unsigned, cut), "{cut:?}");
    }
    let another = Incompatible::NoCipherSuitesInCommon.into();
    assert!(!is_outdated(&another, &old));
}
