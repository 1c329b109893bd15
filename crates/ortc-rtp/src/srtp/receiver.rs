use ortc_io::{SrtpKeys, SrtpProfile};

use super::cipher::{RTCP_ENCRYPTED, SessionKey, derive};
use super::window::{ReplayWindow, SsrcTable};
use crate::view::{header_len, u16_at, u32_at};
use crate::{RtpError, SrtpError, Ssrc};

/// An RTP packet that was authenticated and decrypted in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpOpened {
    /// Length of the plaintext packet, which stands where the sealed one stood.
    pub len: usize,
    /// Length of its header, CSRCs and extension included.
    pub header_len: usize,
    /// Sequence number with its rollovers: 48 bits.
    pub index: u64,
    /// Its synchronization source.
    pub ssrc: Ssrc,
}

/// Opens the RTP and RTCP of one connection in place.
///
/// Keeps a replay window of 1,024 packets per SSRC, for RTP and RTCP each, and at most 512
/// SSRCs. Nothing of that is touched before a packet has proved authentic.
#[derive(Debug)]
pub struct SrtpReceiver {
    rtp: SessionKey,
    rtcp: SessionKey,
    rtp_windows: SsrcTable<ReplayWindow>,
    rtcp_windows: SsrcTable<ReplayWindow>,
}

impl SrtpReceiver {
    /// Derives the session keys from a master key and salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when either has not the length of the profile.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let (rtp, rtcp) = derive(profile, key, salt)?;
        Ok(Self { rtp, rtcp, rtp_windows: SsrcTable::new(), rtcp_windows: SsrcTable::new() })
    }

    /// Makes the receiver of the peer's side of a connection.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when a key or salt has not the length of the profile.
    pub fn from_keys(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::new(keys.profile, &keys.remote_key, &keys.remote_salt)
    }

    /// Has the processor fetch the window that the last RTCP packet was of.
    #[inline]
    pub(crate) fn prefetch_rtcp(&self) {
        self.rtcp_windows.prefetch();
    }

    /// Opens an RTP packet in place.
    ///
    /// Padding is left on; the plaintext may be malformed inside, as authentic packets may be.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::NotAuthentic`], [`SrtpError::Replayed`],
    /// [`SrtpError::TooManySsrcs`], [`SrtpError::IndexExhausted`]: drop the packet, whose
    /// bytes are unspecified then.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<RtpOpened, SrtpError> {
        let header_len = header_len(packet)?;
        let (sequence, ssrc) = (u16_at(packet, 2), Ssrc(u32_at(packet, 8)));
        let (slot, window) = self.rtp_windows.get(ssrc)?;
        let index = window.extend(sequence)?;
        window.check(index)?;
        let len = self.rtp.open_rtp(index, ssrc.0, header_len, packet)?;
        self.rtp_windows.change(slot).commit(index);
        Ok(RtpOpened { len, header_len, index, ssrc })
    }

    /// Opens an RTCP compound in place and returns its length.
    ///
    /// # Errors
    /// As [`unprotect_rtp`](Self::unprotect_rtp), and [`SrtpError::NotEncrypted`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let at = self.rtcp.rtcp_index_at(packet.len()).ok_or(RtpError::TooShort)?;
        if packet[0] >> 6 != 2 {
            return Err(RtpError::Version.into());
        }
        let word = u32_at(packet, at);
        if word & RTCP_ENCRYPTED == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        let (index, ssrc) = (word & !RTCP_ENCRYPTED, u32_at(packet, 4));
        let (slot, window) = self.rtcp_windows.get(Ssrc(ssrc))?;
        window.check(u64::from(index))?;
        let len = self.rtcp.open_rtcp(index, ssrc, packet)?;
        self.rtcp_windows.change(slot).commit(u64::from(index));
        Ok(len)
    }
}
