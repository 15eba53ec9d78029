use super::*;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use std::cell::RefCell;
use tokio::task::{JoinHandle, spawn_local};

/// What `accept` reported beside requests, in order.
#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    fn add(&self, text: String) {
        self.0.borrow_mut().push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

fn describe(error: &AcceptError) -> String {
    match error {
        AcceptError::Request(error) => format!("request: {error}"),
        AcceptError::Connection(ConnectionError::Violation(violation)) => violation.to_string(),
        AcceptError::Connection(error) => error.to_string(),
    }
}

/// Serves a connection; every request goes to a local task of `answer`.
fn serve<F>(
    io: DuplexStream,
    limits: Rc<Http2Limits>,
    reports: Reports,
    answer: impl Fn(RequestHead, Incoming) -> F + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + 'static,
{
    spawn_local(async move {
        let mut connection = match Connection::handshake(io, limits).await {
            Ok(connection) => connection,
            Err(error) => return reports.add(error.to_string()),
        };
        loop {
            let mut head = RequestHead::default();
            match connection.accept(&mut head).await {
                Some(Ok(incoming)) => {
                    spawn_local(answer(head, incoming));
                }
                Some(Err(error)) => reports.add(describe(&error)),
                None => break,
            }
        }
        reports.add(format!("over, {} rejected", connection.rejected_streams()));
    })
}

async fn connect(io: DuplexStream) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(io).await.unwrap();
    spawn_local(async move {
        // How it ends is seen by the streams.
        let _ = connection.await;
    });
    sender
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("http://a.test{path}")).body(()).unwrap()
}

async fn answer_empty(_: RequestHead, incoming: Incoming) {
    let Incoming { mut responder, .. } = incoming;
    let _ = responder.response_head(&ok_head(), BodyLength::Exact(0), true);
}

/// Sends the body and the trailers back.
async fn echo(head: RequestHead, mut incoming: Incoming) {
    let response = ResponseHead {
        status: 201,
        fields: fields(&[
            ("x-target", &head.target),
            ("x-length", &format!("{:?}", incoming.length)),
        ]),
        upgrade: None,
    };
    let mut writer =
        incoming.responder.response_head(&response, incoming.length, false).unwrap().unwrap();
    let read = read_all(&mut incoming.body).await.unwrap();
    writer.data(Bytes::from(read.bytes)).unwrap();
    writer.end(read.trailers.as_ref()).unwrap();
    assert!(writer.queued() > 0);
    flush(&mut writer).await.unwrap();
    assert_eq!(writer.queued(), 0);
}

#[test]
fn an_exchange_carries_body_and_trailers_both_ways() {
    run(async {
        let (near, far) = pipe();
        let reports = Reports::default();
        let server = serve(near, limits(), reports.clone(), echo);
        let mut sender = connect(far).await;
        let request = Request::post("http://a.test/up?q").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![7; 200_000]), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        trailers.insert("content-length", "42".parse().unwrap());
        body.send_trailers(trailers).unwrap();

        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()["x-target"], "/up?q");
        assert_eq!(response.headers()["x-length"], "Unknown");
        let mut stream = response.into_body();
        let mut received = 0;
        while let Some(data) = stream.data().await {
            let data = data.unwrap();
            assert!(data.iter().all(|byte| *byte == 7));
            received += data.len();
            stream.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(received, 200_000);
        let trailers = stream.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-sum"], "42");
        drop((stream, sender, body));
        server.await.unwrap();
        assert_eq!(reports.all(), ["over, 0 rejected"]);
    });
}

