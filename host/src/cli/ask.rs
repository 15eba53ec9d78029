//! Asks the admin interface of a running sidecar: over TCP or its Unix socket, with a token if there
//! is one, and for no more than a bounded time and answer.

use crate::config::ADMIN_ADDRESS_DEFAULT;
use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// To connect, and for an answer to what is done at once.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// For each piece of a request to be taken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a token's file.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Where the admin interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("name the socket, as in `unix:/run/pillion/admin.sock`".to_owned()),
            Some(path) => Ok(Place::Unix(path.into())),
            None => text.parse().map(Place::Tcp).map_err(|_| {
                "write an address with a port, or `unix:` and the path of a socket".to_owned()
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the command line says of it.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArguments {
    /// Where the sidecar's admin interface is: an address, or `unix:` and the path of its socket
    #[arg(long = "admin", value_name = "ADDR|unix:PATH", default_value = ADMIN_ADDRESS_DEFAULT)]
    pub(super) place: Place,
    /// The file with the token of the admin interface, if it has one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// The interface that is named.
    pub(super) fn admin(&self) -> anyhow::Result<Admin> {
        let token = self.token_file.as_ref().map(|path| {
            let file = std::fs::File::open(path);
            let mut text = String::new();
            file.and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
                .with_context(|| format!("failed to read the token in `{}`", path.display()))?;
            let token = text.trim();
            if token.is_empty() || token.bytes().any(|byte| byte.is_ascii_control()) {
                bail!("`{}` holds no token: it has to be one line", path.display());
            }
            Ok(token.to_owned())
        });
        Ok(Admin { place: self.place.clone(), token: token.transpose()? })
    }
}

/// The admin interface of one sidecar.
#[derive(Clone)]
pub(super) struct Admin {
    place: Place,
    token: Option<String>,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// What is sent with a request.
pub(super) struct Body<'b> {
    pub(super) media_type: &'static str,
    pub(super) bytes: &'b [u8],
}

impl Body<'static> {
    pub(super) const NONE: Body<'static> = Body { media_type: "", bytes: &[] };
}

impl Admin {
    /// One that asks for no token.
    pub(super) fn at(address: SocketAddr) -> Self {
        Admin { place: Place::Tcp(address), token: None }
    }

    /// The body of a successful answer.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask("GET", path, Body::NONE, TIMEOUT)?;
        self.successful(answer)
    }

    /// A successful answer in JSON.
    pub(super) fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read_json(&self.get(path)?)
    }

    /// A successful answer in JSON.
    pub(super) fn ask_json<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Body<'_>,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let answer = self.ask(method, path, body, patience)?;
        self.read_json(&self.successful(answer)?)
    }

    /// Any answer, whole. `patience` is for all of it, from when the request is sent.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Body<'_>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let mut stream = self.connect().with_context(|| {
            format!("no sidecar answers on {}; name its admin address with `--admin`", self.place)
        })?;
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if !body.bytes.is_empty() {
            // What is refused need not be sent.
            head.push_str(&format!(
                "expect: 100-continue\r\ncontent-type: {}\r\n",
                body.media_type
            ));
        }
        if method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", body.bytes.len()));
        }
        head.push_str("\r\n");
        let mut exchange = || -> anyhow::Result<Answer> {
            stream.write_all(head.as_bytes())?;
            let mut received = Received::default();
            if !body.bytes.is_empty() {
                received.read_head(&mut stream, Instant::now() + TIMEOUT)?;
                if received.status()? == 100 {
                    received.forget_head();
                    stream.write_all(body.bytes)?;
                }
            }
            let deadline = Instant::now() + patience;
            received.read_head(&mut stream, deadline)?;
            received.read_body(&mut stream, deadline)
        };
        exchange().with_context(|| format!("failed to ask {}", self.place))
    }

    fn connect(&self) -> io::Result<Connected> {
        let stream = match &self.place {
            Place::Tcp(address) => Connected::Tcp(TcpStream::connect_timeout(address, TIMEOUT)?),
            Place::Unix(path) => Connected::Unix(UnixStream::connect(path)?),
        };
        match &stream {
            Connected::Tcp(stream) => stream.set_write_timeout(Some(WRITE_TIMEOUT))?,
            Connected::Unix(stream) => stream.set_write_timeout(Some(WRITE_TIMEOUT))?,
        }
        Ok(stream)
    }

    fn successful(&self, answer: Answer) -> anyhow::Result<String> {
        let Answer { status, body } = answer;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        if status == 401 {
            bail!("{} asks for a token: name its file with `--token-file`", self.place);
        }
        let Ok(failed) = serde_json::from_str::<crate::admin::shape::Failed>(&body) else {
            bail!("{} answers {status}: {}", self.place, body.trim().escape_debug());
        };
        let lines = std::iter::once(failed.error).chain(failed.diagnostics);
        let lines: Vec<String> = lines.map(|line| printable(&line)).collect();
        bail!("refused: {}", lines.join("\n"))
    }

    fn read_json<T: DeserializeOwned>(&self, body: &str) -> anyhow::Result<T> {
        serde_json::from_str(body)
            .map_err(|_| anyhow!("{} answers something else; is it this version?", self.place))
    }
}

/// Text of the sidecar as a terminal may have it: without control bytes but line ends.
pub(super) fn printable(text: &str) -> String {
    let plain = |char: char| if char.is_control() && char != '\n' { '\u{fffd}' } else { char };
    text.chars().map(plain).collect()
}

/// A connection.
enum Connected {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connected {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connected::Tcp(stream) => stream.write_all(bytes),
            Connected::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Reads a piece, or fails at the deadline. 0 is the end.
    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        // None would wait without end.
        let left = Some(left.max(Duration::from_millis(1)));
        match self {
            Connected::Tcp(stream) => stream.set_read_timeout(left).and(stream.read(buffer)),
            Connected::Unix(stream) => stream.set_read_timeout(left).and(stream.read(buffer)),
        }
    }
}

