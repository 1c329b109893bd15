//! What a forwarded packet takes, and what it leaves behind.

use std::collections::BTreeMap;

use super::*;
use crate::{ExtHeaders, Extension, MAX_PADDING, RtpHeader};

/// Ids of header extensions as received; as sent, they need the two-byte form.
const IDS: std::ops::RangeInclusive<u8> = 1..=14;

/// A received packet with every extension there can be in the one-byte form, and a body.
fn received(body: usize) -> Vec<u8> {
    let elements: Vec<_> = IDS.map(|id| Extension { id, data: &[9] }).collect();
    let header = RtpHeader {
        payload_type: OPUS,
        marker: false,
        sequence: 1,
        timestamp: 2,
        ssrc: Ssrc(7),
        extensions: &elements,
    };
    let mut packet = vec![0; header.encoded_len() + body];
    header.write(&mut packet).unwrap();
    packet
}

/// Forwards a packet of that body and padding; how long it is, if it is sent.
fn forwarded(session: &mut RtpSession, now: Instant, index: u64, body: usize) -> Option<usize> {
    let packet = received(body);
    let view = RtpView::parse(&packet).unwrap();
    let (padding, mark) = (MAX_PADDING, Default::default());
    let opened = OpenedRtp { ssrc: Ssrc(7), index, len: packet.len(), padding, mark };
    let mut out = vec![0; FORWARD_ROOM];
    let mut run = session.forward_run(now, &mut ForwardTarget::new(TRACK), 1)?;
    run.write(&view, &opened, &mut out)
}

#[test]
fn the_largest_packet_fits_the_room_and_a_larger_one_is_counted() {
    let mut pair = Pair::new();
    let extensions = IDS.map(|id| (id, id + 100)).collect();
    pair.a.add_forward(pair.now, forward_config(extensions));
    pair.a.number_sent(TRACK, Some(200));
    let lines = BTreeMap::from([("a".to_owned(), "b".repeat(253))]);
    pair.a.set_ext_headers(ExtHeaders { ssrc: TRACK, pairs: lines, codecs: Vec::new() });
    let (mut longest, mut carried) = (0, 0);
    for (index, body) in (0..1_472).enumerate() {
        match forwarded(&mut pair.a, pair.now, index as u64, body) {
            Some(len) => {
                assert!(len <= 1_472, "{body} bytes make {len}");
                longest = body;
                carried += usize::from(len > body + 255);
            }
            None => break,
        }
    }
    assert!(longest > 1_300 && carried > 0, "{longest} bytes at most, {carried} with pairs");
    let stats = pair.a.stats();
    assert_eq!((stats.send_drops.oversized, stats.rtp_forwarded), (1, longest as u64 + 1));
}

#[test]
fn congestion_control_begins_with_the_first_packet_that_is_sent() {
    let mut pair = Pair::new();
    pair.a.add_forward(pair.now, forward_config(Vec::new()));
    pair.a.number_sent(TRACK, Some(3));
    pair.a.enable_sender(TRACK, false);
    assert_eq!(forwarded(&mut pair.a, pair.now, 0, 100), None);
    pair.a.enable_sender(TRACK, true);
    assert_eq!(forwarded(&mut pair.a, pair.now, 1, 2_000), None, "it is too long");
    assert!(pair.a.congestion.is_idle());
    assert!(forwarded(&mut pair.a, pair.now, 2, 100).is_some());
    assert!(!pair.a.congestion.is_idle());
}

#[test]
fn there_is_something_to_report_once_there_are_keys_and_a_track_until_it_is_closed() {
    let mut pair = Pair::new();
    assert_eq!(pair.a.poll_report(), None, "no track");
    pair.a.add_forward(pair.now, forward_config(Vec::new()));
    let report = pair.a.poll_report().unwrap();
    let (at, reason) = pair.a.poll_timeout().unwrap();
    assert_eq!(reason, "a report is due");
    assert!(report <= at && at < report + Duration::from_micros(31_251));
    pair.a.close(pair.now);
    assert_eq!(pair.a.poll_report(), None, "closed");
    let mut unkeyed = RtpSession::new(ID, 1, pair.now);
    unkeyed.add_forward(pair.now, forward_config(Vec::new()));
    assert_eq!(unkeyed.poll_report(), None, "no keys");
}
