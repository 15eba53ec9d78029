use super::*;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use std::cell::RefCell;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, spawn_local};

type Accepted = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// An origin on the raw crate; every request goes to a local task of `answer`.
fn origin<F>(
    io: DuplexStream,
    builder: h2::server::Builder,
    answer: impl Fn(Accepted) -> F + 'static,
) -> JoinHandle<Option<h2::Error>>
where
    F: Future<Output = ()> + 'static,
{
    spawn_local(async move {
        let mut connection = builder.handshake(io).await.unwrap();
        while let Some(accepted) = connection.accept().await {
            match accepted {
                Ok(accepted) => {
                    spawn_local(answer(accepted));
                }
                Err(error) => return Some(error),
            }
        }
        None
    })
}

async fn head_of(response: &mut Response) -> Result<(ResponseHead, Answer), RequestError> {
    let mut head = ResponseHead::default();
    let answer = poll_fn(|cx| response.poll_head(cx, &mut head)).await?;
    Ok((head, answer))
}

async fn final_of(
    response: &mut Response,
) -> Result<(ResponseHead, ResponseFraming, BodyReader), RequestError> {
    match head_of(response).await? {
        (head, Answer::Final(framing, body)) => Ok((head, framing, body)),
        (head, Answer::Interim) => panic!("interim {}", head.status),
    }
}

/// The error of a request; panics on a response.
async fn error_of(response: &mut Response) -> RequestError {
    match final_of(response).await {
        Ok((head, ..)) => panic!("status {}", head.status),
        Err(error) => error,
    }
}

fn send_get(client: &Client) -> Response {
    client.request(&get("/"), BodyLength::None, true).unwrap().0
}

async fn answer_200((_, mut respond): Accepted) {
    respond.send_response(http::Response::new(()), true).unwrap();
}

async fn answer_never((_, mut respond): Accepted) {
    let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
}

#[test]
fn an_exchange_carries_body_and_trailers_both_ways() {
    run(async {
        let (near, far) = pipe();
        let echo = async |(request, mut respond): Accepted| {
            let (parts, mut stream) = request.into_parts();
            assert_eq!(parts.uri.to_string(), "http://a.test/up");
            assert_eq!(parts.headers["te"], "trailers");
            assert_eq!(parts.headers["content-length"], "100000");
            let hint = http::Response::builder().status(103).header("link", "</a>");
            respond.send_informational(hint.body(()).unwrap()).unwrap();
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(data) = stream.data().await {
                let data = data.unwrap();
                stream.flow_control().release_capacity(data.len()).unwrap();
                body.send_data(data, false).unwrap();
            }
            let trailers: HeaderMap = stream.trailers().await.unwrap().unwrap();
            body.send_trailers(trailers).unwrap();
        };
        origin(far, h2::server::Builder::new(), echo);
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut head = get("/up");
        head.method = http::Method::POST;
        head.accepts_trailers = true;
        let length = BodyLength::Exact(100_000);
        let (mut response, writer) = client.request(&head, length, false).unwrap();
        let mut writer = writer.unwrap();
        spawn_local(async move {
            for _ in 0..10 {
                writer.data(Bytes::from(vec![9; 10_000])).unwrap();
                flush(&mut writer).await.unwrap();
            }
            writer.end(Some(&fields(&[("x-sum", "42")]))).unwrap();
            flush(&mut writer).await.unwrap();
        });
        let (interim, answer) = head_of(&mut response).await.unwrap();
        assert!(matches!(answer, Answer::Interim));
        assert_eq!((interim.status, value(&interim.fields, "link").unwrap()), (103, "</a>".into()));
        let (head, framing, mut body) = final_of(&mut response).await.unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(framing, ResponseFraming { body: BodyLength::Unknown, content_length: None });
        let read = read_all(&mut body).await.unwrap();
        assert_eq!(read.bytes, vec![9; 100_000]);
        assert_eq!(value(&read.trailers.unwrap(), "x-sum").unwrap(), "42");
        assert!(body.is_end());
        drop((response, body));
        settle().await;
        assert_eq!(client.active_streams(), 0);
        assert!(client.usable());
    });
}

