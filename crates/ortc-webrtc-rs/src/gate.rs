//! What is let through to the DTLS stack.

/// Handshake messages and fragments of them that one association may bring. The largest
/// handshake has a dozen messages; this leaves room for each to come in fragments and to be
/// repeated. The stack keeps fragments in a list and joins them by recursion: some thousands
/// overflow its stack and abort the process.
const MAX_HANDSHAKE_FRAGMENTS: usize = 256;

/// Encrypted records that may come before the handshake has keys for them. The stack queues
/// them without a bound; a peer sends one Finished, a few times.
const MAX_EARLY_RECORDS: usize = 32;

/// Shorter fragments of a longer message are of no honest use: a path that carries no 64
/// bytes carries no media either.
const MIN_FRAGMENT: usize = 64;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;

/// Counts what an association is sent, and refuses what would harm the stack.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    handshake_fragments: usize,
    early_records: usize,
    connected: bool,
    refused: u64,
}

impl Gate {
    /// The handshake is over: encrypted records are what is expected now.
    pub(crate) fn connected(&mut self) {
        self.connected = true;
    }

    /// Datagrams refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a datagram is let through, as a whole or not at all.
    pub(crate) fn admits(&mut self, datagram: &[u8]) -> bool {
        let admitted = match count(datagram) {
            None => false,
            Some((fragments, encrypted)) => {
                let early = if self.connected { 0 } else { encrypted };
                self.handshake_fragments += fragments;
                self.early_records += early;
                self.handshake_fragments <= MAX_HANDSHAKE_FRAGMENTS
                    && self.early_records <= MAX_EARLY_RECORDS
            }
        };
        self.refused += u64::from(!admitted);
        admitted
    }
}

/// Counts the handshake fragments and the encrypted records of a datagram; `None` when it is
/// malformed, or made to be joined from crumbs.
fn count(mut datagram: &[u8]) -> Option<(usize, usize)> {
    let (mut fragments, mut encrypted) = (0, 0);
    while !datagram.is_empty() {
        let header = datagram.get(..RECORD_HEADER)?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (record, rest) = datagram[RECORD_HEADER..].split_at_checked(length)?;
        if (header[3], header[4]) != (0, 0) {
            encrypted += 1;
        } else if header[0] == HANDSHAKE {
            fragments += fragments_of(record)?;
        }
        datagram = rest;
    }
    Some((fragments, encrypted))
}

/// The handshake messages, or fragments, of one plaintext record.
fn fragments_of(mut record: &[u8]) -> Option<usize> {
    let mut fragments = 0;
    while !record.is_empty() {
        let header = record.get(..HANDSHAKE_HEADER)?;
        let number = |at: usize| {
            header[at..at + 3].iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        let (length, offset, fragment) = (number(1), number(6), number(9));
        let end = offset + fragment;
        if end > length || (fragment < MIN_FRAGMENT && end < length) {
            return None;
        }
        record = record[HANDSHAKE_HEADER..].get(fragment..)?;
        fragments += 1;
    }
    Some(fragments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![HANDSHAKE, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0];
        record.extend((content.len() as u16).to_be_bytes());
        record.extend(content);
        record
    }

    fn fragment(length: u32, offset: u32, bytes: u32) -> Vec<u8> {
        let mut message = vec![1];
        message.extend(&length.to_be_bytes()[1..]);
        message.extend([0, 0]);
        message.extend(&offset.to_be_bytes()[1..]);
        message.extend(&bytes.to_be_bytes()[1..]);
        message.extend(vec![7; bytes as usize]);
        message
    }

    #[test]
    fn a_hello_in_two_fragments_passes() {
        let mut gate = Gate::default();
        assert!(gate.admits(&record(0, &fragment(1400, 0, 1100))));
        assert!(gate.admits(&record(0, &fragment(1400, 1100, 300))));
        assert!(gate.admits(&record(0, &fragment(0, 0, 0))));
        assert_eq!(gate.refused(), 0);
    }

    #[test]
    fn crumbs_do_not_pass() {
        let mut gate = Gate::default();
        assert!(!gate.admits(&record(0, &fragment(30_000, 0, 1))));
        assert!(!gate.admits(&record(0, &fragment(30_000, 0, 0))));
        assert!(!gate.admits(&record(0, &fragment(10, 5, 20))));
        // The last piece of a message may be as short as it comes.
        assert!(gate.admits(&record(0, &fragment(100, 99, 1))));
        assert_eq!(gate.refused(), 3);
    }

    #[test]
    fn fragments_without_end_do_not_pass() {
        let mut gate = Gate::default();
        let passed =
            (0..1000).filter(|n| gate.admits(&record(0, &fragment(1 << 20, 64 * n, 64)))).count();
        assert_eq!(passed, MAX_HANDSHAKE_FRAGMENTS);
        let several = [record(0, &fragment(1, 0, 1)), record(0, &fragment(1, 0, 1))].concat();
        assert_eq!(count(&several), Some((2, 0)));
    }

    #[test]
    fn encrypted_records_are_counted_until_there_are_keys_for_them() {
        let mut gate = Gate::default();
        let passed = (0..100).filter(|_| gate.admits(&record(1, b"sealed"))).count();
        assert_eq!(passed, MAX_EARLY_RECORDS);
        let mut gate = Gate::default();
        gate.connected();
        assert!((0..100).all(|_| gate.admits(&record(1, b"sealed"))));
    }

    #[test]
    fn what_is_cut_off_does_not_pass() {
        let whole = record(0, &fragment(80, 0, 80));
        for len in 1..whole.len() {
            assert!(!Gate::default().admits(&whole[..len]), "{len} bytes");
        }
    }
}
