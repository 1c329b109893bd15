//! Telephone keys, from one application to another.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ortc_api::{
    AddDtmfError, AddStreamError, DTMFMediaStreamTrack, DTMFTone, DTMFTrackEvent, InsertDtmfError,
    MediaFormat, MediaStream, MediaStreamTrack, PayloadType, PlayError, RTCDTMFEvent,
    RTCDTMFHandler, RTCTrackFilter, ReceivedPacket, SendsOnly, ToneError, TrackKind,
};
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::{Pair, Peer, frame, handler_in, keys, next_handler, pass, signalled};

const SOON: Duration = Duration::from_secs(10);
const ALL: &str = "0123456789ABCD*#";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn every_key_is_reported_once_and_in_order_in_both_directions() {
    sim::run(1, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, _frames) = pair.alice.send_audio();
        let (_other, _others) = pair.bob.send_audio();
        let senders = [&pair.alice, &pair.bob].map(|it| it.conn.add_dtmf_handler(None).unwrap());
        pair.describe();
        pair.connect_within(SOON).await;
        for (sender, peer) in senders.iter().zip([&mut pair.bob, &mut pair.alice]) {
            let receiver = match peer.seen.iter().find_map(handler_in) {
                Some(receiver) => receiver,
                None => next_handler(peer).await,
            };
            sender.insert_dtmf(ALL, None, None).unwrap();
            assert_eq!(keys(&receiver).await, ALL);
        }
    });
}

#[test]
fn keys_that_were_pressed_before_the_connection_wait_for_it() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, _frames) = pair.alice.send_audio();
        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        pair.describe();
        let receiver = next_handler(&mut pair.bob).await;
        sender.insert_dtmf("12,3", None, None).unwrap();
        pass(SOON).await;
        assert_eq!(sender.tone_buffer(), "12,3");
        pair.connect_within(SOON).await;
        assert_eq!(keys(&receiver).await, "123");
        assert_eq!(sender.tone_buffer(), "");
    });
}

/// A sound and what listens to it, packet by packet.
struct Line {
    pair: Pair,
    sender: RTCDTMFHandler,
    tap: ortc_api::PacketTap,
    frames: ortc_api::FrameSender,
    heard: ortc_api::FrameReceiver,
}

impl Line {
    async fn new(net: &sim::Network) -> Self {
        let mut pair = Pair::new(net);
        let (_, frames) = pair.alice.send_audio();
        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        pair.describe();
        pair.connect_within(SOON).await;
        let track = pair.bob.conn.receiving_streams()[0].tracks()[0].clone();
        let (tap, heard) = (track.tap(4_096).unwrap(), track.take_frames().unwrap());
        pass(ms(20)).await;
        Self { pair, sender, tap, frames, heard }
    }

    /// Sends 20 ms of sound after another, and what `meanwhile` does before the `n`th.
    async fn speak(&mut self, count: u64, mut meanwhile: impl FnMut(u64, &RTCDTMFHandler)) {
        for n in 0..count {
            meanwhile(n, &self.sender);
            self.frames.send(frame(n)).unwrap();
            pass(ms(20)).await;
        }
    }

    async fn packets(&mut self) -> Vec<ReceivedPacket> {
        let mut packets = Vec::new();
        while let Ok(Some(packet)) = tokio::time::timeout(ms(200), self.tap.recv()).await {
            packets.push(packet);
        }
        packets
    }
}

const TONES: PayloadType = PayloadType(110);

/// Duration and end bit of a report.
fn report(packet: &ReceivedPacket) -> (u16, bool) {
    (u16::from_be_bytes([packet.payload[2], packet.payload[3]]), packet.payload[1] & 0x80 != 0)
}

