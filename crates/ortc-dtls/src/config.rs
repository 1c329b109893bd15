use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ortc_io::Tally;

use crate::DtlsStats;
use crate::suites::capturing;

/// Which versions of DTLS an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DtlsVersion {
    /// DTLS 1.2 (RFC 6347) alone. The default: browsers offer 1.3 first, but fall back to
    /// 1.2 as they have done for a decade, while some of their 1.3 versions have interop bugs.
    #[default]
    V12,
    /// DTLS 1.3 (RFC 9147) where the peer has it, else 1.2.
    Auto,
}

/// How an endpoint behaves.
///
/// The default is for an endpoint behind ICE, which has validated the peer's address before
/// the first datagram; [`DtlsConfig::standalone`] is for one that has only UDP below it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DtlsConfig {
    /// The versions spoken.
    pub version: DtlsVersion,
    /// Whether a server asks for its cookie back before it does any work (RFC 6347 §4.2.1).
    /// `false` under ICE, where it would only cost a round trip.
    pub cookie_exchange: bool,
    /// Whether the peer's address is known to be its own from the start. If not, a server
    /// sends at most three times the bytes that it has received until the peer has shown its
    /// certificate; what is over that is dropped, counted.
    pub address_validated: bool,
    /// The largest datagram sent, in bytes. At least 256.
    pub mtu: usize,
    /// The first retransmission comes after this; it doubles each time, ± 25 %. 200 ms: media
    /// waits for the handshake, and a spurious retransmission costs under a kilobyte.
    pub first_rto: Duration,
    /// Retransmissions are never farther apart than this, while the peer is heard. RFC 6347 §4.2.4.1 would have them
    /// double up to a minute; but then one handshake in two hundred fails at 30 % loss.
    pub max_rto: Duration,
    /// Retransmissions of one flight, after which the handshake begins afresh. At most 27, with
    /// which a flight is sent for two minutes: where nothing comes for 16 s, they are a quarter of
    /// that time apart.
    pub retries: usize,
    /// How long a handshake waits for the peer's next datagram, from `start` or, should
    /// [the path be lost](crate::DtlsEndpoint::path_lost), from when it is found again. Whatever
    /// the peer sends, it takes three times as long at the most.
    pub handshake_timeout: Duration,
    /// Times that a handshake is begun afresh after a fatal error. Those of a server that has
    /// answered nothing yet are free.
    pub restarts: u32,
    /// Where the actor puts what its endpoint counts, for whoever has kept a clone.
    pub tally: Tally<DtlsStats>,
    #[cfg(feature = "sim")]
    pub(crate) seed: Option<u64>,
}

/// What a Path MTU of 1,200 bytes leaves beside the headers of a TURN relay.
const DEFAULT_MTU: usize = 1150;

/// Below this not even a ClientHello could be fragmented sensibly.
const SMALLEST_MTU: usize = 256;

/// The engine's clock is set forward by up to twice `first_rto` × 2^retries: two years here, and
/// the engine counts up to ten.
const MAX_RETRIES: usize = 27;

/// The deadline of a handshake is the endpoint's; the engine's clock may run ahead of it.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(9 * 365 * 24 * 3600);

/// What the engine's configuration is built from; nothing secret, and nothing of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    mtu: usize,
    cookie_exchange: bool,
    first_rto: Duration,
    retries: usize,
}

/// Configurations that have been built, and found good, in this process.
static BUILT: Mutex<Vec<(Settings, Arc<dimpl::Config>)>> = Mutex::new(Vec::new());

/// Most of them: a process has one or two kinds of endpoints.
const MAX_BUILT: usize = 8;

impl Default for DtlsConfig {
    fn default() -> Self {
        Self {
            version: DtlsVersion::default(),
            cookie_exchange: false,
            address_validated: true,
            mtu: DEFAULT_MTU,
            first_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(1),
            retries: MAX_RETRIES,
            handshake_timeout: Duration::from_secs(40),
            restarts: 3,
            tally: Tally::default(),
            #[cfg(feature = "sim")]
            seed: None,
        }
    }
}

