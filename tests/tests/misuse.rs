//! Wrong use of the API, and wrong input from the signalling: each a typed error, at once.

use std::time::Duration;

use ortc_api::{
    AddStreamError, CandidateError, ConnectError, CredentialsError, MediaStream, RTCEvent,
    RTCIceCandidateDescription, RTCIceConnectionInfo, RTCTrackDescription, ReceiveTrackError,
    SetRemoteIceError, TrackError,
};
use ortc_io::sim;
use ortc_tests::{Pair, Peer};

fn opus_track(ssrc: &str) -> RTCTrackDescription {
    let text = format!(
        r#"{{"kind":"audio","ssrc":"{ssrc}","msid":["m1"],
            "codecs":[{{"payload-id":96,"name":"opus","clockRate":48000,"numChannels":2}}]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn connect_before_the_remote_side_is_set_says_what_to_do() {
    sim::run(1, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let error = peer.conn.connect().unwrap_err();
        assert_eq!(error, ConnectError::RemoteNotSet);
        assert!(error.to_string().contains("set_remote_ice"), "{error}");
    });
}

#[test]
fn a_peer_without_a_fingerprint_is_refused() {
    sim::run(2, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let plain = RTCIceConnectionInfo {
            username_frag: "abcd".into(),
            password: "p".repeat(22),
            fingerprint: None,
        };
        peer.conn.set_remote_ice(plain).unwrap();
        assert_eq!(peer.conn.connect(), Err(ConnectError::NoFingerprint));
    });
}

#[test]
fn our_own_credentials_echoed_back_are_recognised() {
    sim::run(3, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let error = peer.conn.set_remote_ice(peer.conn.local().ice).unwrap_err();
        assert_eq!(error, SetRemoteIceError::Credentials(CredentialsError::Ours));
    });
}

#[test]
fn credentials_of_another_certificate_are_refused_after_connect() {
    sim::run(4, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(Duration::from_secs(10)).await;
        let stranger = Peer::new(&net, "mallory", 3, 3);
        assert_eq!(
            pair.alice.conn.set_remote_ice(stranger.conn.local().ice),
            Err(SetRemoteIceError::FingerprintChanged)
        );
        // The same credentials again are no error, and change nothing.
        pair.alice.conn.set_remote_ice(pair.bob.conn.local().ice).unwrap();
        pair.alice.conn.connect().unwrap();
    });
}

#[test]
fn malformed_credentials_are_refused_and_say_what_is_wrong() {
    sim::run(12, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let good = Peer::new(&net, "bob", 2, 2).conn.local().ice;
        let bad = RTCIceConnectionInfo { username_frag: "ab cd".into(), ..good.clone() };
        let error = peer.conn.set_remote_ice(bad).unwrap_err();
        assert!(error.to_string().contains("ab cd"), "{error}");
        let bad = RTCIceConnectionInfo { password: "short".into(), ..good };
        assert!(matches!(
            peer.conn.set_remote_ice(bad),
            Err(SetRemoteIceError::Credentials(CredentialsError::Password { .. }))
        ));
        assert_eq!(peer.conn.remote(), None);
    });
}

#[test]
fn a_candidate_that_was_not_found_here_cannot_be_set() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let foreign = pair.bob.gathered().await;
        assert_eq!(pair.alice.conn.set_local_candidate(&foreign[0]), Err(CandidateError::NotOurs));
    });
}

#[test]
fn a_candidate_that_has_gone_cannot_be_set_any_more() {
    sim::run(13, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        let second = [10, 0, 0, 7].into();
        peer.host.add_address(second);
        peer.gathered().await;
        peer.conn.update().unwrap();
        let candidates = peer.gathered().await;
        let of = |ip: std::net::IpAddr| {
            candidates.iter().find(|candidate| candidate.connection_address == ip.to_string())
        };
        let (stays, goes) = (of([10, 0, 0, 1].into()).unwrap(), of(second).unwrap());
        peer.host.set_up(second, false);
        peer.conn.update().unwrap();
        peer.gathered().await;
        assert_eq!(peer.conn.set_local_candidate(goes), Err(CandidateError::NotOurs));
        assert_eq!(peer.conn.set_local_candidate(stays), Ok(()));
    });
}

