//! Loss between two sessions, and what becomes of it.

use super::*;
use crate::{
    KeyFrameFeedback, RecoverConfig, RetransmitConfig, RtxStream, SealMark, SrtpError,
    SrtpReceiver, SrtpSender,
};

const VP8: PayloadType = PayloadType(96);
const RTX: PayloadType = PayloadType(97);
const RTX_SSRC: Ssrc = Ssrc(0x2222);

fn rtx() -> Option<RtxStream> {
    Some(RtxStream { ssrc: RTX_SSRC, payload_types: vec![(VP8, RTX)] })
}

/// A sends a track of pictures, B receives it; each way takes 30 ms.
struct Lossy {
    pair: Pair,
    sender: RingSender<OutgoingPacket>,
    receiver: RingReceiver<ReceivedPacket>,
    /// What is under way: when it arrives, and whether at B.
    wire: Vec<(Instant, bool, Vec<u8>)>,
    /// RTP datagrams that A has sent.
    sent: Vec<Vec<u8>>,
    n: u64,
}

const DELAY: Duration = Duration::from_millis(30);

impl Lossy {
    fn new(rtx: Option<RtxStream>) -> Self {
        let mut pair = Pair::new();
        let (sender, packets) = ring(64);
        let config = SenderConfig {
            payload_type: VP8,
            clock_rate: 90_000,
            ..sender_config(TRACK, packets, true)
        };
        pair.a.add_sender(pair.now, config);
        let config = RetransmitConfig { ssrc: TRACK, nack: true, rtx: rtx.clone() };
        pair.a.retransmit_sender(pair.now, config);
        let (packets, receiver) = ring(4_096);
        let config = ReceiverConfig { ssrc: TRACK, payload_types: vec![(VP8, 90_000)], packets };
        pair.b.add_receiver(pair.now, config);
        let key_frames = KeyFrameFeedback::PictureLoss;
        pair.b.recover_receiver(RecoverConfig { ssrc: TRACK, nack: true, key_frames, rtx });
        Self { pair, sender, receiver, wire: Vec::new(), sent: Vec::new(), n: 0 }
    }

    fn push(&mut self) {
        self.sender.push(outgoing(self.n)).unwrap();
        self.n += 1;
    }

    /// Lets a millisecond pass; `is_lost` says what does not arrive: at B or at A.
    fn step(&mut self, mut is_lost: impl FnMut(bool, &[u8]) -> bool) {
        let now = self.pair.now;
        for (at_b, session) in [(true, &mut self.pair.a), (false, &mut self.pair.b)] {
            session.handle_timeout(now);
            for datagram in transmits(session, now) {
                if at_b && !is_rtcp(&datagram) {
                    self.sent.push(datagram.clone());
                }
                if !is_lost(at_b, &datagram) {
                    self.wire.push((now + DELAY, at_b, datagram));
                }
            }
        }
        self.pair.now += Duration::from_millis(1);
        let now = self.pair.now;
        for (_, at_b, mut datagram) in self.wire.extract_if(.., |(at, ..)| *at <= now) {
            let session = if at_b { &mut self.pair.b } else { &mut self.pair.a };
            session.handle_datagram(now, &mut datagram);
        }
    }

    fn run(&mut self, ms: u32, mut is_lost: impl FnMut(bool, &[u8]) -> bool) {
        (0..ms).for_each(|_| self.step(&mut is_lost));
    }

    /// Sends packets, 5 ms apart, with this chance of loss each way, then waits for all.
    fn send_lossy(&mut self, packets: u64, chance: f64) {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..packets {
            self.push();
            self.run(5, |_, _| random.f64() < chance);
        }
        self.run(1_500, |_, _| random.f64() < chance);
    }

    fn stats(&self) -> (RecoveryStats, RecoveryStats) {
        (self.pair.a.stats().recovery, self.pair.b.stats().recovery)
    }

