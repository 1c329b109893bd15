//! The last seconds of a connection, as Wireshark reads them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ortc_api::{
    DtlsFailure, Engine, EngineConfig, FlightConfig, RTCConnection, RTCConnectionOptions,
    RTCDisconnectReason, RTCEvent,
};
use ortc_io::sim::{self, Network};
use ortc_tests::{Dir, Pair, Peer, frame, pass};

const SOON: Duration = Duration::from_secs(10);

/// What is in a directory.
fn files(dir: &Dir) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What tshark says of a file, one line a packet, with these fields.
fn tshark(file: &Path, fields: &[&str], filter: &str) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    // What arrives on ports that nobody has told it of: STUN and DTLS by their looks.
    command.args(["--enable-heuristic", "stun_udp", "--enable-heuristic", "dtls_udp"]);
    command.args(["--enable-heuristic", "rtp_udp"]);
    let output = command.output().expect("the tests need tshark: apt-get install tshark");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("cut short") && !said.contains("damaged"), "{said}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn peer(net: &Network, name: &str, last: u8, config: EngineConfig) -> Peer {
    let host = net.host(name, &[IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))]);
    let engine = Engine::simulated_with(config, host.io(), net.random());
    let conn = RTCConnection::new(RTCConnectionOptions::new().with_engine(engine)).unwrap();
    let events = conn.events();
    Peer { host, conn, events, seen: Vec::new() }
}

fn recorded(net: &Network, config: EngineConfig) -> Pair {
    Pair { alice: peer(net, "alice", 1, config), bob: peer(net, "bob", 2, EngineConfig::new()) }
}

#[test]
fn a_call_is_read_by_tshark_with_what_has_happened() {
    let dir = Dir::new("flight-call");
    let (file, ssrc) = sim::run(1, |net| {
        let file = dir.path("call.pcapng");
        async move {
            let config = EngineConfig::new().with_flight_recorder(FlightConfig::default());
            let mut pair = recorded(&net, config);
            let (from_alice, from_bob) = (pair.alice.send_audio().1, pair.bob.send_audio().1);
            pair.describe();
            pair.connect_within(SOON).await;
            for n in 0..100 {
                from_alice.send(frame(n)).unwrap();
                from_bob.send(frame(n)).unwrap();
                pass(Duration::from_millis(20)).await;
            }
            assert_eq!(pair.bob.conn.flight_recording().await, None, "off by default");
            let recording = pair.alice.conn.flight_recording().await.unwrap();
            std::fs::write(&file, recording.to_pcapng("a call with sound")).unwrap();
            let ssrc = pair.bob.conn.tracks(None)[0].ssrc();
            pair.alice.conn.close();
            pair.alice.conn.closed().await;
            assert_eq!(pair.alice.conn.flight_recording().await, None, "and gone at the end");
            (file, ssrc)
        }
    });
    let all = tshark(&file, &["frame.number"], "frame");
    assert!(all.len() > 200, "{} packets", all.len());
    // Both directions, between the addresses that there were.
    let directions = tshark(&file, &["ip.src", "ip.dst"], "udp");
    for pair in ["10.0.0.1|10.0.0.2", "10.0.0.2|10.0.0.1"] {
        let count = directions.iter().filter(|line| *line == pair).count();
        assert!(count > 100, "{count} of {pair}");
    }
    let none: [String; 0] = [];
    assert_eq!(tshark(&file, &["frame.number"], "_ws.malformed && (stun || dtls)"), none);
    let requests = tshark(&file, &["stun.att.username"], "stun.type == 0x0001");
    assert!(requests.iter().all(|name| name.contains(':')) && requests.len() >= 2, "{requests:?}");
    // The whole handshake, up to what is encrypted.
    let handshake = tshark(&file, &["dtls.handshake.type"], "dtls.handshake");
    let seen = |kind: &str| handshake.iter().any(|types| types.split(',').any(|it| it == kind));
    assert!(["1", "2", "11", "16"].iter().all(|kind| seen(kind)), "{handshake:?}");
    let sequences = tshark(&file, &["rtp.ssrc"], "rtp");
    assert!(sequences.len() >= 190, "{} packets of RTP", sequences.len());
    let comments = tshark(&file, &["frame.comment"], "frame.comment").join("\n");
    for words in [
        "10.0.0.2:".to_owned(),
        "has answered".to_owned(),
        "from now on".to_owned(),
        "the keys of SRTP have come".to_owned(),
        format!("track {ssrc} is connected"),
    ] {
        assert!(comments.contains(&words), "{words} in {comments}");
    }
    // A packet says how long it was, not how much of it is kept.
    let lengths = tshark(&file, &["frame.len", "frame.cap_len"], "rtp");
    let (whole, kept) = lengths[0].split_once('|').unwrap();
    assert!(whole.parse::<u32>().unwrap() > kept.parse::<u32>().unwrap(), "{lengths:?}");
}

#[test]
fn a_connection_that_fails_is_dumped_and_one_that_is_closed_is_not() {
    let dir = Dir::new("flight-failure");
    let directory = dir.as_ref().to_owned();
    let password = sim::run(2, |net| async move {
        let mut pair = recorded(&net, EngineConfig::new().with_flight_dumps(directory));
        // Bob is signalled with Alice's own fingerprint in place of his.
        let mut forged = pair.bob.conn.local().ice;
        forged.fingerprint = pair.alice.conn.local().ice.fingerprint;
        pair.signal_bob_as(&forged).await;
        let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
        let end = pair.alice.until(Duration::from_secs(120), is_end).await;
        let mismatch = RTCDisconnectReason::Security(DtlsFailure::FingerprintMismatch);
        assert_eq!(end, RTCEvent::Disconnected(mismatch));
        pair.alice.conn.closed().await;
        pair.alice.conn.local().ice.password
    });
    let file = dumped(&dir);
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(password.len()).any(|window| window == password.as_bytes()));
    let comments = tshark(&file, &["frame.comment"], "frame.comment").join("\n");
    assert!(comments.contains("disconnected: the peer's certificate"), "{comments}");
    assert!(!tshark(&file, &["frame.number"], "dtls").is_empty());

    let dir = Dir::new("flight-closed");
    let directory = dir.as_ref().to_owned();
    sim::run(3, |net| async move {
        let mut pair = recorded(&net, EngineConfig::new().with_flight_dumps(directory));
        pair.connect_within(SOON).await;
        pair.bob.conn.close();
        pair.alice.conn.closed().await;
    });
    assert_eq!(files(&dir), [] as [PathBuf; 0]);
}

/// The one file that is written, by a thread of its own, once it is whole.
fn dumped(dir: &Dir) -> PathBuf {
    let whole = || {
        let [file] = &files(dir)[..] else { return None };
        let bytes = std::fs::read(file).unwrap();
        let len = bytes.len();
        let tail = bytes.get(len.checked_sub(4)?..)?;
        let last = u32::from_le_bytes(tail.try_into().unwrap()) as usize;
        // The last block ends with its length, which it also begins with.
        let begins = bytes.get(len.checked_sub(last)? + 4..)?.get(..4)?;
        (last >= 32 && begins == tail).then(|| file.clone())
    };
    loop {
        if let Some(file) = whole() {
            return file;
        }
        std::thread::yield_now();
    }
}
