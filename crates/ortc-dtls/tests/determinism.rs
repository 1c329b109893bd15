//! The same seed gives the same handshake, datagram by datagram.
#![cfg(feature = "sim")]

mod pair;

use std::time::Duration;

use ortc_dtls::{Certificate, DtlsConfig, DtlsVersion};
use pair::{Pair, Side, VERSIONS};

#[test]
fn the_same_seed_gives_datagrams_of_the_same_lengths_at_the_same_times() {
    for version in VERSIONS {
        let mut transcripts = Vec::new();
        for seed in 0..20 {
            let first = transcript(version, seed);
            for _ in 0..3 {
                assert_eq!(transcript(version, seed), first, "{version:?}, seed {seed}");
            }
            transcripts.push(first);
        }
        transcripts.dedup();
        assert!(transcripts.len() > 1, "the seed makes no difference");
    }
}

/// Times, senders and lengths of a handshake at 20 % loss, and of a message and the close.
fn transcript(version: DtlsVersion, seed: u64) -> Vec<(Duration, Side, usize)> {
    let config = |seed| {
        let mut config = DtlsConfig::deterministic(seed);
        config.version = version;
        config
    };
    let certificate = |seed| Certificate::deterministic(seed).unwrap();
    let (one, other) = (2 * seed, 2 * seed + 1);
    let certificates = (certificate(one), certificate(other));
    let mut pair =
        Pair::with_certificates(config(one), config(other), certificates).lossy(0.2, seed);
    pair.connect();
    pair.assert_connected();
    pair.client.endpoint.send_application_data(pair.now, b"hello").unwrap();
    pair.advance(Duration::from_secs(1));
    pair.client.endpoint.close(pair.now);
    pair.advance(Duration::from_secs(1));
    pair.sent.iter().map(|(at, side, datagram)| (*at, *side, datagram.len())).collect()
}
