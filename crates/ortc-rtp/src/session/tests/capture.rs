//! When packets were captured, as their receiver is told.

use super::*;
use crate::{Extension, NtpTime, RtpHeader};

/// The clock of a session as it is made, so many milliseconds after the beginning of the call.
fn after(ms: u64) -> NtpTime {
    NtpTime(SessionOptions::default().ntp_at_start).plus_units(ms as i64, 1_000)
}

#[test]
fn packets_tell_when_they_were_captured_once_a_report_has_come() {
    let mut pair = Pair::new();
    let (sender, mut receiver) = pair.track();
    let mut times = Vec::new();
    for n in 0..100 {
        sender.push(outgoing(n)).unwrap();
        pair.drive();
        times.extend(popped(&mut receiver).into_iter().map(|packet| packet.capture_time));
        pair.advance(Duration::from_millis(20));
    }
    let first = times.iter().position(Option::is_some).unwrap();
    assert!((1..40).contains(&first), "{first}");
    for (n, time) in times.iter().enumerate().skip(first) {
        let apart = time.unwrap().micros_since(after(20 * n as u64));
        assert!(apart.abs() < 1_000, "{n}: {apart} us");
    }
}

#[test]
fn an_element_that_is_described_says_so_at_once() {
    let mut pair = Pair::new();
    let (_, mut receiver) = pair.track();
    let captured = after(7_000);
    let data = captured.0.to_be_bytes();
    let packet = |id, sequence, timestamp| {
        let mut bytes = [0; 60];
        let header = RtpHeader {
            payload_type: OPUS,
            marker: false,
            sequence,
            timestamp,
            ssrc: TRACK,
            extensions: if id == 0 { &[] } else { &[Extension { id, data: &data }] },
        };
        header.write(&mut bytes).unwrap();
        bytes
    };
    let now = pair.now;
    pair.b.deliver(now, TRACK, 1, &packet(5, 1, 0));
    pair.b.read_capture_times(TRACK, Some(5));
    pair.b.deliver(now, TRACK, 2, &packet(6, 2, 960));
    pair.b.deliver(now, TRACK, 3, &packet(5, 3, 1_920));
    pair.b.deliver(now, TRACK, 4, &packet(0, 4, 2_880));
    pair.b.read_capture_times(Ssrc(9), Some(5));
    let got: Vec<_> = popped(&mut receiver).into_iter().map(|it| it.capture_time).collect();
    let next = captured.plus_units(960, 48_000);
    assert_eq!(got, [None, None, Some(captured), Some(next)]);
}
