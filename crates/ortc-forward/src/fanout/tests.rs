//! A batch that is full in the middle of what one connection is sent.

use std::task::Waker;

use ortc_io::{SocketId, SrtpKeys, SrtpProfile};
use ortc_rtp::{ForwardedPayloadType, LayerMark, PayloadType, RtpHeader, SrtpReceiver};

use super::*;
use crate::handle::Wakeup;
use crate::ready::ReadyList;

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const VP8: PayloadType = PayloadType(96);
const SOURCE: TrackSource = TrackSource { connection: ID, ssrc: Ssrc(1) };
/// What is sent stands behind another track of the connection.
const OTHER: Ssrc = Ssrc(10);
const SENT: Ssrc = Ssrc(20);
const COUNT: usize = 8;

struct Packets(Vec<Vec<u8>>);

impl PacketStore for Packets {
    fn packet(&self, at: usize, len: usize) -> &[u8] {
        &self.0[at][..len]
    }
}

fn keys(is_client: bool) -> SrtpKeys {
    let material: Vec<u8> = (0..56).collect();
    SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client).unwrap()
}

/// A connection that is sent two tracks of another.
fn link(now: Instant) -> Link {
    let wakeup = Wakeup::new(Waker::noop().clone());
    let mut link = Link::new(ID, ReadyList::new(1, wakeup).mark(ID), None);
    let mut session = RtpSession::new(ID, 1, now);
    session.set_keys(now, &keys(true)).unwrap();
    for ssrc in [OTHER, SENT] {
        session.add_forward(
            now,
            ForwardConfig {
                ssrc,
                source: SOURCE,
                payload_types: vec![ForwardedPayloadType {
                    received: VP8,
                    sent: VP8,
                    clock_rate: 90_000,
                }],
                unwrapped: Vec::new(),
                extensions: Vec::new(),
                cname: "name".to_owned(),
                needs_key_frames: false,
                enabled: true,
            },
        );
    }
    link.session = Some(Box::new(session));
    link
}

fn packets() -> (Packets, Vec<Opened>) {
    let packet = |n: usize| {
        let header = RtpHeader {
            payload_type: VP8,
            marker: false,
            sequence: n as u16,
            timestamp: 1,
            ssrc: SOURCE.ssrc,
            extensions: &[],
        };
        let mut packet = vec![n as u8; 1_000];
        header.write(&mut packet).unwrap();
        packet
    };
    let opened = |n: usize| Opened {
        source: ID,
        datagram: n,
        rtp: OpenedRtp {
            ssrc: SOURCE.ssrc,
            index: n as u64,
            len: 1_000,
            padding: 0,
            mark: LayerMark::default(),
        },
    };
    (Packets((0..COUNT).map(packet).collect()), (0..COUNT).map(opened).collect())
}

#[test]
fn what_did_not_fit_is_sent_with_the_next_batch_and_all_is_counted_once() {
    let now = Instant::now();
    let (mut link, (packets, opened)) = (link(now), packets());
    let target = ForwardTarget::new(SENT);
    link.pending.push(Pending { first: 0, count: COUNT, target });
    let path = Path::plain(SocketId { slot: 0, generation: 0 }, ([10, 0, 0, 1], 5).into());
    let mut batch = SendBatch::new();
    while batch.remaining() >= 3 * FORWARD_ROOM {
        assert!(batch.push_copy_on(path, &[0; FORWARD_ROOM]));
    }
    let filled = batch.len();
    let mut receiver = SrtpReceiver::from_keys(&keys(false)).unwrap();
    let mut sequences = Vec::new();
    let mut take = |batch: &mut SendBatch, skipped: usize| {
        for (_, _, datagram) in batch.iter().skip(skipped) {
            let mut datagram = datagram.to_vec();
            receiver.unprotect_rtp(&mut datagram).unwrap();
            let packet = RtpView::parse(&datagram).unwrap();
            assert_eq!(packet.ssrc(), SENT);
            sequences.push(packet.sequence());
        }
        batch.clear();
        sequences.len()
    };
    let mut progress = Progress::default();
    let sent = link.forward(now, Some(path), (&opened, &packets), &mut batch, &mut progress);
    assert_eq!(sent, Forwarded::BatchFull);
    let first = take(&mut batch, filled);
    assert!((1..COUNT).contains(&first), "{first} have fitted");
    let sent = link.forward(now, Some(path), (&opened, &packets), &mut batch, &mut progress);
    assert_eq!(sent, Forwarded::All);
    assert_eq!(take(&mut batch, 0), COUNT);
    let begin = sequences[0];
    assert_eq!(sequences, (begin..begin + COUNT as u16).collect::<Vec<_>>());

    let session = link.session.as_ref().unwrap();
    let (stats, datagrams) = (session.stats(), session.datagrams());
    assert_eq!((stats.rtp_sent, stats.rtp_forwarded), (8, 8));
    assert_eq!((datagrams.sent, datagrams.bytes_sent), (8, 8 * (1_000 + 16)));
    // It is found at once the next time.
    assert!(progress.has_moved);
    assert_ne!(link.pending[0].target, target);
}
