use ortc_io::{SrtpKeys, SrtpProfile, prefetch};

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

/// What tells a sealed packet from any other that is sealed under the same key and index: the end
/// of its authentication tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealMark([u8; 8]);

impl SealMark {
    /// That of a sealed packet; `None` for one that is too short to be one.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        sealed.last_chunk().copied().map(Self)
    }
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

    /// Has the processor fetch what the next RTP packet looks at of `self`.
    #[inline]
    pub fn prefetch_keys(&self) {
        self.rtp.prefetch();
        prefetch(&self.profile);
        prefetch(&self.rtp_windows);
    }

    /// Has the processor fetch what the next RTP packet looks at beside what is in `self`.
    #[inline]
    pub fn prefetch(&self) {
        self.rtp_windows.prefetch();
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
    #[inline]
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

    /// Seals once more, behind the RTP header that `out` begins with, a packet that this sender
    /// has sealed before under this index; returns the length of the packet.
    ///
    /// To seal something else under an index that was used would give both plaintexts away, and
    /// with GCM the key that authenticates (RFC 3711 §9.1, RFC 7714 §8.4). So `seal` is what the
    /// packet had [at its end](SealMark::of) the first time: what comes out is exactly what has
    /// been sent, or it does not come out.
    ///
    /// # Errors
    /// [`SrtpError::NotIdentical`] when it is not what was sealed: `out` is zeroed.
    /// [`SrtpError::NoRoom`]; [`SrtpError::Malformed`] when the header is not `header_len` bytes
    /// long, or not of this index.
    pub fn protect_rtp_again(
        &mut self,
        (index, seal): (u64, SealMark),
        header_len: usize,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let len = header_len + plaintext.len() + self.overhead();
        if out.len() < len {
            return Err(SrtpError::NoRoom);
        }
        let found = crate::view::header_len(&out[..header_len])?;
        if found != header_len || u16_at(out, 2) != index as u16 {
            return Err(RtpError::Length.into());
        }
        let ssrc = u32_at(out, 8);
        self.rtp.seal_rtp_behind(index, ssrc, header_len, plaintext, &[], out);
        if SealMark::of(&out[..len]) != Some(seal) {
            out[..len].fill(0);
            return Err(SrtpError::NotIdentical);
        }
        Ok(len)
    }

    /// Uses up the index of the packet with this whole header, so that a batch of
    /// [`job`](Self::job)s can be made.
    ///
    /// # Errors
    /// As [`protect_rtp`](Self::protect_rtp).
    #[inline]
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
    #[inline]
    fn reserve_index(&mut self, header: &[u8]) -> Result<SealTicket, SrtpError> {
        let (sequence, ssrc) = (u16_at(header, 2), u32_at(header, 8));
        let (slot, window) = self.rtp_windows.get(Ssrc(ssrc))?;
        let index = window.extend(sequence)?;
        window.check(index)?;
        self.rtp_windows.change(slot).commit(index);
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
        let index = *index;
        if index == RTCP_INDICES {
            return Err(SrtpError::IndexExhausted);
        }
        *self.rtcp_indices.change(slot) = index + 1;
        Ok(self.rtcp.seal_rtcp(index, ssrc, buffer, len))
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, ssrc: Ssrc, rtp_index: u64, rtcp_index: u32) {
        let (slot, _) = self.rtp_windows.get(ssrc).unwrap();
        *self.rtp_windows.change(slot) = ReplayWindow::starting_at(rtp_index);
        let (slot, _) = self.rtcp_indices.get(ssrc).unwrap();
        *self.rtcp_indices.change(slot) = rtcp_index;
    }
}
