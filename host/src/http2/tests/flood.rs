use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `GET http://a/` with indexed fields of the static table, and a literal `:authority`.
const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn opened(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, HEAD)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// How a connection ended.
#[derive(Debug)]
struct Ended {
    requests: usize,
    error: Option<String>,
    after: Duration,
    /// The error code of the last GOAWAY the client got.
    goaway: Option<u32>,
    /// Streams the client saw reset, and why.
    resets: Vec<(u32, u32)>,
}

/// Sends `preface` and then each of `parts` once the server has come to rest; the client goes on
/// reading until the server closes.
async fn attack(limits: Http2Limits, parts: Vec<Vec<u8>>) -> Ended {
    let (near, far) = pipe();
    let start = tokio::time::Instant::now();
    let server = spawn_local(async move {
        let mut connection = match Connection::handshake(near, Rc::new(limits)).await {
            Ok(connection) => connection,
            Err(error) => return (0, Some(error.to_string())),
        };
        let mut requests = 0;
        loop {
            let mut head = RequestHead::default();
            match connection.accept(&mut head).await {
                Some(Ok(incoming)) => {
                    requests += 1;
                    // Held until the client is done with it.
                    let mut responder = incoming.responder;
                    spawn_local(async move {
                        let _ = poll_fn(|cx| responder.poll_reset(cx)).await;
                    });
                }
                Some(Err(AcceptError::Request(error))) => panic!("{error}"),
                Some(Err(AcceptError::Connection(ConnectionError::Violation(violation)))) => {
                    return (requests, Some(violation.to_string()));
                }
                Some(Err(AcceptError::Connection(error))) => {
                    return (requests, Some(error.to_string()));
                }
                None => return (requests, None),
            }
        }
    });
    let (mut reader, mut writer) = tokio::io::split(far);
    let received = spawn_local(async move {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        bytes
    });
    for part in parts {
        // It fails once the server has had enough.
        let _ = writer.write_all(&part).await;
        settle().await;
    }
    let (requests, error) = server.await.unwrap();
    let after = start.elapsed();
    let (goaway, resets) = codes(&received.await.unwrap());
    Ended { requests, error, after, goaway, resets }
}

/// The code of the last GOAWAY, and stream and code of every RST_STREAM.
fn codes(mut bytes: &[u8]) -> (Option<u32>, Vec<(u32, u32)>) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let (mut goaway, mut resets) = (None, Vec::new());
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let (frame, rest) = bytes.split_at(9 + length);
        match frame[3] {
            GOAWAY => goaway = Some(number(&frame[13..17])),
            RST_STREAM => resets.push((number(&frame[5..9]), number(&frame[9..13]))),
            _ => {}
        }
        bytes = rest;
    }
    (goaway, resets)
}

fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

const CALM: Option<u32> = Some(0xb);
/// How a connection ends of which the client only fell silent.
const SILENT: &str = "the peer did not answer a ping";
/// How one ends on which the `h2` crate found a flood.
const EXCESSIVE: &str =
    "the peer broke the HTTP/2 protocol: detected excessive load generating behavior";

#[test]
fn rapid_resets_end_the_connection() {
    let exchanges = |count: u32| {
        let mut parts = vec![hello()];
        for n in 0..count {
            // Two parts, so that every stream is accepted before it is reset.
            parts.push(opened(2 * n + 1));
            parts.push(reset(2 * n + 1));
        }
        parts
    };
    let limits = || Http2Limits { reset_ratio_streams: 1_000_000, ..Http2Limits::default() };
    for count in [199, 200] {
        let ended = run(attack(limits(), exchanges(count)));
        assert_eq!(ended.requests, count as usize);
        // What ended it came later.
        assert_eq!(ended.error.as_deref(), Some(SILENT));
    }
    let ended = run(attack(limits(), exchanges(201)));
    assert_eq!(ended.error.as_deref(), Some("too many streams were reset"));
    assert_eq!(ended.goaway, CALM);
    assert_eq!(ended.after.as_secs(), 0);

    let ended = run(attack(Http2Limits::default(), exchanges(120)));
    assert_eq!(ended.error.as_deref(), Some("too large a part of the streams was reset"));
    assert_eq!(ended.goaway, CALM);
    assert_eq!(ended.requests, 101);
}

