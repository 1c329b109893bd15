//! Random telephone keys, whole calls, over a network that loses one packet in five.

use std::cell::Cell;
use std::time::Duration;

use ortc_api::{
    PacketTap, PayloadType, RTCDTMFEvent, RTCDTMFEvents, RTCDTMFHandler, RTCTrack, ReceivedPacket,
    rtc_codec,
};
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::{Pair, Peer, each_seed, frame, handler_in, pass};

const SOON: Duration = Duration::from_secs(10);
const TONES: PayloadType = PayloadType(110);
const RED: PayloadType = PayloadType(63);
const KEYS: &[u8] = b"0123456789ABCD*#";

/// Keys of each program.
const LEN: usize = 20;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn handler_of(peer: &Peer) -> RTCDTMFHandler {
    let added = peer.seen.iter().find_map(handler_in);
    added.expect("the track was described with keys")
}

/// What a handler reports until three seconds are silent.
async fn heard(events: &mut RTCDTMFEvents) -> String {
    let mut heard = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(ms(3_000), events.recv()).await {
        let RTCDTMFEvent::Dtmf { tone } = event else { panic!("{event:?}") };
        heard.push_str(&tone);
    }
    heard
}

/// The events of which anything has arrived, in the order of their timestamps.
async fn arrived(tap: &mut PacketTap) -> String {
    let mut packets: Vec<ReceivedPacket> = Vec::new();
    while let Ok(Some(packet)) = tokio::time::timeout(ms(200), tap.recv()).await {
        packets.push(packet);
    }
    assert_eq!(tap.dropped(), 0);
    let Some(first) = packets.first().map(|packet| packet.timestamp) else {
        return String::new();
    };
    let mut events: Vec<(i32, u8)> = Vec::new();
    for packet in &packets {
        let at = packet.timestamp.wrapping_sub(first) as i32;
        if packet.payload_type == TONES {
            events.push((at, packet.payload[0]));
        }
        if packet.payload_type == RED {
            let blocks = ortc_dtmf::decode_redundant(&packet.payload).unwrap();
            let block = |it: &ortc_dtmf::RedundantBlock<'_>| {
                (at - i32::from(it.timestamp_offset), it.payload[0])
            };
            events.extend(blocks.iter().map(block));
        }
    }
    events.sort_unstable();
    events.dedup();
    let digit = |(_, event): &(i32, u8)| ortc_dtmf::Digit::from_event(*event).unwrap().to_char();
    events.iter().map(digit).collect()
}

/// Has the keys of a track repeated.
fn repeat_keys(track: &RTCTrack) {
    let mut codecs = track.codecs();
    let dtmf = rtc_codec("dtmf").unwrap();
    let red = dtmf.repeated(RED.0, 2);
    codecs.extend([dtmf, red]);
    track.set_codecs(codecs).unwrap();
}

#[test]
fn at_a_loss_of_one_in_five_a_key_is_one_key_if_anything_of_it_arrives() {
    let (pressed, lost) = (Cell::new(0), Cell::new(0));
    each_seed("keys", 50, |seed| {
        let counts = sim::run(100 + seed, move |net| async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pair = Pair::new(&net);
            let (_stream, frames) = pair.alice.send_audio();
            let (_other, others) = pair.bob.send_audio();
            let mut senders = Vec::new();
            for peer in [&pair.alice, &pair.bob] {
                if random.bool() {
                    repeat_keys(&peer.conn.tracks(None)[0]);
                }
                senders.push(peer.conn.add_dtmf_handler(None).unwrap());
            }
            pair.describe();
            pair.connect_within(SOON).await;
            let peers = [&pair.bob, &pair.alice];
            let mut events = peers.map(|peer| handler_of(peer).events());
            let tracks = peers.map(|peer| peer.conn.receiving_streams()[0].tracks()[0].clone());
            let mut taps = tracks.map(|track| track.tap(4_096).unwrap());
            pass(ms(20)).await;

            net.link(LinkConfig { loss: 0.2, duplicate: 0.05, ..LinkConfig::default() });
            let programs = [0, 1].map(|_| -> String {
                (0..LEN).map(|_| char::from(*random.choice(KEYS).unwrap())).collect()
            });
            for (sender, program) in senders.iter().zip(&programs) {
                // A tone has seven packets and more.
                let (duration, gap) = (ms(random.u64(70..300)), ms(random.u64(50..150)));
                sender.insert_dtmf(program, Some(duration), Some(gap)).unwrap();
            }
            // As long as the longest program takes.
            for n in 0..500 {
                frames.send(frame(n)).unwrap();
                others.send(frame(n)).unwrap();
                pass(ms(20)).await;
            }
            let mut arrivals = 0;
            for ((events, tap), program) in events.iter_mut().zip(&mut taps).zip(&programs) {
                let (heard, arrived) = (heard(events).await, arrived(tap).await);
                assert_eq!(heard, arrived, "of {program}");
                let mut rest = program.chars();
                let is_part = arrived.chars().all(|key| rest.any(|other| other == key));
                assert!(is_part, "{arrived} is no part of {program}");
                arrivals += arrived.len();
            }
            arrivals
        });
        pressed.set(pressed.get() + 2 * LEN);
        lost.set(lost.get() + 2 * LEN - counts);
    });
    let (pressed, lost) = (pressed.get(), lost.get());
    eprintln!("{pressed} keys were pressed, and of {lost} nothing has arrived");
    assert!(
        lost * 1_000 <= pressed,
        "one in a hundred thousand is likely, not {lost} of {pressed}"
    );
}