#[test]
fn no_more_streams_are_opened_than_the_server_allows() {
    run(async {
        let (near, far) = pipe();
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        origin(far, builder, answer_never);
        let client = Client::handshake(near, limits()).await.unwrap();
        let first = send_get(&client);
        settle().await;
        assert!(client.usable());
        let second = send_get(&client);
        assert!(!client.usable());
        assert!(!client.is_closed());
        let refused = client.request(&get("/"), BodyLength::None, true);
        assert!(matches!(
            refused.map(|_| ()),
            Err(ClientSendError::Connection(RequestError::Unprocessed))
        ));
        drop(first);
        settle().await;
        assert!(client.usable());
        drop(second);
    });
}

#[test]
fn no_more_streams_are_opened_than_our_limit_allows() {
    run(async {
        let (near, far) = pipe();
        origin(far, h2::server::Builder::new(), answer_never);
        let client = Client::handshake(near, limits()).await.unwrap();
        settle().await;
        let mut open = Vec::new();
        for count in 0..100 {
            assert!(client.usable(), "{count}");
            open.push(send_get(&client));
        }
        assert!(!client.usable());
        assert_eq!(client.active_streams(), 100);
        open.pop();
        assert!(client.usable());
    });
}

#[test]
fn refused_and_reset_streams_are_told_apart() {
    run(async {
        let (near, far) = pipe();
        let reasons = [Reason::REFUSED_STREAM, Reason::CANCEL, Reason::PROTOCOL_ERROR];
        let next = RefCell::new(reasons.into_iter());
        origin(far, h2::server::Builder::new(), move |(_, mut respond): Accepted| {
            respond.send_reset(next.borrow_mut().next().unwrap());
            std::future::ready(())
        });
        let client = Client::handshake(near, limits()).await.unwrap();
        let refused = error_of(&mut send_get(&client)).await;
        assert!(matches!(refused, RequestError::Unprocessed));
        for reason in [Reason::CANCEL, Reason::PROTOCOL_ERROR] {
            match error_of(&mut send_get(&client)).await {
                RequestError::Reset(got) => assert_eq!(got, reason),
                other => panic!("{other}"),
            }
        }
        assert!(client.usable());
    });
}

#[test]
fn requests_beyond_a_goaway_may_be_sent_again() {
    run(async {
        let (near, mut far) = pipe();
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut first = send_get(&client);
        let mut second = send_get(&client);
        settle().await;
        // SETTINGS, then GOAWAY with stream 1 as the last one taken.
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        far.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
        assert!(matches!(error_of(&mut second).await, RequestError::Unprocessed));
        assert!(client.is_closed());
        assert!(!client.usable());
        assert!(client.request(&get("/"), BodyLength::None, true).is_err());
        // Stream 1 is still answered: HEADERS with END_STREAM and `:status 204`.
        far.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]).await.unwrap();
        let (head, ..) = final_of(&mut first).await.unwrap();
        assert_eq!(head.status, 204);
    });
}

#[test]
fn a_server_begins_with_its_settings() {
    run(async {
        let (near, mut far) = pipe();
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut response = send_get(&client);
        settle().await;
        // HEADERS with END_STREAM and `:status 204`.
        far.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]).await.unwrap();
        assert!(matches!(error_of(&mut response).await, RequestError::Io(_)));
        let failure = client.take_failure();
        let preface = Some(ConnectionError::Violation(Violation::Preface));
        assert_eq!(format!("{failure:?}"), format!("{preface:?}"));
    });
}

#[test]
fn a_lost_connection_fails_its_requests() {
    run(async {
        let (near, far) = pipe();
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut response = send_get(&client);
        settle().await;
        drop(far);
        assert!(matches!(error_of(&mut response).await, RequestError::Io(_)));
        settle().await;
        assert!(client.is_closed());
    });
}

