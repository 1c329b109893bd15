//! The objects of the ORTC drafts, as their examples and interface definitions spell them.

use std::collections::BTreeMap;

use ortc_ice::RTCIceCandidateDescription;
use ortc_rtp::{RTCCodec, RTCCodecParam, RTCMediaAttributes, RTCTrackDescription, TrackKind};
use serde_json::{Value, from_value, json, to_value};

#[test]
fn the_host_candidate_is_read_and_written_as_it_stands() {
    let example = json!({
        "foundation": "abcd1234",
        "component": 1,
        "transport": "udp",
        "priority": 1694498815,
        "connectionAddress": "192.0.2.33",
        "connectionPort": 10000,
        "type": "host"
    });
    let candidate: RTCIceCandidateDescription = from_value(example.clone()).unwrap();
    let expected = RTCIceCandidateDescription {
        foundation: "abcd1234".into(),
        component: 1,
        transport: "udp".into(),
        priority: 1_694_498_815,
        connection_address: "192.0.2.33".into(),
        connection_port: 10_000,
        kind: "host".into(),
        rel_address: None,
        rel_port: None,
        tcp_type: None,
    };
    assert_eq!(candidate, expected);
    assert_eq!(to_value(&candidate).unwrap(), example);
}

#[test]
fn a_related_address_is_spelled_as_in_the_drafts() {
    let reflexive = json!({
        "foundation": "2",
        "component": 1,
        "transport": "udp",
        "priority": 1677729535,
        "connectionAddress": "203.0.113.7",
        "connectionPort": 4000,
        "type": "srflx",
        "relAddress": "192.0.2.33",
        "relPort": 10000
    });
    let candidate: RTCIceCandidateDescription = from_value(reflexive.clone()).unwrap();
    assert_eq!(
        (candidate.rel_address.as_deref(), candidate.rel_port),
        (Some("192.0.2.33"), Some(10_000))
    );
    assert_eq!(to_value(&candidate).unwrap(), reflexive);
}

#[test]
fn the_opus_track_is_read_and_written_as_it_stands() {
    let example = audio_with(json!([opus()]));
    let track: RTCTrackDescription = from_value(example.clone()).unwrap();
    let expected = RTCTrackDescription {
        kind: TrackKind::Audio,
        ssrc: "1234".into(),
        msid: vec!["m1".into()],
        codecs: vec![RTCCodec {
            payload_id: 96,
            name: "opus".into(),
            kind: None,
            clock_rate: Some(48_000),
            num_channels: Some(2),
            params: Vec::new(),
            rtcp_feedback: None,
        }],
        media_attributes: None,
        rtp_ext_headers: None,
        header_extensions: Vec::new(),
        rtx_ssrc: None,
        encodings: Vec::new(),
    };
    assert_eq!(track, expected);
    assert_eq!(to_value(&track).unwrap(), example);
}

#[test]
fn draft_a_s_track_with_tones_is_read_and_written_as_it_stands() {
    let mut audio = opus();
    audio["kind"] = json!("audio");
    let tones = json!({ "payload-id": 101, "name": "dtmf", "kind": "dtmf" });
    let example = audio_with(json!([audio, tones]));
    let track: RTCTrackDescription = from_value(example.clone()).unwrap();
    let kinds: Vec<_> = track.codecs.iter().map(|codec| codec.kind).collect();
    assert_eq!(kinds, [Some(TrackKind::Audio), Some(TrackKind::Dtmf)]);
    assert_eq!((track.codecs[1].payload_id, track.codecs[1].clock_rate), (101, None));
    assert_eq!(to_value(&track).unwrap(), example);
}

#[test]
fn draft_b_s_track_with_tones_is_read_and_written_as_it_stands() {
    let example = audio_with(json!([opus(), { "payload-id": 101, "name": "dtmf" }]));
    let track: RTCTrackDescription = from_value(example.clone()).unwrap();
    assert_eq!((track.codecs[1].name.as_str(), track.codecs[1].kind), ("dtmf", None));
    assert_eq!(to_value(&track).unwrap(), example);
}

#[test]
fn every_optional_field_of_a_track_keeps_its_value() {
    let whole = json!({
        "kind": "video",
        "ssrc": "4294967295",
        "msid": ["m1", "m2"],
        "codecs": [{
            "payload-id": 102,
            "name": "h264",
            "clockRate": 90000,
            "params": [
                { "name": "packetization-mode", "value": "1" },
                { "name": "level-asymmetry-allowed", "value": null }
            ]
        }],
        "mediaAttributes": [{ "videoMaxWidth": 1280, "videoMaxHeight": 720 }],
        "rtpExtHeaders": { "seat": "12" }
    });
    let track: RTCTrackDescription = from_value(whole.clone()).unwrap();
    assert_eq!(
        track.codecs[0].params,
        [
            RTCCodecParam { name: "packetization-mode".into(), value: Some("1".into()) },
            RTCCodecParam { name: "level-asymmetry-allowed".into(), value: None },
        ]
    );
    let bounds = RTCMediaAttributes { video_max_width: Some(1280), video_max_height: Some(720) };
    assert_eq!(track.media_attributes, Some(vec![bounds]));
    assert_eq!(track.rtp_ext_headers, Some(BTreeMap::from([("seat".into(), "12".into())])));
    assert_eq!(to_value(&track).unwrap(), whole);
}

#[test]
fn null_is_the_same_as_nothing_where_the_drafts_allow_it() {
    let mut track = audio_with(json!([{
        "payload-id": 0, "name": "ulaw", "clockRate": null, "numChannels": null
    }]));
    track["mediaAttributes"] = Value::Null;
    track["rtpExtHeaders"] = Value::Null;
    let track: RTCTrackDescription = from_value(track).unwrap();
    let expected = audio_with(json!([{ "payload-id": 0, "name": "ulaw" }]));
    assert_eq!(to_value(&track).unwrap(), expected);
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_are_named() {
    let mut track = audio_with(json!([opus()]));
    track["simulcast"] = json!({ "layers": 3 });
    assert!(from_value::<RTCTrackDescription>(track.clone()).is_ok());
    for field in ["kind", "ssrc", "msid", "codecs"] {
        let mut without = track.clone();
        without.as_object_mut().unwrap().remove(field);
        let error = from_value::<RTCTrackDescription>(without).unwrap_err().to_string();
        assert_eq!(error, format!("missing field `{field}`"));
    }
    for field in ["payload-id", "name"] {
        let mut without = opus();
        without.as_object_mut().unwrap().remove(field);
        let error = from_value::<RTCCodec>(without).unwrap_err().to_string();
        assert_eq!(error, format!("missing field `{field}`"));
    }
}

#[test]
fn a_payload_type_is_one_byte() {
    let mut codec = opus();
    codec["payload-id"] = json!(256);
    assert!(from_value::<RTCCodec>(codec.clone()).is_err());
    codec["payload-id"] = json!(-1);
    assert!(from_value::<RTCCodec>(codec).is_err());
}

fn audio_with(codecs: Value) -> Value {
    json!({ "kind": "audio", "ssrc": "1234", "msid": ["m1"], "codecs": codecs })
}

fn opus() -> Value {
    json!({ "payload-id": 96, "name": "opus", "clockRate": 48000, "numChannels": 2 })
}
