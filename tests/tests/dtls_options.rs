//! What the application chooses of DTLS: the version, and the certificate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};
use ortc_api::{Certificate, DtlsStart, DtlsVersion, RTCConnectionOptions, Transports};
use ortc_io::SocketCommand;
use ortc_io::sim;
use ortc_tests::{Pair, Peer};

const SOON: Duration = Duration::from_secs(10);

/// What the two sides are made with, and whether they speak 1.3.
const VERSIONS: [([DtlsVersion; 2], bool); 4] = [
    ([DtlsVersion::V12, DtlsVersion::V12], false),
    ([DtlsVersion::Auto, DtlsVersion::Auto], true),
    ([DtlsVersion::Auto, DtlsVersion::V12], false),
    ([DtlsVersion::V12, DtlsVersion::Auto], false),
];

#[test]
fn peers_of_any_versions_connect_and_speak_the_newest_that_both_have() {
    for (versions, is_13) in VERSIONS {
        // Who is the client is the seed's to decide: both orders are met.
        for seed in 0..8 {
            sim::run(seed, |net| async move {
                let sent = Overheard::default();
                let [alice, bob] =
                    versions.map(|version| options(&sent).with_dtls_version(version));
                let hosts = [
                    net.host("alice", &[[10, 0, 0, 1].into()]),
                    net.host("bob", &[[10, 0, 0, 2].into()]),
                ];
                let [on_alice, on_bob] = hosts;
                let mut pair = Pair {
                    alice: Peer::with_options(on_alice, net.random(), alice),
                    bob: Peer::with_options(on_bob, net.random(), bob),
                };
                pair.connect_within(SOON).await;
                let sent = sent.lock().unwrap();
                assert!(sent.len() >= 4, "{versions:?} {seed}: {} datagrams", sent.len());
                // RFC 9147 §4: only an encrypted record of DTLS 1.3 begins with the bits 001.
                let found = sent.iter().any(|first| first >> 5 == 0b001);
                assert_eq!(found, is_13, "{versions:?} {seed}");
            });
        }
    }
}

#[test]
fn the_certificate_that_is_given_is_the_one_that_is_signalled_and_shown() {
    let certificate = Certificate::from_pem(&Certificate::generate().unwrap().to_pem()).unwrap();
    let expected = certificate.connection_info();
    let signalled = format!("sha-256 {}", hex(&certificate.sha256()));
    sim::run(1, |net| async move {
        let host = net.host("alice", &[[10, 0, 0, 1].into()]);
        let options = RTCConnectionOptions::new().with_certificate(certificate);
        let mut pair = Pair {
            alice: Peer::with_options(host, net.random(), options),
            bob: Peer::new(&net, "bob", 2, net.random()),
        };
        let local = pair.alice.conn.local();
        assert_eq!(local.ice.fingerprint, Some(signalled));
        assert_eq!(local.dtls.as_ref(), Some(&expected));
        pair.connect_within(SOON).await;
        assert_eq!(pair.bob.conn.remote().unwrap().dtls, Some(expected));
    });
}

/// The first byte of each datagram that a DTLS actor has sent.
type Overheard = Arc<Mutex<Vec<u8>>>;

fn options(sent: &Overheard) -> RTCConnectionOptions {
    let sent = Arc::clone(sent);
    let transports = Transports::new().with_dtls_actor(move |mut start: DtlsStart| {
        let tap = Tap { inner: start.sockets, sent: Arc::clone(&sent) };
        start.sockets = tap.start().recipient();
        start.start()
    });
    RTCConnectionOptions::new().with_transports(transports)
}

/// A socket port that listens to what is sent.
struct Tap {
    inner: Recipient<SocketCommand>,
    sent: Overheard,
}

impl Actor for Tap {
    type Context = Context<Self>;
}

impl Handler<SocketCommand> for Tap {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, _: &mut Context<Self>) {
        if let SocketCommand::SendControl(control) = &command {
            self.sent.lock().unwrap().extend(control.datagram.first());
        }
        self.inner.do_send(command);
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
