use std::io;
use std::net::SocketAddr;

use crate::{Encapsulation, InterfaceAddress, Path, SocketId, StreamEnd};

/// Largest UDP payload that is taken from the network; a longer datagram is truncated by the
/// kernel, recognised and dropped. No protocol here sends more than one Ethernet frame.
pub(crate) const MAX_DATAGRAM: usize = 2048;

/// Most datagrams in one [`ReceiveBatch`]. More buys nothing: at 64 the system call is under
/// 2 % of the cost of a packet.
pub(crate) const RECEIVE_CAPACITY: usize = 64;

/// Room for whatever may arrive joined (UDP_GRO): an IP packet of the largest size, and 33
/// cache lines more, so that the slots of a batch do not all compete for the same cache sets.
pub(crate) const GRO_SLOT: usize = 64 * 1024 + 33 * 64;

/// Room for the datagrams of one [`ReceiveBatch`]. Pages that nothing arrives in are never
/// touched.
const RECEIVE_ARENA: usize = 16 * GRO_SLOT;

/// Most bytes of one GSO run: what fits into an IP packet, headers included.
const MAX_RUN: usize = 65_000;

/// Most datagrams of one GSO run. More gains little and is a line-rate burst into somebody's
/// last mile.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// Room for the datagrams of one [`SendBatch`].
const SEND_ARENA: usize = 512 * 1024;

/// Length of what precedes channel data: its number and length.
pub(crate) const CHANNEL_DATA_HEADER: usize = 4;

/// Length of what precedes a datagram on a stream: its length (RFC 4571 §2).
pub(crate) const FRAME_HEADER: usize = 2;

/// The number and length of channel data; over UDP it may be followed by padding
/// (RFC 8656 §12.5).
pub(crate) fn channel_data(bytes: &[u8]) -> Option<(u16, usize)> {
    let (header, data) = bytes.split_at_checked(CHANNEL_DATA_HEADER)?;
    let channel = u16::from_be_bytes([header[0], header[1]]);
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let padding = data.len().checked_sub(len)?;
    ((0x4000..0x5000).contains(&channel) && padding < 4).then_some((channel, len))
}

/// Moves datagrams in batches, without blocking.
///
/// Implemented by [`UdpIo`](crate::UdpIo) over the system's sockets and by `sim::SimIo` over
/// the simulated network, so that whoever is driven by it runs unchanged over either.
pub trait DatagramIo {
    /// Binds a UDP socket; port 0 lets the system choose. Returns its address as bound.
    ///
    /// # Errors
    /// Whatever the system says: address in use, not available here, out of descriptors.
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)>;

    /// Takes a stream to a TURN server or a peer among the sockets: what it is to send is written
    /// to it, and what comes out of it is from the far address. Returns its local address.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported), unless it can do that.
    fn adopt(&mut self, stream: StreamEnd) -> io::Result<(SocketId, SocketAddr)> {
        drop(stream);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Closes a socket; an id that is gone is ignored.
    fn close(&mut self, socket: SocketId);

    /// Appends what has arrived to `batch`, until that is full or nothing is left.
    ///
    /// Returns whether more may be waiting. Sockets that failed are pushed to `failed`.
    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool;

    /// Sends `batch` and clears it. What the system does not take is dropped and counted:
    /// these are datagrams.
    fn send(&mut self, batch: &mut SendBatch) -> SendReport;

    /// The addresses of this host, loopback included, in the system's order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>>;
}

/// What became of a [`SendBatch`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Datagrams that the system took.
    pub sent: usize,
    /// Datagrams that it did not take: full buffers, no route, too long.
    pub dropped: usize,
    /// System calls made.
    pub calls: usize,
}

/// One datagram of a [`ReceiveBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// The socket it came in on.
    pub socket: SocketId,
    /// The address it came from.
    pub remote: SocketAddr,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// Whether it came in a frame of a stream (RFC 4571), which is off already.
    pub(crate) framed: bool,
}

/// Datagrams taken from the network in one go, in one reused arena.
#[derive(Debug)]
pub struct ReceiveBatch {
    pub(crate) arena: Box<[u8]>,
    /// First free byte of the arena.
    pub(crate) used: usize,
    pub(crate) datagrams: Vec<ReceivedDatagram>,
    /// Datagrams that were longer than any we take, counted and dropped.
    pub(crate) truncated: u64,
}

impl ReceiveBatch {
    /// Makes an empty batch with room for 64 datagrams of 2,048 bytes; for more, where the
    /// kernel joins them.
    pub fn new() -> Self {
        Self {
            arena: vec![0; RECEIVE_ARENA].into_boxed_slice(),
            used: 0,
            datagrams: Vec::with_capacity(RECEIVE_CAPACITY),
            truncated: 0,
        }
    }