#[test]
fn streams_reset_before_they_are_accepted_are_bounded() {
    for count in [19, 20, 21] {
        let mut burst = hello();
        for n in 0..count {
            burst.extend(opened(2 * n + 1));
            burst.extend(reset(2 * n + 1));
        }
        let ended = run(attack(Http2Limits::default(), vec![burst]));
        let (error, goaway) = if count <= 20 { (SILENT, None) } else { (EXCESSIVE, CALM) };
        assert_eq!(ended.error.as_deref(), Some(error), "{count}");
        assert_eq!(ended.goaway, goaway, "{count}");
    }
}

#[test]
fn streams_reset_for_errors_of_the_client_are_bounded() {
    let limits = || Http2Limits { error_resets: 5, ..Http2Limits::default() };
    for count in [4, 5, 6] {
        let mut parts = vec![hello()];
        for n in 0..count {
            // No `:method`.
            parts.push(frame(HEADERS, END_STREAM_AND_HEADERS, 2 * n + 1, &HEAD[1..]));
        }
        let ended = run(attack(limits(), parts));
        let (error, goaway) = if count <= 5 { (SILENT, None) } else { (EXCESSIVE, CALM) };
        assert_eq!(ended.error.as_deref(), Some(error), "{count}");
        assert_eq!(ended.goaway, goaway, "{count}");
        assert_eq!(ended.resets.len(), 5.min(count as usize));
    }
}

#[test]
fn a_reset_flood_in_one_write_reaches_no_stream() {
    let mut burst = vec![hello()];
    burst.push(opened(1));
    burst.push((0..201).flat_map(|_| reset(1)).collect());
    let limits = Http2Limits { reset_ratio_streams: 1_000_000, ..Http2Limits::default() };
    let ended = run(attack(limits, burst));
    assert_eq!(ended.error.as_deref(), Some("too many streams were reset"));
    assert_eq!(ended.goaway, CALM);
}

#[test]
fn floods_of_control_frames_end_the_connection() {
    let limits = || Http2Limits { control_frames: 50, ..Http2Limits::default() };
    let pings = |count: usize| {
        // The first SETTINGS and the acknowledgements count too: one each here.
        let mut parts = vec![hello(), frame(SETTINGS, 1, 0, &[])];
        parts.push((0..count).flat_map(|_| frame(PING, 0, 0, &[0; 8])).collect());
        parts
    };
    for count in [47, 48] {
        let ended = run(attack(limits(), pings(count)));
        assert_eq!(ended.error.as_deref(), Some(SILENT), "{count}");
    }
    let ended = run(attack(limits(), pings(49)));
    assert_eq!(ended.error.as_deref(), Some("too many control frames"));
    assert_eq!(ended.goaway, CALM);
    assert_eq!(ended.after.as_secs(), 0);
}

#[test]
fn a_header_block_is_finished_in_time_or_not_at_all() {
    // Without END_HEADERS; and with a payload that does not come.
    let endless = [frame(HEADERS, 1, 1, HEAD), opened(1)[..12].to_vec()];
    for begun in endless {
        let ended = run(attack(Http2Limits::default(), vec![hello(), begun]));
        assert_eq!(ended.error.as_deref(), Some("a header block was not completed in time"));
        assert_eq!(ended.after.as_secs(), 5);
        assert_eq!(ended.goaway, CALM);
        assert_eq!(ended.requests, 0);
    }
}

#[test]
fn empty_continuations_are_bounded() {
    let mut parts = vec![hello(), frame(HEADERS, 1, 1, HEAD)];
    parts.push((0..10).flat_map(|_| frame(CONTINUATION, 0, 1, &[])).collect());
    let ended = run(attack(Http2Limits::default(), parts));
    assert_eq!(ended.error.as_deref(), Some(EXCESSIVE));
    assert_eq!(ended.goaway, CALM);
}

#[test]
fn empty_data_frames_are_bounded() {
    let mut parts = vec![hello(), frame(HEADERS, 4, 1, HEAD)];
    parts.push((0..101).flat_map(|_| frame(0, 0, 1, &[])).collect());
    let ended = run(attack(Http2Limits::default(), parts));
    assert_eq!(ended.error.as_deref(), Some(EXCESSIVE));
    assert_eq!(ended.goaway, CALM);
}

#[test]
fn tiny_data_frames_are_bounded_while_nobody_reads() {
    let limits = |budget| Http2Limits { small_frames_bytes: budget, ..Http2Limits::default() };
    let parts = || {
        let mut parts = vec![hello(), frame(HEADERS, 4, 1, HEAD)];
        parts.push((0..100).flat_map(|_| frame(0, 0, 1, &[1])).collect());
        parts
    };
    // Each costs 255. The body is read by nobody, and dropping its reader gives the cost back, so
    // that only frames on their way count.
    let ended = run(attack_unread(limits(100 * 255), parts()));
    assert_eq!(ended.as_deref(), Some(SILENT));
    let ended = run(attack_unread(limits(100 * 255 - 1), parts()));
    assert_eq!(ended.as_deref(), Some(EXCESSIVE));
}

