use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::StreamTls;

/// Does a TLS handshake; the server's certificate has to be for the name and by a root.
pub(super) async fn secure(stream: TcpStream, tls: StreamTls) -> io::Result<TlsStream<TcpStream>> {
    let StreamTls { name, roots } = tls;
    let config = match roots {
        Some(roots) => Arc::new(config(store(roots.iter().cloned().map(Into::into)))?),
        None => system_config().await?,
    };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let name = ServerName::try_from(name).map_err(invalid)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// The configuration with the system's roots, which are read once, off the thread.
async fn system_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let load = tokio::task::spawn_blocking(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "some of the system's root certificates cannot be read");
        }
        store(loaded.certs.into_iter())
    });
    let made = Arc::new(config(load.await.map_err(io::Error::other)?)?);
    Ok(Arc::clone(CONFIG.get_or_init(|| made)))
}

fn store(roots: impl Iterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(roots);
    if unusable > 0 {
        tracing::debug!(unusable, "some root certificates cannot be used");
    }
    store
}

fn config(roots: RootCertStore) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}
