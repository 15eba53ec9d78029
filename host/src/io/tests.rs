//! Streams over real sockets and over memory.

use super::*;
use crate::io::buffers::BUFFER_BYTES;
use std::future::poll_fn;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Stream::tcp(near.unwrap()), far.unwrap().0)
}

async fn read(stream: &Stream, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.reserve(BUFFER_BYTES);
    poll_fn(|cx| stream.poll_read(cx, buffer)).await
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    let (near, mut far) = pair().await;
    assert!(near.peer_addr().unwrap() == far.local_addr().unwrap());
    assert!(near.local_addr().unwrap() == far.peer_addr().unwrap());
    let slices = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
    assert_eq!(poll_fn(|cx| near.poll_write_vectored(cx, &slices)).await.unwrap(), 5);
    poll_fn(|cx| near.poll_shutdown(cx)).await.unwrap();
    let mut seen = String::new();
    far.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "hello");

    far.write_all(b"answer").await.unwrap();
    poll_fn(|cx| near.poll_read_ready(cx)).await.unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(read(&near, &mut buffer).await.unwrap(), 6);
    assert_eq!(buffer, "answer");
    drop(far);
    assert_eq!(read(&near, &mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_is_quiet_until_something_comes() {
    let (near, mut far) = pair().await;
    assert!(near.quiet());
    far.write_all(b"x").await.unwrap();
    poll_fn(|cx| near.poll_read_ready(cx)).await.unwrap();
    assert!(!near.quiet());
    let mut buffer = BytesMut::new();
    read(&near, &mut buffer).await.unwrap();
    assert!(near.quiet());

    // A read that is exactly filled leaves readiness behind; a look at the socket settles it.
    far.write_all(b"y").await.unwrap();
    poll_fn(|cx| near.poll_read_ready(cx)).await.unwrap();
    let mut one = BytesMut::with_capacity(1);
    poll_fn(|cx| near.poll_read(cx, &mut one)).await.unwrap();
    assert_eq!(one, "y");
    assert!(near.quiet());

    drop(far);
    poll_fn(|cx| near.poll_read_ready(cx)).await.unwrap();
    assert!(!near.quiet(), "the end is not quiet");
}

#[tokio::test]
async fn a_connection_over_memory_is_quiet_until_something_comes() {
    let (near, mut far) = tokio::io::duplex(64);
    let near = Stream::over(near);
    assert!(near.quiet());
    far.write_all(b"hello").await.unwrap();
    assert!(!near.quiet());
    let mut buffer = BytesMut::new();
    assert_eq!(read(&near, &mut buffer).await.unwrap(), 5);
    assert_eq!(buffer, "hello");
    assert!(near.quiet());
    drop(far);
    assert!(!near.quiet());
}

#[tokio::test]
async fn an_aborted_connection_ends_in_a_reset_and_not_in_an_end() {
    let (near, mut far) = pair().await;
    near.abort();
    assert!(near.aborted());
    poll_fn(|cx| near.poll_shutdown(cx)).await.unwrap();
    drop(near);
    let mut seen = Vec::new();
    let error = far.read_to_end(&mut seen).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn bytes_given_back_are_read_first() {
    let (near, mut far) = pair().await;
    far.write_all(b"3").await.unwrap();
    near.unread(Bytes::from_static(b"2"));
    near.unread(Bytes::new());
    near.unread(Bytes::from_static(b"1"));
    assert!(!near.quiet());
    let mut seen = [0; 3];
    let mut clone = near.clone();
    clone.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"123");

    near.unread(Bytes::from_static(b"again"));
    poll_fn(|cx| near.poll_read_ready(cx)).await.unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(read(&near, &mut buffer).await.unwrap(), 5);
    assert_eq!(buffer, "again");
}
