//! TLS on either side of the sidecar: a client that connects with it, and a front that puts it before an
//! origin which speaks without.

use crate::authority::{Authority, Issued};
use crate::client::{Client, Protocol};
use crate::wait::within;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use tokio_rustls::client::TlsStream;

/// How a client connects. Clones resume each other's sessions.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: String,
}

impl Connector {
    /// Believes `authority` about `name`, shows `identity`, and offers `alpn`.
    ///
    /// # Panics
    /// When one of them is malformed.
    pub fn new(
        authority: &Authority,
        name: &str,
        identity: Option<&Issued>,
        alpn: &[&str],
    ) -> Connector {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites of both versions")
            .with_root_certificates(roots(authority));
        let mut config = match identity {
            Some(identity) => {
                let (chain, key) = parts(identity);
                builder.with_client_auth_cert(chain, key).expect("the key belongs to it")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Connector { config: Arc::new(config), name: name.to_owned() }
    }

    /// A connection after its handshake. Of TLS 1.3 the server may still refuse it.
    pub async fn stream(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let socket = within("a connection", TcpStream::connect(address)).await?;
        let _ = socket.set_nodelay(true);
        let name = ServerName::try_from(self.name.clone()).expect("a name of a server");
        let connector = TlsConnector::from(self.config.clone());
        within("a handshake", connector.connect(name, socket)).await
    }

    /// A session at its beginning, for whoever drives it.
    ///
    /// # Panics
    /// When the system has no random bytes.
    pub fn session(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name.clone()).expect("a name of a server");
        ClientConnection::new(self.config.clone(), name).expect("there are random bytes")
    }

    /// A client that speaks what was agreed on.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect(&self, address: SocketAddr) -> Client {
        let stream = self.stream(address).await.expect("a handshake that succeeds");
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Client::over(stream, protocol).await
    }
}

/// The session of a server that shows `identity`, at its beginning.
///
/// # Panics
/// When it is malformed.
pub fn server_session(identity: &Issued) -> ServerConnection {
    let (chain, key) = parts(identity);
    let config = server_config(None).with_single_cert(chain, key);
    let config = Arc::new(config.expect("the key belongs to it"));
    ServerConnection::new(config).expect("there are random bytes")
}

/// Asks for a certificate of `clients`.
fn server_config(clients: Option<&Authority>) -> ConfigBuilder<ServerConfig, WantsServerCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions");
    let Some(authority) = clients else { return builder.with_no_client_auth() };
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)), provider);
    builder.with_client_cert_verifier(verifier.build().expect("there is an authority"))
}

/// How a front ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// With `close_notify`.
    Said,
    /// Without.
    Missing,
}

/// TLS before an origin.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Front {
    /// Shows `identity`, offers `alpn`, asks for a certificate of `clients`, and carries bytes to and
    /// from `origin`.
    ///
    /// # Panics
    /// When one of them is malformed.
    pub async fn before(
        origin: SocketAddr,
        identity: &Issued,
        clients: Option<&Authority>,
        alpn: &[&str],
        goodbye: Goodbye,
    ) -> Front {
        let (chain, key) = parts(identity);
        let mut config =
            server_config(clients).with_single_cert(chain, key).expect("the key belongs to it");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let handshakes = Arc::<AtomicUsize>::default();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(accept(listener, acceptor, handshakes.clone(), origin, goodbye));
        Front { address, handshakes, task }
    }

    /// Handshakes that succeeded.
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: Arc<AtomicUsize>,
    origin: SocketAddr,
    goodbye: Goodbye,
) {
    // Dropped with the accepting task, so that connections end with the front.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("descriptors are not used up");
        let (acceptor, handshakes) = (acceptor.clone(), handshakes.clone());
        connections.spawn(async move {
            // A handshake that fails is what some tests are about.
            let Ok(mut tls) = acceptor.accept(socket).await else { return };
            handshakes.fetch_add(1, Ordering::SeqCst);
            let Ok(mut plain) = TcpStream::connect(origin).await else { return };
            match goodbye {
                Goodbye::Said => drop(copy_bidirectional(&mut tls, &mut plain).await),
                Goodbye::Missing => {
                    let (mut from_peer, mut to_peer) = tokio::io::split(tls);
                    let (mut from_origin, mut to_origin) = plain.split();
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_peer, &mut to_origin) => {}
                        _ = tokio::io::copy(&mut from_origin, &mut to_peer) => {
                            let _ = to_peer.flush().await;
                        }
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.pem.as_bytes()) {
        let certificate = certificate.expect("an authority has a certificate");
        roots.add(certificate).expect("an authority's certificate is one");
    }
    roots
}

fn parts(identity: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let chain: Result<Vec<_>, _> = chain.collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    (chain.expect("what is issued is PEM"), key.expect("what is issued has a key"))
}
