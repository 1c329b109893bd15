use super::cipher::SessionKey;

/// The right to seal one packet: an index that was reserved for it and can be used once.
#[derive(Debug)]
pub struct SealTicket {
    /// Rollovers and sequence number; never used before with this key and SSRC.
    pub(super) index: u64,
    pub(super) ssrc: u32,
}

/// One RTP packet to be sealed: a header and a plaintext, which many jobs may share, into a
/// destination of its own. Made by [`SrtpSender::job`](crate::SrtpSender::job).
#[derive(Debug)]
pub struct SealJob<'a> {
    /// The key of the connection that it goes to.
    pub(super) key: &'a SessionKey,
    pub(super) index: u64,
    pub(super) ssrc: u32,
    pub(super) header: &'a [u8],
    pub(super) plaintext: &'a [u8],
    pub(super) out: &'a mut [u8],
}

impl SealJob<'_> {
    /// Length of the sealed packet.
    pub fn sealed_len(&self) -> usize {
        self.header.len() + self.plaintext.len() + self.key.tag_len()
    }
}

/// Seals batches of packets.
///
/// The media plane hands over all it has to seal in one go, so that a backend that works on
/// several buffers at once can take the place of [`SerialSeal`].
pub trait Seal {
    /// Seals every job into its destination.
    fn seal(&mut self, jobs: &mut [SealJob<'_>]);
}

/// Seals one packet after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SerialSeal;

impl Seal for SerialSeal {
    fn seal(&mut self, jobs: &mut [SealJob<'_>]) {
        for job in jobs {
            job.key.seal_rtp_from(job.index, job.ssrc, job.header, job.plaintext, job.out);
        }
    }
}