#[test]
fn a_remote_candidate_with_a_bad_address_is_refused_and_named() {
    sim::run(6, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        let good = peer.gathered().await.remove(0);
        let bad =
            RTCIceCandidateDescription { connection_address: "10.0.0.300".into(), ..good.clone() };
        let error = peer.conn.set_remote_candidate(&bad).unwrap_err();
        assert!(matches!(error, CandidateError::Malformed(_)), "{error:?}");
        assert!(error.to_string().contains("10.0.0.300"), "{error}");
        let no_port = RTCIceCandidateDescription { connection_port: 0, ..good };
        assert!(peer.conn.set_remote_candidate(&no_port).is_err());
    });
}

#[test]
fn a_missing_field_is_named() {
    let text = r#"{"foundation":"1","component":1,"transport":"udp","priority":1,
                   "connectionPort":9,"type":"host"}"#;
    let error = serde_json::from_str::<RTCIceCandidateDescription>(text).unwrap_err();
    assert!(error.to_string().contains("connectionAddress"), "{error}");
    let text = r#"{"usernameFrag":"abcd"}"#;
    let error = serde_json::from_str::<RTCIceConnectionInfo>(text).unwrap_err();
    assert!(error.to_string().contains("password"), "{error}");
    let text = r#"{"kind":"audio","ssrc":"1","codecs":[]}"#;
    let error = serde_json::from_str::<RTCTrackDescription>(text).unwrap_err();
    assert!(error.to_string().contains("msid"), "{error}");
}

#[test]
fn a_track_with_no_supported_codec_is_refused() {
    sim::run(7, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        let mut track = opus_track("1");
        track.codecs[0].name = "speex".into();
        let error = peer.conn.receive_track(&track).unwrap_err();
        assert_eq!(error, ReceiveTrackError::NoSupportedCodec("speex".into()));
        assert_eq!(peer.conn.receiving_streams(), []);
    });
}

#[test]
fn a_malformed_track_is_refused() {
    sim::run(8, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        for ssrc in ["", "abc", "-1", "4294967296"] {
            let error = peer.conn.receive_track(&opus_track(ssrc)).unwrap_err();
            assert!(matches!(error, ReceiveTrackError::Malformed(_)), "{ssrc}: {error:?}");
        }
    });
}

#[test]
fn a_track_described_twice_is_received_once_and_another_on_its_ssrc_is_refused() {
    sim::run(9, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        peer.conn.receive_track(&opus_track("77")).unwrap();
        peer.conn.receive_track(&opus_track("77")).unwrap();
        let other = RTCTrackDescription { msid: vec!["m2".into()], ..opus_track("77") };
        assert_eq!(
            peer.conn.receive_track(&other),
            Err(ReceiveTrackError::DuplicateSsrc("77".into()))
        );
        peer.gathered().await;
        let added: Vec<_> = peer
            .seen
            .iter()
            .filter_map(|event| match event {
                RTCEvent::AddStream(stream) => {
                    Some((stream.id().to_owned(), stream.tracks().len()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(added, [("m1".to_owned(), 1)]);
    });
}

#[test]
fn an_empty_stream_cannot_be_added() {
    sim::run(10, |net| async move {
        let peer = Peer::new(&net, "alice", 1, 1);
        assert_eq!(peer.conn.add_stream(&MediaStream::new(), true), Err(AddStreamError::Empty));
    });
}

#[test]
fn everything_after_close_is_an_error_and_closing_twice_is_not() {
    sim::run(11, |net| async move {
        let mut peer = Peer::new(&net, "alice", 1, 1);
        let candidate = peer.gathered().await.remove(0);
        let (stream, _frames) = peer.send_audio();
        let track = peer.conn.tracks(None).remove(0);
        peer.conn.close();
        peer.conn.close();
        assert_eq!(peer.conn.connect(), Err(ConnectError::Closed));
        assert_eq!(peer.conn.set_local_candidate(&candidate), Err(CandidateError::Closed));
        assert_eq!(peer.conn.set_remote_candidate(&candidate), Err(CandidateError::Closed));
        assert_eq!(peer.conn.receive_track(&opus_track("1")), Err(ReceiveTrackError::Closed));
        assert_eq!(track.stop(), Err(TrackError::Closed));
        let other = MediaStream::new();
        other.add_track(&stream.tracks()[0]);
        assert_eq!(peer.conn.add_stream(&other, true), Err(AddStreamError::Closed));
        peer.conn.closed().await;
        assert_eq!(peer.conn.events().recv().await, None);
    });
}