impl DtlsConfig {
    /// For an endpoint used without ICE: with the cookie exchange and the limit on
    /// amplification.
    pub fn standalone() -> Self {
        Self { cookie_exchange: true, address_validated: false, ..Self::default() }
    }

    /// **For simulations only, never on a real network.** Takes the randomness of the
    /// handshake from `seed`, so that the same seed yields datagrams of the same lengths at
    /// the same times: retransmission jitter is seeded and signatures are drawn until they
    /// have one fixed length. Give the two sides different seeds.
    #[cfg(feature = "sim")]
    pub fn deterministic(seed: u64) -> Self {
        Self { seed: Some(seed), ..Self::default() }
    }

    /// Builds the engine's configuration; `attempt` tells restarts apart.
    ///
    /// One is shared by all associations with the same settings. To build one, the engine puts
    /// its cryptography through two key exchanges on each curve, P-384 included, and more: that
    /// is dearer than the handshake that it is for.
    pub(crate) fn to_engine(&self, attempt: u32) -> Result<Arc<dimpl::Config>, dimpl::Error> {
        #[cfg(feature = "sim")]
        if self.seed.is_some() {
            return self.build(attempt);
        }
        let settings = Settings {
            mtu: self.mtu,
            cookie_exchange: self.cookie_exchange,
            first_rto: self.first_rto,
            retries: self.retries,
        };
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = built.iter().find(|(known, _)| *known == settings) {
            return Ok(Arc::clone(config));
        }
        let config = self.build(attempt)?;
        if built.len() >= MAX_BUILT {
            built.remove(0);
        }
        built.push((settings, Arc::clone(&config)));
        Ok(config)
    }

    fn build(&self, attempt: u32) -> Result<Arc<dimpl::Config>, dimpl::Error> {
        let builder = dimpl::Config::builder()
            .mtu(self.mtu.max(SMALLEST_MTU))
            .use_server_cookie(self.cookie_exchange)
            .require_client_certificate(true)
            .flight_start_rto(self.first_rto)
            .flight_retries(self.retries.min(MAX_RETRIES))
            .handshake_timeout(ENGINE_TIMEOUT)
            .with_crypto_provider(self.crypto_provider());
        #[cfg(feature = "sim")]
        let builder = match self.seed {
            Some(seed) => builder.dangerously_set_rng_seed(seed.wrapping_add(u64::from(attempt))),
            None => builder,
        };
        #[cfg(not(feature = "sim"))]
        let _ = attempt;
        Ok(Arc::new(builder.build()?))
    }

    fn crypto_provider(&self) -> dimpl::crypto::CryptoProvider {
        #[cfg(feature = "sim")]
        if self.seed.is_some() {
            return capturing(crate::deterministic::crypto_provider());
        }
        capturing(dimpl::crypto::aws_lc_rs::default_provider())
    }

    /// Application data that fits into one datagram: the MTU without the record's header,
    /// explicit nonce and tag, rounded up.
    pub(crate) fn largest_message(&self) -> usize {
        self.mtu.max(SMALLEST_MTU) - 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_share_what_was_built_and_others_do_not() {
        let config = DtlsConfig::default();
        let (one, again) = (config.to_engine(0).unwrap(), config.to_engine(1).unwrap());
        assert!(Arc::ptr_eq(&one, &again));
        let smaller = DtlsConfig { mtu: 600, ..config }.to_engine(0).unwrap();
        assert_eq!((one.mtu(), smaller.mtu()), (DEFAULT_MTU, 600));
    }

    #[test]
    fn what_was_built_is_bounded() {
        for mtu in 300..400 {
            DtlsConfig { mtu, ..DtlsConfig::default() }.to_engine(0).unwrap();
        }
        assert!(BUILT.lock().unwrap().len() <= MAX_BUILT);
    }
}
