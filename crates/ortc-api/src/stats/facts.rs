use bytes::Bytes;
use ortc_dtls::{DtlsEvent, DtlsRole};
use ortc_ice::{IceEvent, IceState, RTCIceCandidateDescription};
use ortc_io::SrtpProfile;

use crate::core::Peer;

/// What the control plane knows of the transport of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransportFacts {
    pub(super) ice: Option<IceState>,
    pub(super) dtls: Dtls,
    pub(super) role: Option<DtlsRole>,
    pub(super) srtp: Option<SrtpProfile>,
    /// Ours and the peer's.
    pub(super) pair: Option<Box<(RTCIceCandidateDescription, RTCIceCandidateDescription)>>,
    pub(super) pair_changes: u32,
    pub(super) remote_certificate: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Dtls {
    #[default]
    New,
    Connecting,
    Connected,
    Closed,
    Failed,
}

impl TransportFacts {
    pub(crate) fn on_connect(&mut self, peer: &Peer) {
        // The role is decided once.
        self.role.get_or_insert(peer.roles.dtls);
    }

    pub(crate) fn on_ice(&mut self, event: &IceEvent) {
        match event {
            IceEvent::StateChanged(state) => {
                self.ice = Some(*state);
                if *state == IceState::Connected && self.dtls == Dtls::New {
                    self.dtls = Dtls::Connecting;
                }
            }
            IceEvent::ActivePair { local, remote } => {
                let pair = (local.clone(), remote.clone());
                self.pair_changes += 1;
                self.pair = Some(Box::new(pair));
            }
            _ => {}
        }
    }

    pub(crate) fn on_dtls(&mut self, event: &DtlsEvent) {
        match event {
            DtlsEvent::Connected { keys, certificate } => {
                self.dtls = Dtls::Connected;
                self.srtp = Some(keys.profile);
                self.remote_certificate = Some(certificate.clone());
            }
            DtlsEvent::Stopped(Ok(())) => self.dtls = Dtls::Closed,
            DtlsEvent::Stopped(Err(_)) => self.dtls = Dtls::Failed,
            DtlsEvent::ApplicationData(_) => {}
        }
    }

    pub(super) fn ice_state(&self) -> &'static str {
        match self.ice {
            None | Some(IceState::AwaitingConnect) => "new",
            Some(IceState::Checking) => "checking",
            Some(IceState::Connected) => "connected",
            Some(IceState::Disconnected) => "disconnected",
            Some(IceState::Closed) => "closed",
        }
    }

    pub(super) fn dtls_state(&self) -> &'static str {
        match self.dtls {
            Dtls::New => "new",
            Dtls::Connecting => "connecting",
            Dtls::Connected => "connected",
            Dtls::Closed => "closed",
            Dtls::Failed => "failed",
        }
    }

    /// The name of the profile in IANA's registry of DTLS-SRTP profiles.
    pub(super) fn srtp_cipher(&self) -> Option<&'static str> {
        Some(match self.srtp? {
            SrtpProfile::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            SrtpProfile::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            SrtpProfile::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        })
    }
}
