//! TLS over a socket: a session of rustls, driven by readiness.
//!
//! What arrives is read into a lent buffer and handed to the session piece by piece, only as long as
//! nobody has plaintext to read: so no more than a record is ever decrypted ahead. Of what is written
//! the session keeps what the socket has not taken, no more than its own limit of 64 KiB. Knows
//! nothing of certificates; an end without `close_notify` is an error, so that a cut message is not
//! taken for a whole one.

use super::buffers;
use bytes::{Buf, BytesMut};
use rustls::{AlertDescription, Connection};
use std::future::Future;
use std::io::{self, BufRead, IoSlice, Write};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// A fatal `protocol_version` as a record (RFC 8446 sections 5.1 and 6.2).
const VERSION_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// A socket with a session over it.
pub struct Tls {
    socket: TcpStream,
    session: Connection,
    /// Read from the socket, not yet given to the session. Lent while there is something in it.
    received: BytesMut,
    failed: Option<rustls::Error>,
    closing: bool,
}

/// Why a handshake did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer closed or reset the connection.
    #[error("the peer closed the connection within the handshake")]
    Closed,
    /// One side refused the other.
    #[error(transparent)]
    Refused(#[from] rustls::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        session_error(&error).map_or(HandshakeError::Closed, |error| error.clone().into())
    }
}

/// What the session said, where it is behind an error of a stream.
pub fn session_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Has the peer sent a fatal alert? It is how a peer refuses our certificate after the handshake is
/// over for us (RFC 8446 section 4.4.2.4).
pub fn is_alert(error: &io::Error) -> bool {
    matches!(session_error(error), Some(rustls::Error::AlertReceived(alert)) if
        *alert != AlertDescription::CloseNotify)
}

impl Tls {
    /// A session at its beginning.
    pub fn new(socket: TcpStream, session: Connection) -> Self {
        // It fails only on a socket that is already dead, and then the first read tells.
        let _ = socket.set_nodelay(true);
        Tls { socket, session, received: BytesMut::new(), failed: None, closing: false }
    }

    /// The session.
    pub fn session(&self) -> &Connection {
        &self.session
    }

    /// The socket, for looking at it, and for closing it below a session that has failed.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The same, to be written to and read from.
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Carries out the handshake, to the point where everything of it is sent.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        while self.session.is_handshaking() {
            ready!(self.poll_flush(cx))?;
            if !self.session.is_handshaking() {
                break;
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
        }
        self.poll_flush(cx).map_err(HandshakeError::from)
    }

    /// Waits until there is plaintext, or the end. Errors come again when asked again.
    pub(super) fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other.map(drop)),
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Gives `take` pieces of plaintext until it wants no more; it answers how many bytes it took. A
    /// first piece that is empty is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_plaintext(cx))?;
        let mut reader = self.session.reader();
        let mut total = 0;
        loop {
            let piece = match reader.fill_buf() {
                Ok(piece) => piece,
                // More may come; what is to be said of it is said when there is nothing before it.
                Err(_) => return Poll::Ready(Ok(total)),
            };
            let taken = take(piece);
            reader.consume(taken);
            total += taken;
            if taken == 0 {
                return Poll::Ready(Ok(total));
            }
        }
    }

    /// Writes from the first bytes of `slices` on, once what was written before is sent.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let written = self.session.writer().write_vectored(slices)?;
        if let Poll::Ready(sent) = self.poll_flush(cx) {
            sent?;
        }
        Poll::Ready(Ok(written))
    }

    /// Sends what the session holds.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Sending { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more comes, in TLS and below it.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.session.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Says goodbye on a connection that is dropped while it is idle, if the socket takes it at once.
    pub(super) fn say_goodbye(&mut self) {
        if !self.closing && !self.session.is_handshaking() {
            self.closing = true;
            self.session.send_close_notify();
            let _taken_or_not = self.poll_flush(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Has an idle connection neither ended nor received plaintext? What belongs to the session
    /// itself, tickets above all, is taken in on the way.
    pub(super) fn quiet(&mut self) -> bool {
        if self.received.is_empty() && !has_bytes(&self.socket) {
            return matches!(self.session.reader().fill_buf(), Err(error) if would_block(&error));
        }
        self.poll_plaintext(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Gives the session one piece of what has arrived. 0: the peer has sent its last byte.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(invalid(error.clone())));
        }
        if self.received.is_empty() {
            ready!(self.poll_arrived(cx))?;
        }
        let mut rest = &self.received[..];
        let taken = self.session.read_tls(&mut rest)?;
        let processed = self.session.process_new_packets();
        if matches!(&processed, Err(error) if is_outdated(error, &self.received)) {
            self.refuse_version(cx);
        }
        // 0 with something there: after `close_notify`, where nothing counts any more.
        let used = if taken == 0 { self.received.len() } else { taken };
        self.received.advance(used);
        self.release_if_empty();
        // An alert, or an answer to the peer; whether it gets out shows at the next write.
        let _sent = self.poll_flush(cx);
        match processed {
            Ok(_) => Poll::Ready(Ok(taken)),
            Err(error) => {
                self.failed = Some(error.clone());
                Poll::Ready(Err(invalid(error)))
            }
        }
    }

    /// Sends the alert for a version that is not spoken in place of the session's own.
    fn refuse_version(&mut self, cx: &mut Context<'_>) {
        while self.session.wants_write() && self.session.write_tls(&mut io::sink()).is_ok() {}
        // A socket that does not take seven bytes at once is in no state to be told.
        let _taken_or_not = Sending { socket: &mut self.socket, cx }.write(&VERSION_ALERT);
    }

    /// Reads from the socket; nothing is in the buffer at its end.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(cx))?;
        self.received = buffers::take();
        let read = pin!(self.socket.read_buf(&mut self.received)).poll(cx);
        self.release_if_empty();
        read.map_ok(drop)
    }

    fn release_if_empty(&mut self) {
        if self.received.is_empty() {
            buffers::give(std::mem::take(&mut self.received));
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        buffers::give(std::mem::take(&mut self.received));
    }
}

/// Was a client refused for want of signature algorithms that is too old to send any? rustls looks for
/// them before it looks at the version, and answers `handshake_failure`, although it is the version that
/// is not spoken. `hello` is what has arrived, from the first byte on where the error is this one.
fn is_outdated(error: &rustls::Error, hello: &[u8]) -> bool {
    use rustls::PeerIncompatible::SignatureAlgorithmsExtensionRequired as Unsigned;
    // A record of one handshake message, `client_hello`, with the latest version of the client.
    matches!(error, rustls::Error::PeerIncompatible(Unsigned))
        && matches!(hello, [22, 3, _, _, _, 1, _, _, _, 3, minor, ..] if *minor < 3)
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Is there something to be read, or the end, as far as the last round of events told? Mostly without
/// a system call: without readiness the closure is not called. With it, a look at the socket tells
/// whether it is left over from a read that was exactly filled.
pub(super) fn has_bytes(socket: &TcpStream) -> bool {
    let peek = || socket2::SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).map(drop);
    let seen = socket.try_io(Interest::READABLE, peek);
    !matches!(seen, Err(error) if would_block(&error))
}

/// The socket as the session writes to it.
struct Sending<'s, 'c, 'w> {
    socket: &'s mut TcpStream,
    cx: &'c mut Context<'w>,
}

impl Write for Sending<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at_once(done: Poll<io::Result<usize>>) -> io::Result<usize> {
    match done {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

#[cfg(test)]
mod tests;