#[test]
fn a_body_cut_short_is_an_error() {
    run(async {
        let (near, far) = pipe();
        let cut = async |(request, mut respond): Accepted| {
            let head = http::Response::builder().header("content-length", "10").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            let reason = match request.uri().path() {
                "/cancel" => Reason::CANCEL,
                // As some servers do for what is no complete response.
                "/no-error" => Reason::NO_ERROR,
                _ => return body.send_data(Bytes::from_static(b"12345"), true).unwrap(),
            };
            body.send_data(Bytes::from_static(b"12345"), false).unwrap();
            settle().await;
            body.send_reset(reason);
        };
        origin(far, h2::server::Builder::new(), cut);
        let client = Client::handshake(near, limits()).await.unwrap();
        for path in ["/cancel", "/no-error", "/short"] {
            let (mut response, _) = client.request(&get(path), BodyLength::None, true).unwrap();
            let (_, framing, mut body) = final_of(&mut response).await.unwrap();
            assert_eq!(framing.body, BodyLength::Exact(10));
            let error = read_all(&mut body).await.unwrap_err();
            let malformed = matches!(error, BodyError::Malformed(_));
            assert_eq!(malformed, path == "/short", "{path}: {error}");
        }
    });
}

#[test]
fn a_complete_answer_survives_the_end_of_its_upload() {
    run(async {
        let (near, far) = pipe();
        // Dropping the request body behind a complete response resets with NO_ERROR.
        let early = async |(request, mut respond): Accepted| {
            let head = http::Response::builder().status(413).body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(b"too large"), true).unwrap();
            drop(request);
        };
        origin(far, h2::server::Builder::new(), early);
        let client = Client::handshake(near, limits()).await.unwrap();
        let (mut response, writer) = client.request(&get("/"), BodyLength::Unknown, false).unwrap();
        let mut writer = writer.unwrap();
        let reason = poll_fn(|cx| writer.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR);
        writer.data(Bytes::from_static(b"more")).unwrap();
        assert!(flush(&mut writer).await.is_err());
        let (head, _, mut body) = final_of(&mut response).await.unwrap();
        assert_eq!(head.status, 413);
        assert_eq!(read_all(&mut body).await.unwrap().bytes, b"too large");
    });
}

#[test]
fn a_response_to_head_has_a_length_and_no_body() {
    run(async {
        let (near, far) = pipe();
        origin(far, h2::server::Builder::new(), async |(_, mut respond): Accepted| {
            let head = http::Response::builder().header("content-length", "10").body(()).unwrap();
            respond.send_response(head, true).unwrap();
        });
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut head = get("/");
        head.method = http::Method::HEAD;
        let (mut response, _) = client.request(&head, BodyLength::None, true).unwrap();
        let (_, framing, mut body) = final_of(&mut response).await.unwrap();
        let expected = ResponseFraming { body: BodyLength::None, content_length: Some(10) };
        assert_eq!(framing, expected);
        assert!(matches!(poll_fn(|cx| body.poll_frame(cx)).await, Ok(Frame::End)));
    });
}

#[test]
fn response_heads_have_limits() {
    run(async {
        let (near, far) = pipe();
        let sized = async |(request, mut respond): Accepted| {
            let number: usize = request.uri().path()[1..].parse().unwrap();
            let mut head = http::Response::new(());
            if number < 200 {
                for _ in 0..number {
                    head.headers_mut().append("x", "y".parse().unwrap());
                }
            } else {
                head.headers_mut().insert("x", "v".repeat(number).parse().unwrap());
            }
            let _ = respond.send_response(head, true);
        };
        origin(far, h2::server::Builder::new(), sized);
        let client = Client::handshake(near, limits()).await.unwrap();
        // A status and a field cost 7 + 3 + 32 and 1 + 32 bytes beside the value.
        let rest = 42 + 33;
        let list = 32 * 1024 - rest;
        let cases = [
            (99, 'g'),
            (100, 'g'),
            (101, 'f'),
            (list - 1, 'g'),
            (list, 'g'),
            (list + 1, 'l'),
            (3 * list, 'p'),
        ];
        for (number, expected) in cases {
            let path = format!("/{number}");
            let (mut response, _) = client.request(&get(&path), BodyLength::None, true).unwrap();
            let outcome = match final_of(&mut response).await {
                Ok(_) => 'g',
                Err(RequestError::Head(HeadError::TooManyFields)) => 'f',
                Err(RequestError::Head(HeadError::TooLarge)) => 'l',
                Err(RequestError::Protocol(Reason::PROTOCOL_ERROR)) => 'p',
                Err(other) => panic!("{number}: {other}"),
            };
            assert_eq!(outcome, expected, "{number}");
        }
    });
}

