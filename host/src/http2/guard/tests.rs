use super::tally::CONTROL_FRAMES_PER_MESSAGE_FRAME;
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn seen(kind: u8, stream: u32) -> FrameSeen {
    FrameSeen { kind, flags: 0, stream, code: 8 }
}

const PING: u8 = 6;

#[test]
fn frames_are_found_however_the_bytes_are_cut() {
    let mut bytes = vec![b'P'; PREFACE_BYTES];
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &[0; 40]));
    bytes.extend(frame(DATA, 1, 1, &[7; 300]));
    bytes.extend(frame(RST_STREAM, 0, 0x8000_0003, &[0, 0, 0, 5]));
    bytes.extend(frame(PING, 0, 0, &[1; 8]));
    let expected = [(4, 0, 0), (1, 1, 0), (0, 1, 0), (3, 3, 5), (6, 0, 0)];
    for step in 1..bytes.len() {
        let mut scanner = Scanner::after(PREFACE_BYTES);
        let mut found = Vec::new();
        for part in bytes.chunks(step) {
            let note = |frame: FrameSeen| {
                found.push((frame.kind, frame.stream, frame.code));
                Ok::<(), ()>(())
            };
            scanner.scan(part, note).unwrap();
        }
        assert_eq!(found, expected, "cut every {step} bytes");
    }
}

#[test]
fn a_header_block_is_open_from_its_first_frame_to_its_end() {
    let mut scanner = Scanner::after(0);
    let open_after = |scanner: &mut Scanner, bytes: &[u8]| {
        scanner.scan(bytes, |_| Ok::<(), ()>(())).unwrap();
        scanner.block_open
    };
    let headers = frame(HEADERS, 0, 1, &[0; 4]);
    assert!(!open_after(&mut scanner, &headers[..8]));
    assert!(open_after(&mut scanner, &headers[8..10]));
    assert!(open_after(&mut scanner, &headers[10..]));
    assert!(open_after(&mut scanner, &frame(CONTINUATION, 0, 1, &[])));
    let last = frame(CONTINUATION, END_HEADERS, 1, &[0; 2]);
    assert!(open_after(&mut scanner, &last[..10]));
    assert!(!open_after(&mut scanner, &last[10..]));
    assert!(!open_after(&mut scanner, &frame(HEADERS, END_HEADERS, 3, &[])));
    assert_eq!(scanner.blocks, 2);
}

/// One below and at the limit pass, one above does not.
#[tokio::test(start_paused = true)]
async fn resets_are_counted_within_their_window() {
    let limits = Http2Limits { reset_ratio_streams: 1_000, ..Http2Limits::default() };
    let start = Instant::now();
    let mut tally = Tally::new(Side::Server, &limits, start);
    for count in 0..limits.resets {
        assert_eq!(tally.inbound(seen(RST_STREAM, 1), start), Ok(()), "reset {count}");
    }
    assert_eq!(tally.inbound(seen(RST_STREAM, 1), start), Err(Violation::Resets));

    let mut tally = Tally::new(Side::Server, &limits, start);
    for _ in 0..limits.resets {
        tally.inbound(seen(RST_STREAM, 1), start).unwrap();
    }
    let inside = start + limits.reset_window - Duration::from_millis(1);
    assert_eq!(tally.clone().inbound(seen(RST_STREAM, 1), inside), Err(Violation::Resets));
    let later = start + limits.reset_window;
    assert_eq!(tally.inbound(seen(RST_STREAM, 1), later), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn half_of_many_streams_may_be_reset() {
    let limits = Http2Limits::default();
    let now = Instant::now();
    let after = |streams: u32, resets: u32| {
        let mut tally = Tally::new(Side::Server, &limits, now);
        for stream in 0..streams {
            tally.inbound(seen(HEADERS, 2 * stream + 1), now).unwrap();
            // Trailers open nothing.
            tally.inbound(seen(HEADERS, 2 * stream + 1), now).unwrap();
        }
        (0..resets).try_for_each(|_| tally.inbound(seen(RST_STREAM, 1), now))
    };
    assert_eq!(after(100, 100), Ok(()));
    assert_eq!(after(101, 49), Ok(()));
    assert_eq!(after(101, 50), Ok(()));
    assert_eq!(after(101, 51), Err(Violation::ResetRatio));
}

#[tokio::test(start_paused = true)]
async fn resets_that_a_client_provokes_count_like_its_own() {
    let limits = Http2Limits::default();
    let now = Instant::now();
    let mut tally = Tally::new(Side::Server, &limits, now);
    for _ in 0..limits.resets {
        let provoked = FrameSeen { kind: RST_STREAM, flags: 0, stream: 1, code: 1 };
        tally.outbound(provoked, provoked.rejects()).unwrap();
        let ours = FrameSeen { kind: RST_STREAM, flags: 0, stream: 1, code: 8 };
        tally.outbound(ours, ours.rejects()).unwrap();
    }
    let provoked = FrameSeen { kind: RST_STREAM, flags: 0, stream: 1, code: 5 };
    assert_eq!(tally.outbound(provoked, provoked.rejects()), Err(Violation::Resets));
}

#[tokio::test(start_paused = true)]
async fn a_server_may_reset_what_we_asked_for() {
    let limits = Http2Limits::default();
    let now = Instant::now();
    let mut tally = Tally::new(Side::Client, &limits, now);
    for _ in 0..10 * limits.resets {
        assert_eq!(tally.inbound(seen(RST_STREAM, 1), now), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn control_frames_are_counted_beyond_what_messages_account_for() {
    let limits = Http2Limits::default();
    let now = Instant::now();
    for kind in [2, 4, PING, 8, 99] {
        let mut tally = Tally::new(Side::Server, &limits, now);
        for _ in 0..limits.control_frames {
            assert_eq!(tally.inbound(seen(kind, 0), now), Ok(()));
        }
        assert_eq!(
            tally.clone().inbound(seen(kind, 0), now),
            Err(Violation::ControlFrames),
            "{kind}"
        );
        tally.inbound(seen(DATA, 1), now).unwrap();
        tally.outbound(seen(DATA, 1), false).unwrap();
        for _ in 0..2 * CONTROL_FRAMES_PER_MESSAGE_FRAME {
            assert_eq!(tally.inbound(seen(kind, 0), now), Ok(()));
        }
        assert!(tally.inbound(seen(kind, 0), now).is_err());
        assert_eq!(tally.inbound(seen(kind, 0), now + limits.reset_window), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn interim_heads_of_a_server_are_bounded() {
    let limits = Http2Limits::default();
    let now = Instant::now();
    let mut tally = Tally::new(Side::Client, &limits, now);
    tally.outbound(seen(HEADERS, 1), false).unwrap();
    for _ in 0..limits.control_frames + CONTROL_FRAMES_PER_MESSAGE_FRAME {
        assert_eq!(tally.inbound(seen(HEADERS, 1), now), Ok(()));
    }
    assert_eq!(tally.inbound(seen(HEADERS, 1), now), Err(Violation::ControlFrames));
}

#[test]
fn random_bytes_are_no_trouble() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..random() % 2_000).map(|_| random() as u8 & 0x0f).collect();
        let mut scanner = Scanner::after((random() % 30) as usize);
        scanner.scan(&bytes, |_| Ok::<(), ()>(())).unwrap();
    }
}
