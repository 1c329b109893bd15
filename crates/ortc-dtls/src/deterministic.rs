//! Handshakes whose datagrams have the same lengths each time. **For simulations only.**
//!
//! What makes the length of a handshake vary is the DER of its ECDSA signatures (an integer
//! takes one byte more when its top bit is set) and the jitter of retransmissions. The jitter
//! is seeded; signatures are drawn again until they have their most likely length. Their bytes
//! cannot be reproduced: a DTLS 1.2 random begins with the time of day.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey,
};
use dimpl::crypto::{aws_lc_rs as backend, rust_crypto};
use dimpl::{CryptoError, CryptoOperation};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd};

use crate::certificate::self_signed;
use crate::{Certificate, CertificateError};

/// Draws before giving up; each has an even chance.
const DRAWS: usize = 64;

/// DER of PKCS #8 (RFC 5958) round an `ECPrivateKey` on P-256 (RFC 5915), up to the scalar.
const PKCS8_BEFORE_SCALAR: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
    0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02,
    0x01, 0x01, 0x04, 0x20,
];

/// What stands between the scalar and the public point.
const PKCS8_BEFORE_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

impl Certificate {
    /// **For simulations only: anyone who knows the seed has the private key.** Derives a
    /// certificate from `seed`; the same seed gives the same bytes, on any day.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Generation`] for the one seed in 2³² whose hash is no scalar of
    /// P-256.
    pub fn deterministic(seed: u64) -> Result<Self, CertificateError> {
        let failed = |what: &str| CertificateError::Generation(what.to_owned());
        let scalar = digest(&SHA256, &[b"ortc simulated key", &seed.to_be_bytes()[..]].concat());
        let private = PrivateKey::from_private_key(&ECDH_P256, scalar.as_ref())
            .map_err(|_| failed("the seed gives no scalar"))?;
        let point = private.compute_public_key().map_err(|_| failed("no public point"))?;
        let pkcs8 =
            [PKCS8_BEFORE_SCALAR, scalar.as_ref(), PKCS8_BEFORE_POINT, point.as_ref()].concat();
        let key = SeededKey { pkcs8, point: point.as_ref().to_vec() };

        let hash = digest(&SHA512, &[b"ortc simulated name", &seed.to_be_bytes()[..]].concat());
        let mut unique = [0; 24];
        unique.copy_from_slice(&hash.as_ref()[..24]);
        let der = self_signed(&key, unique, date_time_ymd(2026, 1, 1))?;
        Self::from_der(&der, &key.pkcs8)
    }
}

/// A key that signs a certificate the same way each time (RFC 6979).
struct SeededKey {
    pkcs8: Vec<u8>,
    point: Vec<u8>,
}

impl PublicKeyData for SeededKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for SeededKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = Buf::new();
        rust_crypto::default_provider()
            .key_provider
            .load_private_key(&self.pkcs8)
            .and_then(|mut key| key.sign(message, HashAlgorithm::SHA256, &mut signature))
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.into_vec())
    }
}

/// The usual provider, but its signatures have one length.
pub(crate) fn crypto_provider() -> CryptoProvider {
    CryptoProvider { key_provider: &FixedLengthKeys, ..backend::default_provider() }
}

#[derive(Debug)]
struct FixedLengthKeys;

impl KeyProvider for FixedLengthKeys {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = backend::default_provider().key_provider.load_private_key(key_der)?;
        Ok(Box::new(FixedLengthKey(key)))
    }
}

#[derive(Debug)]
struct FixedLengthKey(Box<dyn SigningKey>);

impl FixedLengthKey {
    /// Two integers, one of which needs a leading zero.
    fn signature_len(&self) -> usize {
        match self.hash_algorithm() {
            HashAlgorithm::SHA384 => 103,
            _ => 71,
        }
    }
}

impl SigningKey for FixedLengthKey {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        for _ in 0..DRAWS {
            self.0.sign(data, hash, out)?;
            if out.len() == self.signature_len() {
                return Ok(());
            }
        }
        Err(CryptoError::OperationFailed(CryptoOperation::Sign))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.0.supported_hash_algorithms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_certificate() {
        let (one, again) = (Certificate::deterministic(7), Certificate::deterministic(7));
        assert_eq!(one.unwrap().der(), again.unwrap().der());
        let (one, other) = (Certificate::deterministic(7), Certificate::deterministic(8));
        assert_ne!(one.unwrap().sha256(), other.unwrap().sha256());
    }

    #[test]
    fn signatures_have_one_length() {
        let pkcs8 = Certificate::deterministic(1).unwrap().to_engine().private_key;
        let mut key = FixedLengthKeys.load_private_key(&pkcs8).unwrap();
        let lengths: Vec<usize> = (0..50u8)
            .map(|byte| {
                let mut signature = Buf::new();
                key.sign(&[byte], HashAlgorithm::SHA256, &mut signature).unwrap();
                signature.len()
            })
            .collect();
        assert_eq!(lengths, [71; 50]);
    }
}
