use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;
use dimpl::{CryptoError, Dtls, Error, Output, ProtocolVersion, UnexpectedMessageError};
use ortc_io::SrtpProfile;
use zeroize::Zeroizing;

use crate::records::Records;
use crate::suites::{SharedKey, capture};
use crate::{Certificate, DtlsConfig, DtlsRole, DtlsVersion};

/// Outputs taken from the engine in one go. It settles after a few dozen; one that does not
/// is broken.
const MAX_POLLS: usize = 1_000;

/// Room for most outputs: a datagram, or a certificate.
const OUTPUT: usize = 2048;

/// The largest output that the engine may ask room for: a whole record.
const MAX_OUTPUT: usize = 1 << 16;

/// One DTLS association, from the first ClientHello on: the engine's, and after a handshake of
/// DTLS 1.2 [`Records`] alone.
///
/// The engine is held at arm's length: a panic in it becomes a [`Failure`], after which it is
/// not touched again, and an error that it calls fatal although nothing is lost is none.
pub(crate) struct Association(Part);

/// What carries it. Boxed, as the first is some 3 kB and gone soon.
enum Part {
    Engine(Box<Handshaking>),
    Records(Box<Records>),
    Failed,
}

struct Handshaking {
    engine: Dtls,
    client: bool,
    /// Made so far.
    keys: Vec<SharedKey>,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Part::Engine(it) => f.debug_tuple("Engine").field(&it.engine).finish(),
            Part::Records(_) => f.write_str("Records"),
            Part::Failed => f.write_str("Failed"),
        }
    }
}

/// What the engine has to say.
pub(crate) enum Event {
    Packet(Bytes),
    PeerCertificate(Bytes),
    Connected,
    Keys(SrtpProfile, Zeroizing<Vec<u8>>),
    ApplicationData(Bytes),
    CloseNotify,
    /// The peer cannot go on, after all of the above.
    Failed(Failure),
}

/// Why the engine cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    TimedOut,
    /// The receive queue is full of fragments that lead nowhere.
    Clogged(String),
    /// A signature does not fit what came before it. As a rule it is of another handshake of the
    /// two, one of which has begun afresh, and came late.
    Mixed(String),
    Protocol(String),
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// With a Finished of the peer's, authentic and not seen before, though the handshake is over.
    FinishedAgain,
    /// It was no answer to our hello; the engine has not changed.
    Unrecognized,
}

impl Association {
    pub(crate) fn new(
        config: &DtlsConfig,
        certificate: &Certificate,
        role: DtlsRole,
        attempt: u32,
        now: Instant,
    ) -> Result<Self, Failure> {
        let client = role == DtlsRole::Client;
        let engine = guard(|| {
            let engine_config = config.to_engine(attempt)?;
            let certificate = certificate.to_engine();
            let mut engine = match config.version {
                DtlsVersion::V12 => Dtls::new_12(engine_config, certificate, now),
                DtlsVersion::Auto => Dtls::new_auto(engine_config, certificate, now),
            };
            engine.set_active(client);
            engine.handle_timeout(now)?;
            Ok(engine)
        })?;
        let keys = Vec::new();
        Ok(Self(Part::Engine(Box::new(Handshaking { engine, client, keys }))))
    }

    /// The negotiated version, as it is on the wire; 0 if there is none.
    pub(crate) fn version(&self) -> u16 {
        match &self.0 {
            Part::Engine(it) => it.engine.protocol_version().map_or(0, |it| it.as_u16()),
            Part::Records(_) => ProtocolVersion::DTLS1_2.as_u16(),
            Part::Failed => 0,
        }
    }

    pub(crate) fn is_version_12(&self) -> bool {
        self.version() == ProtocolVersion::DTLS1_2.as_u16()
    }

