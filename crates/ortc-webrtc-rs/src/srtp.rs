//! `webrtc-srtp`, guarded.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ortc_io::{SrtpKeys, SrtpProfile};
use ortc_rtp::{RtpError, RtpView, SrtpError, Ssrc};
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Packets that the replay windows remember; RFC 3711 §3.3.2 asks for 64 at least. Half a
/// second of video comes out of order in bad networks.
const RTP_WINDOW: usize = 1024;
const RTCP_WINDOW: usize = 64;

/// SSRCs that SRTCP is taken from: the stack makes state for each before it has authenticated
/// anything. A peer has one for each track, and one more.
const MAX_RTCP_SSRCS: usize = 257;

/// Header and SSRC of RTCP (RFC 3550 §6.4.1), and the index behind it (RFC 3711 §3.4).
const RTCP_HEADER: usize = 8;
const RTCP_INDEX: usize = 4;

/// Both directions of one connection.
pub(crate) struct SrtpContexts {
    profile: SrtpProfile,
    local: Context,
    remote: Context,
    rtcp_ssrcs: BTreeSet<Ssrc>,
}

impl SrtpContexts {
    pub(crate) fn new(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        let profile = match keys.profile {
            SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let local = Context::new(&keys.local_key, &keys.local_salt, profile, None, None);
        // By default it has no replay protection at all.
        let windows =
            (Some(srtp_replay_protection(RTP_WINDOW)), Some(srtcp_replay_protection(RTCP_WINDOW)));
        let remote =
            Context::new(&keys.remote_key, &keys.remote_salt, profile, windows.0, windows.1);
        Ok(Self {
            profile: keys.profile,
            local: local.map_err(|_| SrtpError::KeyLength)?,
            remote: remote.map_err(|_| SrtpError::KeyLength)?,
            rtcp_ssrcs: BTreeSet::new(),
        })
    }

    /// Seals an RTP packet of ours.
    pub(crate) fn seal_rtp(&mut self, packet: &[u8]) -> Option<Bytes> {
        self.local.encrypt_rtp(packet).ok()
    }

    /// Seals an RTCP compound of ours.
    pub(crate) fn seal_rtcp(&mut self, compound: &[u8]) -> Option<Bytes> {
        self.local.encrypt_rtcp(compound).ok()
    }

    /// Opens an RTP packet. `is_described` says whose packets are taken: the stack makes state
    /// for whatever SSRC it is shown.
    pub(crate) fn open_rtp(
        &mut self,
        packet: &[u8],
        is_described: impl Fn(Ssrc) -> bool,
    ) -> Result<Bytes, SrtpError> {
        let header = header_of(packet)?;
        if !is_described(header) {
            return Err(SrtpError::TooManySsrcs);
        }
        let remote = &mut self.remote;
        guarded(|| remote.decrypt_rtp(packet))
    }

    /// Opens an RTCP compound.
    pub(crate) fn open_rtcp(&mut self, packet: &[u8]) -> Result<Bytes, SrtpError> {
        let tag = match self.profile {
            // The index of GCM comes last, behind the tag (RFC 7714 §17).
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 0,
            SrtpProfile::Aes128CmSha1_80 => 10,
        };
        let shortest = RTCP_HEADER + RTCP_INDEX + if tag == 0 { 16 } else { tag };
        if packet.len() < shortest {
            return Err(RtpError::TooShort.into());
        }
        if packet[packet.len() - tag - RTCP_INDEX] & 0x80 == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        let ssrc = Ssrc(u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]));
        if !self.rtcp_ssrcs.contains(&ssrc) && self.rtcp_ssrcs.len() == MAX_RTCP_SSRCS {
            return Err(SrtpError::TooManySsrcs);
        }
        let remote = &mut self.remote;
        let opened = guarded(|| remote.decrypt_rtcp(packet));
        // The stack has its state now, authentic or not.
        self.rtcp_ssrcs.insert(ssrc);
        opened
    }
}

/// The SSRC of a packet whose header, CSRCs and extensions keep within it: the stack's own
/// parser panics on some that do not. (Padding is encrypted yet, and not looked at.)
fn header_of(packet: &[u8]) -> Result<Ssrc, SrtpError> {
    let mut unpadded = packet.to_vec();
    if let Some(first) = unpadded.first_mut() {
        *first &= !0x20;
    }
    let view = RtpView::parse(&unpadded)?;
    for extension in view.extensions() {
        extension?;
    }
    Ok(view.ssrc())
}

