use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Dtls, Error, Output, UnexpectedMessageError};
use ortc_io::SrtpProfile;
use zeroize::Zeroizing;

use crate::{Certificate, DtlsConfig, DtlsRole, DtlsVersion};

/// Outputs taken from the engine in one go. It settles after a few dozen; one that does not
/// is broken.
const MAX_POLLS: usize = 1_000;

/// Room for most outputs: a datagram, or a certificate.
const OUTPUT: usize = 2048;

/// The largest output that the engine may ask room for: a whole record.
const MAX_OUTPUT: usize = 1 << 16;

/// One DTLS association of the engine, from the first ClientHello on.
///
/// The engine is held at arm's length: a panic in it becomes a [`Failure`], after which it is
/// not touched again, and an error that it calls fatal although nothing is lost is none.
pub(crate) struct Association {
    engine: Option<Dtls>,
    client: bool,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association").field("engine", &self.engine).finish_non_exhaustive()
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
}

/// Why the engine cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    TimedOut,
    /// The receive queue is full of fragments that lead nowhere.
    Clogged(String),
    Protocol(String),
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
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
        Ok(Self { engine: Some(engine), client })
    }

    /// The negotiated version, for logs.
    pub(crate) fn version(&self) -> Option<String> {
        let version = self.engine.as_ref()?.protocol_version()?;
        Some(format!("{version:?}"))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        self.call(|engine| engine.handle_timeout(now))
    }

    /// Hands a datagram to the engine, its clock set first.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Taken, Failure> {
        let client = self.client;
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
        self.call(|engine| engine.send_application_data(message).map(|_| ()))
    }

    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        self.call(Dtls::close)
    }

    /// Takes everything that the engine has to say, and when it wants to be called next.
    pub(crate) fn poll(&mut self) -> Result<(Vec<Event>, Instant), Failure> {
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
                Polled::Settled(at) => return Ok((events, at)),
                Polled::Nothing => {}
            }
        }
        self.engine = None;
        Err(Failure::Protocol("the engine does not come to rest".to_owned()))
    }

    fn call<T>(&mut self, f: impl FnOnce(&mut Dtls) -> Result<T, Error>) -> Result<T, Failure> {
        let Some(engine) = self.engine.as_mut() else {
            return Err(Failure::Protocol("the engine has failed before".to_owned()));
        };
        let result = guard(|| f(engine));
        if result.is_err() {
            // Every error is final; after a panic the engine must not even be asked again.
            self.engine = None;
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
    use super::*;

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
