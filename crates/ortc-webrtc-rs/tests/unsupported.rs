//! What the stack cannot do is told as a typed error, once, to whoever wants to hear of it.

use std::sync::{Arc, Mutex};

use actix::Actor;
use bytes::Bytes;
use ortc_dtls::{Certificate, DtlsCommand, DtlsConfig, DtlsEvent, DtlsRole, DtlsVersion};
use ortc_ice::{
    IceCommand, IceConfig, IceEvent, IgnoredReason, RTCIceCandidateDescription,
    RTCIceConnectionInfo, TcpCandidates,
};
use ortc_io::probe::Probe;
use ortc_io::ring::ring;
use ortc_io::{
    ConnectionId, DatagramReceived, FlightRecording, LinkNames, Path, RecordingReply,
    SocketCommand, SocketId,
};
use ortc_rtp::congestion::BandwidthLimits;
use ortc_rtp::{
    ExtHeaders, ForwardConfig, KeyFrameFeedback, RecoverConfig, RetransmitConfig, RouteCommand,
    SnapshotReply, Ssrc, Tap, TrackSource,
};
use ortc_webrtc_rs::{Unsupported, WebrtcDtlsActor, WebrtcIceActor, WebrtcMediaActor};

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// What was told so far.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Unsupported>>>);

impl Told {
    fn report(&self) -> impl FnMut(Unsupported) + Send + 'static {
        let told = self.clone();
        move |limit| told.0.lock().unwrap().push(limit)
    }

    fn take(&self) -> Vec<Unsupported> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn ice_config() -> IceConfig {
    IceConfig::new(RTCIceConnectionInfo::from_random([1; 32]), 7)
}

#[actix::test]
async fn ice_tells_what_its_configuration_asks_too_much_of_it() {
    let (told, sockets) = (Told::default(), Probe::<SocketCommand>::new());
    let mut owner = Probe::<IceEvent>::new();
    let server = r#"{"url":"stun:192.0.2.1"}"#;
    let config = ice_config()
        .with_servers(vec![serde_json::from_str(server).unwrap()])
        .with_tcp_candidates(TcpCandidates::ALL)
        .with_lite(true);
    let actor = WebrtcIceActor::new(config, ID, sockets.recipient(), owner.weak_recipient())
        .with_report(told.report())
        .start();
    actor.send(IceCommand::ShareSockets).await.unwrap();
    assert!(matches!(owner.next().await, IceEvent::SocketsShared { complete: true, .. }));
    actor.send(IceCommand::ShareSockets).await.unwrap();
    let others = RTCIceConnectionInfo::from_random([3; 32]);
    actor.send(IceCommand::Restart(others)).await.unwrap();
    assert_eq!(
        told.take(),
        [
            Unsupported::IceServers,
            Unsupported::TcpCandidates,
            Unsupported::IceLite,
            Unsupported::SharedSocket,
            Unsupported::IceRestart
        ],
        "each once"
    );
    actor.do_send(IceCommand::Close);
}

/// Neither ours nor the peer's: what was to be kept is not told, and what cannot be asked for is
/// ignored.
#[actix::test]
async fn ice_has_no_names_in_place_of_addresses() {
    let (told, mut sockets) = (Told::default(), Probe::<SocketCommand>::new());
    let mut owner = Probe::<IceEvent>::new();
    let start = |config, owner: &Probe<IceEvent>, sockets: &Probe<SocketCommand>| {
        WebrtcIceActor::new(config, ID, sockets.recipient(), owner.weak_recipient())
            .with_report(told.report())
            .start()
    };
    let actor = start(ice_config().with_hidden_addresses(LinkNames::new()), &owner, &sockets);
    for command in [IceCommand::Gather, IceCommand::Update] {
        actor.send(command).await.unwrap();
        assert_eq!(owner.next().await, IceEvent::EndOfCandidates, "with none before it");
    }
    assert_eq!(told.take(), [Unsupported::HiddenAddresses], "once");
    assert!(sockets.drain().is_empty(), "no address was asked for");
    actor.do_send(IceCommand::Close);

    let mut owner = Probe::<IceEvent>::new();
    let actor = start(ice_config(), &owner, &sockets);
    let line = "candidate:1 1 udp 1 0c4f1d0e-7f0b-4d8b-9d0d-0c4f1d0e7f0b.local 9 typ host";
    let candidate: RTCIceCandidateDescription = line.parse().unwrap();
    actor.send(IceCommand::SetRemoteCandidate(candidate.clone())).await.unwrap();
    let reason = IgnoredReason::NameUnresolved;
    assert_eq!(owner.next().await, IceEvent::CandidateIgnored { candidate, reason });
    assert_eq!(told.take(), [Unsupported::HiddenAddresses]);
    actor.do_send(IceCommand::Close);
}

