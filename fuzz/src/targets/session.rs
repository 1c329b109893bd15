//! The media of a connection whose peer has the keys and does what it likes with them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_io::ring::{RingReceiver, RingSender, ring};
use ortc_io::{ConnectionId, SrtpKeys, SrtpProfile};
use ortc_rtp::{
    KeyFrameFeedback, OutgoingPacket, PayloadType, ReceivedPacket, ReceiverConfig, RecoverConfig,
    RetransmitConfig, RtcpView, RtpSession, RtpView, RtxStream, SenderConfig, SrtpReceiver,
    SrtpSender, Ssrc, is_rtcp,
};

use crate::Dice;

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// What the session sends, and what it is sent: sound, pictures, and what is sent again of them.
const SENT: [u32; 2] = [1, 2];
const RECEIVED: [u32; 2] = [11, 12];
const RTX: u32 = 13;

struct World {
    now: Instant,
    session: RtpSession,
    rings: Vec<RingSender<OutgoingPacket>>,
    frames: Vec<RingReceiver<ReceivedPacket>>,
    peer: (SrtpSender, SrtpReceiver),
}

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let material: Vec<u8> = (0..56).collect();
    let keys = |is_client| {
        SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client)
            .expect("it is long enough")
    };
    let (ours, theirs) = (keys(true), keys(false));
    let now = Instant::now();
    let mut world = World {
        now,
        session: RtpSession::new(CONNECTION, 1, now),
        rings: Vec::new(),
        frames: Vec::new(),
        peer: (
            SrtpSender::from_keys(&theirs).expect("good keys"),
            SrtpReceiver::from_keys(&theirs).expect("good keys"),
        ),
    };
    world.describe();
    world.session.set_keys(now, &ours).expect("good keys");
    for _ in 0..200 {
        if dice.is_over() {
            break;
        }
        world.operate(&mut dice);
        world.drain();
    }
    world.session.close(world.now);
    world.drain();
    assert!(world.session.is_closed());
}

impl World {
    fn describe(&mut self) {
        let rtx = |ssrc| RtxStream {
            ssrc: Ssrc(ssrc),
            payload_types: vec![(PayloadType(96), PayloadType(97))],
        };
        for (n, ssrc) in SENT.map(Ssrc).into_iter().enumerate() {
            let (ring, packets) = ring(64);
            self.rings.push(ring);
            let config = SenderConfig {
                ssrc,
                payload_type: PayloadType(96),
                clock_rate: 90_000,
                cname: "fuzz".into(),
                packets,
                enabled: true,
            };
            self.session.add_sender(self.now, config);
            let rtx = (n == 1).then(|| rtx(3));
            self.session.retransmit_sender(self.now, RetransmitConfig { ssrc, nack: true, rtx });
            self.session.number_sent(ssrc, Some(5));
        }
        for (n, ssrc) in RECEIVED.map(Ssrc).into_iter().enumerate() {
            let (packets, frames) = ring(64);
            self.frames.push(frames);
            let payload_types = vec![(PayloadType(96), 90_000), (PayloadType(111), 48_000)];
            self.session.add_receiver(self.now, ReceiverConfig { ssrc, payload_types, packets });
            let (key_frames, rtx) = match n {
                0 => (KeyFrameFeedback::None, None),
                _ => (KeyFrameFeedback::PictureLoss, Some(rtx(RTX))),
            };
            let recover = RecoverConfig { ssrc, nack: true, key_frames, rtx };
            self.session.recover_receiver(recover);
            self.session.acknowledge_numbers(ssrc, Some(5));
        }
    }

    fn operate(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() & 0x0f {
            0..=5 => self.rtp(dice),
            6..=8 => self.rtcp(dice),
            9 => {
                // Nobody has sealed it.
                let mut bytes = dice.bytes().to_vec();
                self.session.handle_datagram(self.now, &mut bytes);
            }
            10..=11 => {
                let (n, payload) =
                    (usize::from(dice.byte() & 1), Bytes::copy_from_slice(dice.bytes()));
                let timestamp = u64::from(dice.short());
                let packet = OutgoingPacket { payload, timestamp, marker: n == 1 };
                // Full, or gone.
                let _ = self.rings[n].push(packet);
            }
            12 => self.session.remove_receiver(Ssrc(RECEIVED[usize::from(dice.byte() & 1)])),
            13 => self.session.request_key_frame(self.now, Ssrc(RECEIVED[1])),
            _ => self.advance(Duration::from_millis(u64::from(dice.short()) / 16)),
        }
    }

