//! Listening sockets: one for each listener and worker, opened ahead by a reload and handed over.
//!
//! A listener that the running generation has at the same address is left alone. The first socket of
//! an address is bound for itself alone, so that a port in use by another process is found out, and
//! only then shared with its siblings.

use super::problems::Problems;
use crate::config::{Listener, Loaded};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// Connections that wait to be accepted, on each socket.
pub const BACKLOG: i32 = 1024;

/// Where a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// As the file says; port 0 lets the kernel choose.
    pub configured: SocketAddr,
    /// Where connections come in.
    pub actual: SocketAddr,
}

/// The listeners of a generation by name.
pub type Listening = BTreeMap<Arc<str>, Bound>;

/// Sockets of one generation that are bound, and refuse connections until [`Opened::listen`].
pub(super) struct Opened {
    /// Every listener of the generation, those that stay included.
    pub(super) listening: Listening,
    sockets: Vec<(usize, Arc<str>, Socket)>,
}

/// Sockets by worker.
pub(super) type ByWorker = Vec<Vec<(Arc<str>, TcpListener)>>;

/// Binds what `running` does not have.
pub(super) fn open(
    loaded: &Loaded,
    running: &Listening,
    workers: usize,
) -> Result<Opened, Problems> {
    let mut opened = Opened { listening: Listening::new(), sockets: Vec::new() };
    let mut problems = Problems::default();
    for (index, listener) in loaded.config.listeners.iter().enumerate() {
        let kept = running.get(&listener.name).filter(|it| it.configured == listener.address);
        if let Some(bound) = kept {
            opened.listening.insert(listener.name.clone(), *bound);
            continue;
        }
        match opened.add(listener, running, workers) {
            Ok(()) => {}
            Err(error) => {
                let key = format!("listener[{index}].address");
                let (message, help) = refusal(listener.address, &error);
                let mut problem = loaded.locate(&key, message);
                problem.help = Some(help);
                problems.push(problem);
            }
        }
    }
    problems.or(opened)
}

impl Opened {
    fn add(&mut self, listener: &Listener, running: &Listening, workers: usize) -> io::Result<()> {
        // An address that this process has under another name is shared with it.
        let ours = running.values().any(|it| it.actual == listener.address);
        let first = if ours { shared(listener.address)? } else { exclusive(listener.address)? };
        let actual = first
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the kernel gave no address of the internet"))?;
        self.sockets.push((0, listener.name.clone(), first));
        for worker in 1..workers {
            self.sockets.push((worker, listener.name.clone(), shared(actual)?));
        }
        let bound = Bound { configured: listener.address, actual };
        self.listening.insert(listener.name.clone(), bound);
        Ok(())
    }

    /// From here on connections are taken in, and wait for the workers.
    pub(super) fn listen(self, workers: usize) -> io::Result<(Listening, ByWorker)> {
        let mut by_worker: ByWorker = (0..workers).map(|_| Vec::new()).collect();
        for (worker, name, socket) in self.sockets {
            socket.listen(BACKLOG)?;
            by_worker[worker].push((name, socket.into()));
        }
        Ok((self.listening, by_worker))
    }
}

/// A socket of an address that nobody else has; from then on it can be shared.
fn exclusive(address: SocketAddr) -> io::Result<Socket> {
    let socket = stream(address)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// A socket of an address that other sockets of this user share.
fn shared(address: SocketAddr) -> io::Result<Socket> {
    let socket = stream(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn stream(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier process that linger in TIME_WAIT are no obstacle.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The admin's socket.
pub fn open_admin(loaded: &Loaded) -> Result<TcpListener, Problems> {
    let address = loaded.config.admin.address;
    TcpListener::bind(address).map_err(|error| {
        let (message, help) = refusal(address, &error);
        let mut problem = loaded.locate("admin.address", message);
        problem.help = Some(help);
        problem.into()
    })
}

/// What to say of an address that cannot be had, and what to do.
pub fn refusal(address: SocketAddr, error: &io::Error) -> (String, String) {
    match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("address {address} is in use by another process"),
            "stop it or choose another".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user may not listen on {address}"),
            "choose a port from 1024, or grant CAP_NET_BIND_SERVICE".to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is not an address of this machine", address.ip()),
            "use one of its addresses, or 0.0.0.0 for all of them".to_owned(),
        ),
        _ => (
            format!("failed to listen on {address}: {error}"),
            "choose another address, or see to what the system says".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::net::TcpStream;
    use std::path::Path;

    fn loaded(listeners: &[(&str, SocketAddr)]) -> Loaded {
        let mut text = "[upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n".to_owned();
        for (name, address) in listeners {
            text.push_str(&format!(
                "[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n\
                 route = [{{ upstream = \"u\" }}]\n"
            ));
        }
        parse(&text, "p.toml", Path::new("/"), &|_| None).unwrap()
    }

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn every_worker_gets_a_socket_of_the_same_port() {
        let opened = open(&loaded(&[("a", any())]), &Listening::new(), 2).unwrap();
        let (listening, sockets) = opened.listen(2).unwrap();
        let actual = listening["a"].actual;
        assert_ne!(actual.port(), 0);
        assert_eq!(sockets.len(), 2);
        for worker in &sockets {
            assert_eq!(worker[0].1.local_addr().unwrap(), actual);
        }
        TcpStream::connect(actual).unwrap();
    }

    #[test]
    fn a_port_in_use_is_said_at_its_line() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let problems = open(&loaded(&[("a", address)]), &Listening::new(), 2).err().unwrap();
        let shown = problems.to_string();
        let message = format!("p.toml:5:11: error: address {address} is in use by another process");
        assert!(shown.starts_with(&message), "{shown}");
        assert!(shown.ends_with("help: stop it or choose another"), "{shown}");
    }

    #[test]
    fn another_process_that_shares_its_port_is_one_that_uses_it() {
        let first = open(&loaded(&[("a", any())]), &Listening::new(), 2).unwrap();
        let (listening, _sockets) = first.listen(2).unwrap();
        let again = loaded(&[("a", listening["a"].actual)]);
        assert!(open(&again, &Listening::new(), 2).is_err());
    }

    #[test]
    fn a_listener_that_stays_is_left_alone() {
        let loaded = loaded(&[("a", any())]);
        let (running, _sockets) = open(&loaded, &Listening::new(), 1).unwrap().listen(1).unwrap();
        let opened = open(&loaded, &running, 1).unwrap();
        assert!(opened.sockets.is_empty());
        assert_eq!(opened.listening, running);
    }

    #[test]
    fn a_listener_may_take_the_address_of_one_that_goes() {
        let old = loaded(&[("a", any())]);
        let (running, _sockets) = open(&old, &Listening::new(), 2).unwrap().listen(2).unwrap();
        let new = loaded(&[("b", running["a"].actual)]);
        let (listening, sockets) = open(&new, &running, 2).unwrap().listen(2).unwrap();
        assert_eq!(listening["b"].actual, running["a"].actual);
        assert_eq!(sockets.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn nothing_is_taken_in_before_the_generation_is_complete() {
        let opened = open(&loaded(&[("a", any())]), &Listening::new(), 1).unwrap();
        assert!(TcpStream::connect(opened.listening["a"].actual).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_refused_plainly() {
        let address = SocketAddr::from(([192, 0, 2, 1], 8080));
        let shown =
            open(&loaded(&[("a", address)]), &Listening::new(), 1).err().unwrap().to_string();
        assert!(shown.contains("192.0.2.1 is not an address of this machine"), "{shown}");
    }
}
