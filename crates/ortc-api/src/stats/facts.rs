use bytes::Bytes;
use ortc_dtls::{DtlsEvent, DtlsRole, DtlsStats};
use ortc_ice::{IceEvent, IceState, IceStats, RTCIceCandidateDescription};
use ortc_io::{SrtpProfile, Tally};

use crate::core::Peer;

/// What the control plane knows of the transport of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransportFacts {
    pub(super) ice: Option<IceState>,
    pub(super) dtls: Dtls,
    pub(super) role: Option<DtlsRole>,
    pub(super) srtp: Option<SrtpProfile>,
    pub(super) version: Option<u16>,
    /// Ours and the peer's.
    pub(super) pair: Option<Box<(RTCIceCandidateDescription, RTCIceCandidateDescription)>>,
    pub(super) pair_changes: u32,
    pub(super) remote_certificate: Option<Bytes>,
    /// What the actors have counted, where they are the default ones.
    pub(super) ice_counts: Tally<IceStats>,
    pub(super) dtls_counts: Tally<DtlsStats>,
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
    /// Takes over where the actors are going to put what they count.
    pub(crate) fn read_counts_of(&mut self, ice: &Tally<IceStats>, dtls: &Tally<DtlsStats>) {
        self.ice_counts = ice.clone();
        self.dtls_counts = dtls.clone();
    }

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
            DtlsEvent::Connected { keys, certificate, version } => {
                self.dtls = Dtls::Connected;
                self.version = Some(*version);
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
