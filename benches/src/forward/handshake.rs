//! A DTLS handshake that offers one SRTP profile alone, for keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ortc_io::{SrtpKeys, SrtpProfile};
use tokio::sync::{Mutex, mpsc};
use webrtc_dtls::config::{ClientAuthType, Config};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::crypto::Certificate;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_util::{Conn, Error, KeyingMaterialExporter};

use crate::error::{Failure, Result};

/// RFC 5764 §4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

const LIMIT: Duration = Duration::from_secs(30);

/// One connection, as the DTLS stack sees it.
pub(crate) struct Wire {
    connection: usize,
    local: SocketAddr,
    outgoing: mpsc::UnboundedSender<(usize, Vec<u8>)>,
    arrivals: Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
}

impl Wire {
    pub(crate) fn new(
        connection: usize,
        local: SocketAddr,
        outgoing: mpsc::UnboundedSender<(usize, Vec<u8>)>,
        arrivals: mpsc::UnboundedReceiver<Vec<u8>>,
    ) -> Self {
        Self { connection, local, outgoing, arrivals: Mutex::new(arrivals) }
    }
}

#[async_trait]
impl Conn for Wire {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let arrival = self.arrivals.lock().await.recv().await;
        // The stack spins on a connection that fails.
        let Some(datagram) = arrival else { return std::future::pending().await };
        let room = buffer.get_mut(..datagram.len()).ok_or(Error::ErrBufferShort)?;
        room.copy_from_slice(&datagram);
        Ok(datagram.len())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        Ok((self.recv(buffer).await?, self.local))
    }

    async fn send(&self, datagram: &[u8]) -> Result<usize, Error> {
        // Nobody listens once everybody has connected.
        let _ = self.outgoing.send((self.connection, datagram.to_vec()));
        Ok(datagram.len())
    }

    async fn send_to(&self, datagram: &[u8], _: SocketAddr) -> Result<usize, Error> {
        self.send(datagram).await
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// Shakes hands as the client.
pub(crate) async fn shake_hands(
    wire: Arc<Wire>,
    certificate: Certificate,
    profile: SrtpProfile,
) -> Result<(DTLSConn, SrtpKeys)> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // The stack panics where two are linked in and none is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let config = Config {
        certificates: vec![certificate],
        srtp_protection_profiles: vec![match profile {
            SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProfile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProfile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }],
        client_auth: ClientAuthType::RequireAnyClientCert,
        // A benchmark's own contestant, which it has started itself.
        insecure_skip_verify: true,
        server_name: "contestant.invalid".to_owned(),
        ..Config::default()
    };
    let handshake = DTLSConn::new(wire, config, true, None);
    let dtls = tokio::time::timeout(LIMIT, handshake)
        .await
        .map_err(|_| Failure::new(format!("no DTLS within {LIMIT:?}")))??;
    let length = 2 * (profile.key_len() + profile.salt_len());
    let state = dtls.connection_state().await;
    let material = state.export_keying_material(EXPORTER_LABEL, &[], length).await?;
    let keys = SrtpKeys::from_exported(profile, &material, true);
    Ok((dtls, keys.ok_or_else(|| Failure::new("not enough keying material"))?))
}
