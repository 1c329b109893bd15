use ortc_io::{SrtpKeys, SrtpProfile};

use super::cipher::{RTCP_HEADER, SessionKey, derive, overheads};
use super::seal::{Seal, SealJob, SealTicket, SerialSeal};
use super::window::{ReplayWindow, SsrcTable};
use crate::view::{header_len, u16_at, u32_at};
use crate::{RtpError, SrtpError, Ssrc};

/// One more than the highest SRTCP index (RFC 3711 §9.2).
const RTCP_INDICES: u32 = 1 << 31;

/// Seals the RTP and RTCP of one connection, in place or into another buffer.
///
/// Keeps a rollover counter and a window of used indices per SSRC: an index is never used
/// twice, for that would give the plaintext away (RFC 3711 §9.1). At most 512 SSRCs.
#[derive(Debug)]
pub struct SrtpSender {
    profile: SrtpProfile,
    rtp: SessionKey,
    rtcp: SessionKey,
    rtp_windows: SsrcTable<ReplayWindow>,
    /// The next SRTCP index of each SSRC.
    rtcp_indices: SsrcTable<u32>,
}

impl SrtpSender {
    /// Derives the session keys from a master key and salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when either has not the length of the profile.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        let (rtp, rtcp) = derive(profile, key, salt)?;
        Ok(Self {
            profile,
            rtp,
            rtcp,
            rtp_windows: SsrcTable::new(),
            rtcp_indices: SsrcTable::new(),
        })
    }

    /// Makes the sender of our side of a connection.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] when a key or salt has not the length of the profile.
    pub fn from_keys(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        Self::new(keys.profile, &keys.local_key, &keys.local_salt)
    }

    /// Bytes that sealing adds to an RTP packet.
    pub fn overhead(&self) -> usize {
        overheads(self.profile).0
    }

    /// Bytes that sealing adds to an RTCP compound.
    pub fn rtcp_overhead(&self) -> usize {
        overheads(self.profile).1
    }

    /// Seals the RTP packet in `buffer[..len]` in place and returns its new length.
    ///
    /// # Errors
    /// [`SrtpError::NoRoom`] when `buffer` has not [`overhead`](Self::overhead) bytes more
    /// than `len`; [`SrtpError::Malformed`]; [`SrtpError::Replayed`] when the index was used;
    /// [`SrtpError::IndexExhausted`]; [`SrtpError::TooManySsrcs`]. The buffer is unchanged.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let sealed = len.saturating_add(self.overhead());
        if buffer.len() < sealed {
            return Err(SrtpError::NoRoom);
        }
        let header_len = header_len(&buffer[..len])?;
        let SealTicket { index, ssrc } = self.reserve_index(buffer)?;
        self.rtp.seal_rtp(index, ssrc, header_len, &mut buffer[..sealed], len);
        Ok(sealed)
    }

    /// Seals `plaintext` under `header` into `out` and returns the length of the packet.
    ///
    /// `header` is a whole RTP header, CSRCs and extension included.
    ///
    /// # Errors
    /// As [`protect_rtp`](Self::protect_rtp).
    pub fn protect_rtp_from(
        &mut self,
        header: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        if out.len() < header.len() + plaintext.len() + self.overhead() {
            return Err(SrtpError::NoRoom);
        }
        let ticket = self.reserve(header)?;
        let job = self.job(ticket, header, plaintext, out)?;
        let len = job.sealed_len();
        SerialSeal.seal(&mut [job]);
        Ok(len)
    }

    /// Seals `plaintext`, and then `padding`, behind the RTP header that `out` begins with, and
    /// returns the length of the packet.
    ///
    /// What `padding` says, and whether the header tells of it (RFC 3550 §5.1), is up to the
    /// caller.
    ///
    /// # Errors
    /// As [`protect_rtp`](Self::protect_rtp); and [`SrtpError::Malformed`] when the header is
    /// not `header_len` bytes long.
    pub fn protect_rtp_behind(
        &mut self,
        header_len: usize,
        plaintext: &[u8],
        padding: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let len = header_len + plaintext.len() + padding.len() + self.overhead();
        if out.len() < len {
            return Err(SrtpError::NoRoom);
        }
        let SealTicket { index, ssrc } = self.reserve(&out[..header_len])?;
        self.rtp.seal_rtp_behind(index, ssrc, header_len, plaintext, padding, out);
        Ok(len)
    }

    /// Uses up the index of the packet with this whole header, so that a batch of
    /// [`job`](Self::job)s can be made.
    ///
    /// # Errors
    /// As [`protect_rtp`](Self::protect_rtp).
    pub fn reserve(&mut self, header: &[u8]) -> Result<SealTicket, SrtpError> {
        if header_len(header)? != header.len() {
            return Err(RtpError::Length.into());
        }
        self.reserve_index(header)
    }

    /// Describes how to seal a packet, for a batch that a [`Seal`] works off.
    ///
    /// # Errors
    /// [`SrtpError::NoRoom`], and [`SrtpError::Malformed`] when `header` is not the one that
    /// the ticket was reserved for. The index is lost then.
    pub fn job<'a>(
        &'a self,
        ticket: SealTicket,
        header: &'a [u8],
        plaintext: &'a [u8],
        out: &'a mut [u8],
    ) -> Result<SealJob<'a>, SrtpError> {
        let SealTicket { index, ssrc } = ticket;
        if header_len(header)? != header.len()
            || u16_at(header, 2) != index as u16
            || u32_at(header, 8) != ssrc
        {
            return Err(RtpError::Length.into());
        }
        if out.len() < header.len() + plaintext.len() + self.overhead() {
            return Err(SrtpError::NoRoom);
        }
        Ok(SealJob { key: &self.rtp, index, ssrc, header, plaintext, out })
    }

    /// Uses up the index of the packet that starts with `header`.
    fn reserve_index(&mut self, header: &[u8]) -> Result<SealTicket, SrtpError> {
        let (sequence, ssrc) = (u16_at(header, 2), u32_at(header, 8));
        let (slot, mut window) = self.rtp_windows.get(Ssrc(ssrc))?;
        let index = window.extend(sequence)?;
        window.check(index)?;
        window.commit(index);
        self.rtp_windows.put(slot, window);
        Ok(SealTicket { index, ssrc })
    }

    /// Seals the RTCP compound in `buffer[..len]` in place, always encrypted, and returns its
    /// new length.
    ///
    /// # Errors
    /// [`SrtpError::NoRoom`] when `buffer` has not [`rtcp_overhead`](Self::rtcp_overhead)
    /// bytes more than `len`; [`SrtpError::Malformed`] below 8 bytes;
    /// [`SrtpError::IndexExhausted`]; [`SrtpError::TooManySsrcs`]. The buffer is unchanged.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        if buffer.len() < len.saturating_add(self.rtcp_overhead()) {
            return Err(SrtpError::NoRoom);
        }
        if len < RTCP_HEADER {
            return Err(RtpError::TooShort.into());
        }
        let ssrc = u32_at(buffer, 4);
        let (slot, index) = self.rtcp_indices.get(Ssrc(ssrc))?;
        if index == RTCP_INDICES {
            return Err(SrtpError::IndexExhausted);
        }
        self.rtcp_indices.put(slot, index + 1);
        Ok(self.rtcp.seal_rtcp(index, ssrc, buffer, len))
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, ssrc: Ssrc, rtp_index: u64, rtcp_index: u32) {
        let (slot, _) = self.rtp_windows.get(ssrc).unwrap();
        self.rtp_windows.put(slot, ReplayWindow::starting_at(rtp_index));
        let (slot, _) = self.rtcp_indices.get(ssrc).unwrap();
        self.rtcp_indices.put(slot, rtcp_index);
    }
}
