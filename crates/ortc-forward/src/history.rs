//! What a track has brought in lately, so that each of its subscribers can have it once more.

use std::time::{Duration, Instant};

/// How long a packet is kept: a subscriber that waits for longer would rather have a key frame.
const AGE: Duration = Duration::from_secs(1);

/// Packets that are kept: half a second of video at 20 Mbit/s.
const PACKETS: usize = 1_024;

/// Bytes that are kept, to begin with and at the most: 8 Mbit/s for a second.
const LEAST_BYTES: usize = 64 * 1024;
const MOST_BYTES: usize = 1024 * 1024;

/// The opened packets of a received track, kept once for all who are sent it.
///
/// A ring of bytes that the newest packet writes over the oldest. It grows while packets that are
/// younger than a second would be written over, so that after some seconds nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct PacketHistory {
    /// A power of two in length.
    bytes: Vec<u8>,
    /// Where the next packet goes, counted from the beginning of time.
    written: u64,
    /// By the remainder of the packet's index.
    places: Vec<Option<Place>>,
    /// When the ring was at its beginning, this time round.
    lap_begun: Option<Instant>,
}

/// Where a packet stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: u64,
    at: u64,
    len: usize,
    received_at: Instant,
}

impl PacketHistory {
    /// Keeps a packet, with its index.
    pub(crate) fn push(&mut self, now: Instant, index: u64, packet: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; LEAST_BYTES];
            self.places = vec![None; PACKETS];
        }
        if packet.len() > self.bytes.len() / 2 {
            return;
        }
        let mut at = self.offset(self.written);
        if at + packet.len() > self.bytes.len() {
            self.begin_lap(now);
            at = self.offset(self.written);
        }
        self.bytes[at..at + packet.len()].copy_from_slice(packet);
        let place = Place { index, at: self.written, len: packet.len(), received_at: now };
        self.places[index as usize % PACKETS] = Some(place);
        self.written += packet.len() as u64;
        self.lap_begun.get_or_insert(now);
    }

    /// Goes to the beginning of the ring again, or on in one of twice the size.
    fn begin_lap(&mut self, now: Instant) {
        let len = self.bytes.len() as u64;
        self.written = self.written.next_multiple_of(len);
        let is_short =
            self.lap_begun.is_some_and(|begun| now.saturating_duration_since(begun) < AGE);
        if is_short && self.bytes.len() < MOST_BYTES {
            // What stands at a remainder of the half stands at one of the whole as well.
            let mut larger = vec![0; self.bytes.len() * 2];
            let lap = (self.written - len) as usize % larger.len();
            larger[lap..lap + self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = larger;
            // The lap goes on if only its first half is over.
            if self.offset(self.written) != 0 {
                return;
            }
        }
        self.lap_begun = Some(now);
    }

    fn offset(&self, at: u64) -> usize {
        (at % self.bytes.len() as u64) as usize
    }

    /// The packet with this index, unless it is too old or has never come.
    pub(crate) fn get(&self, now: Instant, index: u64) -> Option<&[u8]> {
        let place = self.places.get(index as usize % PACKETS).copied().flatten();
        let place = place.filter(|place| {
            place.index == index
                && now.saturating_duration_since(place.received_at) <= AGE
                && self.written - place.at <= self.bytes.len() as u64
        })?;
        let at = self.offset(place.at);
        Some(&self.bytes[at..at + place.len])
    }
}

/// The histories of a track, one of each encoding where there are several: each has numbers of its
/// own.
#[derive(Debug, Default)]
pub(crate) struct Histories(Vec<PacketHistory>);

impl Histories {
    /// Keeps a packet of an encoding, with its index.
    pub(crate) fn push(&mut self, now: Instant, encoding: u8, index: u64, packet: &[u8]) {
        let encoding = usize::from(encoding);
        if self.0.len() <= encoding {
            self.0.resize_with(encoding + 1, PacketHistory::default);
        }
        self.0[encoding].push(now, index, packet);
    }

    /// The packet of an encoding with this index, unless it is too old or has never come.
    pub(crate) fn get(&self, now: Instant, encoding: u8, index: u64) -> Option<&[u8]> {
        self.0.get(usize::from(encoding))?.get(now, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a packet of that index has in it.
    fn packet(index: u64) -> Vec<u8> {
        let len = 100 + (index * 37 % 1_300) as usize;
        index.to_be_bytes().into_iter().cycle().take(len).collect()
    }

    #[test]
    fn a_history_agrees_with_one_that_forgets_nothing() {
        for interval_us in [200, 1_000, 2_000, 5_000, 40_000] {
            let start = Instant::now();
            let mut history = PacketHistory::default();
            let (mut kept, mut asked, mut sizes) = (0, 0, Vec::new());
            for n in 0..8_000u64 {
                let now = start + Duration::from_micros(interval_us) * n as u32;
                // Every other pair has changed places.
                let index = 70_000 + (n ^ u64::from(n % 4 < 2));
                history.push(now, index, &packet(index));
                if sizes.last() != Some(&history.bytes.len()) {
                    sizes.push(history.bytes.len());
                }
                for back in [0, 1, 10, 100, 400, 900] {
                    let Some(index) = index.checked_sub(back).filter(|it| *it >= 70_000) else {
                        continue;
                    };
                    let found = history.get(now, index);
                    // Some are still to come.
                    if n > 4_000 && back * interval_us < 900_000 && back > 1 {
                        asked += 1;
                        kept += u64::from(found.is_some());
                    }
                    if let Some(found) = found {
                        assert_eq!(found, packet(index));
                        assert!(back * interval_us <= 1_001_000);
                    }
                }
            }
            let busiest = interval_us == 200;
            assert!(kept == asked || busiest, "{kept} of {asked} at {interval_us}");
            assert!(sizes.is_sorted() && sizes.last() <= Some(&MOST_BYTES), "{sizes:?}");
        }
    }

    #[test]
    fn what_has_never_come_is_not_there() {
        let now = Instant::now();
        let mut history = PacketHistory::default();
        assert_eq!(history.get(now, 0), None);
        history.push(now, 5, b"five");
        assert_eq!((history.get(now, 4), history.get(now, 5)), (None, Some(&b"five"[..])));
        assert_eq!(history.get(now, 5 + PACKETS as u64), None);
        assert_eq!(history.get(now + AGE + Duration::from_millis(1), 5), None);
        history.push(now, 6, &[0; LEAST_BYTES]);
        assert_eq!(history.get(now, 6), None, "no packet is as large");
    }
}
