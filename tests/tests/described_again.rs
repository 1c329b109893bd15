//! A track that its peer describes another time is the same track, and goes on.

use std::time::Duration;

use ortc_api::{
    DTMFMediaStreamTrack, MediaStreamTrack, RTCDTMFEvent, RTCEvent, RTCTrackDescription,
    ReceiveTrackError, TrackKind, rtc_codec,
};
use ortc_io::sim;
use ortc_tests::{Pair, frame, handler_in, keys, next_handler, pass, signalled};

const SOON: Duration = Duration::from_secs(10);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Describes alice's only track to bob.
fn describe(pair: &Pair) -> Result<MediaStreamTrack, ReceiveTrackError> {
    let description = pair.alice.conn.tracks(None)[0].description();
    pair.bob.conn.receive_track(&signalled(&description))
}

#[test]
fn keys_that_are_added_in_the_middle_of_a_call_are_heard_on_the_same_track() {
    sim::run(61, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, frames) = pair.alice.send_audio();
        let track = describe(&pair).unwrap();
        pair.connect_within(SOON).await;
        let mut heard = track.take_frames().unwrap();
        let mut sent = 0;
        let mut speak = async |count: u64| {
            for n in sent..sent + count {
                frames.send(frame(n)).unwrap();
                pass(ms(20)).await;
            }
            sent += count;
        };
        speak(10).await;

        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        assert_eq!(describe(&pair).as_ref(), Ok(&track), "the same track");
        assert_eq!(describe(&pair).as_ref(), Ok(&track), "and however often");
        let receiver = next_handler(&mut pair.bob).await;
        assert_eq!(receiver.label(), track.id());
        let streams = pair.bob.conn.receiving_streams();
        let kinds: Vec<_> = streams[0].tracks().iter().map(MediaStreamTrack::kind).collect();
        assert_eq!((streams.len(), kinds), (1, vec![TrackKind::Audio, TrackKind::Dtmf]));
        let beside = DTMFMediaStreamTrack::of_track(&streams[0].tracks()[1]).unwrap();
        assert_eq!(receiver.track(), beside);

        speak(2).await;
        sender.insert_dtmf("12#", None, None).unwrap();
        speak(40).await;
        assert_eq!(keys(&receiver).await, "12#");
        pair.alice.conn.close();
        let mut read = 0;
        while let Ok(Some(received)) = tokio::time::timeout(ms(500), heard.recv()).await {
            assert_eq!(received.payload_id, 111);
            read += 1;
        }
        assert_eq!(heard.packet_counts().lost, 0, "one reader, and nothing is missing");
        // Three tones of 100 ms have silenced five frames each, or one less at the very edge.
        assert!((52 - 15..=52 - 13).contains(&read), "{read}");
        let again = pair.bob.seen.iter().filter(|it| matches!(it, RTCEvent::AddDtmfHandler(_)));
        assert_eq!(again.count(), 0, "one handler was told");
    });
}

#[test]
fn keys_of_another_payload_type_go_on_with_the_same_handler() {
    sim::run(62, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, _frames) = pair.alice.send_audio();
        let sender = pair.alice.conn.add_dtmf_handler(None).unwrap();
        describe(&pair).unwrap();
        pair.connect_within(SOON).await;
        let receiver = match pair.bob.seen.iter().find_map(handler_in) {
            Some(receiver) => receiver,
            None => next_handler(&mut pair.bob).await,
        };
        let mut events = receiver.events();
        let next = async |events: &mut ortc_api::RTCDTMFEvents| {
            tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap()
        };
        let key = |tone: &str| RTCDTMFEvent::Dtmf { tone: tone.into() };
        sender.insert_dtmf("1", None, None).unwrap();
        assert_eq!(next(&mut events).await, key("1"));
        pass(ms(500)).await;

        let track = pair.alice.conn.tracks(None).remove(0);
        let mut codecs = track.codecs();
        codecs[1].payload_id = 100;
        track.set_codecs(codecs).unwrap();
        describe(&pair).unwrap();
        pass(ms(100)).await;
        sender.insert_dtmf("2", None, None).unwrap();
        assert_eq!(next(&mut events).await, key("2"));
    });
}

#[test]
fn a_codec_that_is_added_is_received_by_whoever_reads_the_track() {
    sim::run(63, |net| async move {
        let mut pair = Pair::new(&net);
        let (_stream, frames) = pair.alice.send_audio();
        let track = describe(&pair).unwrap();
        pair.connect_within(SOON).await;
        let mut heard = track.take_frames().unwrap();
        let next = async |heard: &mut ortc_api::FrameReceiver| {
            tokio::time::timeout(SOON, heard.recv()).await.unwrap().unwrap().payload_id
        };
        frames.send(frame(0)).unwrap();
        assert_eq!(next(&mut heard).await, 111);

        let sending = pair.alice.conn.tracks(None).remove(0);
        let mut other = rtc_codec("opus").unwrap();
        other.payload_id = 96;
        let codecs = [vec![other], sending.codecs()].concat();
        sending.set_codecs(codecs).unwrap();
        assert_eq!(describe(&pair).as_ref(), Ok(&track));
        pass(ms(100)).await;
        frames.send(frame(1)).unwrap();
        assert_eq!(next(&mut heard).await, 96);
    });
}

#[test]
fn what_cannot_be_the_same_track_is_refused_and_changes_nothing() {
    sim::run(64, |net| async move {
        let pair = Pair::new(&net);
        let (_stream, _frames) = pair.alice.send_audio();
        let track = describe(&pair).unwrap();
        let known = pair.alice.conn.tracks(None)[0].description();
        let refused = Err(ReceiveTrackError::DuplicateSsrc(known.ssrc.clone()));
        let elsewhere = RTCTrackDescription { msid: vec!["other".into()], ..known.clone() };
        assert_eq!(pair.bob.conn.receive_track(&elsewhere), refused);
        let video = rtc_codec("vp8").unwrap();
        let pictures =
            RTCTrackDescription { kind: TrackKind::Video, codecs: vec![video], ..known.clone() };
        assert_eq!(pair.bob.conn.receive_track(&pictures), refused);
        let mut unknown = known;
        unknown.codecs[0].name = "g722".into();
        let error = pair.bob.conn.receive_track(&unknown);
        assert_eq!(error, Err(ReceiveTrackError::NoSupportedCodec("g722".into())));
        assert_eq!(describe(&pair).as_ref(), Ok(&track));
        assert_eq!(pair.bob.conn.receiving_streams().len(), 1);
    });
}