    /// Forgets all datagrams; the memory stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.datagrams.clear();
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether no further datagram of any size is sure to fit.
    pub fn is_full(&self) -> bool {
        self.arena.len() - self.used < MAX_DATAGRAM || self.datagrams.len() >= RECEIVE_CAPACITY
    }

    /// Datagrams dropped so far because they were longer than 2,048 bytes.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Appends a copy of a datagram. Returns false, and drops it, when it does not fit.
    pub fn push(&mut self, socket: SocketId, remote: SocketAddr, datagram: &[u8]) -> bool {
        self.push_copy(socket, remote, datagram, false)
    }

    /// Appends a copy of a datagram that came in a frame of a stream (RFC 4571), without that.
    /// Returns false, and drops it, when it does not fit.
    pub fn push_framed(&mut self, socket: SocketId, remote: SocketAddr, datagram: &[u8]) -> bool {
        self.push_copy(socket, remote, datagram, true)
    }

    fn push_copy(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        datagram: &[u8],
        framed: bool,
    ) -> bool {
        if datagram.len() > MAX_DATAGRAM {
            self.truncated += 1;
            return false;
        }
        if self.is_full() {
            return false;
        }
        let (offset, len) = (self.used, datagram.len());
        self.arena[offset..offset + len].copy_from_slice(datagram);
        self.used += len;
        self.datagrams.push(ReceivedDatagram { socket, remote, offset, len, framed });
        true
    }

    /// How many arrivals of `slot_len` bytes fit.
    pub(crate) fn free_slots(&self, slot_len: usize) -> usize {
        let by_size = (self.arena.len() - self.used) / slot_len;
        by_size.min(RECEIVE_CAPACITY.saturating_sub(self.datagrams.len()))
    }

    /// The part of the arena that is not in use.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..]
    }

    /// Appends what has arrived at `offset` of [`free`](Self::free): datagrams of `segment`
    /// bytes, the last of which may be shorter.
    pub(crate) fn push_arrived(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        offset: usize,
        len: usize,
        segment: usize,
    ) {
        let (mut start, end) = (self.used + offset, self.used + offset + len);
        loop {
            let len = segment.min(end - start);
            if len > MAX_DATAGRAM {
                self.truncated += 1;
            } else {
                let framed = false;
                self.datagrams.push(ReceivedDatagram {
                    socket,
                    remote,
                    offset: start,
                    len,
                    framed,
                });
            }
            start += len;
            if start == end {
                return;
            }
        }
    }

    /// Takes `len` bytes of [`free`](Self::free) into use.
    pub(crate) fn use_up(&mut self, len: usize) {
        self.used += len;
    }

    /// The bytes of the `index`th datagram.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> &[u8] {
        let datagram = self.datagrams[index];
        &self.arena[datagram.offset..datagram.offset + datagram.len]
    }

    /// Takes the channel data header off the `index`th datagram, if it is channel data
    /// (RFC 8656 §12.4), and says which channel it was; what follows is looked at in its place
    /// from then on. `None`, and nothing has changed, if it is not, or is malformed.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn unwrap_channel_data(&mut self, index: usize) -> Option<u16> {
        let (channel, len) = channel_data(self.get(index))?;
        let datagram = &mut self.datagrams[index];
        datagram.offset += CHANNEL_DATA_HEADER;
        datagram.len = len;
        Some(channel)
    }

    /// Takes off what is round the `index`th datagram, and says on which path it came.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn unwrap(&mut self, index: usize) -> Path {
        let path = self.outer_path(index);
        if path.encapsulation == Encapsulation::Plain
            && let Some(channel) = self.unwrap_channel_data(index)
        {
            return Path { encapsulation: Encapsulation::ChannelData(channel), ..path };
        }
        path
    }

    /// On which path the `index`th datagram came, unless it is channel data: whatever is in that
    /// came on another.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn outer_path(&self, index: usize) -> Path {
        let ReceivedDatagram { socket, remote, framed, .. } = self.datagrams[index];
        let encapsulation = if framed { Encapsulation::Rfc4571 } else { Encapsulation::Plain };
        Path { socket, remote, encapsulation }
    }

    /// The `index`th datagram and its bytes, which may be worked on in place.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get_mut(&mut self, index: usize) -> (ReceivedDatagram, &mut [u8]) {
        let datagram = self.datagrams[index];
        (datagram, &mut self.arena[datagram.offset..datagram.offset + datagram.len])
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// One run: datagrams of one size for one address, contiguous in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) socket: SocketId,
    pub(crate) remote: SocketAddr,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// Length of every datagram of the run but the last, which may be shorter.
    pub(crate) segment: usize,
    pub(crate) count: usize,
}

