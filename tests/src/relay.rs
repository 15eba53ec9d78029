//! A relay on the way between two peers: carries bytes, keeps a copy of them, and counts connections.
//! Where it leads may be said later than where it is, so that peers can be started in any order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes of one direction of one connection that are kept; the rest is carried only.
const KEPT_MAX: usize = 1024 * 1024;

/// What one connection carried, as far as it is kept.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// From who connected.
    pub sent: Vec<u8>,
    /// To who connected.
    pub answered: Vec<u8>,
}

/// One relay; it ends with its value, and its connections with it.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    carried: Arc<Mutex<Vec<Carried>>>,
    ended: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    /// One that leads nowhere yet: connections wait.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn new() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (to, target) = watch::channel(None);
        let (carried, ended) = (Arc::default(), Arc::default());
        let task = tokio::spawn(accept(listener, target, Arc::clone(&carried), Arc::clone(&ended)));
        Relay { address, to, carried, ended, task }
    }

    /// Leads there from now on.
    pub fn to(&self, address: SocketAddr) {
        self.to.send_replace(Some(address));
    }

    /// What every connection so far has carried, the oldest first.
    pub fn carried(&self) -> Vec<Carried> {
        lock(&self.carried).clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        lock(&self.carried).len()
    }

    /// Connections that one side or the other has ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<Option<SocketAddr>>,
    carried: Arc<Mutex<Vec<Carried>>>,
    ended: Arc<AtomicUsize>,
) {
    // Dropped with the accepting task, so that connections end with the relay.
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("descriptors are not used up");
        let number = {
            let mut carried = lock(&carried);
            carried.push(Carried::default());
            carried.len() - 1
        };
        let (mut target, carried, ended) = (target.clone(), carried.clone(), ended.clone());
        connections.spawn(async move {
            let Ok(to) = target.wait_for(Option::is_some).await.map(|to| *to) else { return };
            let Some(to) = to else { return };
            // A peer that refuses is what some tests are about.
            let Ok(far) = TcpStream::connect(to).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let keep_sent = |bytes: &[u8]| keep(&mut lock(&carried)[number].sent, bytes);
            let keep_answered = |bytes: &[u8]| keep(&mut lock(&carried)[number].answered, bytes);
            let whole = AtomicBool::new(true);
            let end = || {
                if whole.swap(false, Ordering::SeqCst) {
                    ended.fetch_add(1, Ordering::SeqCst);
                }
            };
            tokio::join!(
                carry(near_read, far_write, keep_sent, end),
                carry(far_read, near_write, keep_answered, end),
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    keep: impl Fn(&[u8]),
    end: impl Fn(),
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        keep(&bytes[..read]);
        if to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    end();
    // Closed already is what is wanted.
    let _ = to.shutdown().await;
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT_MAX.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(&bytes[..room]);
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
