//! The limits of an HTTP/2 connection, frame by frame: below and at each of them it goes on, one above
//! it does not.

use pillion_tests::frames::*;
use pillion_tests::{Frame, Frames, Origin, Sidecar, within};
use tokio::sync::mpsc;

/// How much more these frames let their receiver send on a stream; 0: on the connection.
fn told(frames: &[Frame], stream: u32) -> u32 {
    let updates = frames.iter().filter(|it| it.kind == WINDOW_UPDATE && it.stream == stream);
    updates.map(Frame::number).sum()
}

/// What a client may send after the preface: on each stream, and on the connection.
async fn windows(client: &mut Frames) -> (u32, u32) {
    let settings = client.agree().await.payload;
    let name = INITIAL_WINDOW_SIZE.to_be_bytes();
    let pair = settings.chunks_exact(6).find(|pair| pair[..2] == name).expect("it is told");
    let stream = u32::from_be_bytes(pair[2..].try_into().expect("a value has four bytes"));
    let update = client.until(|it| it.kind == WINDOW_UPDATE && it.stream == 0).await;
    (stream, 65_535 + update.number())
}

/// Sends so many bytes of a body.
async fn fill(frames: &mut Frames, stream: u32, bytes: usize) {
    let full = vec![b'x'; 16 * 1024];
    for at in (0..bytes).step_by(full.len()) {
        let length = full.len().min(bytes - at);
        frames.send(DATA, 0, stream, &full[..length]).await;
    }
}

#[tokio::test]
async fn the_default_windows_are_told() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut client = Frames::connect(sidecar.address(), &[]).await;
    assert_eq!(windows(&mut client).await, (64 * 1024, 1024 * 1024));
}

#[tokio::test]
async fn a_client_that_sends_more_than_its_windows_is_stopped() {
    // Nothing is read of a body while there is no connection to send it on.
    let (address, _hanging) = Origin::unreachable().await;
    let limits = "h2_connection_window = \"256KiB\"\nh2_stream_window = \"200KiB\"";
    let setup = Sidecar::new().endpoint(address).listener_limits(limits);
    let sidecar = setup.upstream_limits("connect_timeout = \"5m\"").start().await;
    let connect = async || {
        let mut client = Frames::connect(sidecar.address(), &[]).await;
        assert_eq!(windows(&mut client).await, (200 * 1024, 256 * 1024));
        client.send(HEADERS, END_HEADERS, 1, POST).await;
        client.send(HEADERS, END_HEADERS, 3, POST).await;
        client
    };
    for bytes in [200 * 1024 - 1, 200 * 1024, 200 * 1024 + 1] {
        let mut client = connect().await;
        fill(&mut client, 1, bytes).await;
        if bytes <= 200 * 1024 {
            let frames = client.settled().await;
            assert_eq!(told(&frames, 1), 0, "nothing was read of the body");
        } else {
            let reset = client.until(|it| it.kind == RST_STREAM).await;
            assert_eq!((reset.stream, reset.number()), (1, FLOW_CONTROL_ERROR));
            client.settled().await;
        }
    }
    for bytes in [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1] {
        let mut client = connect().await;
        fill(&mut client, 1, 128 * 1024).await;
        fill(&mut client, 3, bytes - 128 * 1024).await;
        if bytes <= 256 * 1024 {
            let frames = client.settled().await;
            assert_eq!(told(&frames, 0), 0, "nothing was read of the bodies");
        } else {
            assert_eq!(client.goaway().await, Some(FLOW_CONTROL_ERROR), "{bytes} bytes");
        }
    }
}