    /// An authentic packet: numbers, extensions and payload are the input's.
    fn rtp(&mut self, dice: &mut Dice<'_>) {
        let how = dice.byte();
        let ssrc = match how & 7 {
            0..=2 => RECEIVED[0],
            3..=4 => RECEIVED[1],
            5 => RTX,
            6 => u32::from(dice.byte()),
            _ => dice.long(),
        };
        let payload_type = [96, 97, 111, dice.byte() & 0x7f][usize::from(how >> 3 & 3)];
        let extension = if how & 0x20 != 0 { dice.bytes() } else { &[] };
        let mut packet = vec![0x80, payload_type | how & 0x80];
        packet.extend(u16::from(dice.byte()).to_be_bytes());
        packet.extend((u32::from(dice.byte()) * 960).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        if !extension.is_empty() {
            packet[0] |= 0x10;
            let profile: u16 = if how & 0x40 == 0 { 0xbede } else { 0x1000 };
            packet.extend(profile.to_be_bytes());
            let padded = extension.len().next_multiple_of(4);
            packet.extend(((padded / 4) as u16).to_be_bytes());
            packet.extend(extension);
            packet.resize(packet.len() + padded - extension.len(), 0);
        }
        packet.extend(dice.bytes());
        let len = packet.len();
        packet.resize(len + self.peer.0.overhead(), 0);
        if let Ok(len) = self.peer.0.protect_rtp(&mut packet, len) {
            packet.truncate(len);
            self.session.handle_rtp(self.now, &mut packet);
        }
    }

    /// An authentic compound of which everything is the input's but the version.
    fn rtcp(&mut self, dice: &mut Dice<'_>) {
        let mut packet = vec![0x80 | dice.byte() & 0x1f, 192 + (dice.byte() & 0x1f)];
        let body = dice.bytes();
        // The sender, which SRTCP wants as well.
        let body = if body.len() < 4 { &[0, 0, 0, 11] } else { body };
        let words = body.len() / 4;
        packet.extend((words as u16).to_be_bytes());
        packet.extend(&body[..words * 4]);
        let len = packet.len();
        packet.resize(len + self.peer.0.rtcp_overhead(), 0);
        if let Ok(len) = self.peer.0.protect_rtcp(&mut packet, len) {
            packet.truncate(len);
            self.session.handle_rtcp(self.now, &mut packet);
        }
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some((at, _)) = self.session.poll_timeout().filter(|(at, _)| *at <= until) {
            steps += 1;
            assert!(steps < 20_000, "it never rests");
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    /// Takes out what there is; what is sent is what a peer with the keys can open.
    fn drain(&mut self) {
        let mut sent = 0;
        let mut out = [0; 2_048];
        while let Some(room) = self.session.next_transmit(self.now) {
            assert!(room <= out.len(), "{room} bytes are no datagram");
            sent += 1;
            assert!(sent < 5_000, "it never ends");
            let Some(len) = self.session.write_transmit(self.now, &mut out) else { continue };
            assert!(len <= room, "it takes more room than it has asked for");
            let packet = &mut out[..len];
            if is_rtcp(packet) {
                let len = self.peer.1.unprotect_rtcp(packet).expect("it is authentic");
                assert!(RtcpView::new(&packet[..len]).all(|part| part.is_ok()), "{packet:?}");
            } else {
                let opened = self.peer.1.unprotect_rtp(packet).expect("it is authentic, and new");
                assert!(RtpView::parse(&packet[..opened.len]).is_ok());
            }
        }
        let mut events = 0;
        while self.session.poll_event().is_some() {
            events += 1;
            assert!(events < 1_000, "it never ends");
        }
        for frames in &mut self.frames {
            while let ortc_io::ring::Popped::Item(_) = frames.pop() {}
        }
    }
}
