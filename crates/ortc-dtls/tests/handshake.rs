//! Two endpoints find each other, or do not, as they should.

mod pair;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ortc_dtls::{
    Certificate, DtlsConfig, DtlsEndpoint, DtlsError, DtlsFailure, DtlsOutput, DtlsRole,
    DtlsVersion, HashAlgorithm, RTCDtlsConnectionInfo,
};
use pair::{Pair, Side, VERSIONS, config};

#[test]
fn both_sides_get_the_same_keys_and_each_others_certificate() {
    for client in VERSIONS {
        for server in VERSIONS {
            let mut pair = Pair::with_configs(config(client), config(server));
            pair.connect();
            pair.assert_connected();
            let seen = RTCDtlsConnectionInfo::of_certificate(
                pair.client.peer_certificate.as_ref().unwrap(),
            );
            let expected = pair.server.certificate.fingerprint(HashAlgorithm::Sha256);
            assert_eq!(seen.fingerprint.get("sha-256"), Some(&expected[..]));
        }
    }
}

#[test]
fn two_hundred_of_two_hundred_connect_at_thirty_percent_loss() {
    for version in VERSIONS {
        let mut failed = Vec::new();
        let mut slowest = Duration::ZERO;
        for seed in 0..200 {
            let mut pair = Pair::new(version).lossy(0.3, seed);
            pair.connect();
            if pair.connected() {
                pair.assert_connected();
                slowest = slowest.max(pair.sent.last().unwrap().0);
            } else {
                failed.push((seed, pair.client.stopped, pair.server.stopped));
            }
        }
        assert_eq!(failed, [], "{version:?}");
        assert!(slowest < Duration::from_secs(20), "{version:?}: {slowest:?}");
    }
}

#[test]
fn a_last_flight_that_went_out_with_the_one_before_is_understood_when_it_is_repeated() {
    let mut pair = Pair::new(DtlsVersion::V12);
    let (held, phase) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let (kept, now) = (Rc::clone(&held), Rc::clone(&phase));
    // The client's flight is late, and what the server says then is lost.
    pair.tamper = Box::new(move |side, number, datagram| match (now.get(), side) {
        (0, Side::Client) if number > 0 => {
            kept.borrow_mut().push(datagram);
            Vec::new()
        }
        (1, Side::Server) => Vec::new(),
        _ => vec![datagram],
    });
    pair.start();
    pair.advance(Duration::from_millis(30));
    phase.set(1);
    // It comes when the server would have sent its own again.
    let (due, _) = pair.server.endpoint.poll_timeout().unwrap();
    pair.now = due;
    for datagram in held.take() {
        pair.server.endpoint.handle_datagram(due, &datagram);
    }
    pair.advance(Duration::ZERO);
    assert!(pair.server.keys.is_some() && pair.client.keys.is_none());
    phase.set(2);
    pair.advance(Duration::from_secs(5));
    pair.assert_connected();
}

/// A pair of which the client gets so many datagrams of another handshake with the same server in
/// place of those of its own.
fn mixed(datagrams: usize) -> Pair {
    let certificates = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let [mut other, mut pair] = [0; 2].map(|_| {
        let config = config(DtlsVersion::V12);
        Pair::with_certificates(config.clone(), config, certificates.clone())
    });
    other.start();
    other.advance(Duration::from_millis(15));
    let of_server = |(_, side, bytes): &pair::Sent| (*side == Side::Server).then(|| bytes.clone());
    let late: Vec<Bytes> = other.sent.iter().filter_map(of_server).collect();
    assert!(!late.is_empty());
    pair.tamper = Box::new(move |side, number, datagram| match side {
        Side::Server if number < datagrams => late.clone(),
        _ => vec![datagram],
    });
    pair.connect();
    pair
}

#[test]
fn what_comes_late_of_another_handshake_does_not_end_one() {
    let pair = mixed(10);
    pair.assert_connected();
    assert!(pair.client.endpoint.stats().restarts > u64::from(DtlsConfig::default().restarts));
}

#[test]
fn a_server_that_signs_what_is_not_of_this_handshake_is_told_of_in_the_end() {
    let pair = mixed(usize::MAX);
    let Some(Err(DtlsFailure::Protocol(reason))) = &pair.client.stopped else {
        panic!("{:?}", pair.client.stopped)
    };
    assert!(reason.contains("signature"), "{reason}");
}