/// What has been read of an answer.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// Bytes of the head with its empty line, once it is there.
    head: Option<usize>,
}

impl Received {
    fn read_head(&mut self, stream: &mut Connected, deadline: Instant) -> anyhow::Result<()> {
        const END: &[u8] = b"\r\n\r\n";
        while self.head.is_none() {
            let end = self.bytes.windows(END.len()).position(|window| window == END);
            self.head = end.map(|end| end + END.len());
            let hopeless = self.bytes.len() > HEAD_BYTES_MAX;
            if self.head.is_none() && (hopeless || !self.read_more(stream, deadline)?) {
                bail!("it does not speak HTTP");
            }
        }
        Ok(())
    }

    fn status(&self) -> anyhow::Result<u16> {
        let head = String::from_utf8_lossy(&self.bytes[..self.head.unwrap_or_default()]);
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        status.context("it does not speak HTTP")
    }

    fn forget_head(&mut self) {
        self.bytes.drain(..self.head.take().unwrap_or_default());
    }

    fn read_body(mut self, stream: &mut Connected, deadline: Instant) -> anyhow::Result<Answer> {
        while self.read_more(stream, deadline)? {}
        let status = self.status()?;
        let body = self.bytes.split_off(self.head.unwrap_or_default());
        let head = String::from_utf8_lossy(&self.bytes);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length.parse() != Ok(body.len())) {
            bail!("the answer was cut off");
        }
        let body = String::from_utf8(body).ok().context("the answer is no text")?;
        Ok(Answer { status, body })
    }

    fn read_more(&mut self, stream: &mut Connected, deadline: Instant) -> anyhow::Result<bool> {
        if self.bytes.len() > ANSWER_BYTES_MAX {
            bail!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
        }
        let mut piece = [0; 16 * 1024];
        let read = match stream.read(&mut piece, deadline) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                bail!("it does not answer in time")
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            other => other?,
        };
        self.bytes.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::chain;
    use std::net::TcpListener;

    /// Answers one connection with `answer`, and tells what was asked.
    fn answering(answer: &'static str) -> (Admin, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = Admin::at(listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (admin, asked)
    }

    fn refusal(answer: &'static str) -> String {
        let error = answering(answer).0.get("/status").unwrap_err();
        chain(error.as_ref())
    }

    #[test]
    fn the_body_of_an_answer_is_shown() {
        let (admin, _) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(admin.get("/status").unwrap(), "{}");
    }

    #[test]
    fn a_token_and_a_body_are_sent() {
        let (admin, asked) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        let admin = Admin { token: Some("secret".to_owned()), ..admin };
        let body = Body { media_type: "application/json", bytes: b"{}" };
        assert_eq!(admin.ask("POST", "/rollback", body, TIMEOUT).unwrap().status, 200);
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /rollback HTTP/1.1\r\nhost: localhost\r\n"), "{asked}");
        for field in ["authorization: Bearer secret", "content-length: 2", "expect: 100-continue"] {
            assert!(asked.contains(&format!("{field}\r\n")), "{asked}");
        }
        assert!(asked.ends_with("\r\n\r\n"), "the body waits to be asked for: {asked}");
    }

    #[test]
    fn other_answers_are_told() {
        let said = refusal("HTTP/1.1 404 Not Found\r\n\r\nnothing\n");
        assert!(said.ends_with("answers 404: nothing"), "{said}");
        let said = refusal(
            "HTTP/1.1 422 Unprocessable Content\r\n\r\n\
             {\"error\": \"it cannot be used\", \"diagnostics\": [\"a\\u001b[1m\", \"b\"]}",
        );
        assert!(said.ends_with("refused: it cannot be used\na\u{fffd}[1m\nb"), "{said}");
        let said = refusal("HTTP/1.1 401 Unauthorized\r\n\r\n{}");
        assert!(said.ends_with("asks for a token: name its file with `--token-file`"), "{said}");
        for (answer, message) in [
            ("SSH-2.0\r\n", "it does not speak HTTP"),
            ("", "it does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", "the answer was cut off"),
        ] {
            let said = refusal(answer);
            assert!(said.contains(message), "{answer}: {said}");
        }
    }

    #[test]
    fn an_answer_is_taken_up_to_its_limit() {
        let mut stream = {
            let (near, far) = UnixStream::pair().unwrap();
            std::thread::spawn(move || {
                let piece = vec![b'x'; 1 << 20];
                while (&far).write_all(&piece).is_ok() {}
            });
            Connected::Unix(near)
        };
        let mut received = Received::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = loop {
            match received.read_more(&mut stream, deadline) {
                Ok(more) => assert!(more),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(error, "the answer is longer than 16777216 bytes");
        assert!(received.bytes.len() <= ANSWER_BYTES_MAX + 16 * 1024);
    }

    #[test]
    fn nobody_there_is_told_with_the_option_to_use() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Admin::at(gone).get("/status").unwrap_err().to_string();
        assert!(error.contains("`--admin`"), "{error}");
        let place = "unix:/nowhere/admin.sock".parse().unwrap();
        let error = Admin { place, token: None }.get("/status").unwrap_err().to_string();
        assert!(error.contains("unix:/nowhere/admin.sock") && error.contains("`--admin`"));
    }

    #[test]
    fn a_place_is_an_address_or_a_socket() {
        assert_eq!("127.0.0.1:1".parse(), Ok(Place::Tcp(([127, 0, 0, 1], 1).into())));
        assert_eq!("unix:a/b".parse(), Ok(Place::Unix("a/b".into())));
        for wrong in ["", "localhost", "unix:", "/a/b"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