    /// Lets go of the engine, which has done its handshake and has nothing more to say: what is
    /// left of DTLS 1.2 is records under the keys that there are. In DTLS 1.3 keys may be updated
    /// and messages acknowledged, so the engine goes on.
    pub(crate) fn settle_down(&mut self) {
        let Part::Engine(it) = &self.0 else { return };
        if self.is_version_12()
            && let Some(records) = Records::take_over(&it.keys)
        {
            self.0 = Part::Records(Box::new(records));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        match self.0 {
            Part::Records(_) => Ok(()),
            _ => self.call(|engine| engine.handle_timeout(now)),
        }
    }

    /// Hands over a datagram, the engine's clock set first.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Taken, Failure> {
        let client = match &mut self.0 {
            Part::Records(records) => {
                let has_finished = records.handle_datagram(datagram);
                return Ok(if has_finished { Taken::FinishedAgain } else { Taken::Yes });
            }
            Part::Engine(it) => it.client,
            Part::Failed => false,
        };
        self.call(|engine| {
            engine.handle_timeout(now)?;
            let undecided = client && engine.protocol_version().is_none();
            match engine.handle_packet(datagram) {
                // A client that offers both versions looks at the first datagram only, and
                // calls it fatal when that is a later part of the server's flight, or noise.
                Err(Error::UnexpectedMessage(
                    UnexpectedMessageError::UnrecognizedAutoServerResponse,
                )) if undecided => Ok(Taken::Unrecognized),
                other => other.map(|()| Taken::Yes),
            }
        })
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        match &mut self.0 {
            Part::Records(records) => records.send(message),
            _ => self.call(|engine| engine.send_application_data(message).map(|_| ())),
        }
    }

    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        match &mut self.0 {
            Part::Records(records) => {
                records.close();
                Ok(())
            }
            _ => self.call(Dtls::close),
        }
    }

    /// Takes everything that there is to say, and when the engine wants to be called next.
    pub(crate) fn poll(&mut self) -> Result<(Vec<Event>, Option<Instant>), Failure> {
        if let Part::Records(records) = &mut self.0 {
            return Ok((records.take_events(), None));
        }
        let mut events = Vec::new();
        // Not kept: a connection that has its keys polls every few hours, if at all.
        let mut buffer = vec![0; OUTPUT];
        for _ in 0..MAX_POLLS {
            let polled = self.call(|engine| {
                let polled = match engine.poll_output(&mut buffer) {
                    Output::Packet(packet) => Polled::Event(Event::Packet(copy(packet))),
                    Output::PeerCert(der) => Polled::Event(Event::PeerCertificate(copy(der))),
                    Output::Connected => Polled::Event(Event::Connected),
                    Output::KeyingMaterial(keys, profile) => match srtp_profile(profile) {
                        Some(profile) => {
                            Polled::Event(Event::Keys(profile, Zeroizing::new(keys.to_vec())))
                        }
                        None => Polled::Nothing,
                    },
                    Output::ApplicationData(data) => {
                        Polled::Event(Event::ApplicationData(copy(data)))
                    }
                    Output::CloseNotify => Polled::Event(Event::CloseNotify),
                    Output::BufferTooSmall { needed } => Polled::Grow(needed),
                    Output::Timeout(at) => Polled::Settled(at),
                    _ => Polled::Nothing,
                };
                Ok(polled)
            });
            match polled? {
                Polled::Event(event) => events.push(event),
                Polled::Grow(needed) if needed <= MAX_OUTPUT => buffer.resize(needed, 0),
                Polled::Grow(_) => break,
                Polled::Settled(at) => return Ok((events, Some(at))),
                Polled::Nothing => {}
            }
        }
        self.0 = Part::Failed;
        Err(Failure::Protocol("the engine does not come to rest".to_owned()))
    }

    fn call<T>(&mut self, f: impl FnOnce(&mut Dtls) -> Result<T, Error>) -> Result<T, Failure> {
        let Part::Engine(it) = &mut self.0 else {
            return Err(Failure::Protocol("the engine has failed before".to_owned()));
        };
        let (result, keys) = capture(|| guard(|| f(&mut it.engine)));
        it.keys.extend(keys);
        if result.is_err() {
            // Every error is final; after a panic the engine must not even be asked again.
            self.0 = Part::Failed;
        }
        result
    }
}

enum Polled {
    Event(Event),
    Grow(usize),
    Settled(Instant),
    Nothing,
}

