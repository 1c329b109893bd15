//! What a connection says of itself, in the names of webrtc-stats.

use std::collections::BTreeMap;
use std::time::Duration;

use ortc_api::{MediaStream, RTCEvent, RTCStats, RTCStatsReport};
use ortc_io::sim::{self, LinkConfig};
use ortc_tests::{Pair, Peer, frame, pass, signalled};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// The objects of a report by type, as they are in its JSON.
fn by_type(report: &RTCStatsReport) -> BTreeMap<String, Vec<Value>> {
    let mut types: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in serde_json::to_value(report).unwrap().as_array().unwrap() {
        types.entry(object["type"].as_str().unwrap().to_owned()).or_default().push(object.clone());
    }
    types
}

fn ids(report: &RTCStatsReport) -> Vec<String> {
    report.stats.iter().map(|stats| stats.id().to_owned()).collect()
}

#[test]
fn a_call_with_loss_is_told_by_both_sides_as_it_was() {
    sim::run(1, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(25), ..LinkConfig::lossy(0.1) });
        let mut pair = Pair::new(&net);
        let source = pair.alice.send_audio().1;
        pair.describe();
        pair.connect_within(Duration::from_secs(60)).await;
        for n in 0..500 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        pass(Duration::from_secs(3)).await;
        let (sent, received) = (pair.alice.conn.stats().await, pair.bob.conn.stats().await);
        let (ours, theirs) = (by_type(&sent), by_type(&received));
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            [
                "candidate-pair",
                "certificate",
                "codec",
                "connection",
                "local-candidate",
                "outbound-rtp",
                "refused-input",
                "remote-candidate",
                "remote-inbound-rtp",
                "transport"
            ]
        );
        let ssrc: u32 = pair.alice.conn.tracks(None)[0].ssrc().parse().unwrap();
        let outbound = &ours["outbound-rtp"][0];
        assert_eq!(
            (&outbound["ssrc"], &outbound["kind"], &outbound["packetsSent"], &outbound["active"]),
            (&json!(ssrc), &json!("audio"), &json!(500), &json!(true))
        );
        assert_eq!(outbound["bytesSent"], json!(500 * frame(0).data.len()));
        let inbound = &theirs["inbound-rtp"][0];
        let (came, lost) = (&inbound["packetsReceived"], &inbound["packetsLost"]);
        assert_eq!(inbound["ssrc"], json!(ssrc));
        // One that is lost at either end is not missed.
        let all = came.as_i64().unwrap() + lost.as_i64().unwrap();
        assert!((495..=500).contains(&all), "{inbound}");
        assert!((25..=80).contains(&lost.as_i64().unwrap()), "{inbound}");
        let remote = &ours["remote-inbound-rtp"][0];
        assert_eq!((&remote["packetsLost"], &remote["localId"]), (lost, &outbound["id"]));
        assert_eq!(&remote["packetsReceived"], came);
        // Of sound, nobody says that its quality is limited.
        let is_of_video = |name: &str| name.starts_with("qualityLimitation");
        assert!(!outbound.as_object().unwrap().keys().any(|name| is_of_video(name)), "{outbound}");
        let round_trip = remote["roundTripTime"].as_f64().unwrap();
        assert!((0.049..0.055).contains(&round_trip), "{remote}");
        assert_eq!(ours["candidate-pair"][0]["currentRoundTripTime"], remote["roundTripTime"]);
        let remote = &theirs["remote-outbound-rtp"][0];
        assert_eq!(remote["packetsSent"], json!(500));
        // One a second, some of which are lost.
        assert!((5..=20).contains(&remote["reportsSent"].as_u64().unwrap()), "{remote}");
        let taken = theirs["transport"][0]["timestamp"].as_f64().unwrap();
        let told = remote["remoteTimestamp"].as_f64().unwrap();
        assert!((-100.0..3_000.0).contains(&(taken - told)), "{told} was told before {taken}");
        let last = inbound["lastPacketReceivedTimestamp"].as_f64().unwrap();
        assert!((2_900.0..3_300.0).contains(&(taken - last)), "{last} was before {taken}");
        let codec = &ours["codec"][0];
        assert_eq!(codec["id"], outbound["codecId"]);
        assert_eq!(
            (&codec["mimeType"], &codec["payloadType"], &codec["clockRate"], &codec["channels"]),
            (&json!("audio/opus"), &json!(111), &json!(48_000), &json!(2))
        );
    });
}