#[test]
fn a_tone_takes_the_place_of_the_audio_and_is_timed_to_the_millisecond() {
    sim::run(3, |net| async move {
        let mut line = Line::new(&net).await;
        let mut asked: Option<Instant> = None;
        line.speak(100, |n, sender| {
            if n == 20 {
                asked = Some(ortc_io::now());
                sender.insert_dtmf("7", Some(ms(500)), None).unwrap();
            }
        })
        .await;
        let packets = line.packets().await;
        let sequence: Vec<_> = packets.iter().map(|packet| packet.sequence).collect();
        let gapless: Vec<_> = (sequence[0]..).take(sequence.len()).collect();
        assert_eq!(sequence, gapless, "one numbering");
        let (tones, audio): (Vec<_>, Vec<_>) =
            packets.iter().partition(|packet| packet.payload_type == TONES);

        // What is left of the audio has the timestamps that it would have had.
        let first = audio[0].timestamp;
        let positions: Vec<_> =
            audio.iter().map(|packet| packet.timestamp.wrapping_sub(first) / 960).collect();
        let expected: Vec<_> = (0..20).chain(45..100).collect();
        assert_eq!(positions, expected, "500 ms are 25 frames");
        for (packet, n) in audio.iter().zip(expected) {
            assert_eq!(packet.payload, frame(n.into()).data);
        }

        let begin = tones[0].timestamp;
        assert!(tones.iter().all(|packet| packet.timestamp == begin), "one timestamp");
        let marked: Vec<_> = tones.iter().map(|packet| packet.marker).collect();
        assert_eq!((marked[0], marked[1..].contains(&true)), (true, false));
        // The 20th frame goes out right after: within a millisecond of it, in 48 kHz.
        let off = begin.wrapping_sub(first.wrapping_add(20 * 960)) as i32;
        assert!(off.abs() <= 48, "begins {off} units from when it was asked for");
        let delay = LinkConfig::default().delay;
        let late = tones[0].received_at - asked.unwrap() - delay;
        assert!(late <= ms(1), "begins {late:?} late");
        let ends: Vec<_> = tones.iter().filter(|packet| report(packet).1).collect();
        assert_eq!(ends.len(), 3);
        assert_eq!(report(ends[0]).0, 24_000);
        let length = ends[0].received_at - tones[0].received_at;
        assert!(length.abs_diff(ms(500)) <= ms(1), "lasts {length:?}");

        // The reader of the audio has never seen a tone.
        drop(line.frames);
        line.pair.alice.conn.close();
        let mut read = 0;
        while let Ok(Some(frame)) = tokio::time::timeout(ms(500), line.heard.recv()).await {
            assert_eq!((frame.payload_id, frame.data.len()), (111, 9));
            read += 1;
        }
        assert_eq!((read, line.heard.packet_counts().lost), (75, 0), "no number is missing");
    });
}

#[test]
fn an_event_longer_than_its_field_goes_on_in_segments_and_is_one_key() {
    sim::run(4, |net| async move {
        let mut line = Line::new(&net).await;
        let receiver = line.pair.bob.seen.iter().find_map(handler_in).unwrap();
        line.sender.insert_dtmf("5", Some(ms(6_000)), None).unwrap();
        line.speak(320, |_, _| {}).await;
        assert_eq!(keys(&receiver).await, "5");
        let packets = line.packets().await;
        let mut begins: Vec<_> =
            packets.iter().filter(|it| it.payload_type == TONES).map(|it| it.timestamp).collect();
        begins.dedup();
        let from: Vec<_> = begins.iter().map(|at| at.wrapping_sub(begins[0])).collect();
        assert_eq!(from, [0, 65_535, 131_070, 196_605, 262_140]);
    });
}