    /// The numbers of the packets that have come, sorted.
    fn received(&mut self) -> Vec<u64> {
        let all = popped(&mut self.receiver);
        let first = all[0].sequence;
        for packet in &all {
            // Whatever way it has come, it is the one that was sent under its number.
            let n = packet.sequence - first;
            assert_eq!(packet.payload, outgoing(n).payload);
            assert_eq!((packet.payload_type, packet.marker), (VP8, n == 0));
            assert_eq!(packet.timestamp.wrapping_sub(all[0].timestamp), 960 * n as u32);
        }
        let mut numbers: Vec<_> = all.iter().map(|packet| packet.sequence - first).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[test]
fn what_is_lost_is_sent_again_on_a_stream_of_its_own() {
    let mut lossy = Lossy::new(rtx());
    lossy.push();
    lossy.run(5, |_, _| false);
    lossy.send_lossy(2_000, 0.1);
    assert_eq!(lossy.received(), (0..2_001).collect::<Vec<_>>());
    let (a, b) = lossy.stats();
    assert!(b.recovered > 150 && a.retransmitted >= b.recovered, "{a:?} {b:?}");
    assert_eq!((b.given_up, a.unavailable, a.over_budget, a.not_sealed), (0, 0, 0, 0));
    assert_eq!(a.asked, a.retransmitted + a.too_soon);
    // What is sent again is counted on the wire like anything else.
    let (rtcp, datagrams) = (lossy.pair.a.stats().rtcp_sent, lossy.pair.a.datagrams());
    assert_eq!(datagrams.sent, lossy.sent.len() as u64 + rtcp);
    // None has been sent twice on the track's own SSRC.
    let of_track = |datagram: &&Vec<u8>| datagram[8..12] == TRACK.0.to_be_bytes();
    assert_eq!(lossy.sent.iter().filter(of_track).count(), 2_001);
    let sending = lossy.pair.a.sender_stats(TRACK).unwrap();
    assert_eq!((sending.packets, sending.resent_packets), (2_001, a.retransmitted));
    // What was sent again is received, and yet reported as lost.
    let receiving = lossy.pair.b.receiver_stats(TRACK).unwrap();
    assert_eq!((receiving.packets, receiving.recovered), (2_001, receiving.lost as u64));
    assert!(receiving.nacks > 100 && sending.nacks > 80 && sending.nacks <= receiving.nacks);
}

#[test]
fn what_is_sent_again_is_no_unknown_track() {
    let mut lossy = Lossy::new(rtx());
    // As many tracks that nobody has described as there may be, and more.
    let mut others = Vec::new();
    for n in 0..40 {
        let (sender, packets) = ring(4);
        sender.push(outgoing(0)).unwrap();
        lossy.pair.a.add_sender(lossy.pair.now, sender_config(Ssrc(0x9000 + n), packets, true));
        others.push(sender);
    }
    lossy.push();
    lossy.run(50, |_, _| false);
    assert!(lossy.pair.b.stats().receive_drops.too_many_ssrcs > 0);
    lossy.send_lossy(200, 0.1);
    assert_eq!(lossy.received(), (0..201).collect::<Vec<_>>());

    // Nor is it when its track is gone while it is under way.
    let mut lossy = Lossy::new(rtx());
    let is_rtx =
        |datagram: &[u8]| !is_rtcp(datagram) && datagram[8..12] == RTX_SSRC.0.to_be_bytes();
    for n in 0..30 {
        lossy.push();
        lossy.run(5, |at_b, datagram| at_b && n == 10 && !is_rtcp(datagram));
    }
    let under_way = |lossy: &Lossy| lossy.wire.iter().any(|(_, at_b, it)| *at_b && is_rtx(it));
    for _ in 0..500 {
        if under_way(&lossy) {
            break;
        }
        lossy.step(|_, _| false);
    }
    assert!(under_way(&lossy));
    lossy.pair.b.remove_receiver(TRACK);
    lossy.run(1_000, |_, _| false);
    while let Some(event) = lossy.pair.b.poll_event() {
        assert!(!matches!(event, RouteEvent::UnknownTrack(..)), "{event:?}");
    }
}

#[test]
fn without_a_stream_of_its_own_the_very_same_packets_are_sent_again() {
    let mut lossy = Lossy::new(None);
    lossy.push();
    lossy.run(5, |_, _| false);
    lossy.send_lossy(2_000, 0.1);
    assert_eq!(lossy.received(), (0..2_001).collect::<Vec<_>>());
    let (a, b) = lossy.stats();
    assert!(b.recovered > 150 && a.retransmitted >= b.recovered, "{a:?} {b:?}");
    assert_eq!((b.given_up, a.not_sealed), (0, 0));
    // An index of SRTP has one ciphertext, or both plaintexts are given away.
    let mut by_number = std::collections::BTreeMap::new();
    for datagram in &lossy.sent {
        assert_eq!(datagram[8..12], TRACK.0.to_be_bytes());
        let first = by_number.entry(datagram[2..4].to_vec()).or_insert(datagram);
        assert_eq!(*first, datagram);
    }
    assert_eq!(by_number.len(), 2_001);
    assert_eq!(lossy.sent.len() as u64, 2_001 + a.retransmitted);
}

#[test]
fn a_duplicate_goes_no_further_and_counts() {
    let mut lossy = Lossy::new(rtx());
    for _ in 0..3 {
        lossy.push();
        lossy.run(1, |_, _| false);
    }
    // The last but one overtakes the one before, late enough to have been asked for.
    lossy.push();
    lossy.step(|_, _| false);
    let (at, at_b, held) = lossy.wire.pop().unwrap();
    lossy.push();
    lossy.run(100, |_, _| false);
    lossy.wire.push((at, at_b, held));
    lossy.run(100, |_, _| false);
    assert_eq!(lossy.received(), (0..5).collect::<Vec<_>>());
    assert_eq!(lossy.pair.b.stats().receive_drops.duplicate, 1);
    assert_eq!(lossy.stats().1.recovered, 1);
}

#[test]
fn what_cannot_be_recovered_is_given_up_for_a_key_frame() {
    let mut lossy = Lossy::new(rtx());
    lossy.push();
    lossy.run(5, |_, _| false);
    lossy.push();
    lossy.run(1, |at_b, datagram| at_b && !is_rtcp(datagram));
    let start = lossy.pair.now;
    let mut asked_at = None;
    for _ in 0..300 {
        lossy.push();
        // What is sent again is lost, and nothing else.
        lossy.run(5, |_, datagram| datagram[8..12] == RTX_SSRC.0.to_be_bytes());
        if lossy.pair.b.stats().key_frames_requested > 0 {
            asked_at.get_or_insert(lossy.pair.now - start);
        }
    }
    lossy.run(50, |_, _| false);
    let (a, b) = lossy.stats();
    assert_eq!((b.given_up, b.recovered), (1, 0));
    assert!(asked_at > Some(Duration::from_millis(500)), "{asked_at:?}");
    assert!(asked_at < Some(Duration::from_millis(1_200)), "{asked_at:?}");
    assert!((5..=10).contains(&a.retransmitted), "{a:?}");
    let is_request = |event: &RouteEvent| *event == RouteEvent::KeyFrameRequested(ID, TRACK);
    assert_eq!(events(&mut lossy.pair.a).iter().filter(|event| is_request(event)).count(), 1);
    assert_eq!(lossy.received().len(), 301);
}

#[test]
fn a_storm_of_requests_is_bounded_by_what_is_sent() {
    let mut pair = Pair::new();
    let (sender, packets) = ring(64);
    pair.a.add_sender(pair.now, sender_config(TRACK, packets, true));
    pair.a.retransmit_sender(pair.now, RetransmitConfig { ssrc: TRACK, nack: true, rtx: None });
    let mut peer = SrtpSender::from_keys(&keys(false)).unwrap();
    let (mut media, mut again) = (0, 0);
    let mut newest = 0u16;
    for n in 0..1_000u64 {
        let payload = Bytes::from(vec![n as u8; 1_000]);
        sender.push(OutgoingPacket { payload, timestamp: n, marker: false }).unwrap();
        for datagram in transmits(&mut pair.a, pair.now).iter().filter(|it| !is_rtcp(it)) {
            media += datagram.len();
            newest = u16::from_be_bytes([datagram[2], datagram[3]]);
        }
        // All that was sent lately, and all that was not, is said to be lost, all the time.
        let mut nack = vec![0x81, 205, 0, 2, 0, 0, 0, 1];
        nack.extend(TRACK.0.to_be_bytes());
        for back in (0..2_000u16).step_by(17) {
            nack.extend(newest.wrapping_sub(back).to_be_bytes());
            nack.extend([0xff, 0xff]);
        }
        let words = (nack.len() / 4 - 1) as u16;
        nack[2..4].copy_from_slice(&words.to_be_bytes());
        let len = nack.len();
        nack.resize(len + peer.rtcp_overhead(), 0);
        let len = peer.protect_rtcp(&mut nack, len).unwrap();
        pair.a.handle_datagram(pair.now, &mut nack[..len]);
        for datagram in transmits(&mut pair.a, pair.now).iter().filter(|it| !is_rtcp(it)) {
            again += datagram.len();
        }
        pair.now += Duration::from_millis(2);
    }
    assert!(again <= media / 2 + 32 * 1_024, "{again} of {media}");
    assert!(again > media / 4, "{again} of {media}");
    let a = pair.a.stats().recovery;
    assert!(a.over_budget > 0 && a.too_soon > 0, "{a:?}");
    let refused = a.unavailable + a.too_soon + a.over_budget + a.not_sealed;
    assert_eq!(a.asked, a.retransmitted + refused);
}

#[test]
fn a_forged_request_changes_nothing() {
    let mut pair = Pair::new();
    let (sender, packets) = ring(64);
    pair.a.add_sender(pair.now, sender_config(TRACK, packets, true));
    pair.a.retransmit_sender(pair.now, RetransmitConfig { ssrc: TRACK, nack: true, rtx: None });
    sender.push(outgoing(0)).unwrap();
    let sent = transmits(&mut pair.a, pair.now);
    let before = *pair.a.stats();
    let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
    nack.extend(TRACK.0.to_be_bytes());
    nack.extend(&sent[0][2..4]);
    nack.extend([0; 2]);
    // Not sealed at all, sealed with other keys, and sealed and changed.
    let other = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &[9; 56], false).unwrap();
    let sealed = |keys: &SrtpKeys| {
        let mut peer = SrtpSender::from_keys(keys).unwrap();
        let mut sealed = nack.clone();
        sealed.resize(nack.len() + peer.rtcp_overhead(), 0);
        let len = peer.protect_rtcp(&mut sealed, nack.len()).unwrap();
        sealed.truncate(len);
        sealed
    };
    let mut changed = sealed(&keys(false));
    changed[12] ^= 1;
    for mut forged in [nack.clone(), sealed(&other), changed] {
        pair.a.handle_datagram(pair.now, &mut forged);
        assert!(transmits(&mut pair.a, pair.now).is_empty());
    }
    assert_eq!(pair.a.stats().recovery, before.recovery);
    assert_eq!(pair.a.sender_stats(TRACK).unwrap().nacks, 0);
    // The genuine one is heeded.
    pair.a.handle_datagram(pair.now, &mut sealed(&keys(false)));
    assert_eq!(transmits(&mut pair.a, pair.now), sent);
}

#[test]
fn a_key_frame_is_asked_of_the_application_once_however_it_is_asked_for() {
    let mut pair = Pair::new();
    let (sender, _receiver) = pair.track();
    let key_frames = KeyFrameFeedback::FullIntraRequest;
    let config = RecoverConfig { ssrc: TRACK, nack: false, key_frames, rtx: None };
    pair.b.recover_receiver(config);
    sender.push(outgoing(0)).unwrap();
    pair.drive();
    let asked = |pair: &mut Pair| {
        let is_request = |event: &RouteEvent| *event == RouteEvent::KeyFrameRequested(ID, TRACK);
        events(&mut pair.a).into_iter().filter(is_request).count()
    };
    pair.b.request_key_frame(pair.now, TRACK);
    let mut datagrams = transmits(&mut pair.b, pair.now);
    let [fir] = &mut datagrams[..] else { panic!() };
    pair.a.handle_datagram(pair.now, fir);
    assert_eq!(asked(&mut pair), 1);
    let stats = pair.a.sender_stats(TRACK).unwrap();
    assert_eq!((stats.full_intra_requests, stats.picture_losses), (1, 0));

    // A request with the same number, sealed anew, is the same one.
    let mut peer = SrtpReceiver::from_keys(&keys(true)).unwrap();
    pair.advance(Duration::from_secs(1));
    pair.b.request_key_frame(pair.now, TRACK);
    let mut fir = transmits(&mut pair.b, pair.now).pop().unwrap();
    pair.a.handle_datagram(pair.now, &mut fir.clone());
    assert_eq!(asked(&mut pair), 1);
    let len = peer.unprotect_rtcp(&mut fir).unwrap();
    pair.a.on_compound(pair.now + Duration::from_secs(2), &fir[..len]);
    assert_eq!(asked(&mut pair), 0);
    assert_eq!(pair.a.sender_stats(TRACK).unwrap().full_intra_requests, 3);
    assert_eq!(pair.b.stats().key_frames_requested, 2);
}

#[test]
fn what_is_sealed_again_is_what_was_sealed_or_nothing() {
    for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmSha1_80] {
        let material: Vec<u8> = (0..60).collect();
        let keys = SrtpKeys::from_exported(profile, &material, true).unwrap();
        let mut sender = SrtpSender::from_keys(&keys).unwrap();
        let header = [0x80, 96, 0, 7, 0, 0, 0, 1, 0, 0, 0, 9];
        let mut first = [0; 100];
        let len = sender.protect_rtp_from(&header, b"plaintext", &mut first).unwrap();
        let mark = SealMark::of(&first[..len]).unwrap();
        let mut again = |header: &[u8; 12], index, text: &[u8]| {
            let mut out = [0; 100];
            out[..12].copy_from_slice(header);
            let result = sender.protect_rtp_again((index, mark), 12, text, &mut out);
            (result, out)
        };
        assert_eq!(again(&header, 7, b"plaintext"), (Ok(len), first), "{profile:?}");
        for (text, marker) in [(&b"plaintexu"[..], 0), (b"plaintex", 0), (b"plaintext", 0x80)] {
            let mut header = header;
            header[1] |= marker;
            let (result, out) = again(&header, 7, text);
            assert_eq!(result, Err(SrtpError::NotIdentical), "{profile:?}");
            assert_eq!(out, [0; 100], "nothing of it is left");
        }
        assert!(again(&header, 8, b"plaintext").0.is_err());
        assert!(again(&header, 7 + 65_536, b"plaintext").0.is_err());
    }
}
