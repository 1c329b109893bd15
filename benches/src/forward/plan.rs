//! What is sent, and with which keys: known to both sides beforehand, so that only the media
//! plane is measured.

use std::net::SocketAddr;
use std::time::Duration;

use ortc_io::{SrtpKeys, SrtpProfile};
use ortc_rtp::{PayloadType, Ssrc};
use serde_json::{Map, Value, json};

use crate::error::{Failure, Result};

/// The payload type of everything.
pub(crate) const PAYLOAD_TYPE: PayloadType = PayloadType(96);
/// The header extension that packets are numbered in, where they are.
pub(crate) const NUMBER_ID: u8 = 3;
/// What the publisher sends.
pub(crate) const PUBLISHED: Ssrc = Ssrc(0x1000_0000);

/// Forwarded packets a second where their cost is measured: so few that nobody queues, and that
/// the most expensive contestant uses half a core.
const RATE: f64 = 40_000.0;

/// Most and fewest bursts a second: sleeping is not finer, and a run should have some.
const BURSTS_PER_SECOND: (f64, f64) = (20.0, 5_000.0);

/// The parameters of one measurement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) subscribers: usize,
    /// Bytes of each RTP payload.
    pub(crate) payload: usize,
    /// Packets that come at once.
    pub(crate) burst: usize,
    pub(crate) profile: SrtpProfile,
    /// Media threads of `ortc`.
    pub(crate) threads: usize,
    pub(crate) seconds: f64,
}

const PROFILES: &[(&str, SrtpProfile)] =
    &[("gcm128", SrtpProfile::AeadAes128Gcm), ("cm80", SrtpProfile::Aes128CmSha1_80)];

impl Plan {
    /// The one that most is said about: 50 subscribers, 1,200 bytes, bursts of 8.
    pub(crate) fn usual(quick: bool) -> Self {
        Self {
            subscribers: 50,
            payload: 1200,
            burst: 8,
            profile: SrtpProfile::AeadAes128Gcm,
            threads: 1,
            seconds: if quick { 0.3 } else { 3.0 },
        }
    }

    /// All whose cost is measured.
    pub(crate) fn all(quick: bool) -> Vec<Self> {
        let usual = Self::usual(quick);
        let mut plans = Vec::new();
        for subscribers in [1, 10, 50, 200] {
            for payload in [1200, 160] {
                for burst in [1, 8] {
                    plans.push(Self { subscribers, payload, burst, ..usual.clone() });
                }
            }
        }
        plans.push(Self { profile: SrtpProfile::Aes128CmSha1_80, ..usual });
        plans
    }

    /// The bare program that `ortc` is compared with: single packets cannot be joined.
    pub(crate) fn bare(&self) -> &'static str {
        if self.burst == 1 { "bare-plain" } else { "bare" }
    }

    fn profile_name(&self) -> &'static str {
        let named = PROFILES.iter().find(|(_, profile)| *profile == self.profile);
        named.map_or("?", |(name, _)| name)
    }

    pub(crate) fn parameters(&self) -> Map<String, Value> {
        let parameters = json!({
            "subscribers": self.subscribers,
            "payload": self.payload,
            "burst": self.burst,
            "profile": self.profile_name(),
            "threads": self.threads,
        });
        parameters.as_object().cloned().unwrap_or_default()
    }

    pub(crate) fn to_argument(&self) -> String {
        let Self { subscribers, payload, burst, threads, seconds, .. } = self;
        format!("{subscribers},{payload},{burst},{},{threads},{seconds}", self.profile_name())
    }

    pub(crate) fn from_argument(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split(',').collect();
        let [subscribers, payload, burst, profile, threads, seconds] = parts[..] else {
            return Err(Failure::new(format!("no plan: {text}")));
        };
        let named = PROFILES.iter().find(|(name, _)| *name == profile);
        Ok(Self {
            subscribers: subscribers.parse()?,
            payload: payload.parse()?,
            burst: burst.parse()?,
            profile: named.ok_or_else(|| Failure::new(format!("no profile: {profile}")))?.1,
            threads: threads.parse()?,
            seconds: seconds.parse()?,
        })
    }

    /// The time from burst to burst where so many packets are to be forwarded a second.
    pub(crate) fn interval(&self, rate: f64) -> Duration {
        let (fewest, most) = BURSTS_PER_SECOND;
        let bursts = rate / (self.subscribers * self.burst) as f64;
        Duration::from_secs_f64(1.0 / bursts.clamp(fewest, most))
    }

    /// The rate where cost is measured.
    pub(crate) fn rate(&self) -> f64 {
        RATE
    }

    /// The SSRC that a subscriber is sent.
    pub(crate) fn sent(subscriber: usize) -> Ssrc {
        Ssrc(0x2000_0000 + subscriber as u32)
    }

    /// The keys of a connection: 0 is the publisher's, the others are those of subscribers.
    pub(crate) fn keys(&self, connection: usize, is_client: bool) -> Result<SrtpKeys> {
        let material: Vec<u8> = (0..88).map(|n| (connection * 7 + n) as u8).collect();
        SrtpKeys::from_exported(self.profile, &material, is_client)
            .ok_or_else(|| Failure::new("not enough keying material"))
    }
}

/// Addresses of one side: the publisher's, then those of the subscribers.
pub(crate) fn addresses_to_json(addresses: &[SocketAddr]) -> Value {
    json!(addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>())
}

pub(crate) fn addresses_from_json(value: &Value) -> Result<Vec<SocketAddr>> {
    let list = value.as_array().ok_or_else(|| Failure::new(format!("no addresses: {value}")))?;
    list.iter().map(|address| Ok(address.as_str().unwrap_or_default().parse()?)).collect()
}