#[test]
fn a_handler_is_added_to_the_track_that_its_container_says() {
    sim::run(5, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let conn = &peer.conn;
        assert_eq!(conn.add_dtmf_handler(None), Err(AddDtmfError::NoAudioTrack));

        let (video, _frames) = MediaStreamTrack::local(MediaFormat::Vp8);
        let pictures = MediaStream::new();
        let video = pictures.add_track(&video);
        conn.add_stream(&pictures, true).unwrap();
        assert_eq!(conn.add_dtmf_handler(None), Err(AddDtmfError::NoAudioTrack));
        let none = conn.add_dtmf_handler(Some((&pictures).into()));
        assert_eq!(none, Err(AddDtmfError::NoAudioTrack));
        let none = conn.add_dtmf_handler(Some((&video).into()));
        assert_eq!(none, Err(AddDtmfError::NoAudioTrack));

        let (stream, _frames) = peer.send_audio();
        let (other, _more) = peer.send_audio();
        let tracks = [&stream, &other].map(|stream| stream.tracks().remove(0));
        let handler = conn.add_dtmf_handler(None).unwrap();
        assert_eq!(handler.label(), tracks[0].id(), "the first that is sent");
        assert_eq!(conn.add_dtmf_handler(None).as_ref(), Ok(&handler), "the same again");
        assert_eq!(conn.add_dtmf_handler(Some((&stream).into())).as_ref(), Ok(&handler));
        let second = conn.add_dtmf_handler(Some((&tracks[1]).into())).unwrap();
        assert_eq!(second.label(), tracks[1].id());
        assert_ne!(second.id(), handler.id());
        for track in &tracks {
            let codecs = conn.track(track).unwrap().description().codecs;
            let names: Vec<_> = codecs.iter().map(|codec| codec.name.as_str()).collect();
            assert_eq!((names, codecs[1].clock_rate), (vec!["opus", "dtmf"], None));
        }

        let (unsent, _frames) = MediaStreamTrack::local(MediaFormat::Alaw);
        let none = conn.add_dtmf_handler(Some((&unsent).into()));
        assert_eq!(none, Err(AddDtmfError::NotSent));
        conn.track(&tracks[0]).unwrap().remove().unwrap();
        assert_eq!(handler.insert_dtmf("1", None, None), Err(ToneError::Closed));
        let next = conn.add_dtmf_handler(None).unwrap();
        assert_eq!(next, second, "the other track is the first now");
    });
}

#[test]
fn what_draft_b_does_not_allow_is_an_error_that_says_so() {
    sim::run(6, |net| async move {
        let line = Line::new(&net).await;
        let sender = line.sender.clone();
        let receiver = line.pair.bob.seen.iter().find_map(handler_in).unwrap();
        let insert = |duration, gap| sender.insert_dtmf("1", Some(ms(duration)), Some(ms(gap)));
        for (result, error) in [
            (insert(69, 50), InsertDtmfError::DurationTooShort(ms(69))),
            (insert(6_001, 50), InsertDtmfError::DurationTooLong(ms(6_001))),
            (insert(70, 49), InsertDtmfError::GapTooShort(ms(49))),
        ] {
            assert_eq!(result, Err(ToneError::Insert(error)));
        }
        assert_eq!((sender.duration(), sender.inter_tone_gap()), (ms(100), ms(50)));

        sender.insert_dtmf("12x,3", Some(ms(70)), Some(ms(60))).unwrap();
        assert_eq!(sender.tone_buffer(), "12,3");
        assert_eq!((sender.duration(), sender.inter_tone_gap()), (ms(70), ms(60)));
        pass(ms(20)).await;
        assert_eq!((sender.sounding(), sender.tone_buffer()), (Some('1'), "2,3".into()));
        sender.insert_dtmf("", None, None).unwrap();
        assert_eq!(sender.tone_buffer(), "");
        assert_eq!(keys(&receiver).await, "1", "what sounds goes on, what waits is cancelled");

        assert_eq!(receiver.insert_dtmf("1", None, None), Err(ToneError::ReceivesOnly));
        assert_eq!(receiver.tone_buffer(), "");
        let handler = |_: &RTCDTMFHandler, _: String| {};
        assert_eq!(sender.on_dtmf(Some(handler)), Err(SendsOnly));
        assert_eq!(receiver.on_dtmf(Some(handler)), Ok(()));

        line.pair.alice.conn.close();
        line.pair.alice.conn.closed().await;
        assert_eq!(sender.insert_dtmf("1", None, None), Err(ToneError::Closed));
        let mut events = receiver.events();
        line.pair.bob.conn.close();
        assert_eq!(tokio::time::timeout(SOON, events.recv()).await, Ok(None));
    });
}

