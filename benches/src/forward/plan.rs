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
/// What the publisher sends.
pub(crate) const PUBLISHED: Ssrc = Ssrc(0x1000_0000);

/// Forwarded packets a second: some tenth of what a core can do, so that nothing is lost and
/// nobody queues.
const RATE: u64 = 80_000;

/// The parameters of one measurement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) subscribers: usize,
    /// Bytes of each RTP payload.
    pub(crate) payload: usize,
    /// Packets that come at once.
    pub(crate) burst: usize,
    pub(crate) profile: SrtpProfile,
    pub(crate) seconds: f64,
}

const PROFILES: &[(&str, SrtpProfile)] =
    &[("gcm128", SrtpProfile::AeadAes128Gcm), ("cm80", SrtpProfile::Aes128CmSha1_80)];

impl Plan {
    /// All that are measured.
    pub(crate) fn all(quick: bool) -> Vec<Self> {
        let seconds = if quick { 0.3 } else { 3.0 };
        let gcm = SrtpProfile::AeadAes128Gcm;
        let plan = |subscribers, payload, burst, profile| Self {
            subscribers,
            payload,
            burst,
            profile,
            seconds,
        };
        let mut plans = Vec::new();
        for subscribers in [1, 10, 50, 200] {
            for payload in [1200, 160] {
                for burst in [1, 8] {
                    plans.push(plan(subscribers, payload, burst, gcm));
                }
            }
        }
        plans.push(plan(50, 1200, 8, SrtpProfile::Aes128CmSha1_80));
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
        });
        parameters.as_object().cloned().unwrap_or_default()
    }

    pub(crate) fn to_argument(&self) -> String {
        let Self { subscribers, payload, burst, seconds, .. } = self;
        format!("{subscribers},{payload},{burst},{},{seconds}", self.profile_name())
    }

    pub(crate) fn from_argument(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split(',').collect();
        let [subscribers, payload, burst, profile, seconds] = parts[..] else {
            return Err(Failure::new(format!("no plan: {text}")));
        };
        let named = PROFILES.iter().find(|(name, _)| *name == profile);
        Ok(Self {
            subscribers: subscribers.parse()?,
            payload: payload.parse()?,
            burst: burst.parse()?,
            profile: named.ok_or_else(|| Failure::new(format!("no profile: {profile}")))?.1,
            seconds: seconds.parse()?,
        })
    }

    /// The time from burst to burst.
    pub(crate) fn interval(&self) -> Duration {
        let per_second = RATE / (self.subscribers * self.burst) as u64;
        Duration::from_secs(1) / per_second.clamp(50, 5_000) as u32
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
