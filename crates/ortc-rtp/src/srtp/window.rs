use crate::{SrtpError, Ssrc};

/// Width of a replay window in packets. RFC 3711 §3.3.2 asks for 64 at least; 128 is what one
/// word holds and 200 ms of video at 5 Mbit/s.
const WIDTH: u64 = 128;

/// Most SSRCs that one direction of a connection keeps state for: 64 bytes each.
const MAX_SSRCS: usize = 512;

/// One more than the highest index of an RTP packet (RFC 3711 §9.2).
const RTP_INDICES: u64 = 1 << 48;

/// Which indices of one SSRC have been used (RFC 3711 §3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit n: the index `highest - n` has been used. Zero before the first.
    used: u128,
}

impl ReplayWindow {
    /// Whether `index` is new. Changes nothing.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        if self.used == 0 || index > self.highest {
            return Ok(());
        }
        let behind = self.highest - index;
        if behind >= WIDTH || self.used & (1 << behind) != 0 {
            return Err(SrtpError::Replayed);
        }
        Ok(())
    }

    /// Notes `index` as used. Only after the packet has been authenticated.
    pub(super) fn commit(&mut self, index: u64) {
        if self.used == 0 {
            *self = Self { highest: index, used: 1 };
        } else if index > self.highest {
            let ahead = index - self.highest;
            self.used = if ahead < WIDTH { self.used << ahead | 1 } else { 1 };
            self.highest = index;
        } else if self.highest - index < WIDTH {
            self.used |= 1 << (self.highest - index);
        }
    }

    /// Extends a sequence number by the rollovers that bring it closest to the highest index
    /// (RFC 3711 §3.3.1).
    ///
    /// # Errors
    /// [`SrtpError::Replayed`] for what would lie before the first packet,
    /// [`SrtpError::IndexExhausted`] for what would lie behind the last.
    pub(super) fn extend(&self, sequence: u16) -> Result<u64, SrtpError> {
        if self.used == 0 {
            return Ok(u64::from(sequence));
        }
        let last = self.highest as u16;
        let distance = match sequence.wrapping_sub(last) as i16 {
            // Halfway round, RFC 3711 §3.3.1 keeps the rollover counter.
            i16::MIN => i64::from(sequence) - i64::from(last),
            distance => i64::from(distance),
        };
        let index = self.highest.checked_add_signed(distance).ok_or(SrtpError::Replayed)?;
        if index < RTP_INDICES { Ok(index) } else { Err(SrtpError::IndexExhausted) }
    }

    #[cfg(test)]
    pub(super) fn starting_at(index: u64) -> Self {
        Self { highest: index, used: 1 }
    }
}

/// What is kept per SSRC, sorted by SSRC.
#[derive(Debug)]
pub(super) struct SsrcTable<T> {
    entries: Vec<(Ssrc, T)>,
    /// Where the last one was found: packets of a stream come in a row.
    last: usize,
}

impl<T: Copy + Default> SsrcTable<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), last: 0 }
    }

    /// The state of an SSRC, and where to [`put`](Self::put) it; a fresh state if there is
    /// none and room for one. Changes nothing but a hint.
    pub(super) fn get(&mut self, ssrc: Ssrc) -> Result<(Slot, T), SrtpError> {
        if let Some((known, state)) = self.entries.get(self.last)
            && *known == ssrc
        {
            return Ok((Slot { at: self.last, ssrc, known: true }, *state));
        }
        match self.entries.binary_search_by_key(&ssrc, |(ssrc, _)| *ssrc) {
            Ok(at) => {
                self.last = at;
                Ok((Slot { at, ssrc, known: true }, self.entries[at].1))
            }
            Err(_) if self.entries.len() == MAX_SSRCS => Err(SrtpError::TooManySsrcs),
            Err(at) => Ok((Slot { at, ssrc, known: false }, T::default())),
        }
    }

    /// Stores the state of an SSRC. Only after a packet of it has been authenticated.
    pub(super) fn put(&mut self, slot: Slot, state: T) {
        if slot.known {
            self.entries[slot.at].1 = state;
        } else {
            self.entries.insert(slot.at, (slot.ssrc, state));
            self.last = slot.at;
        }
    }
}

