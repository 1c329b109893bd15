//! Keys that are repeated in the packets of those that follow (RFC 2198).

use std::time::Duration;

use ortc_api::{PayloadType, RTCCodec, RTCDTMFHandler, RTCTrackDescription, rtc_codec};
use ortc_dtmf::decode_redundant;
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::{Pair, frame, handler_in, keys, pass};

const SOON: Duration = Duration::from_secs(10);
const OPUS: u8 = 111;
const TONES: u8 = 110;
const RED: u8 = 121;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A connected pair of which alice sends keys, with `red` for them or without; and what bob hears.
async fn with_keys(net: &sim::Network, red: bool) -> (Pair, RTCDTMFHandler, RTCDTMFHandler) {
    let mut pair = Pair::new(net);
    let (_stream, frames) = pair.alice.send_audio();
    if red {
        let track = pair.alice.conn.tracks(None).remove(0);
        let dtmf = rtc_codec("dtmf").unwrap();
        let codecs = [track.codecs(), vec![dtmf.clone(), dtmf.repeated(RED, 2)]].concat();
        track.set_codecs(codecs).unwrap();
    }
    let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
    pair.describe();
    pair.connect_within(SOON).await;
    frames.send(frame(0)).unwrap();
    let added = pair.bob.seen.iter().find_map(handler_in);
    (pair, sender, added.unwrap())
}

#[test]
fn keys_that_are_repeated_arrive_though_all_of_a_tone_is_lost() {
    for (red, expected) in [(true, "123"), (false, "13")] {
        sim::run(81, move |net| async move {
            let (_pair, sender, receiver) = with_keys(&net, red).await;
            sender.insert_dtmf("123", Some(ms(70)), Some(ms(50))).unwrap();
            // From the gap before the second to that after it, the ends of the first aside.
            pass(ms(117)).await;
            net.link(LinkConfig::lossy(1.0));
            pass(ms(120)).await;
            net.link(LinkConfig::default());
            assert_eq!(keys(&receiver).await, expected);
        });
    }
}

#[test]
fn packets_are_of_red_and_hold_what_the_description_says() {
    sim::run(82, |net| async move {
        let (pair, sender, receiver) = with_keys(&net, true).await;
        let described = pair.alice.conn.tracks(None)[0].description();
        let json = serde_json::to_value(&described).unwrap();
        assert_eq!(
            json["codecs"][2],
            serde_json::json!({
                "payload-id": RED, "name": "red", "kind": "audio",
                "params": [{"name": "payloadTypes", "value": "110/110/110"}],
            })
        );
        let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let mut tap = track.tap(256).unwrap();
        pass(ms(20)).await;
        sender.insert_dtmf("12", Some(ms(70)), Some(ms(50))).unwrap();
        assert_eq!(keys(&receiver).await, "12");
        let mut held: Vec<Vec<(u8, u16)>> = Vec::new();
        while let Ok(Some(packet)) = tokio::time::timeout(ms(100), tap.recv()).await {
            if packet.payload_type == PayloadType(OPUS) {
                continue;
            }
            assert_eq!(packet.payload_type, PayloadType(RED));
            let blocks = decode_redundant(&packet.payload).unwrap();
            assert!(blocks.iter().all(|block| block.payload_type == TONES));
            held.push(blocks.iter().map(|it| (it.payload[0], it.timestamp_offset)).collect());
        }
        held.dedup();
        // 70 and 50 ms at 48 kHz.
        let expected: Vec<Vec<(u8, u16)>> = vec![vec![(1, 0)], vec![(1, 5_760), (2, 0)]];
        assert_eq!(held, expected);
    });
}

#[test]
fn without_a_list_red_is_received_and_not_sent() {
    sim::run(83, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, _frames) = pair.alice.send_audio();
        let track = pair.alice.conn.tracks(None).remove(0);
        let red = RTCCodec { payload_id: RED, ..rtc_codec("red").unwrap() };
        let codecs = [track.codecs(), vec![rtc_codec("dtmf").unwrap(), red]].concat();
        track.set_codecs(codecs.clone()).unwrap();
        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let received = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let mut tap = received.tap(256).unwrap();
        pass(ms(20)).await;
        sender.insert_dtmf("5", None, None).unwrap();
        let packet = tokio::time::timeout(SOON, tap.recv()).await.unwrap().unwrap();
        assert_eq!(packet.payload_type, PayloadType(TONES));

        let mut described: RTCTrackDescription = track.description();
        described.codecs[2].params = codecs[1].repeated(RED, 1).params;
        described.codecs[2].params[0].value = Some("110/opus".into());
        assert!(pair.bob.conn.receive_track(&described).is_err(), "no list of payload types");
    });
}
