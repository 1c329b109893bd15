//! What a call tells `tracing`: its steps and how long they took, and never a secret.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};
use ortc_api::{RTCConnectionOptions, RtpStart, Transports};
use ortc_dtls::Certificate;
use ortc_io::SrtpKeys;
use ortc_io::sim::{self, LinkConfig};
use ortc_rtp::RtpCommand;
use ortc_tests::{Pair, Peer, frame, pass};
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that is logged in this process, also by way of the `log` crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs everything from now on, with the beginning and the end of every span.
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

type Keys = Arc<Mutex<Vec<SrtpKeys>>>;

/// Notes the keys on their way to the media.
struct Spy(Recipient<RtpCommand>, Keys);

impl Actor for Spy {
    type Context = Context<Self>;
}

impl Handler<RtpCommand> for Spy {
    type Result = ();

    fn handle(&mut self, command: RtpCommand, _: &mut Context<Self>) {
        if let RtpCommand::SetKeys(keys) = &command {
            self.1.lock().unwrap().push(keys.clone());
        }
        self.0.do_send(command);
    }
}

/// A secret as it may be written: as text, in hexadecimal, in base64, as a list of numbers.
fn spellings(secret: &[u8]) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let join = |separator: &str, spell: fn(&u8) -> String| {
        secret.iter().map(spell).collect::<Vec<_>>().join(separator)
    };
    let mut spellings = vec![
        join("", |byte| format!("{byte:02x}")),
        join("", |byte| format!("{byte:02X}")),
        join(":", |byte| format!("{byte:02X}")),
        join(", ", u8::to_string),
        join(", ", |byte| format!("{byte:#x}")),
        STANDARD_NO_PAD.encode(secret),
        secret.escape_ascii().to_string(),
    ];
    spellings.extend(String::from_utf8(secret.to_vec()));
    spellings
}

#[test]
fn a_whole_call_is_told_step_by_step_and_without_a_secret() {
    let log = Log::capture();
    let keys = Keys::default();
    let noted = Arc::clone(&keys);
    let mut secrets = sim::run(1, |net| async move {
        net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::lossy(0.05) });
        let peer = |name: &str, last: u8| {
            let keys = Arc::clone(&noted);
            let transports = Transports::new().with_rtp_actor(move |start: RtpStart| {
                Spy(start.start(), Arc::clone(&keys)).start().recipient()
            });
            let certificate = Certificate::generate().unwrap();
            let key = certificate.private_key_der().to_vec();
            let options = RTCConnectionOptions::new()
                .with_certificate(certificate)
                .with_transports(transports);
            let host = net.host(name, &[[10, 0, 0, last].into()]);
            (Peer::with_options(host, net.random(), options), key)
        };
        let ((alice, key_of_alice), (bob, key_of_bob)) = (peer("alice", 1), peer("bob", 2));
        let mut pair = Pair { alice, bob };
        let source = pair.alice.send_audio().1;
        pair.alice.conn.tracks(None)[0]
            .set_rtp_ext_headers([("who".to_owned(), "alice".to_owned())].into())
            .unwrap();
        pair.describe();
        pair.connect_within(Duration::from_secs(60)).await;
        for n in 0..100 {
            source.send(frame(n)).unwrap();
            pass(Duration::from_millis(20)).await;
        }
        pair.bob.conn.stats().await;
        let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
        pair.alice.conn.update().unwrap();
        pass(Duration::from_secs(30)).await;
        for (peer, key) in [(&pair.alice, key_of_alice), (&pair.bob, key_of_bob)] {
            let ice = peer.conn.local().ice;
            secrets.push(("a password", ice.password.as_bytes().to_vec()));
            let both = format!("{}:{}", ice.username_frag, ice.password);
            secrets.push(("credentials", both.into_bytes()));
            // The random part alone is enough to forge a check.
            secrets.push(("half a password", ice.password.as_bytes()[..22].to_vec()));
            secrets.push(("a private key", key));
        }
        // Of goodbyes none is repeated: a peer that misses them all is not closed.
        net.link(LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::default() });
        pair.alice.conn.close();
        pair.alice.conn.closed().await;
        pair.bob.conn.closed().await;
        secrets
    });
    for keys in keys.lock().unwrap().iter() {
        for secret in [&keys.local_key, &keys.local_salt, &keys.remote_key, &keys.remote_salt] {
            secrets.push(("a key of SRTP", secret.to_vec()));
        }
    }
    assert_eq!(secrets.len(), 8 + 8);
    let text = log.text();
    let lines: Vec<_> = text.lines().collect();
    for (what, secret) in &secrets {
        for spelling in spellings(secret) {
            let told = lines.iter().find(|line| line.contains(&spelling));
            assert_eq!(told, None, "{what} is told");
        }
    }
    // The log crate is heard as well: the DTLS engine speaks by it.
    assert!(lines.iter().any(|line| line.contains("dimpl")), "{} lines", lines.len());
    for step in [
        "the peer is known",
        "all candidates are found",
        "a path is found",
        "keys are agreed on",
        "the first packet has come",
    ] {
        let told = lines.iter().filter(|line| line.contains(step));
        // Only one of them receives.
        let expected = if step.contains("packet") { 1 } else { 2 };
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), expected, "{step}: {told:?}");
        assert!(told.iter().all(|line| line.contains("took_ms=")), "{told:?}");
        assert!(told.iter().all(|line| line.contains("connection{id=")), "{told:?}");
    }
    // What happens far below stands in the span of its connection, too.
    for within in [":ice{", ":dtls{"] {
        assert!(lines.iter().any(|line| line.contains(within)), "{within}");
    }
    // Every span has an end: nothing is left of a connection.
    let begun = lines.iter().filter(|line| line.ends_with(": new")).count();
    let ended = lines.iter().filter(|line| line.contains(": close time.busy=")).count();
    assert!(begun >= 2 * 6, "{begun} spans");
    assert_eq!(begun, ended);
}