/// Datagrams to be sent in one go, written straight into one reused arena.
///
/// Consecutive datagrams of equal length for one address are kept as one run, which a kernel
/// with GSO takes as a single buffer; a shorter one may end a run (at most 16 datagrams).
#[derive(Debug)]
pub struct SendBatch {
    pub(crate) arena: Box<[u8]>,
    pub(crate) used: usize,
    pub(crate) runs: Vec<Run>,
}

impl SendBatch {
    /// How many runs go into one system call, where the kernel takes them whole. More buys nothing
    /// (measured), and it bounds what is dropped in one go when a send buffer is full.
    pub const RUNS_PER_CALL: usize = 32;

    /// Makes an empty batch with an arena of 512 KiB.
    pub fn new() -> Self {
        Self {
            arena: vec![0; SEND_ARENA].into_boxed_slice(),
            used: 0,
            runs: Vec::with_capacity(64),
        }
    }

    /// Forgets all datagrams; the memory stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// How many runs there are: messages, where the kernel takes runs whole.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// How many datagrams each run has, in their order.
    pub fn run_lengths(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().map(|run| run.count)
    }

    /// The datagrams, in the order in which they were appended.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, SocketAddr, &[u8])> {
        self.runs.iter().flat_map(|run| {
            (0..run.count).map(|index| {
                let start = run.offset + index * run.segment;
                let end = (start + run.segment).min(run.offset + run.len);
                (run.socket, run.remote, &self.arena[start..end])
            })
        })
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.arena.len() - self.used
    }

    /// Appends a datagram that `write` puts into a buffer of `room` bytes; it returns the
    /// length, or `None` to append nothing.
    ///
    /// Returns false, without calling `write`, when `room` bytes do not fit any more: send
    /// the batch and try again.
    ///
    /// # Panics
    /// When `write` returns more than `room`.
    pub fn push_with(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        if room > self.remaining() {
            return false;
        }
        let offset = self.used;
        let Some(len) = write(&mut self.arena[offset..offset + room]) else {
            return true;
        };
        assert!(len <= room, "a datagram of {len} bytes was written into {room}");
        self.used += len;
        match self.runs.last_mut() {
            Some(run) if run.takes(socket, remote, len) => {
                run.len += len;
                run.count += 1;
            }
            _ => self.runs.push(Run { socket, remote, offset, len, segment: len, count: 1 }),
        }
        true
    }

    /// Appends a datagram for a path, in its encapsulation: as
    /// [`push_with`](Self::push_with), but for what is put around it. Equal datagrams on
    /// equal paths form runs also there.
    ///
    /// # Panics
    /// When `write` returns more than `room`.
    pub fn push_on(
        &mut self,
        path: Path,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Path { socket, remote, encapsulation } = path;
        let channel = match encapsulation {
            Encapsulation::Plain => return self.push_with(socket, remote, room, write),
            Encapsulation::ChannelData(channel) => channel,
            Encapsulation::Rfc4571 => {
                return self.push_with(socket, remote, room + FRAME_HEADER, |buffer| {
                    let (header, data) = buffer.split_at_mut(FRAME_HEADER);
                    let len = write(data)?;
                    header.copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
                    Some(FRAME_HEADER + len)
                });
            }
        };
        self.push_with(socket, remote, room + CHANNEL_DATA_HEADER, |buffer| {
            let (header, data) = buffer.split_at_mut(CHANNEL_DATA_HEADER);
            let len = write(data)?;
            header[..2].copy_from_slice(&channel.to_be_bytes());
            header[2..].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
            Some(CHANNEL_DATA_HEADER + len)
        })
    }

    /// Appends a copy of a datagram for a path, in its encapsulation; false when it does not fit
    /// any more.
    pub fn push_copy_on(&mut self, path: Path, datagram: &[u8]) -> bool {
        self.push_on(path, datagram.len(), |buffer| {
            buffer[..datagram.len()].copy_from_slice(datagram);
            Some(datagram.len())
        })
    }

    /// Appends a copy of a datagram; false when it does not fit any more.
    pub fn push(&mut self, socket: SocketId, remote: SocketAddr, datagram: &[u8]) -> bool {
        self.push_with(socket, remote, datagram.len(), |buffer| {
            buffer.copy_from_slice(datagram);
            Some(datagram.len())
        })
    }
}