#[tokio::test]
async fn an_origin_that_sends_more_than_its_windows_is_stopped() {
    let (given, mut accepted) = mpsc::channel(1);
    let origin = Origin::script(move |wire, _| {
        let given = given.clone();
        async move {
            let _ = given.send(Frames::accept(wire, &[]).await).await;
        }
    })
    .await;
    for (limits, told, limit, stream_only) in [
        ("h2_stream_window = \"1KiB\"", (1024, 1024 * 1024), 1024, true),
        (
            "h2_connection_window = \"128KiB\"\nh2_stream_window = \"1MiB\"",
            (1024 * 1024, 128 * 1024),
            128 * 1024,
            false,
        ),
    ] {
        for bytes in [limit - 1, limit, limit + 1] {
            let setup = Sidecar::new().origin(&origin).h2c().upstream_limits(limits);
            let sidecar = setup.listener_limits("buffer_bytes = \"4KiB\"").start().await;
            // A client that takes nothing, so that no more than the buffer is taken of an answer.
            let window = [(INITIAL_WINDOW_SIZE, 0)];
            let mut client = Frames::connect(sidecar.address(), &window).await;
            client.send(HEADERS, END_HEADERS | END_STREAM, 1, GET).await;
            let mut server = within("the origin", accepted.recv()).await.unwrap();
            assert_eq!(windows(&mut server).await, told);
            server.until(|it| it.kind == HEADERS).await;
            server.send(HEADERS, END_HEADERS, 1, OK).await;
            fill(&mut server, 1, bytes).await;
            if bytes <= limit {
                let stopped = server.settled().await.iter().any(|it| it.kind == RST_STREAM);
                assert!(!stopped, "{bytes} bytes");
            } else if stream_only {
                let reset = server.until(|it| it.kind == RST_STREAM).await;
                assert_eq!((reset.stream, reset.number()), (1, FLOW_CONTROL_ERROR));
            } else {
                assert_eq!(server.goaway().await, Some(FLOW_CONTROL_ERROR));
            }
        }
    }
}

/// Has `sender` send as much of a body as it is given room for, in pieces of 512 bytes. How many
/// bytes were taken out of its window of 1 KiB when `receiver` takes none?
async fn taken(sender: &mut Frames, receiver: &mut Frames, at_least: u32) -> u32 {
    let (mut room, mut taken) = (1024, 0);
    let piece = [b'x'; 512];
    while taken < at_least {
        while room >= 512 {
            sender.send(DATA, 0, 1, &piece).await;
            room -= 512;
        }
        let update = sender.until(|it| it.kind == WINDOW_UPDATE && it.stream == 1).await.number();
        room += update;
        taken += update;
    }
    while room >= 512 {
        sender.send(DATA, 0, 1, &piece).await;
        room -= 512;
    }
    // Chances to take more, if it would.
    for _ in 0..20 {
        taken += told(&sender.settled().await, 1);
        let passed_on = receiver.settled().await.iter().any(|frame| frame.kind == DATA);
        assert!(!passed_on, "the receiver has no window");
    }
    taken
}

#[tokio::test]
async fn no_more_than_the_buffer_waits_for_a_reader_in_either_direction() {
    for (buffer, expected) in [(8191, 8192), (8192, 8192), (8193, 8192 + 512)] {
        for upload in [false, true] {
            let (given, mut accepted) = mpsc::channel(1);
            let origin = Origin::script(move |wire, _| {
                let given = given.clone();
                async move {
                    let window = (INITIAL_WINDOW_SIZE, if upload { 0 } else { 65_535 });
                    let frames = Frames::accept(wire, &[window]).await;
                    let _ = given.send(frames).await;
                }
            })
            .await;
            let sidecar = Sidecar::new()
                .origin(&origin)
                .h2c()
                .runtime("workers = 1")
                .listener_limits(&format!("buffer_bytes = {buffer}\nh2_stream_window = \"1KiB\""))
                .upstream_limits("h2_stream_window = \"1KiB\"")
                .start()
                .await;
            let mut client = Frames::connect(sidecar.address(), &[(INITIAL_WINDOW_SIZE, 0)]).await;
            client.agree().await;
            let (block, end) = if upload { (POST, 0) } else { (GET, END_STREAM) };
            client.send(HEADERS, END_HEADERS | end, 1, block).await;
            let mut server = within("the origin", accepted.recv()).await.unwrap();
            server.agree().await;
            server.until(|frame| frame.kind == HEADERS).await;
            // The settings have been seen.
            server.settled().await;
            let taken = if upload {
                taken(&mut client, &mut server, expected).await
            } else {
                server.send(HEADERS, END_HEADERS, 1, OK).await;
                client.until(|frame| frame.kind == HEADERS).await;
                taken(&mut server, &mut client, expected).await
            };
            assert_eq!(taken, expected, "buffer_bytes = {buffer}, upload: {upload}");

            let (sender, receiver) =
                if upload { (&mut client, &mut server) } else { (&mut server, &mut client) };
            receiver.send(WINDOW_UPDATE, 0, 1, &100_000_u32.to_be_bytes()).await;
            receiver.until(|frame| frame.kind == DATA).await;
            sender.until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 1).await;
        }
    }
}