/// What arrives is cut off after so many datagrams: before anything has come, in the middle, and
/// before the last flight.
fn interrupted(version: DtlsVersion, last: usize) -> Pair {
    let mut pair = Pair::new(version);
    pair.tamper = Box::new(move |_, number, datagram| match number {
        number if number < last => vec![datagram],
        _ => Vec::new(),
    });
    pair.start();
    pair
}

#[test]
fn a_handshake_outlives_half_a_minute_without_a_network() {
    for version in VERSIONS {
        for last in 0..6 {
            for seconds in [10, 20, 30] {
                let mut pair = interrupted(version, last);
                pair.advance(Duration::from_secs(seconds));
                assert_eq!((&pair.client.stopped, &pair.server.stopped), (&None, &None));
                pair.tamper = Box::new(|_, _, datagram| vec![datagram]);
                pair.advance(Duration::from_secs(seconds / 4 + 4));
                assert!(
                    pair.connected(),
                    "{version:?}, {last} arrive, {seconds} s: {:?} {:?}, sent {:?}",
                    pair.client.stopped,
                    pair.server.stopped,
                    pair.sent
                        .iter()
                        .map(|(at, side, _)| (at.as_millis(), *side))
                        .collect::<Vec<_>>()
                );
                pair.assert_connected();
            }
        }
    }
}

#[test]
fn a_hello_that_comes_over_and_over_wears_nobody_out() {
    for version in VERSIONS {
        let mut pair = interrupted(version, usize::MAX);
        // On a short path, where much could be repeated in little time; nothing comes back.
        for side in [Side::Client, Side::Server] {
            pair.peer(side).endpoint.set_round_trip(Duration::from_millis(1));
        }
        pair.tamper = Box::new(|side, _, datagram| match side {
            Side::Client => vec![datagram],
            Side::Server => Vec::new(),
        });
        pair.advance(Duration::from_millis(15));
        let (_, _, hello) = pair.sent.iter().find(|(_, side, _)| *side == Side::Client).unwrap();
        let hello = hello.clone();
        for _ in 0..80 {
            pair.advance(Duration::from_millis(250));
            let now = pair.now;
            pair.server.endpoint.handle_datagram(now, &hello);
        }
        assert_eq!((&pair.client.stopped, &pair.server.stopped), (&None, &None), "{version:?}");
        pair.tamper = Box::new(|_, _, datagram| vec![datagram]);
        pair.drive_until(Duration::from_secs(25), Pair::connected);
        pair.assert_connected();
    }
}

#[test]
fn a_handshake_waits_for_a_path_that_is_lost_and_goes_on_at_once() {
    for version in VERSIONS {
        for last in 0..6 {
            let mut pair = interrupted(version, last);
            // ICE does not notice at once.
            pair.advance(Duration::from_secs(30));
            let now = pair.now;
            for peer in [&mut pair.client, &mut pair.server] {
                peer.endpoint.path_lost(now);
            }
            let sent = pair.sent.len();
            pair.advance(Duration::from_secs(3600));
            assert_eq!((&pair.client.stopped, &pair.server.stopped), (&None, &None));
            assert_eq!(pair.sent.len(), sent, "nothing is sent into nowhere");
            pair.tamper = Box::new(|_, _, datagram| vec![datagram]);
            let now = pair.now;
            for peer in [&mut pair.client, &mut pair.server] {
                peer.endpoint.path_found(now);
            }
            pair.advance(Duration::from_secs(3));
            pair.assert_connected();
        }
    }
}

#[test]
fn a_peer_that_talks_and_never_finishes_is_given_up() {
    let mut pair = Pair::new(DtlsVersion::V12);
    // Whatever the server says, its first flight comes.
    let mut first = Vec::new();
    pair.tamper = Box::new(move |side, _, datagram| match side {
        Side::Client => vec![datagram],
        Side::Server if first.is_empty() => {
            first.push(datagram.clone());
            vec![datagram]
        }
        Side::Server => first.clone(),
    });
    pair.start();
    pair.advance(Duration::from_secs(130));
    assert!(pair.client.keys.is_none());
    assert!(matches!(pair.client.stopped, Some(Err(_))), "{:?}", pair.client.stopped);
}