/// A place in an [`SsrcTable`], good until the table is changed.
#[derive(Debug)]
pub(super) struct Slot {
    at: usize,
    ssrc: Ssrc,
    known: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(indices: &[u64]) -> ReplayWindow {
        let mut window = ReplayWindow::default();
        for &index in indices {
            window.check(index).unwrap();
            window.commit(index);
        }
        window
    }

    #[test]
    fn an_index_is_taken_once_and_only_within_the_window() {
        let window = seen(&[1000, 998, 1001, 873 + 1]);
        for (index, expected) in [
            (1001, Err(SrtpError::Replayed)),
            (1000, Err(SrtpError::Replayed)),
            (999, Ok(())),
            (998, Err(SrtpError::Replayed)),
            (874, Err(SrtpError::Replayed)),
            (875, Ok(())),
            (873, Err(SrtpError::Replayed)),
            (0, Err(SrtpError::Replayed)),
            (1002, Ok(())),
            (u64::MAX, Ok(())),
        ] {
            assert_eq!(window.check(index), expected, "{index}");
        }
    }

    #[test]
    fn a_jump_beyond_the_width_forgets_what_was_used() {
        let window = seen(&[5, 5 + 128]);
        assert_eq!(window, ReplayWindow { highest: 133, used: 1 });
        assert_eq!(seen(&[5, 5 + 127]).used, 1 << 127 | 1);
    }

    #[test]
    fn a_window_agrees_with_a_set_of_everything_seen() {
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut random = fastrand::Rng::with_seed(1);
        let mut base = 0;
        for _ in 0..20_000 {
            base += random.u64(0..3);
            let index = (base + random.u64(0..200)).saturating_sub(100);
            let highest = seen.last().copied().unwrap_or(0);
            let fresh = !seen.contains(&index) && index + WIDTH > highest;
            assert_eq!(window.check(index).is_ok(), fresh, "{index} after {highest}");
            if fresh {
                window.commit(index);
                seen.insert(index);
            }
        }
    }

    #[test]
    fn sequence_numbers_are_extended_across_rollovers() {
        let rollover = 7 << 16;
        for (highest, sequence, expected) in [
            (rollover + 65_535, 0, Ok(rollover + 65_536)),
            (rollover, 65_535, Ok(rollover - 1)),
            (rollover + 100, 32_867, Ok(rollover + 32_867)),
            (rollover + 100, 32_868, Ok(rollover + 32_868)),
            (rollover + 100, 32_869, Ok(rollover - 65_536 + 32_869)),
            (rollover + 40_000, 7_232, Ok(rollover + 7_232)),
            (rollover + 40_000, 7_231, Ok(rollover + 65_536 + 7_231)),
            (10, 65_535, Err(SrtpError::Replayed)),
            (RTP_INDICES - 1, 65_535, Ok(RTP_INDICES - 1)),
            (RTP_INDICES - 1, 0, Err(SrtpError::IndexExhausted)),
        ] {
            let window = ReplayWindow::starting_at(highest);
            assert_eq!(window.extend(sequence), expected, "{sequence} after {highest}");
        }
        assert_eq!(ReplayWindow::default().extend(65_535), Ok(65_535));
    }

    #[test]
    fn the_table_is_sorted_and_bounded() {
        let mut table = SsrcTable::<u32>::new();
        for n in (0..MAX_SSRCS as u32).rev() {
            let (slot, state) = table.get(Ssrc(n)).unwrap();
            assert_eq!(state, 0);
            table.put(slot, n + 1);
        }
        assert_eq!(table.get(Ssrc(9999)).unwrap_err(), SrtpError::TooManySsrcs);
        for n in [255, 0, 17, 17] {
            assert_eq!(table.get(Ssrc(n)).unwrap().1, n + 1);
        }
        assert!(table.entries.is_sorted_by_key(|(ssrc, _)| *ssrc));
    }
}