#[test]
fn handlers_and_listeners_hear_the_keys() {
    sim::run(7, |net| async move {
        let mut line = Line::new(&net).await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (by_handler, by_listener) = (Arc::clone(&heard), Arc::clone(&heard));
        line.pair.bob.conn.on_add_dtmf_handler(Some(move |_: &_, handler: RTCDTMFHandler| {
            let log = Arc::clone(&by_handler);
            let on_dtmf = move |_: &RTCDTMFHandler, tone| log.lock().unwrap().push(("on", tone));
            handler.on_dtmf(Some(on_dtmf)).unwrap();
        }));
        let receiver = line.pair.bob.seen.iter().find_map(handler_in).unwrap();
        let kind = ortc_api::RTCDTMFEventKind::Dtmf;
        let listener = receiver.add_event_listener(kind, move |_, event| {
            let RTCDTMFEvent::Dtmf { tone } = event else { return };
            by_listener.lock().unwrap().push(("listener", tone));
        });
        line.sender.insert_dtmf("4", None, None).unwrap();
        line.speak(20, |_, _| {}).await;
        receiver.remove_event_listener(listener);
        line.sender.insert_dtmf("2", None, None).unwrap();
        line.speak(20, |_, _| {}).await;
        let heard = heard.lock().unwrap().clone();
        let told = |who, tone: &str| (who, tone.to_owned());
        assert_eq!(heard, [told("on", "4"), told("listener", "4"), told("on", "2")]);
    });
}

/// A stream of sound and keys that alice sends, as draft A has it; and bob's side of it.
async fn with_keys(net: &sim::Network) -> (Pair, DTMFMediaStreamTrack, MediaStream) {
    let mut pair = Pair::new(net);
    let (audio, _frames) = MediaStreamTrack::local(MediaFormat::Opus);
    let keys = DTMFMediaStreamTrack::new();
    let stream = MediaStream::new();
    stream.add_track(&audio);
    stream.add_track(&keys);
    pair.alice.conn.add_stream(&stream, true).unwrap();
    pair.describe();
    pair.connect_within(SOON).await;
    (pair, keys, stream)
}

/// What a track tells, without its times.
fn plain(event: DTMFTrackEvent) -> String {
    match event {
        DTMFTrackEvent::ToneStart { digit, .. } => format!("+{digit}"),
        DTMFTrackEvent::ToneStop { digit, duration, .. } => {
            format!("-{digit} {}", duration.as_millis())
        }
        DTMFTrackEvent::Tone(tone) => format!("{} {}", tone.digits, tone.duration.as_millis()),
        other => panic!("{other:?}"),
    }
}

async fn told(events: &mut ortc_api::DTMFTrackEvents) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(ms(1_000), events.recv()).await {
        told.push(plain(event));
    }
    told
}

#[test]
fn a_track_of_keys_goes_out_with_its_audio_and_arrives_as_a_track_of_its_own() {
    sim::run(8, |net| async move {
        let (pair, keys, stream) = with_keys(&net).await;
        let conn = &pair.alice.conn;
        // One RTCTrack for both, which the filter finds by either kind.
        let of_kind =
            |kind| conn.tracks(Some(&RTCTrackFilter { kind: Some(kind), media_stream: None }));
        let tracks = conn.tracks(None);
        assert_eq!((tracks.len(), of_kind(TrackKind::Dtmf)), (1, tracks.clone()));
        assert_eq!((of_kind(TrackKind::Audio).len(), of_kind(TrackKind::Video).len()), (1, 0));
        let members = stream.tracks();
        assert_eq!(members[1].kind(), TrackKind::Dtmf);
        assert_eq!(conn.track(&members[1]), conn.track(&members[0]));
        assert_eq!(tracks[0].codecs().len(), 2);

        let received = pair.bob.conn.receiving_streams()[0].tracks();
        let kinds: Vec<_> = received.iter().map(MediaStreamTrack::kind).collect();
        assert_eq!(kinds, [TrackKind::Audio, TrackKind::Dtmf]);
        let theirs = DTMFMediaStreamTrack::of_track(&received[1]).unwrap();
        assert_eq!(DTMFMediaStreamTrack::of_track(&received[0]), None);
        assert_eq!((keys.is_sending(), theirs.is_sending()), (true, false));

        let (mut here, mut there) = (keys.tone_events(), theirs.tone_events());
        keys.play("1").unwrap();
        let tone =
            |digits: &str, duration| DTMFTone { duration: ms(duration), ..DTMFTone::new(digits) };
        keys.play(tone("2", 40)).unwrap();
        keys.play([tone("3", 60), tone("4", 200)]).unwrap();
        keys.play(None::<&str>).unwrap();
        let expected = [
            "+1", "-1 100", "1 100", "+2", "-2 40", "2 40", "+3", "-3 60", "3 60", "+4", "-4 200",
            "4 200",
        ];
        assert_eq!(told(&mut here).await, expected);
        assert_eq!(told(&mut there).await, expected);

        // A key that is held comes after what is played, and lasts as long as it is held.
        keys.play("5").unwrap();
        keys.tonestart('#').unwrap();
        pass(ms(1_000)).await;
        assert_eq!(keys.sounding(), Some('#'));
        keys.tonestop().unwrap();
        let expected = ["+5", "-5 100", "5 100", "+#", "-# 850", "# 850"];
        assert_eq!(told(&mut here).await, expected);
        assert_eq!(told(&mut there).await, expected);

        keys.play("6789").unwrap();
        pass(ms(50)).await;
        keys.flush().unwrap();
        assert_eq!(told(&mut here).await, ["+6", "-6 50"], "cut, and nothing after it");
        assert_eq!(told(&mut there).await, ["+6", "-6 50", "6 50"]);

        for error in [theirs.play("1"), theirs.flush(), theirs.tonestart('1'), theirs.tonestop()] {
            assert_eq!(error, Err(ToneError::ReceivesOnly));
        }
        assert_eq!(keys.tonestart('x'), Err(ToneError::Play(PlayError::NotADigit('x'))));
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        assert_eq!(keys.play("1"), Err(ToneError::Closed));
        assert_eq!(keys.flush(), Err(ToneError::Closed));
    });
}