#[test]
fn a_lost_last_flight_is_sent_again_after_the_sender_has_connected() {
    for (version, last) in [(DtlsVersion::V12, Side::Server), (DtlsVersion::Auto, Side::Client)] {
        let mut pair = Pair::new(version);
        // The hellos and the server's first flight arrive; the next three datagrams of the
        // side that has the last word do not.
        let mut lost = 0;
        pair.start();
        pair.drive_until(Duration::from_millis(19), |_| false);
        pair.tamper = Box::new(move |side, _, datagram| {
            if side == last && lost < 3 {
                lost += 1;
                return vec![];
            }
            vec![datagram]
        });
        pair.drive_until(Duration::from_secs(30), Pair::connected);
        pair.assert_connected();
        assert!(pair.sent.last().unwrap().0 > Duration::from_millis(150), "nothing was lost");
    }
}

#[test]
fn a_client_is_answered_however_often_the_last_flight_is_lost() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.start();
    pair.drive_until(Duration::from_millis(19), |_| false);
    let mut answers = 0;
    pair.tamper = Box::new(move |side, _, datagram| {
        answers += u32::from(side == Side::Server);
        if side == Side::Server && answers <= 15 { vec![] } else { vec![datagram] }
    });
    pair.drive_until(Duration::from_secs(20), Pair::connected);
    pair.assert_connected();
    let count = |of| pair.sent.iter().filter(|(_, side, _)| *side == of).count();
    // The first flight of each, and then one answer for every repetition.
    assert_eq!((count(Side::Client), count(Side::Server)), (17, 17));
}

#[test]
fn a_wrong_fingerprint_never_connects() {
    for version in VERSIONS {
        for wrong in [Side::Client, Side::Server] {
            let mut pair = Pair::new(version);
            let stranger = Certificate::generate().unwrap().sha256();
            let (client, server) =
                (pair.client.certificate.sha256(), pair.server.certificate.sha256());
            let expected = |side, right| if side == wrong { stranger } else { right };
            pair.start_server(Some(expected(Side::Server, client)));
            pair.start_client(Some(expected(Side::Client, server)));
            pair.advance(Duration::from_secs(60));
            assert_eq!(pair.peer(wrong).stopped, Some(Err(DtlsFailure::FingerprintMismatch)));
            assert!(pair.peer(wrong).keys.is_none());
            if wrong == Side::Client || version == DtlsVersion::V12 {
                // Who hears nothing more cannot finish either. (A 1.3 client has finished
                // before the server has seen its certificate.)
                let other = if wrong == Side::Client { &pair.server } else { &pair.client };
                assert!(other.keys.is_none(), "{version:?} {wrong:?}");
                assert_eq!(other.stopped, Some(Err(DtlsFailure::TimedOut)));
            }
        }
    }
}

#[test]
fn no_fingerprint_takes_any_certificate() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.start_server(None);
    pair.start_client(None);
    pair.drive_until(Duration::from_secs(1), Pair::connected);
    pair.assert_connected();
}

#[test]
fn a_client_hello_in_two_fragments_is_reassembled() {
    type Shape = fn(&[u8]) -> Vec<Bytes>;
    let shapes: [Shape; 3] = [
        |hello| split_hello(hello).into(),
        |hello| split_hello(hello).into_iter().rev().collect(),
        |hello| vec![split_hello(hello).concat().into()],
    ];
    for client in VERSIONS {
        for server in VERSIONS {
            for shape in shapes {
                let mut pair = Pair::with_configs(config(client), config(server));
                pair.tamper = Box::new(move |side, nth, datagram| match (side, nth) {
                    (Side::Client, 0) => shape(&datagram),
                    _ => vec![datagram],
                });
                pair.connect();
                pair.assert_connected();
                assert!(pair.sent.last().unwrap().0 < Duration::from_millis(100), "retransmitted");
            }
        }
    }
}

#[test]
fn datagrams_before_start_are_kept_and_the_ninth_is_counted() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.start_client(None);
        pair.drive_until(Duration::from_millis(30), |_| false);
        let hello = pair.sent[0].2.clone();
        for _ in 0..20 {
            pair.server.endpoint.handle_datagram(pair.now, &hello);
        }
        assert_eq!(pair.server.endpoint.stats().dropped_parked, 13);
        pair.start_server(None);
        pair.drive_until(Duration::from_millis(150), Pair::connected);
        pair.assert_connected();
    }
}

