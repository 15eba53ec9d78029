//! The app of the demo: answers every request with what reached it, so that it shows what the filters
//! did on the way. Serves the demo and nothing else.

use crate::http::head::response_has_body;
use crate::http::{BodyLength, Frame, Name, RequestHead, ResponseHead};
use crate::http1::{HeadLimits, ReadError, Reader, ResponseKind, Writer};
use crate::io::Stream;
use std::fmt::Write;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at one time; more are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection without a request is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// For one request and its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to leave accepting alone when it fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves on a bound socket, on a thread of its own that ends with the process.
pub(super) fn spawn(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    std::thread::Builder::new().name("demo-app".to_owned()).spawn(move || {
        let served = runtime.enable_all().build_local(Default::default()).and_then(|runtime| {
            runtime.block_on(async { serve(TcpListener::from_std(listener)?).await })
        });
        if let Err(error) = served {
            tracing::error!(%error, "the demo's app cannot be served");
        }
    })?;
    Ok(())
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn_local(connection(Stream::tcp(socket)));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One exchange after the other. A connection that fails is closed; there is nobody to tell.
async fn connection(stream: Stream) {
    let mut reader = Reader::new(stream.clone());
    let mut writer = Writer::new(stream);
    while let Ok(Ok(true)) = timeout(IDLE_TIMEOUT, poll_fn(|cx| reader.poll_idle(cx))).await {
        let exchange = exchange(&mut reader, &mut writer);
        if !matches!(timeout(EXCHANGE_TIMEOUT, exchange).await, Ok(Ok(true))) {
            return;
        }
    }
}

/// Reads a request and answers it. `false`: the connection is of no more use.
async fn exchange(reader: &mut Reader, writer: &mut Writer) -> Result<bool, ReadError> {
    let mut request = RequestHead::default();
    let limits = Rc::new(HeadLimits::default());
    let head = poll_fn(|cx| reader.poll_request_head(cx, &mut request, &limits)).await?;
    let Some(framing) = head else { return Ok(false) };
    if request.expects_continue && framing.body != BodyLength::None {
        writer.interim(100, &Default::default());
        poll_fn(|cx| writer.poll_flush(cx)).await.map_err(ReadError::Io)?;
    }
    let mut body_bytes = 0;
    loop {
        match poll_fn(|cx| reader.poll_frame(cx)).await {
            Ok(Frame::Data(bytes)) => body_bytes += bytes.len() as u64,
            Ok(Frame::Trailers(_) | Frame::End) => break,
            Err(_) => return Ok(false),
        }
    }
    let answer = shown(&request, body_bytes);
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    let mut field = |name, value: &str| head.fields.append(Name::known(name), value.as_bytes());
    field("content-type", "text/plain; charset=utf-8");
    field("date", &httpdate::fmt_http_date(SystemTime::now()));
    let kind = ResponseKind {
        has_body: response_has_body(&request.method, head.status),
        keep_alive: framing.keep_alive,
        protocol: request.protocol,
    };
    let keeps = writer.response_head(&head, BodyLength::Exact(answer.len() as u64), kind);
    let written = match kind.has_body {
        true => writer.data(answer.into()).and_then(|()| writer.end(None)),
        false => writer.end(None),
    };
    written.map_err(|error| ReadError::Io(io::Error::other(error)))?;
    poll_fn(|cx| writer.poll_flush(cx)).await.map_err(ReadError::Io)?;
    Ok(keeps)
}

/// The request as text.
fn shown(request: &RequestHead, body_bytes: u64) -> String {
    let mut text = "Hello from the demo app. This is what reached it:\n\n".to_owned();
    // Writing into a string does not fail.
    let RequestHead { method, target, protocol, authority, .. } = request;
    let _ = writeln!(text, "{method} {target} {}", protocol.name());
    let _ = writeln!(text, "host: {authority}");
    for (name, value) in request.fields.iter().filter(|(name, _)| *name != b"host") {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let _ = writeln!(text, "{name}: {value}");
    }
    if body_bytes > 0 {
        let _ = writeln!(text, "\nand a body of {body_bytes} bytes");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn it_tells_what_reached_it_on_a_connection_that_stays() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        spawn(listener).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let first =
            "POST /a?b HTTP/1.1\r\nHost: app\r\nX-Tenant: t\r\nContent-Length: 3\r\n\r\nabc";
        let last = "HEAD /z HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{first}{last}").as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        for part in
            ["\nPOST /a?b HTTP/1.1\nhost: app\n", "x-tenant: t\n", "\nand a body of 3 bytes\n"]
        {
            assert!(answers.contains(part), "{part}: {answers}");
        }
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
        assert!(answers.ends_with("\r\n\r\n"), "{answers}");
    }
}