/// A panic of the stack costs the packet, no more.
fn guarded(open: impl FnOnce() -> Result<Bytes, webrtc_srtp::Error>) -> Result<Bytes, SrtpError> {
    use webrtc_srtp::Error;
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(Error::SrtpSsrcDuplicated(..) | Error::SrtcpSsrcDuplicated(..))) => {
            Err(SrtpError::Replayed)
        }
        Ok(Err(_)) => Err(SrtpError::NotAuthentic),
        Err(_) => Err(RtpError::TooShort.into()),
    }
}

#[cfg(test)]
mod tests {
    use ortc_rtp::{SrtpReceiver, SrtpSender};

    use super::*;

    const PROFILES: [SrtpProfile; 3] =
        [SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm, SrtpProfile::Aes128CmSha1_80];
    const RTP: &[u8] = b"\x80\x6f\x00\x01\x00\x00\x00\x02\x00\x00\x00\x07payload";
    /// An empty receiver report.
    const RTCP: &[u8] = b"\x80\xc9\x00\x01\x00\x00\x00\x07";

    fn keys(profile: SrtpProfile, is_client: bool) -> SrtpKeys {
        let material: Vec<u8> = (0..88).collect();
        SrtpKeys::from_exported(profile, &material, is_client).unwrap()
    }

    #[test]
    fn both_implementations_understand_each_other() {
        for profile in PROFILES {
            let mut theirs = SrtpContexts::new(&keys(profile, true)).unwrap();
            let mut sender = SrtpSender::from_keys(&keys(profile, false)).unwrap();
            let mut receiver = SrtpReceiver::from_keys(&keys(profile, false)).unwrap();
            let mut sealed = theirs.seal_rtp(RTP).unwrap().to_vec();
            let len = receiver.unprotect_rtp(&mut sealed).unwrap().len;
            assert_eq!(&sealed[..len], RTP);
            let mut sealed = theirs.seal_rtcp(RTCP).unwrap().to_vec();
            let len = receiver.unprotect_rtcp(&mut sealed).unwrap();
            assert_eq!(&sealed[..len], RTCP);

            let mut buffer = [0; 100];
            buffer[..RTP.len()].copy_from_slice(RTP);
            let len = sender.protect_rtp(&mut buffer, RTP.len()).unwrap();
            assert_eq!(theirs.open_rtp(&buffer[..len], |_| true).unwrap(), RTP);
            assert_eq!(theirs.open_rtp(&buffer[..len], |_| true), Err(SrtpError::Replayed));
            buffer[..RTCP.len()].copy_from_slice(RTCP);
            let len = sender.protect_rtcp(&mut buffer, RTCP.len()).unwrap();
            assert_eq!(theirs.open_rtcp(&buffer[..len]).unwrap(), RTCP);
        }
    }

    #[test]
    fn no_input_panics_and_nothing_unencrypted_is_taken() {
        for profile in PROFILES {
            let mut contexts = SrtpContexts::new(&keys(profile, true)).unwrap();
            for len in 0..64 {
                for fill in [0, 0x1f, 0x7f, 0x80, 0x90, 0xbe, 0xff] {
                    let mut packet = vec![fill; len];
                    assert!(contexts.open_rtp(&packet, |_| true).is_err());
                    assert!(contexts.open_rtcp(&packet).is_err());
                    if len > 12 {
                        packet[..2].copy_from_slice(&[0x90, 0x6f]);
                        assert!(contexts.open_rtp(&packet, |_| true).is_err());
                    }
                }
            }
            let clear = [RTCP, &[0; 40]].concat();
            assert_eq!(contexts.open_rtcp(&clear), Err(SrtpError::NotEncrypted));
        }
    }

    #[test]
    fn state_is_made_for_described_tracks_alone() {
        let mut contexts = SrtpContexts::new(&keys(SrtpProfile::AeadAes128Gcm, true)).unwrap();
        let refused = contexts.open_rtp(RTP, |ssrc| ssrc == Ssrc(8));
        assert_eq!(refused, Err(SrtpError::TooManySsrcs));
        let mut packet = [RTCP, &[0x80; 40]].concat();
        for ssrc in 0..1000u32 {
            packet[4..8].copy_from_slice(&ssrc.to_be_bytes());
            assert!(contexts.open_rtcp(&packet).is_err());
        }
        assert_eq!(contexts.rtcp_ssrcs.len(), MAX_RTCP_SSRCS);
    }
}
