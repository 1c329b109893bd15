//! Whatever comes in: no panic, bounded memory, and the peer still gets through.

mod pair;

use std::time::Duration;

use ortc_dtls::DtlsVersion;
use pair::{Pair, Side, VERSIONS};

#[test]
fn noise_before_during_and_after_a_handshake_changes_nothing() {
    for version in VERSIONS {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pair = Pair::new(version);
            pair.start();
            for _ in 0..40 {
                pair.drive_until(Duration::from_millis(1), |_| false);
                for side in [Side::Client, Side::Server] {
                    let now = pair.now;
                    for _ in 0..5 {
                        let noise = noise(&mut random);
                        pair.peer(side).endpoint.handle_datagram(now, &noise);
                    }
                }
            }
            pair.drive_until(Duration::from_secs(40), Pair::connected);
            pair.assert_connected();
            assert_eq!(pair.client.endpoint.stats().restarts, 0);
        }
    }
}

#[test]
fn records_with_flipped_bytes_do_not_panic() {
    for version in VERSIONS {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pair = Pair::new(version);
            pair.tamper = Box::new(move |_, _, datagram| {
                let mut forged = datagram.to_vec();
                for _ in 0..random.usize(0..3) {
                    let index = random.usize(0..forged.len());
                    forged[index] ^= 1 << random.u8(0..8);
                }
                vec![forged.into()]
            });
            pair.connect();
            pair.advance(Duration::from_secs(60));
            let stats = pair.client.endpoint.stats();
            // Three, and five more, a second apart, where a signature did not fit; and fewer than ten
            // in each of the seconds that a handshake may go on.
            assert!(stats.restarts <= 9 && stats.datagrams_sent < 600, "{stats:?}");
            if let (Some(client), Some(server)) = (&pair.client.keys, &pair.server.keys) {
                assert_eq!(client.local_key, server.remote_key);
            }
        }
    }
}

#[test]
fn thirty_thousand_one_byte_fragments_before_the_hello_are_survived() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.start_server(None);
        for index in 0..30_000 {
            let fragment = one_byte_fragment(index, 60_000);
            pair.server.endpoint.handle_datagram(pair.now, &fragment);
        }
        assert_eq!(pair.server.stopped, None);
        assert_eq!(pair.server.endpoint.stats().datagrams_sent, 0);
        pair.start_client(None);
        pair.drive_until(Duration::from_millis(100), Pair::connected);
        pair.assert_connected();
    }
}

#[test]
fn thirty_thousand_fragments_in_mid_handshake_end_it_at_worst() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.start();
        pair.drive_until(Duration::from_millis(15), |_| false);
        for side in [Side::Client, Side::Server] {
            for index in 0..30_000 {
                let fragment = one_byte_fragment(index, 60_000);
                let now = pair.now;
                pair.peer(side).endpoint.handle_datagram(now, &fragment);
            }
        }
        pair.drive_until(Duration::from_secs(60), Pair::connected);
        for peer in [&pair.client, &pair.server] {
            assert!(peer.endpoint.stats().restarts <= 3_000);
            assert!(peer.endpoint.stats().datagrams_sent < 200, "{:?}", peer.endpoint.stats());
        }
    }
}

#[test]
fn a_connection_outlives_forged_fragments_and_alerts() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.connect();
        pair.advance(Duration::from_secs(1));
        let fatal_alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 9, 0, 2, 2, 40];
        for side in [Side::Client, Side::Server] {
            let now = pair.now;
            for index in 0..30_000 {
                let fragment = one_byte_fragment(index, 60_000);
                pair.peer(side).endpoint.handle_datagram(now, &fragment);
            }
            pair.peer(side).endpoint.handle_datagram(now, &fatal_alert);
        }
        pair.client.endpoint.send_application_data(pair.now, b"still here").unwrap();
        pair.advance(Duration::from_secs(1));
        assert_eq!(pair.server.received, ["still here"], "{version:?}");
        assert_eq!((&pair.client.stopped, &pair.server.stopped), (&None, &None));
    }
}

