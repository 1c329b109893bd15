use ortc_io::prefetch;

use crate::{SrtpError, Ssrc};

/// Width of a replay window in packets. RFC 3711 §3.3.2 asks for 64 at least; what is sent again
/// comes a few round trips late, and 1,024 packets are two seconds of video at 5 Mbit/s.
const WIDTH: u64 = 1_024;
const WORDS: usize = WIDTH as usize / 64;

/// Most SSRCs that one direction of a connection keeps state for: some 300 bytes each.
const MAX_SSRCS: usize = 512;

/// One more than the highest index of an RTP packet (RFC 3711 §9.2).
const RTP_INDICES: u64 = 1 << 48;

/// Which indices of one SSRC have been used (RFC 3711 §3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReplayWindow {
    /// `None` before the first.
    highest: Option<u64>,
    /// Of the indices from `highest` down, `WIDTH` of them: whether each has been used, at the bit
    /// that is its remainder.
    used: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether `index` is new. Changes nothing.
    pub(crate) fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(behind) = self.highest.and_then(|highest| highest.checked_sub(index)) else {
            return Ok(());
        };
        let (word, bit) = place(index);
        if behind >= WIDTH || self.used[word] & bit != 0 {
            return Err(SrtpError::Replayed);
        }
        Ok(())
    }

    /// Notes `index` as used. Only after the packet has been authenticated.
    pub(crate) fn commit(&mut self, index: u64) {
        let (word, bit) = place(index);
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= WIDTH {
                    return;
                }
            }
            Some(highest) if index - highest < WIDTH => {
                // What stands there is of the indices that leave the window.
                for skipped in highest + 1..index {
                    let (word, bit) = place(skipped);
                    self.used[word] &= !bit;
                }
                self.highest = Some(index);
            }
            _ => *self = Self { highest: Some(index), used: [0; WORDS] },
        }
        self.used[word] |= bit;
    }

    /// Extends a sequence number by the rollovers that bring it closest to the highest index
    /// (RFC 3711 §3.3.1).
    ///
    /// # Errors
    /// [`SrtpError::Replayed`] for what would lie before the first packet,
    /// [`SrtpError::IndexExhausted`] for what would lie behind the last.
    pub(crate) fn extend(&self, sequence: u16) -> Result<u64, SrtpError> {
        let Some(highest) = self.highest else { return Ok(u64::from(sequence)) };
        let last = highest as u16;
        let distance = match sequence.wrapping_sub(last) as i16 {
            // Halfway round, RFC 3711 §3.3.1 keeps the rollover counter.
            i16::MIN => i64::from(sequence) - i64::from(last),
            distance => i64::from(distance),
        };
        let index = highest.checked_add_signed(distance).ok_or(SrtpError::Replayed)?;
        if index < RTP_INDICES { Ok(index) } else { Err(SrtpError::IndexExhausted) }
    }

    #[cfg(test)]
    pub(super) fn starting_at(index: u64) -> Self {
        let mut window = Self::default();
        window.commit(index);
        window
    }
}

/// Where an index stands in a window: the word, and the bit in it.
fn place(index: u64) -> (usize, u64) {
    ((index % WIDTH / 64) as usize, 1 << (index % 64))
}

/// What is kept per SSRC, sorted by SSRC.
#[derive(Debug)]
pub(super) struct SsrcTable<T> {
    entries: Vec<(Ssrc, T)>,
    /// Where the last one was found: packets of a stream come in a row.
    last: usize,
}

/// What can be kept per SSRC.
pub(super) trait PerSsrc: Copy + 'static {
    /// The state of one that has none.
    const FRESH: &'static Self;
}

impl PerSsrc for ReplayWindow {
    const FRESH: &'static Self = &Self { highest: None, used: [0; WORDS] };
}

impl PerSsrc for u32 {
    const FRESH: &'static Self = &0;
}

impl<T: PerSsrc> SsrcTable<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), last: 0 }
    }

    /// The state of an SSRC, and where to [change](Self::change) it; a fresh state if there is
    /// none and room for one. Changes nothing but a hint.
    pub(super) fn get(&mut self, ssrc: Ssrc) -> Result<(Slot, &T), SrtpError> {
        let last = self.last;
        if self.entries.get(last).is_some_and(|(known, _)| *known == ssrc) {
            return Ok((Slot { at: last, ssrc, known: true }, &self.entries[last].1));
        }
        match self.entries.binary_search_by_key(&ssrc, |(ssrc, _)| *ssrc) {
            Ok(at) => {
                self.last = at;
                Ok((Slot { at, ssrc, known: true }, &self.entries[at].1))
            }
            Err(_) if self.entries.len() == MAX_SSRCS => Err(SrtpError::TooManySsrcs),
            Err(at) => Ok((Slot { at, ssrc, known: false }, T::FRESH)),
        }
    }

    /// Has the processor fetch the entry that was used last.
    #[inline]
    pub(super) fn prefetch(&self) {
        if let Some(entry) = self.entries.get(self.last) {
            prefetch(entry);
        }
    }

    /// The state of an SSRC to be changed, kept from now on. Only after a packet of it has been
    /// authenticated.
    pub(super) fn change(&mut self, slot: Slot) -> &mut T {
        if !slot.known {
            self.entries.insert(slot.at, (slot.ssrc, *T::FRESH));
            self.last = slot.at;
        }
        &mut self.entries[slot.at].1
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
        let window = seen(&[2000, 1998, 2001, 978]);
        for (index, expected) in [
            (2001, Err(SrtpError::Replayed)),
            (2000, Err(SrtpError::Replayed)),
            (1999, Ok(())),
            (1998, Err(SrtpError::Replayed)),
            (978, Err(SrtpError::Replayed)),
            (979, Ok(())),
            (977, Err(SrtpError::Replayed)),
            (0, Err(SrtpError::Replayed)),
            (2002, Ok(())),
            (u64::MAX, Ok(())),
        ] {
            assert_eq!(window.check(index), expected, "{index}");
        }
    }

    #[test]
    fn a_jump_beyond_the_width_forgets_what_was_used() {
        let window = seen(&[5, 5 + WIDTH]);
        assert_eq!(window, ReplayWindow::starting_at(5 + WIDTH));
        let window = seen(&[5, 6, 5 + WIDTH - 1]);
        assert_eq!((window.check(5), window.check(7)), (Err(SrtpError::Replayed), Ok(())));
        // 6 has left the window, and 1,030 stands where it stood.
        let window = seen(&[5, 6, 5 + WIDTH + 10]);
        assert_eq!((window.check(6 + WIDTH), window.check(5)), (Ok(()), Err(SrtpError::Replayed)));
    }

    #[test]
    fn a_window_agrees_with_a_set_of_everything_seen() {
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut random = fastrand::Rng::with_seed(1);
        let mut base = 0;
        for _ in 0..20_000 {
            base += random.u64(0..3);
            let index = (base + random.u64(0..2_000)).saturating_sub(1_000);
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
            assert_eq!(*state, 0);
            *table.change(slot) = n + 1;
        }
        assert_eq!(table.get(Ssrc(9999)).unwrap_err(), SrtpError::TooManySsrcs);
        for n in [255, 0, 17, 17] {
            assert_eq!(*table.get(Ssrc(n)).unwrap().1, n + 1);
        }
        assert!(table.entries.is_sorted_by_key(|(ssrc, _)| *ssrc));
    }
}