#[test]
fn nobody_there_is_a_timeout_and_a_deadline_with_a_reason() {
    for version in VERSIONS {
        let mut pair = Pair::new(version).lossy(1.0, 0);
        pair.start();
        let (at, reason) = pair.server.endpoint.poll_timeout().unwrap();
        assert_eq!((at - pair.now, reason), (Duration::from_secs(40), "DTLS handshake deadline"));
        pair.advance(Duration::from_secs(39));
        assert_eq!((&pair.client.stopped, &pair.server.stopped), (&None, &None));
        pair.advance(Duration::from_secs(2));
        assert_eq!(pair.client.stopped, Some(Err(DtlsFailure::TimedOut)));
        assert_eq!(pair.server.stopped, Some(Err(DtlsFailure::TimedOut)));
        assert_eq!(pair.client.endpoint.poll_timeout(), None);
        let second = pair.sent[1].0;
        assert!((150..=250).contains(&second.as_millis()), "retransmitted after {second:?}");
    }
}

#[test]
fn close_notify_stops_the_peer_whoever_closes() {
    for version in VERSIONS {
        for closing in [Side::Client, Side::Server] {
            let mut pair = Pair::new(version);
            pair.connect();
            pair.advance(Duration::from_secs(1));
            let now = pair.now;
            pair.peer(closing).endpoint.close(now);
            pair.advance(Duration::from_secs(1));
            assert_eq!(pair.client.stopped, Some(Ok(())), "{version:?} {closing:?}");
            assert_eq!(pair.server.stopped, Some(Ok(())), "{version:?} {closing:?}");
            assert_eq!(pair.client.endpoint.poll_timeout(), None);
            assert_eq!(pair.server.endpoint.poll_timeout(), None);
        }
    }
}

/// Nothing is repeated by who is gone: what is lost of it is to be made up for at once.
#[test]
fn any_one_of_three_goodbyes_is_enough_and_nobody_answers_with_as_many() {
    for version in VERSIONS {
        for closing in [Side::Client, Side::Server] {
            for arrives in 0..3 {
                let mut pair = Pair::new(version);
                pair.connect();
                pair.advance(Duration::from_secs(1));
                let before = pair.sent.len();
                let mut nth = 0;
                pair.tamper = Box::new(move |side, _, datagram| {
                    let is_through = side != closing || nth == arrives;
                    nth += usize::from(side == closing);
                    is_through.then_some(datagram).into_iter().collect()
                });
                let now = pair.now;
                pair.peer(closing).endpoint.close(now);
                pair.advance(Duration::from_secs(1));
                assert_eq!(pair.client.stopped, Some(Ok(())), "{version:?} {closing:?} {arrives}");
                assert_eq!(pair.server.stopped, Some(Ok(())), "{version:?} {closing:?} {arrives}");
                let said = pair.sent[before..].iter().map(|sent| sent.1);
                let (ours, theirs): (Vec<_>, Vec<_>) = said.partition(|side| *side == closing);
                assert_eq!((ours.len(), theirs.len()), (3, 1), "{version:?} {closing:?}");
            }
        }
    }
}

#[test]
fn close_before_connected_is_silent() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.client.endpoint.close(pair.now);
    pair.start_server(None);
    pair.server.endpoint.close(pair.now);
    pair.advance(Duration::from_secs(1));
    assert_eq!((&pair.client.stopped, &pair.server.stopped), (&Some(Ok(())), &Some(Ok(()))));
    assert_eq!(pair.sent, []);
    let again = pair.client.endpoint.start(DtlsRole::Client, None, pair.now);
    assert_eq!(again, Err(DtlsError::AlreadyStarted));
}

#[test]
fn application_data_goes_both_ways_and_only_while_connected() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        let early = pair.client.endpoint.send_application_data(pair.now, b"early");
        assert_eq!(early, Err(DtlsError::NotConnected));
        pair.connect();
        let largest = vec![7; 1086];
        pair.client.endpoint.send_application_data(pair.now, &largest).unwrap();
        pair.server.endpoint.send_application_data(pair.now, b"to the client").unwrap();
        let too_large = pair.client.endpoint.send_application_data(pair.now, &[7; 1087]);
        assert_eq!(too_large, Err(DtlsError::TooLarge { actual: 1087, limit: 1086 }));
        pair.advance(Duration::from_secs(1));
        assert_eq!(pair.server.received, [largest]);
        assert_eq!(pair.client.received, ["to the client"]);
        let longest = pair.sent.iter().map(|sent| sent.2.len()).max().unwrap();
        assert!(longest <= 1150, "{longest}");
    }
}