#[test]
fn interim_responses_come_before_the_final_one() {
    run(async {
        let (near, far) = pipe();
        let answer = async |_: RequestHead, mut incoming: Incoming| {
            incoming.responder.interim(103, &fields(&[("link", "</a>")])).unwrap();
            assert!(incoming.responder.interim(200, &Fields::default()).is_err());
            assert!(incoming.responder.interim(101, &Fields::default()).is_err());
            let early = ResponseHead { status: 103, ..ok_head() };
            let refused = incoming.responder.response_head(&early, BodyLength::None, true);
            assert!(refused.is_err());
            incoming.responder.response_head(&ok_head(), BodyLength::Exact(5), true).unwrap();
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        let request = Request::head("http://a.test/").body(()).unwrap();
        let (mut response, _) = sender.send_request(request, true).unwrap();
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status(), 103);
        assert_eq!(interim.headers()["link"], "</a>");
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-length"], "5");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn a_body_that_nobody_reads_stops_its_sender() {
    run(async {
        let (near, far) = pipe();
        let answer = async |_: RequestHead, incoming: Incoming| {
            std::future::pending::<()>().await;
            drop(incoming);
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        let post = Request::post("http://a.test/").body(()).unwrap();
        let (_response, mut body) = sender.send_request(post, false).unwrap();
        settle().await;
        body.reserve_capacity(10_000_000);
        let mut sent = 0;
        loop {
            settle().await;
            let capacity = body.capacity();
            if capacity == 0 {
                break;
            }
            body.send_data(Bytes::from(vec![0; capacity]), false).unwrap();
            body.reserve_capacity(10_000_000);
            sent += capacity;
        }
        assert_eq!(sent, limits().stream_window_bytes as usize);
    });
}

#[test]
fn a_client_that_does_not_read_stops_the_writer() {
    run(async {
        let (near, far) = pipe();
        let pushed = Rc::new(RefCell::new(0));
        let counter = pushed.clone();
        let answer = move |_: RequestHead, mut incoming: Incoming| {
            let counter = counter.clone();
            async move {
                let head = incoming.responder.response_head(&ok_head(), BodyLength::Unknown, false);
                let mut writer = head.unwrap().unwrap();
                loop {
                    writer.data(Bytes::from(vec![0; 1000])).unwrap();
                    flush(&mut writer).await.unwrap();
                    *counter.borrow_mut() += 1000;
                }
            }
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        let mut stream = response.await.unwrap().into_body();
        settle().await;
        // The window of a client that never widens it.
        assert_eq!(*pushed.borrow(), 65_000);
        let data = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        let more = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(more.len()).unwrap();
        settle().await;
        assert!(*pushed.borrow() > 65_000);
    });
}

#[test]
fn what_waits_below_a_writer_is_limited() {
    for (bytes, left) in [(9_999, 0), (10_000, 0), (10_001, 1)] {
        run(async {
            let (near, far) = pipe();
            let limits = Http2Limits { send_buffer_bytes: 10_000, ..Http2Limits::default() };
            let answer = move |_: RequestHead, mut incoming: Incoming| async move {
                let head = incoming.responder.response_head(&ok_head(), BodyLength::Unknown, false);
                let mut writer = head.unwrap().unwrap();
                writer.data(Bytes::from(vec![0; bytes])).unwrap();
                // The connection, which would send it, is not polled before this one waits.
                let flushed = poll_fn(|cx| Poll::Ready(writer.poll_flush(cx).is_ready())).await;
                assert_eq!((flushed, writer.queued()), (left == 0, left), "{bytes} bytes");
                writer.end(None).unwrap();
                flush(&mut writer).await.unwrap();
            };
            serve(near, Rc::new(limits), Reports::default(), answer);
            let (response, _) = connect(far).await.send_request(request("/"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut received = 0;
            while let Some(data) = body.data().await {
                received += data.unwrap().len();
            }
            assert_eq!(received, bytes);
        });
    }
}

#[test]
fn a_body_that_breaks_its_promise_resets_the_stream() {
    run(async {
        let (near, far) = pipe();
        let answer = async |head: RequestHead, mut incoming: Incoming| {
            let head_sent =
                incoming.responder.response_head(&ok_head(), BodyLength::Exact(3), false);
            let mut writer = head_sent.unwrap().unwrap();
            let bytes: &'static [u8] = match head.target.as_str() {
                "/short" => b"ab",
                "/exact" => b"abc",
                _ => b"abcd",
            };
            let result = writer.data(Bytes::from_static(bytes)).and_then(|()| writer.end(None));
            assert_eq!(result.is_ok(), head.target == "/exact");
            let _ = flush(&mut writer).await;
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        for (path, complete) in [("/short", false), ("/exact", true), ("/long", false)] {
            let (response, _) = sender.send_request(request(path), true).unwrap();
            // The head may be overtaken by the reset.
            let complete_here = match response.await {
                Ok(response) => {
                    let mut body = response.into_body();
                    let mut good = true;
                    while let Some(data) = body.data().await {
                        good &= data.is_ok();
                        if !good {
                            break;
                        }
                    }
                    good
                }
                Err(error) => {
                    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
                    false
                }
            };
            assert_eq!(complete_here, complete, "{path}");
        }
    });
}

#[test]
fn a_dropped_writer_never_looks_like_a_complete_body() {
    run(async {
        let (near, far) = pipe();
        let answer = async |_: RequestHead, mut incoming: Incoming| {
            let head = incoming.responder.response_head(&ok_head(), BodyLength::Unknown, false);
            let mut writer = head.unwrap().unwrap();
            writer.data(Bytes::from_static(b"part")).unwrap();
            flush(&mut writer).await.unwrap();
            settle().await;
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "part");
        assert!(body.data().await.unwrap().unwrap_err().is_reset());
    });
}

#[test]
fn a_body_that_contradicts_its_length_is_an_error() {
    run(async {
        let (near, far) = pipe();
        let errors = Rc::new(RefCell::new(Vec::new()));
        let seen = errors.clone();
        let answer = move |_: RequestHead, mut incoming: Incoming| {
            let seen = seen.clone();
            async move {
                assert_eq!(incoming.length, BodyLength::Exact(3));
                let error = read_all(&mut incoming.body).await.unwrap_err();
                seen.borrow_mut().push(error.to_string());
                let again = poll_fn(|cx| incoming.body.poll_frame(cx)).await;
                assert!(matches!(again, Err(BodyError::Truncated)));
            }
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        for length in [2, 4] {
            let post = Request::post("http://a.test/").header("content-length", "3");
            let (response, mut body) = sender.send_request(post.body(()).unwrap(), false).unwrap();
            settle().await;
            body.send_data(Bytes::from(vec![0; length]), true).unwrap();
            assert_eq!(response.await.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
        }
        let malformed = "the body is malformed: it broke the HTTP/2 protocol";
        assert_eq!(*errors.borrow(), [malformed, malformed]);
    });
}

#[test]
fn a_reset_by_the_client_reaches_reader_and_responder() {
    run(async {
        let (near, far) = pipe();
        let reports = Reports::default();
        let noted = reports.clone();
        let answer = move |head: RequestHead, mut incoming: Incoming| {
            let noted = noted.clone();
            async move {
                if head.target == "/head" {
                    let reason = poll_fn(|cx| incoming.responder.poll_reset(cx)).await.unwrap();
                    noted.add(format!("reset: {reason:?}"));
                    let late = incoming.responder.response_head(&ok_head(), BodyLength::None, true);
                    assert!(matches!(late, Err(SendError::Closed)));
                } else {
                    let error = read_all(&mut incoming.body).await.unwrap_err();
                    noted.add(error.to_string());
                }
            }
        };
        serve(near, limits(), reports.clone(), answer);
        let mut sender = connect(far).await;
        for path in ["/head", "/body"] {
            let post = Request::post(format!("http://a.test{path}")).body(()).unwrap();
            let (_response, mut body) = sender.send_request(post, false).unwrap();
            settle().await;
            body.send_reset(Reason::CANCEL);
            settle().await;
        }
        assert_eq!(reports.all(), ["reset: CANCEL", "the peer stopped before the end of the body"]);
    });
}

#[test]
fn a_malformed_request_is_answered_and_the_connection_goes_on() {
    run(async {
        let (near, far) = pipe();
        let reports = Reports::default();
        let server = serve(near, limits(), reports.clone(), answer_empty);
        let mut sender = connect(far).await;
        let many = (0..101).fold(Request::get("http://a.test/"), |b, _| b.header("x", "y"));
        let cases = [
            (Request::get("http://a.test/").header("host", "b.test"), 400),
            (many, 431),
            (Request::get(format!("http://a.test/{}", "a".repeat(8192))), 414),
            (Request::get("http://a.test/").header("expect", "x"), 417),
            (Request::get("http://a.test/fine"), 200),
        ];
        for (case, status) in cases {
            let (response, _body) = sender.send_request(case.body(()).unwrap(), false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["content-length"], "0");
            assert!(response.body().is_end_stream());
        }
        drop(sender);
        server.await.unwrap();
        assert_eq!(
            reports.all(),
            [
                "request: malformed head: `:authority` and `host` differ",
                "request: the head has too many fields",
                "request: the target is too long",
                "request: the head expects something unknown",
                "over, 0 rejected",
            ]
        );
    });
}

#[test]
fn a_header_list_has_its_limit() {
    run(async {
        let (near, far) = pipe();
        let limits = Rc::new(Http2Limits { header_list_bytes: 1000, ..Http2Limits::default() });
        let reports = Reports::default();
        let server = serve(near, limits, reports.clone(), answer_empty);
        let mut sender = connect(far).await;
        // `:method GET`, `:scheme http`, `:path /` and `:authority a.test` with 32 bytes each, and
        // the name and the 32 bytes of the field.
        let rest = (7 + 3) + (7 + 4) + (5 + 1) + (10 + 6) + 4 * 32 + (1 + 32);
        for (size, status) in [(999, 200), (1000, 200), (1001, 431)] {
            let mut request = request("/");
            let value = "v".repeat(size - rest);
            request.headers_mut().insert("x", value.parse().unwrap());
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), status, "{size}");
        }
        drop(sender);
        server.await.unwrap();
        assert_eq!(reports.all(), ["request: the head is too large", "over, 0 rejected"]);
    });
}

#[test]
fn a_graceful_shutdown_finishes_what_is_under_way() {
    run(async {
        let (near, far) = pipe();
        let go = Rc::new(tokio::sync::Notify::new());
        let stop = go.clone();
        let server = spawn_local(async move {
            let mut connection = Connection::handshake(near, limits()).await.unwrap();
            let mut head = RequestHead::default();
            let first = connection.accept(&mut head).await.unwrap().unwrap();
            connection.graceful_shutdown();
            connection.graceful_shutdown();
            spawn_local(async move {
                stop.notified().await;
                answer_empty(RequestHead::default(), first).await;
            });
            assert!(connection.has_streams());
            assert!(connection.accept(&mut head).await.is_none());
            assert!(connection.accept(&mut head).await.is_none());
        });
        let mut sender = connect(far).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        settle().await;
        assert!(sender.send_request(request("/late"), true).is_err());
        assert!(!server.is_finished());
        go.notify_one();
        assert_eq!(response.await.unwrap().status(), 200);
        server.await.unwrap();
    });
}

#[test]
fn an_abrupt_shutdown_ends_every_stream() {
    run(async {
        let (near, far) = pipe();
        let server = spawn_local(async move {
            let mut connection = Connection::handshake(near, limits()).await.unwrap();
            let mut head = RequestHead::default();
            let mut first = connection.accept(&mut head).await.unwrap().unwrap();
            connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
            assert!(connection.accept(&mut head).await.is_none());
            let closed = first.responder.response_head(&ok_head(), BodyLength::None, true);
            assert!(closed.is_err());
        });
        let mut sender = connect(far).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        assert!(response.await.unwrap_err().is_io());
        server.await.unwrap();
    });
}

#[test]
fn a_connection_gets_a_goaway_after_so_many_requests() {
    run(async {
        let (near, far) = pipe();
        let limits = Rc::new(Http2Limits { requests: 3, ..Http2Limits::default() });
        let reports = Reports::default();
        let server = serve(near, limits, reports.clone(), answer_empty);
        let mut sender = connect(far).await;
        for _ in 0..2 {
            let (response, _) = sender.send_request(request("/"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            settle().await;
            assert!(!server.is_finished());
        }
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        server.await.unwrap();
        assert_eq!(reports.all(), ["over, 0 rejected"]);
    });
}

#[test]
fn an_idle_connection_ends_after_its_time() {
    run(async {
        let (near, far) = pipe();
        let reports = Reports::default();
        let server = serve(near, limits(), reports.clone(), answer_empty);
        let mut sender = connect(far).await;
        let start = tokio::time::Instant::now();
        tokio::time::advance(Duration::from_secs(40)).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        response.await.unwrap();
        server.await.unwrap();
        // 60 seconds after the request; its client answers the pings between.
        assert_eq!(start.elapsed().as_secs(), 100);
        assert_eq!(reports.all(), ["over, 0 rejected"]);
    });
}

#[test]
fn a_connection_ends_at_its_age_while_it_is_used() {
    run(async {
        let (near, far) = pipe();
        let limits =
            Rc::new(Http2Limits { lifetime: Duration::from_secs(100), ..Http2Limits::default() });
        let server = serve(near, limits, Reports::default(), answer_empty);
        let mut sender = connect(far).await;
        settle().await;
        let start = tokio::time::Instant::now();
        for _ in 0..9 {
            tokio::time::advance(Duration::from_secs(11)).await;
            let (response, _) = sender.send_request(request("/"), true).unwrap();
            response.await.unwrap();
        }
        assert!(!server.is_finished());
        server.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 100);
    });
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    run(async {
        let (near, far) = pipe();
        let reports = Reports::default();
        let server = serve(near, limits(), reports.clone(), |_, incoming| async move {
            std::future::pending::<()>().await;
            drop(incoming);
        });
        let (mut sender, connection) = h2::client::handshake(far).await.unwrap();
        let (_response, _) = sender.send_request(request("/"), true).unwrap();
        let start = tokio::time::Instant::now();
        // Polled once: it writes its request and never reads.
        let mut connection = Box::pin(connection);
        assert!(ready_now(&mut connection).await.is_none());
        server.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 50);
        assert_eq!(reports.all(), ["the peer did not answer a ping", "over, 0 rejected"]);
    });
}

#[test]
fn a_client_that_answers_pings_may_wait() {
    run(async {
        let (near, far) = pipe();
        let answer = async |head: RequestHead, incoming: Incoming| {
            tokio::time::sleep(Duration::from_secs(600)).await;
            answer_empty(head, incoming).await;
        };
        serve(near, limits(), Reports::default(), answer);
        let mut sender = connect(far).await;
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}