#[test]
fn whoever_asks_a_connected_server_for_its_last_flight_gets_no_more_than_it_sends() {
    for (length, every_ms) in [(14, 1), (40, 1), (200, 1), (1_200, 1), (14, 40), (1_200, 1_000)] {
        let mut pair = Pair::new(DtlsVersion::V12);
        pair.connect();
        pair.advance(Duration::from_secs(1));
        let server = &mut pair.server.endpoint;
        let before = server.stats();
        let end = pair.now + Duration::from_secs(60);
        while pair.now < end {
            pair.now += Duration::from_millis(every_ms);
            server.handle_datagram(pair.now, &forged_handshake(length));
            while server.poll_output().is_some() {}
            let stats = server.stats();
            let sent = stats.bytes_sent - before.bytes_sent;
            let received = stats.bytes_received - before.bytes_received;
            assert!(sent <= received, "{sent} bytes for {received}");
        }
        let stats = server.stats();
        let asked = stats.datagrams_received - before.datagrams_received;
        let answered = stats.datagrams_sent - before.datagrams_sent;
        assert_eq!(asked, 60_000 / every_ms);
        // Four in the first second, and then after a quarter of the time each: 1.25²⁰ is 86.
        assert!((1..=24).contains(&answered), "{answered} of {length} bytes");
        assert_eq!(stats.dropped_repeats, asked - answered);
    }
}

#[test]
fn a_client_that_missed_the_last_flight_gets_it_in_a_flood_of_forged_ones() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.start();
    pair.drive_until(Duration::from_millis(19), |_| false);
    let mut answers = 0;
    // All of the first ten seconds and more is lost.
    pair.tamper = Box::new(move |side, _, datagram| {
        answers += u32::from(side == Side::Server);
        if side == Side::Server && answers <= 30 { vec![] } else { vec![datagram] }
    });
    for _ in 0..40_000 {
        pair.advance(Duration::from_millis(1));
        if pair.server.keys.is_some() {
            let now = pair.now;
            pair.server.endpoint.handle_datagram(now, &forged_handshake(100));
        }
        if pair.connected() {
            break;
        }
    }
    pair.assert_connected();
    let client = pair.sent.iter().filter(|(_, side, _)| *side == Side::Client).count();
    let server = pair.sent.iter().filter(|(_, side, _)| *side == Side::Server).count();
    // What is forged has it sent some more times, and keeps no true one from being answered.
    assert!(server >= client && server <= client + 24, "{server} for {client}");
}

/// A datagram of this length from the address of a client, as one that has not heard a server's
/// last flight begins with.
fn forged_handshake(length: u16) -> Vec<u8> {
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    datagram.extend_from_slice(&(length - 13).to_be_bytes());
    datagram.resize(length.into(), 11);
    datagram
}

#[test]
fn what_is_no_dtls_is_counted() {
    let mut pair = Pair::new(DtlsVersion::V12);
    pair.start_server(None);
    for datagram in [&[][..], &[22; 12], &[0x80; 60], &[22; 9_217], &[64; 100]] {
        pair.server.endpoint.handle_datagram(pair.now, datagram);
    }
    let stats = pair.server.endpoint.stats();
    assert_eq!((stats.datagrams_received, stats.dropped_implausible), (5, 5));
}

/// Random bytes, half of them behind a believable record header.
fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
    if bytes.len() > 30 && random.bool() {
        bytes[0] = random.u8(20..=26);
        bytes[1..5].copy_from_slice(&[0xfe, 0xfd, 0, random.u8(0..3)]);
        let length = bytes.len() as u16 - 13;
        bytes[11..13].copy_from_slice(&length.to_be_bytes());
        if bytes[0] == 21 || bytes[0] == 22 {
            // An unprotected alert or a hello is not noise but an attack: elsewhere.
            bytes[0] = 23;
        }
    }
    bytes
}

/// The `index`-th byte of a handshake message of `length` bytes, in a record of its own.
fn one_byte_fragment(index: u32, length: u32) -> Vec<u8> {
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
    datagram.extend_from_slice(&(index + 100).to_be_bytes());
    datagram.extend_from_slice(&[0, 13, 1]);
    datagram.extend_from_slice(&length.to_be_bytes()[1..]);
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(&index.to_be_bytes()[1..]);
    datagram.extend_from_slice(&[0, 0, 1, 0x55]);
    datagram
}