#[test]
fn a_standalone_server_asks_for_its_cookie_and_never_amplifies() {
    for version in VERSIONS {
        let mut standalone = DtlsConfig::standalone();
        standalone.version = version;
        let mut pair = Pair::with_configs(config(version), standalone.clone());
        pair.connect();
        pair.assert_connected();
        assert!(pair.server.endpoint.stats().datagrams_received >= 3, "no cookie was asked for");

        // Without the cookie, to one hello after which nothing comes.
        standalone.cookie_exchange = false;
        let mut pair = Pair::with_configs(config(version), standalone);
        pair.start();
        pair.tamper = Box::new(|side, nth, datagram| match (side, nth) {
            (Side::Client, 0) => vec![datagram],
            _ => vec![],
        });
        pair.advance(Duration::from_secs(30));
        let stats = pair.server.endpoint.stats();
        assert!(stats.bytes_sent <= 3 * stats.bytes_received, "{stats:?}");
        assert!(stats.dropped_amplification > 0, "{stats:?}");
    }
}

#[test]
fn a_server_follows_a_client_that_begins_afresh() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        // The first client dies after its hello, unanswered; another takes its place.
        pair.tamper = Box::new(|side, nth, datagram| match (side, nth) {
            (Side::Server, 0) => vec![],
            _ => vec![datagram],
        });
        pair.start();
        pair.drive_until(Duration::from_millis(15), |_| false);
        let certificate = pair.client.certificate.clone();
        pair.client.endpoint = DtlsEndpoint::new(config(version), certificate, pair.now);
        let expected = pair.server.certificate.sha256();
        pair.start_client(Some(expected));
        pair.drive_until(Duration::from_secs(5), Pair::connected);
        pair.assert_connected();
        assert_eq!(pair.server.endpoint.stats().restarts, 1);
    }
}

#[test]
fn a_start_in_the_same_role_times_out() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.start_client(None);
    pair.server.endpoint.start(DtlsRole::Client, None, pair.now).unwrap();
    // Each hears the other, and gives up all the same.
    pair.advance(Duration::from_secs(130));
    for peer in [&pair.client, &pair.server] {
        assert!(matches!(peer.stopped, Some(Err(_))), "{:?}", peer.stopped);
        assert!(peer.keys.is_none());
    }
}

#[test]
fn outputs_are_empty_before_start() {
    let now = std::time::Instant::now();
    let certificate = Certificate::generate().unwrap();
    let mut endpoint = DtlsEndpoint::new(DtlsConfig::default(), certificate, now);
    endpoint.handle_timeout(now + Duration::from_secs(3600));
    assert!(endpoint.poll_output().is_none_or(|output| panic!("{output:?}")));
    assert_eq!(endpoint.poll_timeout(), None);
    let _: fn(Bytes) -> DtlsOutput = DtlsOutput::Transmit;
}

/// Cuts a record with one whole ClientHello into two records with a half each.
fn split_hello(datagram: &[u8]) -> [Bytes; 2] {
    let (record, message) = datagram.split_at(13);
    let (header, body) = message.split_at(12);
    assert_eq!((record[0], header[0]), (22, 1), "a ClientHello");
    assert_eq!(header[1..4], header[9..12], "in one fragment");
    let (front, back) = body.split_at(body.len() / 2);
    [(front, 0), (back, front.len())].map(|(fragment, offset)| {
        let mut record = record.to_vec();
        record[10] = u8::from(offset > 0);
        record[11..13].copy_from_slice(&(12 + fragment.len() as u16).to_be_bytes());
        let mut header = header.to_vec();
        header[6..9].copy_from_slice(&(offset as u32).to_be_bytes()[1..]);
        header[9..12].copy_from_slice(&(fragment.len() as u32).to_be_bytes()[1..]);
        Bytes::from([&record[..], &header, fragment].concat())
    })
}