#[test]
fn trailers_have_limits() {
    run(async {
        let (near, far) = pipe();
        let trailing = async |(request, mut respond): Accepted| {
            let number: usize = request.uri().path()[1..].parse().unwrap();
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            let mut trailers = HeaderMap::new();
            for _ in 0..number {
                trailers.append("x", "y".parse().unwrap());
            }
            body.send_trailers(trailers).unwrap();
        };
        origin(far, h2::server::Builder::new(), trailing);
        let client = Client::handshake(near, limits()).await.unwrap();
        for number in [31, 32, 33] {
            let path = format!("/{number}");
            let (mut response, _) = client.request(&get(&path), BodyLength::None, true).unwrap();
            let (_, _, mut body) = final_of(&mut response).await.unwrap();
            match read_all(&mut body).await {
                Ok(read) => assert_eq!(read.trailers.unwrap().len(), number),
                Err(error) => {
                    assert_eq!(number, 33);
                    assert_eq!(error.to_string(), "the trailer section exceeds `trailer_fields`");
                }
            }
        }
    });
}

#[test]
fn a_server_that_does_not_read_stops_the_writer() {
    run(async {
        let (near, far) = pipe();
        origin(far, h2::server::Builder::new(), async |(request, mut respond): Accepted| {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            drop(request);
        });
        let client = Client::handshake(near, limits()).await.unwrap();
        let (_response, writer) = client.request(&get("/"), BodyLength::Unknown, false).unwrap();
        let mut writer = writer.unwrap();
        let mut passed = 0;
        loop {
            writer.data(Bytes::from(vec![0; 1000])).unwrap();
            if ready_now(Box::pin(flush(&mut writer))).await.is_none() {
                break;
            }
            passed += 1000;
        }
        assert_eq!(passed, 65_000);
        assert!(writer.queued() > 0 && writer.queued() <= 1000);
    });
}

#[test]
fn an_idle_connection_says_goodbye() {
    run(async {
        let (near, far) = pipe();
        let answer = async |(_, mut respond): Accepted| {
            tokio::time::sleep(Duration::from_secs(10)).await;
            respond.send_response(http::Response::new(()), true).unwrap();
        };
        let server = origin(far, h2::server::Builder::new(), answer);
        let start = tokio::time::Instant::now();
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut response = send_get(&client);
        final_of(&mut response).await.unwrap();
        drop(response);
        assert!(client.usable());
        // A clean end for the server too.
        assert!(server.await.unwrap().is_none());
        assert_eq!(start.elapsed().as_secs(), 14);
        assert!(client.is_closed());
        assert!(!client.usable());
        assert!(client.take_failure().is_none());
    });
}

#[test]
fn a_closed_client_finishes_its_requests() {
    run(async {
        let (near, far) = pipe();
        let server = origin(far, h2::server::Builder::new(), answer_200);
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut response = send_get(&client);
        client.close();
        assert!(client.is_closed());
        final_of(&mut response).await.unwrap();
        drop(response);
        let start = tokio::time::Instant::now();
        assert!(server.await.unwrap().is_none());
        assert_eq!(start.elapsed().as_secs(), 0);
    });
}

#[test]
fn a_server_that_answers_no_ping_is_given_up() {
    run(async {
        let (near, mut far) = pipe();
        let client = Client::handshake(near, limits()).await.unwrap();
        let start = tokio::time::Instant::now();
        let mut response = send_get(&client);
        assert!(matches!(error_of(&mut response).await, RequestError::Io(_)));
        assert_eq!(start.elapsed().as_secs(), 50);
        settle().await;
        assert!(matches!(client.take_failure(), Some(ConnectionError::PingTimeout)));
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert!(sent.starts_with(b"PRI * HTTP/2.0"));
    });
}

#[test]
fn a_server_that_floods_is_given_up() {
    run(async {
        let (near, mut far) = pipe();
        let client = Client::handshake(near, limits()).await.unwrap();
        let mut response = send_get(&client);
        settle().await;
        let mut burst = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        for _ in 0..1_010 {
            burst.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
        far.write_all(&burst).await.unwrap();
        assert!(matches!(error_of(&mut response).await, RequestError::Io(_)));
        settle().await;
        assert!(matches!(
            client.take_failure(),
            Some(ConnectionError::Violation(Violation::ControlFrames))
        ));
        assert!(client.take_failure().is_none());
    });
}
