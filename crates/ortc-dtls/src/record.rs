use bytes::Bytes;

const CHANGE_CIPHER_SPEC: u8 = 20;

/// The random of a ClientHello that begins an association, if `datagram` is the (first
/// fragment of the) first one: plaintext, message 0 (RFC 6347 §4.2.1, §4.2.2).
///
/// A retransmitted hello has the same random, that of a client which has begun afresh another.
pub(crate) fn client_random(datagram: &[u8]) -> Option<[u8; 32]> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let (record, message) = datagram.split_at_checked(HEADER)?;
    let (header, body) = message.split_at_checked(12)?;
    let first = record[0] == HANDSHAKE && record[3..5] == [0, 0];
    let hello = header[0] == CLIENT_HELLO && header[4..6] == [0, 0] && header[6..9] == [0, 0, 0];
    if !first || !hello {
        return None;
    }
    body.get(2..34)?.try_into().ok()
}

/// Type, version, epoch and number, length.
pub(crate) const HEADER: usize = 13;

/// The records of a datagram: where each begins, its header, and what it carries. Ends with the first
/// that is cut short.
pub(crate) fn records(datagram: &[u8]) -> impl Iterator<Item = (usize, &[u8; HEADER], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (header, rest) = datagram.get(at..)?.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let begin = at;
        at += HEADER + length;
        Some((begin, header, rest.get(..length)?))
    })
}

/// Whether a datagram begins with a handshake record that is not encrypted (RFC 6347 §4.1).
pub(crate) fn is_handshake_of_epoch_0(datagram: &[u8]) -> bool {
    matches!(datagram, [22, _, _, 0, 0, ..])
}

/// What comes from the first change_cipher_spec on, which begins a server's last flight in DTLS 1.2
/// (RFC 5246 §7.3); all of it where there is none.
///
/// What is sent again in the same breath before it has to go: a peer that has had that passes over a
/// datagram which begins with it.
pub(crate) fn last_flight(mut datagrams: Vec<Bytes>) -> Vec<Bytes> {
    let change = |datagram: &Bytes| {
        records(datagram)
            .find_map(|(at, header, _)| (header[0] == CHANGE_CIPHER_SPEC).then_some(at))
    };
    let mut all = datagrams.iter().enumerate();
    let Some((index, at)) = all.find_map(|(index, it)| Some((index, change(it)?))) else {
        return datagrams;
    };
    let mut flight = datagrams.split_off(index);
    flight[0] = flight[0].slice(at..);
    flight
}

/// Whether the first record could be one of an honest peer (RFC 6347 §4.1, RFC 9147 §4).
///
/// The engine keeps records that it has no use for yet, and a stray one that is still there
/// at the end of the handshake is fatal to it. So what no peer sends is not let in.
pub(crate) fn is_plausible(datagram: &[u8], largest: usize) -> bool {
    if datagram.len() > largest {
        return false;
    }
    let Some((header, rest)) = datagram.split_at_checked(HEADER) else { return false };
    let epoch = u16::from_be_bytes([header[3], header[4]]);
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let whole = header[1] == 0xfe && matches!(header[2], 0xfd | 0xff) && length <= rest.len();
    match header[0] {
        // It is one byte, and nothing protects it.
        CHANGE_CIPHER_SPEC => whole && epoch == 0 && length == 1 && rest[0] == 1,
        // Alerts, handshake messages, acknowledgements.
        21 | 22 | 26 => whole && length > 0,
        // There is no application data without keys.
        23 => whole && epoch > 0,
        // The unified header of DTLS 1.3.
        32..=63 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_honest_peer_sends_is_let_in() {
        let record = |kind: u8, epoch: u8, body: &[u8]| {
            let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 0, 0];
            record.push(body.len() as u8);
            record.extend_from_slice(body);
            is_plausible(&record, 100)
        };
        assert!(record(20, 0, &[1]) && record(21, 0, &[2, 40]) && record(22, 0, &[1; 87]));
        assert!(record(23, 1, &[7; 30]) && record(26, 0, &[0, 0]) && record(0x2e, 9, &[7; 30]));
        assert!(!record(20, 0, &[2]) && !record(20, 1, &[1]) && !record(22, 0, &[]));
        assert!(!record(23, 0, &[7; 30]) && !record(24, 0, &[7]) && !record(22, 0, &[1; 88]));
        assert!(!is_plausible(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], 100));
        assert!(!is_plausible(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1], 100));
        assert!(!is_plausible(&[], 100));
    }

    #[test]
    fn only_the_first_fragment_of_a_first_hello_has_its_random() {
        let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 46];
        hello.extend_from_slice(&[1, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 34, 0xfe, 0xfd]);
        hello.extend_from_slice(&[9; 32]);
        assert_eq!(client_random(&hello), Some([9; 32]));
        assert_eq!(client_random(&hello[..hello.len() - 1]), None);
        for index in [0, 4, 13, 18, 21] {
            let mut other = hello.clone();
            other[index] ^= 2;
            assert_eq!(client_random(&other), None, "byte {index}");
        }
    }
}