fn guard<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Timeout(_))) => Err(Failure::TimedOut),
        Ok(Err(error @ (Error::ReceiveQueueFull | Error::TooManyClientHelloFragments))) => {
            Err(Failure::Clogged(error.to_string()))
        }
        Ok(Err(error @ Error::CryptoError(CryptoError::SignatureVerificationFailed { .. }))) => {
            Err(Failure::Mixed(error.to_string()))
        }
        Ok(Err(error)) => Err(Failure::Protocol(error.to_string())),
        Err(_) => Err(Failure::Protocol("the DTLS engine panicked".to_owned())),
    }
}

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn srtp_profile(profile: dimpl::SrtpProfile) -> Option<SrtpProfile> {
    match profile {
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfile::Aes128CmSha1_80),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfile::AeadAes256Gcm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dimpl::crypto::Dtls12CipherSuite as Suite;

    use super::*;
    use crate::record::records;
    use crate::suites::capturing;

    const SUITES: [Suite; 3] = [
        Suite::ECDHE_ECDSA_AES128_GCM_SHA256,
        Suite::ECDHE_ECDSA_AES256_GCM_SHA384,
        Suite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
    ];

    /// A client and a server, and what either has sent so far.
    struct Pair {
        ends: [Association; 2],
        sent: [Vec<Bytes>; 2],
        now: Instant,
    }

    impl Pair {
        /// Two that have done their handshake; neither has settled down.
        fn connected(suite: Suite) -> Self {
            let now = Instant::now();
            let config = dimpl::Config::builder()
                .use_server_cookie(false)
                .dtls12_cipher_suites(&[suite])
                .with_crypto_provider(capturing(dimpl::crypto::aws_lc_rs::default_provider()))
                .build();
            let config = Arc::new(config.unwrap());
            let ends = [true, false].map(|client| {
                let certificate = Certificate::generate().unwrap().to_engine();
                let mut engine = Dtls::new_12(Arc::clone(&config), certificate, now);
                engine.set_active(client);
                engine.handle_timeout(now).unwrap();
                let keys = Vec::new();
                Association(Part::Engine(Box::new(Handshaking { engine, client, keys })))
            });
            let mut pair = Self { ends, sent: [Vec::new(), Vec::new()], now };
            assert_eq!(pair.exchange(), [(1, Said::Connected), (0, Said::Connected)]);
            pair
        }

        fn settle_down(&mut self, end: usize) {
            self.ends[end].settle_down();
            assert!(matches!(self.ends[end].0, Part::Records(_)));
        }

        /// Hands datagrams back and forth until nobody sends one; what else was said, by whom.
        fn exchange(&mut self) -> Vec<(usize, Said)> {
            let mut all = Vec::new();
            loop {
                let mut is_quiet = true;
                for end in [0, 1] {
                    for event in self.ends[end].poll().unwrap().0 {
                        match event {
                            Event::Packet(packet) => {
                                is_quiet = false;
                                let other = &mut self.ends[1 - end];
                                let taken = other.handle_datagram(self.now, &packet).unwrap();
                                assert_ne!(taken, Taken::Unrecognized);
                                self.sent[end].push(packet);
                            }
                            Event::Connected => all.push((end, Said::Connected)),
                            Event::CloseNotify => all.push((end, Said::CloseNotify)),
                            Event::ApplicationData(data) => all.push((end, Said::Data(data))),
                            Event::Failed(failure) => all.push((end, Said::Failed(failure))),
                            Event::PeerCertificate(_) | Event::Keys(..) => {}
                        }
                    }
                }
                if is_quiet {
                    return all;
                }
            }
        }

        /// The numbers of the protected records that an end has sent.
        fn numbers(&self, end: usize) -> Vec<u64> {
            let mut numbers = Vec::new();
            for (_, header, _) in self.sent[end].iter().flat_map(|packet| records(packet)) {
                let number = u64::from_be_bytes(header[3..11].try_into().unwrap());
                if number >> 48 == 1 {
                    numbers.push(number & 0xffff_ffff_ffff);
                }
            }
            numbers
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Connected,
        CloseNotify,
        Data(Bytes),
        Failed(Failure),
    }

    fn data(text: &'static str) -> Said {
        Said::Data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn whoever_has_settled_down_goes_on_with_the_engine_of_the_other_side() {
        for suite in SUITES {
            for settled in [0, 1] {
                let mut pair = Pair::connected(suite);
                pair.settle_down(settled);
                assert_eq!(pair.ends[settled].version(), 0xfefd);
                pair.ends[settled].send(b"one").unwrap();
                pair.ends[settled].send(b"two").unwrap();
                let other = 1 - settled;
                assert_eq!(pair.exchange(), [(other, data("one")), (other, data("two"))]);
                pair.ends[other].send(b"three").unwrap();
                assert_eq!(pair.exchange(), [(settled, data("three"))]);
                // Its Finished is 0.
                assert_eq!(pair.numbers(settled), [0, 1, 2]);
            }
        }
    }

    #[test]
    fn both_sides_may_have_settled_down_and_either_may_close() {
        for suite in SUITES {
            for closer in [0, 1] {
                let mut pair = Pair::connected(suite);
                pair.settle_down(0);
                pair.settle_down(1);
                pair.ends[closer].close().unwrap();
                pair.ends[closer].close().unwrap();
                assert!(pair.ends[closer].send(b"late").is_err());
                let said = pair.exchange();
                assert!(said.contains(&(1 - closer, Said::CloseNotify)), "{said:?}");
                assert_eq!((pair.numbers(0), pair.numbers(1)), (vec![0, 1], vec![0, 1]));
            }
        }
    }

    #[test]
    fn close_notify_goes_either_way_between_an_engine_and_one_that_has_settled_down() {
        for closer in [0, 1] {
            for settled in [0, 1] {
                let mut pair = Pair::connected(SUITES[0]);
                pair.settle_down(settled);
                pair.ends[closer].close().unwrap();
                let said = pair.exchange();
                assert!(said.contains(&(1 - closer, Said::CloseNotify)), "{said:?}");
                assert_eq!((pair.numbers(0), pair.numbers(1)), (vec![0, 1], vec![0, 1]));
            }
        }
    }

    #[test]
    fn what_was_opened_before_or_was_changed_says_nothing() {
        for suite in SUITES {
            let mut pair = Pair::connected(suite);
            let finished = pair.sent[0].last().unwrap().clone();
            pair.settle_down(1);
            pair.ends[0].send(b"once").unwrap();
            let Ok((events, _)) = pair.ends[0].poll() else { panic!() };
            let [Event::Packet(packet)] = &events[..] else { panic!() };
            let now = pair.now;
            // The type, the epoch and the number are authenticated as well.
            for index in (0..packet.len()).filter(|index| !(11..13).contains(index)) {
                let mut changed = packet.to_vec();
                changed[index] ^= 1;
                pair.ends[1].handle_datagram(now, &changed).unwrap();
            }
            for cut in 0..packet.len() {
                pair.ends[1].handle_datagram(now, &packet[..cut]).unwrap();
            }
            pair.ends[1].handle_datagram(now, &finished).unwrap();
            assert_eq!(pair.exchange(), []);
            pair.ends[1].handle_datagram(now, packet).unwrap();
            pair.ends[1].handle_datagram(now, packet).unwrap();
            assert_eq!(pair.exchange(), [(1, data("once"))]);
        }
    }

    /// What the second of a pair says to records of the first, in one datagram; both have settled
    /// down, and `make` has the first seal them.
    fn said_to(make: impl FnOnce(&mut Records) -> Vec<Bytes>) -> Vec<(usize, Said)> {
        let mut pair = Pair::connected(SUITES[0]);
        pair.settle_down(0);
        pair.settle_down(1);
        let Part::Records(records) = &mut pair.ends[0].0 else { panic!() };
        let datagram = make(records).concat();
        records.take_events();
        pair.ends[1].handle_datagram(pair.now, &datagram).unwrap();
        pair.exchange()
    }

    /// Seals one record.
    fn sealed(records: &mut Records, kind: u8, plaintext: &[u8]) -> Bytes {
        assert!(records.seal(kind, plaintext));
        match records.take_events().pop() {
            Some(Event::Packet(record)) => record,
            _ => panic!("it is sealed"),
        }
    }

    const HANDSHAKE_FAILURE: [u8; 2] = [2, 40];

    fn handshake_failure() -> (usize, Said) {
        let reason = "security error: received fatal alert: description=40".to_owned();
        (1, Said::Failed(Failure::Protocol(reason)))
    }

    #[test]
    fn a_fatal_alert_is_a_failure() {
        let said = said_to(|records| vec![sealed(records, 21, &HANDSHAKE_FAILURE)]);
        assert_eq!(said, [handshake_failure()]);
    }

    #[test]
    fn what_came_before_a_fatal_alert_is_handed_out_and_what_came_after_it_is_not() {
        let said = said_to(|records| {
            let last = sealed(records, 23, b"last");
            vec![last, sealed(records, 21, &HANDSHAKE_FAILURE), sealed(records, 23, b"more")]
        });
        assert_eq!(said, [(1, data("last")), handshake_failure()]);
    }

    #[test]
    fn a_fatal_alert_is_heard_behind_any_number_of_old_copies_and_of_another_epoch() {
        let said = said_to(|records| {
            let once = sealed(records, 23, b"once");
            let mut other = once.to_vec();
            other[4] = 2;
            let mut all = vec![once; 20];
            all.extend(vec![Bytes::from(other); 20]);
            all.push(sealed(records, 21, &HANDSHAKE_FAILURE));
            all
        });
        assert_eq!(said, [(1, data("once")), handshake_failure()]);
    }

    #[test]
    fn of_a_datagram_eight_records_are_opened_that_are_not_authentic() {
        for (forged, is_heard) in [(7, true), (8, false)] {
            let said = said_to(|records| {
                let mut all: Vec<_> = (0..forged)
                    .map(|_| {
                        let mut record = sealed(records, 23, b"forged").to_vec();
                        *record.last_mut().unwrap() ^= 1;
                        Bytes::from(record)
                    })
                    .collect();
                all.push(sealed(records, 23, b"true"));
                all
            });
            assert_eq!(said.len(), usize::from(is_heard), "{forged}");
        }
    }

    #[test]
    fn a_finished_that_is_sent_again_is_known_by_its_key_and_counts_once() {
        let mut pair = Pair::connected(SUITES[0]);
        let first = pair.sent[0].last().unwrap().clone();
        pair.settle_down(0);
        pair.settle_down(1);
        let now = pair.now;
        let Part::Records(records) = &mut pair.ends[0].0 else { panic!() };
        let again = sealed(records, 22, &[20, 0, 0, 12, 0, 4, 0, 0, 0, 0, 0, 12]);
        let mut forged = sealed(records, 22, &[20, 0, 0, 12]).to_vec();
        forged[20] ^= 1;
        let expected = [
            (&first[..], Taken::Yes),
            (&forged, Taken::Yes),
            (&again, Taken::FinishedAgain),
            (&again, Taken::Yes),
        ];
        for (datagram, taken) in expected {
            assert_eq!(pair.ends[1].handle_datagram(now, datagram).unwrap(), taken);
        }
    }

    #[test]
    fn without_keys_of_both_directions_the_engine_goes_on() {
        let now = Instant::now();
        let certificate = Certificate::generate().unwrap();
        let config = DtlsConfig::default();
        let mut association =
            Association::new(&config, &certificate, DtlsRole::Client, 0, now).unwrap();
        association.settle_down();
        assert!(matches!(association.0, Part::Engine(_)));
    }

    #[test]
    fn a_panic_of_the_engine_is_a_failure_and_it_is_not_asked_again() {
        let certificate = Certificate::generate().unwrap();
        let (config, now) = (DtlsConfig::default(), Instant::now());
        let mut association =
            Association::new(&config, &certificate, DtlsRole::Server, 0, now).unwrap();
        // Not `panic!`, which would print; the guard sees no difference.
        let result = association.call(|_| -> Result<(), Error> {
            std::panic::resume_unwind(Box::new("broken"));
        });
        assert!(matches!(result, Err(Failure::Protocol(_))));
        assert!(matches!(association.handle_timeout(now), Err(Failure::Protocol(_))));
    }
}
