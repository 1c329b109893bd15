use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::FingerprintError;

/// A hash function for certificate fingerprints (RFC 8122 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// `sha-1`. The drafts ask for it; never compare with it alone.
    Sha1,
    /// `sha-256`, what everybody signals.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl HashAlgorithm {
    /// All of them, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The textual name in IANA's registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Bytes in a digest.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Finds one by its textual name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    /// Hashes a certificate (DER).
    pub fn digest(self, certificate: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, certificate).as_ref().to_vec()
    }
}

/// The fingerprints of one certificate, by the textual name of the hash function.
///
/// Written and read as `sha-256 AB:CD:…`, several separated by `, `; as JSON an object
/// `{"sha-256": "AB:CD:…"}`. Names are kept in lower case; unknown ones are kept too.
/// ORTC draft A and B, "The CertificateFingerprint Object".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFingerprint {
    /// In the order of the names. A map would take twice the room of these few.
    digests: Vec<(String, Vec<u8>)>,
}

impl CertificateFingerprint {
    /// Hashes a certificate (DER) with SHA-1, SHA-256, SHA-384 and SHA-512.
    pub fn of_certificate(certificate: &[u8]) -> Self {
        let mut digests = Vec::with_capacity(HashAlgorithm::ALL.len());
        digests.extend(
            HashAlgorithm::ALL.map(|hash| (hash.name().to_owned(), hash.digest(certificate))),
        );
        digests.sort_unstable();
        Self { digests }
    }

    /// One fingerprint: the SHA-256 given.
    pub fn from_sha256(digest: [u8; 32]) -> Self {
        let digests = vec![(HashAlgorithm::Sha256.name().to_owned(), digest.to_vec())];
        Self { digests }
    }

    /// Returns the digest made by a hash function, named as in `sha-256`, in any case.
    pub fn get(&self, hash_function: &str) -> Option<&[u8]> {
        let at = self.find(&hash_function.to_ascii_lowercase()).ok()?;
        Some(&self.digests[at].1)
    }

    /// Returns the SHA-256 digest, if it is there.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.get(HashAlgorithm::Sha256.name())?.try_into().ok()
    }

    /// Iterates over names and digests, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.digests.iter().map(|(name, digest)| (name.as_str(), digest.as_slice()))
    }

    fn insert(&mut self, name: &str, digits: &str) -> Result<(), FingerprintError> {
        let digest = parse_hex(digits)
            .filter(|_| is_hash_name(name))
            .ok_or_else(|| FingerprintError::Malformed(excerpt(name, digits)))?;
        if let Some(hash) = HashAlgorithm::from_name(name)
            && digest.len() != hash.digest_len()
        {
            return Err(FingerprintError::WrongLength {
                hash: hash.name().to_owned(),
                expected: hash.digest_len(),
                actual: digest.len(),
            });
        }
        let name = name.to_ascii_lowercase();
        match self.find(&name) {
            Ok(at) => self.digests[at].1 = digest,
            Err(at) => self.digests.insert(at, (name, digest)),
        }
        Ok(())
    }

    /// Where a name is, or belongs.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.digests.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, digest)) in self.digests.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{name} {}", hex(digest))?;
        }
        Ok(())
    }
}

impl FromStr for CertificateFingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fingerprint = Self::default();
        for part in text.split(',') {
            let (name, digits) = part
                .trim()
                .split_once(' ')
                .ok_or_else(|| FingerprintError::Malformed(excerpt(part, "")))?;
            fingerprint.insert(name, digits.trim())?;
        }
        Ok(fingerprint)
    }
}

impl Serialize for CertificateFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.digests.iter().map(|(name, digest)| (name, hex(digest))))
    }
}

impl<'de> Deserialize<'de> for CertificateFingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut fingerprint = Self::default();
        for (name, digits) in &texts {
            fingerprint.insert(name, digits).map_err(serde::de::Error::custom)?;
        }
        Ok(fingerprint)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for CertificateFingerprint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CertificateFingerprint".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The fingerprints of one certificate, by the name of the hash function.",
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9-]+$" },
            "additionalProperties": {
                "type": "string",
                "pattern": "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*$",
            },
        })
    }
}

/// What is known of one side of a DTLS association.
///
/// ORTC draft A and B, "The RTCDtlsConnectionInfo Object".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RTCDtlsConnectionInfo {
    /// The fingerprints of that side's certificate.
    pub fingerprint: CertificateFingerprint,
}

impl RTCDtlsConnectionInfo {
    /// Describes the side that has shown this certificate (DER), all hash functions at once.
    pub fn of_certificate(certificate: &[u8]) -> Self {
        Self { fingerprint: CertificateFingerprint::of_certificate(certificate) }
    }
}

fn hex(digest: &[u8]) -> String {
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let pair = |text: &str| match text.as_bytes() {
        [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
            u8::from_str_radix(text, 16).ok()
        }
        _ => None,
    };
    digits.split(':').map(pair).collect()
}

/// RFC 8122 §5: a hash function is a token; letters, digits and dashes are what is registered.
fn is_hash_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The beginning of what was wrong: an error message does not repeat a megabyte.
fn excerpt(name: &str, digits: &str) -> String {
    format!("{name} {digits}").trim().chars().take(48).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_and_names_ignore_case() {
        let all = CertificateFingerprint::of_certificate(b"certificate");
        assert_eq!(all.to_string().parse(), Ok(all.clone()));
        assert_eq!(all.get("SHA-256").map(<[u8]>::len), Some(32));
        assert_eq!(
            all.iter().map(|(_, digest)| digest.len()).collect::<Vec<_>>(),
            [20, 32, 48, 64]
        );

        let one = CertificateFingerprint::from_sha256([0xAB; 32]);
        assert_eq!(one.to_string(), format!("sha-256 {}", vec!["AB"; 32].join(":")));
        assert_eq!(one.to_string().to_lowercase().parse(), Ok(one));
    }

    #[test]
    fn json_is_an_object_by_hash_function() {
        let info =
            RTCDtlsConnectionInfo { fingerprint: CertificateFingerprint::from_sha256([1; 32]) };
        let json = serde_json::to_string(&info).unwrap();
        assert_eq!(
            json,
            format!("{{\"fingerprint\":{{\"sha-256\":\"{}\"}}}}", vec!["01"; 32].join(":"))
        );
        assert_eq!(serde_json::from_str::<RTCDtlsConnectionInfo>(&json).unwrap(), info);
    }

    #[test]
    fn wrong_text_is_refused_with_the_reason() {
        let parse = str::parse::<CertificateFingerprint>;
        assert_eq!(
            parse("sha-256 AB:CD"),
            Err(FingerprintError::WrongLength {
                hash: "sha-256".to_owned(),
                expected: 32,
                actual: 2
            })
        );
        for text in ["", "sha-256", "sha-256 AB:C", "sha-256 AB::CD", "sha-256 +A:BC", "x_y AB"] {
            assert!(matches!(parse(text), Err(FingerprintError::Malformed(_))), "{text:?}");
        }
    }
}