#[test]
fn a_track_of_keys_tells_its_handlers() {
    sim::run(9, |net| async move {
        let (_pair, keys, _stream) = with_keys(&net).await;
        let log = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let log = Arc::clone(&log);
            move |_: &DTMFMediaStreamTrack, digit: char| {
                log.lock().unwrap().push(format!("{what} {digit}"));
            }
        };
        keys.on_tonestart(Some(note("start")));
        keys.on_tonestop(Some(note("stop")));
        let of_tones = Arc::clone(&log);
        keys.on_tone(Some(move |track: &DTMFMediaStreamTrack, tone: DTMFTone| {
            assert_eq!(track.kind(), TrackKind::Dtmf);
            of_tones.lock().unwrap().push(format!("tone {tone:?}"));
        }));
        keys.play("A").unwrap();
        pass(ms(500)).await;
        let tone = format!("tone {:?}", DTMFTone::new("A"));
        assert_eq!(*log.lock().unwrap(), ["start A", "stop A", &tone]);
    });
}

#[test]
fn keys_without_audio_or_beside_other_keys_cannot_be_sent() {
    sim::run(10, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let keys = DTMFMediaStreamTrack::new();
        let alone = MediaStream::new();
        alone.add_track(&keys);
        let refused = |error| Err(AddStreamError::Dtmf(error));
        assert_eq!(peer.conn.add_stream(&alone, true), refused(AddDtmfError::NoAudioTrack));
        assert_eq!(peer.conn.tracks(None), []);

        let (stream, _frames) = peer.send_audio();
        let handler = peer.conn.add_dtmf_handler(None).unwrap();
        stream.add_track(&keys);
        assert_eq!(peer.conn.add_stream(&stream, true), refused(AddDtmfError::Taken));
        drop(handler);

        // The handler of a track with keys is another face of the same.
        let (other, _more) = peer.send_audio();
        let folded = DTMFMediaStreamTrack::new();
        other.add_track(&folded);
        peer.conn.add_stream(&other, true).unwrap();
        let handler = peer.conn.add_dtmf_handler(Some((&other).into())).unwrap();
        folded.play("123").unwrap();
        assert_eq!(handler.tone_buffer(), "123");
    });
}

