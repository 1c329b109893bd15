//! TLS for the listening socket, and towards the server that is called.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::door::{Door, Watched};

/// Streams that have done their handshakes and wait to be served: a moment.
const WAITING: usize = 256;

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that it is signed with.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of this.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// They do not belong together.
    #[error("the certificate cannot be used with this key: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsFiles {
    /// Reads them.
    pub(crate) fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let certificates = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::File { path: self.key.clone(), source })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        // WebSockets begin as HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// By whom the certificate of a server is to be signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those that this system trusts.
    #[default]
    System,
    /// The certificates of this file, in PEM, and nobody else.
    File(PathBuf),
}

impl Authorities {
    /// Reads the certificates, off the thread.
    pub(crate) async fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let authorities = self.clone();
        let read = tokio::task::spawn_blocking(move || authorities.roots());
        // It is not cancelled, and does not panic.
        let roots = read.await.unwrap_or_else(|_| Ok(RootCertStore::empty()))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                let loaded = rustls_native_certs::load_native_certs();
                for error in &loaded.errors {
                    tracing::warn!(%error, "some of the system's root certificates cannot be read");
                }
                roots.add_parsable_certificates(loaded.certs);
            }
            Self::File(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate)?;
                }
            }
        }
        Ok(roots)
    }
}

/// A listener whose connections have done their handshakes, each in its own time. How many there
/// are at a time, and how long one takes, is the door's matter.
#[derive(Debug)]
pub(crate) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<(Watched<TlsStream<TcpStream>>, SocketAddr)>,
}

impl TlsListener {
    pub(crate) fn new(mut door: Door, config: Arc<ServerConfig>) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(config);
        let address = door.local_addr()?;
        let (done, accepted) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                let (stream, ticket, peer) = tokio::select! {
                    admitted = door.admit() => admitted,
                    () = done.closed() => return,
                };
                let (acceptor, done) = (acceptor.clone(), done.clone());
                tokio::spawn(async move {
                    let stream = tokio::select! {
                        stream = acceptor.accept(stream) => stream,
                        () = ticket.expired() => return,
                    };
                    if let Ok(stream) = stream {
                        // Nobody takes it once the server has shut down.
                        let _ = done.send((Watched::new(stream, ticket), peer)).await;
                    }
                });
            }
        });
        Ok(Self { address, accepted })
    }
}

impl Listener for TlsListener {
    type Io = Watched<TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