impl Run {
    /// Whether a datagram of `len` bytes may follow in this run.
    fn takes(&self, socket: SocketId, remote: SocketAddr, len: usize) -> bool {
        self.socket == socket
            && self.remote == remote
            && self.count < MAX_SEGMENTS
            && len > 0
            && self.len + len <= MAX_RUN
            && len <= self.segment
            && self.len == self.count * self.segment
    }
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn counts(batch: &SendBatch) -> Vec<(usize, usize)> {
        batch.runs.iter().map(|run| (run.count, run.segment)).collect()
    }

    #[test]
    fn equal_datagrams_form_a_run_that_a_shorter_one_ends() {
        let mut batch = SendBatch::new();
        for len in [100, 100, 60, 100, 120] {
            assert!(batch.push(SOCKET, address(1), &vec![0; len]));
        }
        assert_eq!(counts(&batch), [(3, 100), (1, 100), (1, 120)]);
    }

    #[test]
    fn a_run_ends_at_another_address_and_at_sixteen_datagrams() {
        let mut batch = SendBatch::new();
        for _ in 0..17 {
            batch.push(SOCKET, address(1), &[0; 10]);
        }
        batch.push(SOCKET, address(2), &[0; 10]);
        assert_eq!(counts(&batch), [(16, 10), (1, 10), (1, 10)]);
        assert_eq!(batch.len(), 18);
    }

    #[test]
    fn channel_data_is_put_around_a_datagram_and_taken_off_in_place() {
        let (mut batch, mut received) = (SendBatch::new(), ReceiveBatch::new());
        let encapsulation = Encapsulation::ChannelData(0x4001);
        let path = Path { encapsulation, ..Path::plain(SOCKET, address(1)) };
        for len in [5, 5, 5, 3] {
            assert!(batch.push_on(path, 100, |buffer| {
                buffer[..len].fill(7);
                Some(len)
            }));
        }
        assert!(batch.push_on(path, 100, |_| None), "nothing is appended then");
        assert_eq!(counts(&batch), [(4, 9)], "one run, ended by a shorter one");
        for (socket, remote, bytes) in batch.iter() {
            received.push(socket, remote, bytes);
        }
        received.push(SOCKET, address(1), &[0x40, 1, 0, 1, 9, 0, 0, 0]);
        let channels: Vec<_> = (0..5).map(|index| received.unwrap_channel_data(index)).collect();
        assert_eq!(channels, [Some(0x4001); 5]);
        assert_eq!((received.get(0), received.get(3)), (&[7; 5][..], &[7; 3][..]));
        assert_eq!(received.get(4), [9], "padding is no part of it");
        for bytes in
            [&[0x40, 1, 0][..], &[0x40, 1, 0, 2, 9], &[0x50, 0, 0, 0], &[0x40, 1, 0, 0, 1, 2, 3, 4]]
        {
            received.clear();
            received.push(SOCKET, address(1), bytes);
            assert_eq!(received.unwrap_channel_data(0), None, "{bytes:?}");
            assert_eq!(received.get(0), bytes);
        }
    }

    #[test]
    fn a_frame_of_a_stream_is_put_around_a_datagram_and_told_from_all_else() {
        let mut batch = SendBatch::new();
        let path =
            Path { encapsulation: Encapsulation::Rfc4571, ..Path::plain(SOCKET, address(1)) };
        for len in [5_usize, 5, 3] {
            assert!(batch.push_copy_on(path, &vec![7; len]));
        }
        assert_eq!(counts(&batch), [(3, 7)], "one run, ended by a shorter one");
        let sent: Vec<_> = batch.iter().map(|(_, _, bytes)| bytes[..3].to_vec()).collect();
        assert_eq!(sent, [[0, 5, 7], [0, 5, 7], [0, 3, 7]]);
        // The same bytes are channel data on a socket, and a datagram in a frame.
        let (bytes, mut received) = ([0x40, 1, 0, 1, 9], ReceiveBatch::new());
        received.push(SOCKET, address(1), &bytes);
        received.push_framed(SOCKET, address(1), &bytes);
        let encapsulations = [0, 1].map(|index| received.unwrap(index).encapsulation);
        assert_eq!(encapsulations, [Encapsulation::ChannelData(0x4001), Encapsulation::Rfc4571]);
        assert_eq!((received.get(0), received.get(1)), (&[9][..], &bytes[..]));
    }

    #[test]
    fn a_receive_batch_refuses_what_is_too_long_and_counts_it() {
        let mut batch = ReceiveBatch::new();
        assert!(!batch.push(SOCKET, address(1), &[0; MAX_DATAGRAM + 1]));
        assert_eq!((batch.len(), batch.truncated()), (0, 1));
        assert!(batch.push(SOCKET, address(1), &[7; 3]));
        let (datagram, bytes) = batch.get_mut(0);
        assert_eq!((datagram.remote, bytes), (address(1), &mut [7, 7, 7][..]));
    }
}