/// Like `attack`, with a server that holds bodies and reads none.
async fn attack_unread(limits: Http2Limits, parts: Vec<Vec<u8>>) -> Option<String> {
    let (near, mut far) = pipe();
    let server = spawn_local(async move {
        let mut connection = Connection::handshake(near, Rc::new(limits)).await.unwrap();
        let mut held = Vec::new();
        loop {
            match connection.accept(&mut RequestHead::default()).await {
                Some(Ok(incoming)) => held.push(incoming),
                Some(Err(error)) => {
                    return match error {
                        AcceptError::Connection(error) => Some(error.to_string()),
                        AcceptError::Request(error) => Some(error.to_string()),
                    };
                }
                None => return None,
            }
        }
    });
    for part in parts {
        far.write_all(&part).await.unwrap();
        settle().await;
    }
    server.await.unwrap()
}

#[test]
fn more_streams_than_allowed_are_refused() {
    for count in 99..=101 {
        let burst = (0..count).flat_map(|n| opened(2 * n + 1)).collect();
        let ended = run(attack(Http2Limits::default(), vec![hello(), burst]));
        assert_eq!(ended.requests, count.min(100) as usize);
        let refused = if count == 101 { vec![(201, 7)] } else { vec![] };
        assert_eq!(ended.resets, refused);
    }
}

#[test]
fn a_preface_comes_in_time() {
    // The client's settings belong to it (RFC 9113 section 3.4).
    let settings = hello();
    for length in [10, PREFACE.len(), PREFACE.len() + 5, settings.len() - 1] {
        let ended = run(attack(Http2Limits::default(), vec![settings[..length].to_vec()]));
        let error = "the connection preface was not completed in time";
        assert_eq!(ended.error.as_deref(), Some(error), "{length} bytes");
        assert_eq!(ended.after.as_secs(), 5, "{length} bytes");
    }
    let ended = run(attack(Http2Limits::default(), vec![settings]));
    assert_eq!(ended.error.as_deref(), Some(SILENT));
    let ended = run(attack(Http2Limits::default(), vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]));
    assert!(ended.error.is_some_and(|error| error.contains("protocol")));
}

#[test]
fn the_first_frame_is_the_settings() {
    for first in [frame(PING, 0, 0, &[0; 8]), opened(1), frame(SETTINGS, 1, 0, &[])] {
        let ended = run(attack(Http2Limits::default(), vec![[PREFACE, &first].concat()]));
        let error = "the peer did not begin with its settings";
        assert_eq!(ended.error.as_deref(), Some(error), "{first:?}");
        assert_eq!(ended.goaway, Some(1), "PROTOCOL_ERROR");
        assert_eq!((ended.requests, ended.after.as_secs()), (0, 0));
    }
}

#[test]
fn random_frames_never_panic_or_hang() {
    let mut state = 0x0123_4567_89ab_cdef_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..200 {
        let mut parts = vec![hello()];
        for _ in 0..random(20) {
            let payload: Vec<u8> = (0..random(40)).map(|_| random(256) as u8).collect();
            let payload = if random(3) == 0 { HEAD.to_vec() } else { payload };
            let (kind, flags) = (random(11) as u8, random(64) as u8);
            parts.push(frame(kind, flags, random(8) as u32, &payload));
        }
        run(attack_lenient(parts));
    }
}

/// Answers what it understands; any outcome but a panic or a hang will do.
async fn attack_lenient(parts: Vec<Vec<u8>>) {
    let (near, mut far) = pipe();
    let server = spawn_local(async move {
        let Ok(mut connection) = Connection::handshake(near, limits()).await else { return };
        loop {
            let mut head = RequestHead::default();
            match connection.accept(&mut head).await {
                Some(Ok(mut incoming)) => {
                    spawn_local(async move {
                        let _ = read_all(&mut incoming.body).await;
                        let _ =
                            incoming.responder.response_head(&ok_head(), BodyLength::None, true);
                    });
                }
                Some(Err(_)) => {}
                None => return,
            }
        }
    });
    for part in parts {
        if far.write_all(&part).await.is_err() {
            break;
        }
        settle().await;
    }
    drop(far);
    server.await.unwrap();
}