#[test]
fn ids_stay_and_what_they_refer_to_is_there() {
    sim::run(2, |net| async move {
        let mut pair = Pair::new(&net);
        let (from_alice, from_bob) = (pair.alice.send_audio().1, pair.bob.send_audio().1);
        pair.describe();
        pair.connect_within(SOON).await;
        let mut reports = Vec::new();
        for n in 0..600 {
            from_alice.send(frame(n)).unwrap();
            from_bob.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
            if n % 200 == 199 {
                reports.push(pair.alice.conn.stats().await);
            }
        }
        assert!(reports.iter().all(|report| ids(report) == ids(&reports[0])));
        let mut distinct = ids(&reports[0]);
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), reports[0].stats.len());
        let objects = serde_json::to_value(&reports[0]).unwrap();
        let mut references = 0;
        for object in objects.as_array().unwrap() {
            for (name, value) in object.as_object().unwrap() {
                if name.ends_with("Id") {
                    references += 1;
                    let id = value.as_str().unwrap();
                    assert!(reports[0].get(id).is_some(), "{name} of {object}");
                }
            }
        }
        assert!(references > 15, "{objects}");
        let packets = |report: &RTCStatsReport| report.inbound().next().unwrap().packets_received;
        assert_eq!(reports.iter().map(packets).collect::<Vec<_>>(), [200, 400, 600]);
        // What there is beside payloads is counted alike at both ends.
        let ours = pair.alice.conn.stats().await;
        let outbound = ours.outbound().next().unwrap();
        assert!(outbound.header_bytes_sent >= 12 * outbound.packets_sent, "{outbound:?}");
        let theirs = pair.bob.conn.stats().await;
        let inbound = theirs.inbound().next().unwrap();
        assert_eq!(
            (inbound.header_bytes_received, inbound.packets_received),
            (outbound.header_bytes_sent, outbound.packets_sent)
        );
        // What is written is read again.
        assert_eq!(signalled(&reports[0]), reports[0]);
    });
}

#[test]
fn the_transport_is_told_from_the_beginning_to_the_end() {
    sim::run(3, |net| async move {
        let mut pair = Pair::new(&net);
        let states = |report: &RTCStatsReport| {
            let transport = report.transport().unwrap();
            let pair = transport.selected_candidate_pair_id.is_some();
            (transport.ice_state.clone(), transport.dtls_state.clone(), pair)
        };
        let told = |ice: &str, dtls: &str, pair| (ice.to_owned(), dtls.to_owned(), pair);
        assert_eq!(states(&pair.alice.conn.stats().await), told("new", "new", false));
        pair.connect_within(SOON).await;
        let report = pair.alice.conn.stats().await;
        assert_eq!(states(&report), told("connected", "connected", true));
        let transport = report.transport().unwrap();
        assert_eq!(transport.srtp_cipher.as_deref(), Some("SRTP_AEAD_AES_256_GCM"));
        let version = pair.bob.conn.stats().await.transport().unwrap().tls_version.clone();
        assert_eq!(transport.tls_version, version);
        assert!(matches!(version.as_deref(), Some("FEFD" | "FEFC")), "{version:?}");
        let roles = [&report, &pair.bob.conn.stats().await]
            .map(|report| report.transport().unwrap().dtls_role.clone().unwrap());
        assert!(roles.contains(&"client".to_owned()) && roles.contains(&"server".to_owned()));
        let ice = [&report, &pair.bob.conn.stats().await]
            .map(|report| report.transport().unwrap().ice_role.clone().unwrap());
        let [one, other] = ice.each_ref().map(String::as_str);
        assert!(matches!(
            (one, other),
            ("controlling", "controlled") | ("controlled", "controlling")
        ));
        let ours = pair.alice.conn.local().ice.username_frag;
        let fragments = report.stats.iter().filter_map(|stats| match stats {
            RTCStats::LocalCandidate(stats) => Some(stats.username_fragment.clone()),
            _ => None,
        });
        assert_eq!(fragments.collect::<Vec<_>>(), [Some(ours)]);
        let fingerprint = |peer: &Peer| {
            let dtls = peer.conn.local().dtls.unwrap();
            dtls.fingerprint.get("sha-256").unwrap().to_vec()
        };
        let certificates: Vec<_> = report
            .stats
            .iter()
            .filter_map(|stats| match stats {
                RTCStats::Certificate(stats) => Some(stats.fingerprint.replace(':', "")),
                _ => None,
            })
            .collect();
        let expected = [&pair.alice, &pair.bob]
            .map(|peer| fingerprint(peer).iter().map(|byte| format!("{byte:02X}")).collect());
        assert_eq!(certificates, expected as [String; 2]);
        // No secret is in it.
        let text = serde_json::to_string(&report).unwrap();
        for peer in [&pair.alice, &pair.bob] {
            assert!(!text.contains(&peer.conn.local().ice.password));
        }
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        let after = pair.alice.conn.stats().await;
        assert_eq!(states(&after), told("closed", "closed", true));
        assert_eq!(after.inbound().count() + after.outbound().count(), 0);
    });
}