#[tokio::test]
async fn floods_of_control_frames_end_the_connection() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let floods = [
        ("ping", Frame::new(PING, 0, 0, &[0; 8])),
        ("settings", Frame::new(SETTINGS, 0, 0, &[])),
        ("priority", Frame::new(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("window update", Frame::new(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", Frame::new(0x42, 0, 0, &[])),
    ];
    for (name, frame) in floods {
        // The settings of the preface are the first of a thousand.
        for count in [998, 999, 1000] {
            let mut client = Frames::connect(sidecar.address(), &[]).await;
            client.send_all(&vec![frame.clone(); count]).await;
            if count < 1000 {
                client.send(HEADERS, END_HEADERS | END_STREAM, 1, GET).await;
                let answer = client.until(|it| it.kind == HEADERS).await;
                assert_eq!(answer.stream, 1, "{count} {name} frames");
            } else {
                let told = client.goaway().await;
                assert_eq!(told, Some(ENHANCE_YOUR_CALM), "{count} {name} frames");
            }
        }
    }
}

#[tokio::test]
async fn floods_of_empty_frames_end_the_connection() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for count in [99, 100, 101] {
        let mut client = Frames::connect(sidecar.address(), &[]).await;
        client.send(HEADERS, END_HEADERS, 1, POST).await;
        client.send_all(&vec![Frame::new(DATA, 0, 1, &[]); count]).await;
        if count <= 100 {
            // The last one of a body is not counted.
            client.send(DATA, END_STREAM, 1, &[]).await;
            client.until(|it| it.kind == HEADERS && it.stream == 1).await;
        } else {
            assert_eq!(client.goaway().await, Some(ENHANCE_YOUR_CALM), "{count} empty frames");
        }
    }
    // The first frame, as many of 16 KiB as twice the default header list takes, and some room.
    for count in [5, 6, 7] {
        let mut client = Frames::connect(sidecar.address(), &[]).await;
        let mut block = vec![Frame::new(HEADERS, END_STREAM, 1, GET)];
        block.extend(vec![Frame::new(CONTINUATION, 0, 1, &[]); count - 1]);
        block.push(Frame::new(CONTINUATION, END_HEADERS, 1, &[]));
        client.send_all(&block).await;
        if count <= 6 {
            client.until(|it| it.kind == HEADERS && it.stream == 1).await;
        } else {
            assert_eq!(client.goaway().await, Some(ENHANCE_YOUR_CALM), "{count} continuations");
        }
    }
}

/// Opens streams and resets each once the sidecar has taken it up.
async fn open_and_reset(client: &mut Frames, streams: impl Iterator<Item = u32>) {
    for stream in streams {
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, GET).await;
        client.settled().await;
        client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
    }
}

#[tokio::test]
async fn resets_are_counted_exactly() {
    let origin = Origin::silent().await;
    let setup = Sidecar::new().origin(&origin).listener_limits("h2_resets = 20");
    let sidecar = setup.start().await;
    for count in [19, 20, 21] {
        let mut client = Frames::connect(sidecar.address(), &[]).await;
        open_and_reset(&mut client, (0..count).map(|n| 2 * n + 1)).await;
        if count <= 20 {
            client.settled().await;
        } else {
            assert_eq!(client.goaway().await, Some(ENHANCE_YOUR_CALM), "{count} resets");
        }
    }
}

#[tokio::test]
async fn of_more_than_a_hundred_streams_half_may_be_reset() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).listener_limits("h2_resets = 1000");
    let sidecar = setup.start().await;
    for (answered, resets, fine) in [(51, 50, true), (51, 51, true), (50, 51, false)] {
        let mut client = Frames::connect(sidecar.address(), &[]).await;
        for n in 0..answered {
            client.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, GET).await;
            client.until(|it| it.kind == DATA && it.flags & END_STREAM != 0).await;
        }
        open_and_reset(&mut client, (answered..answered + resets).map(|n| 2 * n + 1)).await;
        if fine {
            client.settled().await;
        } else {
            assert_eq!(client.goaway().await, Some(ENHANCE_YOUR_CALM), "{resets} of {answered}");
        }
    }
}