#[test]
fn a_server_forwards_keys_and_presses_its_own() {
    sim::run(11, |net| async move {
        let host = net.host("server", &[[10, 0, 0, 100].into()]);
        let engine = ortc_api::Engine::simulated(host.io(), net.random());
        let connection = || {
            let options = ortc_api::RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = ortc_api::RTCConnection::new(options).unwrap();
            let events = conn.events();
            Peer { host: host.clone(), conn, events, seen: Vec::new() }
        };
        let (speaker, bob) = (Peer::new(&net, "speaker", 1, 1), connection());
        let mut up = Pair { alice: speaker, bob };
        let (listener, bob) = (Peer::new(&net, "listener", 2, 2), connection());
        let mut down = Pair { alice: listener, bob };
        up.connect_within(SOON).await;
        down.connect_within(SOON).await;

        let (_, frames) = up.alice.send_audio();
        let sender = up.alice.conn.add_dtmf_handler(None).unwrap();
        let describe = |from: &Peer, to: &Peer| {
            for track in from.conn.tracks(None) {
                to.conn.receive_track(&signalled(&track.description())).unwrap();
            }
        };
        describe(&up.alice, &up.bob);
        let stream = up.bob.conn.receiving_streams().remove(0);
        down.bob.conn.add_stream(&stream, true).unwrap();
        describe(&down.bob, &down.alice);
        let receiver = next_handler(&mut down.alice).await;
        let at_server = next_handler(&mut up.bob).await;
        let own = down.bob.conn.add_dtmf_handler(None).unwrap();
        let track = down.alice.conn.receiving_streams()[0].tracks()[0].clone();
        let mut tap = track.tap(4_096).unwrap();

        let mut speak = frame(0);
        for n in 0..200 {
            if n == 20 {
                sender.insert_dtmf("42", None, None).unwrap();
            }
            if n == 100 {
                own.insert_dtmf("9", Some(ms(500)), None).unwrap();
            }
            speak.timestamp = n * 960;
            frames.send(speak.clone()).unwrap();
            pass(ms(20)).await;
        }
        assert_eq!(keys(&receiver).await, "429");
        assert_eq!(keys(&at_server).await, "42", "the server hears what it passes on");

        let mut packets = Vec::new();
        while let Ok(Some(packet)) = tokio::time::timeout(ms(200), tap.recv()).await {
            packets.push(packet);
        }
        let sequence: Vec<_> = packets.iter().map(|packet| packet.sequence).collect();
        let gapless: Vec<_> = (sequence[0]..).take(sequence.len()).collect();
        assert_eq!(sequence, gapless, "one numbering, whoever sends");
        let audio: Vec<_> = packets.iter().filter(|it| it.payload_type != TONES).collect();
        let position =
            |packet: &ReceivedPacket| packet.timestamp.wrapping_sub(audio[0].timestamp) / 960;
        let passed: Vec<_> = audio.iter().map(|packet| position(packet)).collect();
        assert!(passed.windows(2).all(|pair| pair[0] < pair[1]), "{passed:?}");
        // Silent for half a second while the server's own key sounds, and then on time again.
        let own_key: Vec<_> = passed.iter().filter(|n| (100..125).contains(*n)).collect();
        assert!(own_key.len() <= 2, "audio under the tone: {own_key:?}");
        assert!(passed.contains(&127) && passed.last() == Some(&199), "{passed:?}");
        let nine = packets.iter().find(|it| it.payload[0] == 9 && it.payload.len() == 4).unwrap();
        assert!((98..=102).contains(&position(nine)), "at {}", position(nine));
    });
}

#[test]
fn keys_end_with_the_track_that_is_received_no_more() {
    sim::run(12, |net| async move {
        let line = Line::new(&net).await;
        let bob = &line.pair.bob.conn;
        let receiver = line.pair.bob.seen.iter().find_map(handler_in).unwrap();
        let stream = bob.receiving_streams().remove(0);
        let [audio, keys] = <[MediaStreamTrack; 2]>::try_from(stream.tracks()).unwrap();
        let keys = DTMFMediaStreamTrack::of_track(&keys).unwrap();
        let (mut events, mut tones) = (receiver.events(), keys.tone_events());
        bob.stop_receiving(&audio);
        assert_eq!(tokio::time::timeout(SOON, events.recv()).await, Ok(None));
        assert_eq!(tokio::time::timeout(SOON, tones.recv()).await, Ok(None));
        assert_eq!((stream.tracks(), bob.receiving_streams()), (Vec::new(), Vec::new()));
        let late = tokio::time::timeout(SOON, receiver.events().recv()).await;
        assert_eq!(late, Ok(None), "whoever comes later hears that it is over");

        // Described anew, it has keys again.
        line.pair.describe();
        line.sender.insert_dtmf("8", None, None).unwrap();
        let received = bob.receiving_streams()[0].tracks();
        let keys = DTMFMediaStreamTrack::of_track(&received[1]).unwrap();
        assert_eq!(told(&mut keys.tone_events()).await, ["+8", "-8 100", "8 100"]);
    });
}