#[test]
fn checks_and_consents_are_told_whoever_sends_them() {
    sim::run(6, |net| async move {
        let mut pair = Pair::new(&net);
        pair.connect_within(SOON).await;
        let told = async |peer: &Peer| {
            let report = by_type(&peer.conn.stats().await);
            let counts = report["candidate-pair"][0].clone();
            let of = |name: &str| counts[name].as_u64().unwrap();
            assert!(of("requestsReceived") >= of("responsesSent"), "{counts}");
            assert!(of("requestsSent") + of("consentRequestsSent") >= of("responsesReceived"));
            assert!(of("requestsSent") > 0 && of("responsesReceived") > 0, "{counts}");
            (of("requestsSent"), of("consentRequestsSent"), of("responsesReceived"))
        };
        // The media thread has the consent of the path by now.
        pass(Duration::from_secs(30)).await;
        for peer in [&pair.alice, &pair.bob] {
            let (checks, consents, responses) = told(peer).await;
            pass(Duration::from_secs(60)).await;
            let (later_checks, later_consents, later_responses) = told(peer).await;
            // One each 4 to 6 seconds, each answered.
            let renewed = later_consents - consents;
            assert!((10..=15).contains(&renewed), "{renewed}");
            assert_eq!(later_responses - responses, renewed);
            assert_eq!(later_checks, checks, "the path is settled");
        }
    });
}

#[test]
fn a_forwarded_track_names_where_it_comes_from() {
    sim::run(4, |net| async move {
        let mut publisher = Pair::new(&net);
        // The server's two connections run on one engine.
        let server = net.host("server", &[[10, 0, 1, 1].into()]);
        let engine = ortc_api::Engine::simulated(server.io(), net.random());
        let with_engine = || {
            let options = ortc_api::RTCConnectionOptions::new().with_engine(engine.clone());
            let conn = ortc_api::RTCConnection::new(options).unwrap();
            let events = conn.events();
            Peer { host: server.clone(), conn, events, seen: Vec::new() }
        };
        publisher.bob = with_engine();
        let source = publisher.alice.send_audio().1;
        publisher.describe();
        publisher.connect_within(SOON).await;
        let received: MediaStream = publisher.bob.conn.receiving_streams().remove(0);
        let listener = Peer::new(&net, "listener", 7, net.random());
        let mut subscriber = Pair { alice: with_engine(), bob: listener };
        subscriber.alice.conn.add_stream(&received, true).unwrap();
        subscriber.describe();
        subscriber.connect_within(SOON).await;
        for n in 0..100 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        let (came, went) = (publisher.bob.conn.stats().await, subscriber.alice.conn.stats().await);
        let outbound = went.outbound().next().unwrap();
        let Some(RTCStats::Route(route)) = went.get(outbound.route_id.as_ref().unwrap()) else {
            panic!("{went:?}")
        };
        let Some(RTCStats::InboundRtp(inbound)) = came.get(&route.source_inbound_id) else {
            panic!("{came:?}")
        };
        assert_eq!(
            (inbound.ssrc, inbound.packets_received, route.packets_forwarded),
            (route.source_ssrc, 100, 100)
        );
        assert_eq!((&route.outbound_id, outbound.packets_sent), (&outbound.id, 100));
    });
}

#[test]
fn what_is_dropped_is_told() {
    sim::run(5, |net| async move {
        let mut pair = Pair::new(&net);
        let source = pair.alice.send_audio().1;
        pair.connect_within(SOON).await;
        for n in 0..10 {
            source.send(frame(n)).unwrap();
        }
        // Nobody ever describes it.
        pair.bob.until(SOON, |event| matches!(event, RTCEvent::UnknownTrack(_))).await;
        pass(SOON).await;
        let report = pair.bob.conn.stats().await;
        let Some(RTCStats::Connection(dropped)) = report.get("P") else { panic!("{report:?}") };
        assert_eq!(
            (dropped.packets_of_unknown_tracks, dropped.packets_discarded_on_receive),
            (10, 10)
        );
    });
}
