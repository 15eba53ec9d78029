//! Asks the admin interface of a running sidecar.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// To connect, and then for each piece of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// As in `HTTP/1.1 200 OK`.
    pub(super) status: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is(&self, status: u16) -> bool {
        self.status.starts_with(&format!("HTTP/1.1 {status}"))
    }
}

/// The body of a successful answer.
pub(super) fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let answer = ask(admin, "GET", path, TIMEOUT)?;
    if !answer.is(200) {
        let Answer { status, body } = answer;
        bail!("{admin} answers `{}`: {}", status.escape_debug(), body.trim().escape_debug());
    }
    Ok(answer.body)
}

/// Any answer. `patience` is for each piece of it.
pub(super) fn ask(
    admin: SocketAddr,
    method: &str,
    path: &str,
    patience: Duration,
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT).with_context(|| {
        format!("no sidecar answers on {admin}; name its admin address with `--admin`")
    })?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{length}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("failed to read the answer of {admin}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{admin} does not speak HTTP");
    };
    let status = head.lines().next().unwrap_or_default();
    Ok(Answer { status: status.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with `answer`.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_body_of_an_answer_is_shown() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(get(address, "/status").unwrap(), "{}");
    }

    #[test]
    fn other_answers_are_told() {
        let address = answering("HTTP/1.1 404 Not Found\r\n\r\nnothing\n");
        let error = get(address, "/status").unwrap_err().to_string();
        assert!(error.ends_with("answers `HTTP/1.1 404 Not Found`: nothing"), "{error}");
        let error = get(answering("SSH-2.0\r\n"), "/status").unwrap_err().to_string();
        assert!(error.ends_with("does not speak HTTP"), "{error}");
    }

    #[test]
    fn nobody_there_is_told_with_the_option_to_use() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = get(gone, "/status").unwrap_err().to_string();
        assert!(error.contains("`--admin`"), "{error}");
    }
}