#[actix::test]
async fn a_peer_in_our_own_role_is_told_of() {
    let (told, sockets) = (Told::default(), Probe::<SocketCommand>::new());
    let owner = Probe::<IceEvent>::new();
    let actor = WebrtcIceActor::new(ice_config(), ID, sockets.recipient(), owner.weak_recipient())
        .with_report(told.report())
        .start();
    let remote = RTCIceConnectionInfo::from_random([2; 32]);
    actor.send(IceCommand::Connect { remote, controlling: true }).await.unwrap();
    let request = |attribute: u16| {
        let mut message = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend(attribute.to_be_bytes());
        message.extend([0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        DatagramReceived {
            connection: ID,
            path: Path::plain(SocketId { slot: 0, generation: 0 }, "192.0.2.1:9".parse().unwrap()),
            datagram: Bytes::from(message),
            received_at: ortc_io::now(),
        }
    };
    // ICE-CONTROLLED, as it should be, and ICE-CONTROLLING (RFC 8445 §16.1).
    actor.send(request(0x8029)).await.unwrap();
    assert_eq!(told.take(), []);
    for _ in 0..3 {
        actor.send(request(0x802a)).await.unwrap();
    }
    assert_eq!(told.take(), [Unsupported::RoleConflict]);
    actor.do_send(IceCommand::Close);
}

#[actix::test]
async fn dtls_tells_that_it_is_of_one_version() {
    let (sockets, owner) = (Probe::<SocketCommand>::new(), Probe::<DtlsEvent>::new());
    for (version, expected) in
        [(DtlsVersion::V12, vec![]), (DtlsVersion::Auto, vec![Unsupported::Dtls13])]
    {
        let told = Told::default();
        let mut config = DtlsConfig::default();
        config.version = version;
        let certificate = Certificate::generate().unwrap();
        let (to, from) = (sockets.recipient(), owner.weak_recipient());
        let actor = WebrtcDtlsActor::new(config, certificate, ID, to, from)
            .with_report(told.report())
            .start();
        let start = DtlsCommand::Start { role: DtlsRole::Server, expected_sha256: Some([1; 32]) };
        actor.send(start).await.unwrap();
        assert_eq!(told.take(), expected);
        actor.do_send(DtlsCommand::Close);
    }
}

#[actix::test]
async fn the_media_plane_tells_what_it_does_not_do() {
    let told = Told::default();
    let actor = WebrtcMediaActor::new(ID, 1).with_report(told.report()).start();
    let ssrc = Ssrc(7);
    let forward = ForwardConfig {
        ssrc,
        source: TrackSource { connection: ID, ssrc },
        payload_types: Vec::new(),
        unwrapped: Vec::new(),
        extensions: Vec::new(),
        cname: String::new(),
        needs_key_frames: false,
        enabled: true,
    };
    let tap = Tap { packets: ring(1).0, dropped: Arc::default() };
    let pairs = |n: usize| (0..n).map(|n| (n.to_string(), String::new())).collect();
    let ext_headers = |n| ExtHeaders { ssrc, pairs: pairs(n), codecs: Vec::new() };
    let recover = |key_frames| RecoverConfig { ssrc, nack: false, key_frames, rtx: None };
    let commands = [
        // What asks for nothing is no limit.
        (RouteCommand::SetExtHeaders(ID, ext_headers(0)), None),
        (RouteCommand::NumberSent(ID, ssrc, None), None),
        (RouteCommand::AnswerNumbers(ID, ssrc, None), None),
        (RouteCommand::Recover(ID, recover(KeyFrameFeedback::None)), None),
        (RouteCommand::Note(ID, "a note".into()), None),
        (RouteCommand::AddForward(ID, forward), Some(Unsupported::Forwarding)),
        (RouteCommand::AddTap(ID, ssrc, tap), Some(Unsupported::Taps)),
        (RouteCommand::SetExtHeaders(ID, ext_headers(1)), Some(Unsupported::ExtHeaders)),
        (
            RouteCommand::Retransmit(ID, RetransmitConfig { ssrc, nack: true, rtx: None }),
            Some(Unsupported::Retransmission),
        ),
        (
            RouteCommand::Recover(ID, recover(KeyFrameFeedback::PictureLoss)),
            Some(Unsupported::Recovery),
        ),
        (
            RouteCommand::LimitBandwidth(ID, BandwidthLimits::default()),
            Some(Unsupported::CongestionControl),
        ),
        (
            RouteCommand::TakeSnapshot(ID, SnapshotReply::new(|_| panic!("there is none"))),
            Some(Unsupported::Statistics),
        ),
        (
            RouteCommand::TakeRecording(
                ID,
                RecordingReply::new(|_: FlightRecording| panic!("there is none")),
            ),
            Some(Unsupported::Recording),
        ),
        // A second time it is not told.
        (RouteCommand::RequestKeyFrame(ID, ssrc), None),
        (RouteCommand::NumberSent(ID, ssrc, Some(5)), None),
    ];
    for (command, expected) in commands {
        let name = format!("{command:?}");
        actor.send(command).await.unwrap();
        assert_eq!(told.take(), Vec::from_iter(expected), "{name}");
    }
}
