//! Padding that has packets which differ by a few bytes be of one size, so that they go to the
//! kernel in one run.

/// Gives packets that follow each other so much padding, at most `max` bytes each, that as many
/// as possible are of one size. The last of a run may be shorter than the others and gets none.
///
/// `size` is what a packet has without padding; one that has none is left as it is. `pad` says how
/// many bytes it gets.
pub(crate) fn even_out<T>(
    packets: &mut [T],
    max: u8,
    size: impl Fn(&T) -> Option<usize> + Copy,
    pad: impl Fn(&mut T, u8),
) {
    let mut rest = packets;
    while !rest.is_empty() {
        let (count, largest) = nearly_equal(rest, max, size);
        let (run, others) = rest.split_at_mut(count.max(1));
        // A shorter one ends a run, which is no loss where nothing could follow it.
        let follows = others.first().and_then(size).is_some_and(|size| size <= largest);
        let padded = if follows { count } else { count.saturating_sub(1) };
        for packet in &mut run[..padded] {
            let missing = size(packet).map_or(0, |size| largest - size);
            pad(packet, u8::try_from(missing).unwrap_or(max).min(max));
        }
        rest = others;
    }
}

/// How many packets from the first on differ by `max` bytes at most, and the size of the largest.
fn nearly_equal<T>(packets: &[T], max: u8, size: impl Fn(&T) -> Option<usize>) -> (usize, usize) {
    let (mut smallest, mut largest) = (usize::MAX, 0);
    for (count, packet) in packets.iter().enumerate() {
        let Some(size) = size(packet) else { return (count, largest) };
        let (low, high) = (smallest.min(size), largest.max(size));
        if high - low > usize::from(max) {
            return (count, largest);
        }
        (smallest, largest) = (low, high);
    }
    (packets.len(), largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Packet(Option<usize>, u8);

    fn padded(sizes: &[Option<usize>]) -> Vec<u8> {
        let mut packets: Vec<_> = sizes.iter().map(|size| Packet(*size, 0)).collect();
        even_out(&mut packets, 16, |packet| packet.0, |packet, bytes| packet.1 = bytes);
        packets.iter().map(|packet| packet.1).collect()
    }

    #[test]
    fn packets_that_differ_by_little_become_as_large_as_the_largest() {
        let some = |sizes: &[usize]| padded(&sizes.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(some(&[1_100, 1_100, 1_101, 1_101]), [1, 1, 0, 0]);
        // The last may be shorter, without padding, also when it is far shorter.
        assert_eq!(some(&[1_101, 1_100, 1_100]), [0, 1, 0]);
        assert_eq!(some(&[1_101, 1_100, 400]), [0, 1, 0]);
        assert_eq!(some(&[1_100, 1_101, 400]), [1, 0, 0]);
        // Sixteen bytes and no more.
        assert_eq!(some(&[1_000, 1_016, 1_017]), [16, 0, 0]);
        assert_eq!(some(&[1_000, 1_017]), [0, 0]);
        assert_eq!(some(&[]), [0; 0]);
    }

    #[test]
    fn a_packet_with_padding_of_its_own_is_left_alone_and_parts_its_neighbours() {
        let sizes = [Some(100), Some(101), None, Some(90), Some(92), Some(92)];
        assert_eq!(padded(&sizes), [1, 0, 0, 2, 0, 0]);
    }
}
