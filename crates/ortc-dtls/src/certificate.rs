use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use dimpl::DtlsCertificate;
use dimpl::crypto::{Buf, aws_lc_rs as backend};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    SerialNumber, SigningKey,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroize;

use crate::{CertificateError, CertificateFingerprint, HashAlgorithm, RTCDtlsConnectionInfo};

/// How long a generated certificate is valid: as long as browsers make theirs.
const VALIDITY: Duration = Duration::days(30);

/// Begins this long before now, for peers whose clock is late.
const BACKDATED: Duration = Duration::days(1);

/// A certificate and its private key; cheap to clone.
///
/// One is made per socket, never per host: it would tell a peer who else is who.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    der: Vec<u8>,
    private_key: Vec<u8>,
    sha256: [u8; 32],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl Certificate {
    /// Generates a self-signed certificate: ECDSA on P-256, 30 days, a random name and
    /// serial number (RFC 8827 §6.5). It takes well under a millisecond.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Generation`] if the system has no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generation)?;
        let mut unique = [0; 24];
        rand::fill(&mut unique)
            .map_err(|_| CertificateError::Generation("no randomness".to_owned()))?;
        let now = OffsetDateTime::now_utc();
        let der = self_signed(&key, unique, now - BACKDATED)?;
        // No probe: the certificate was just signed by this very key.
        Ok(Self::of_parts(&der, &key.serialize_der()))
    }

    /// Takes a certificate and its private key, both DER.
    ///
    /// The key (PKCS #8 or SEC 1; ECDSA on P-256 or P-384) is loaded and signs a probe that
    /// the certificate must verify, so that a wrong pair fails here and not in a handshake.
    ///
    /// # Errors
    ///
    /// [`CertificateError::UnusableKey`], [`CertificateError::KeyMismatch`].
    pub fn from_der(certificate: &[u8], private_key: &[u8]) -> Result<Self, CertificateError> {
        let provider = backend::default_provider();
        let mut key = provider
            .key_provider
            .load_private_key(private_key)
            .map_err(|_| CertificateError::UnusableKey)?;
        let (hash, algorithm) = (key.hash_algorithm(), key.algorithm());
        let probe = b"is this the key of this certificate?";
        let mut signature = Buf::new();
        key.sign(probe, hash, &mut signature).map_err(|_| CertificateError::UnusableKey)?;
        provider
            .signature_verification
            .verify_signature(certificate, probe, &signature, hash, algorithm)
            .map_err(|_| CertificateError::KeyMismatch)?;

        Ok(Self::of_parts(certificate, private_key))
    }

    fn of_parts(certificate: &[u8], private_key: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest.as_ref());
        let inner = Inner { der: certificate.to_vec(), private_key: private_key.to_vec(), sha256 };
        Self { inner: Arc::new(inner) }
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.inner.der
    }

    /// The private key, DER (PKCS #8 or SEC 1, as it was given): a secret, for another engine
    /// that is to present this certificate.
    pub fn private_key_der(&self) -> &[u8] {
        &self.inner.private_key
    }

    /// Its fingerprint by one hash function.
    pub fn fingerprint(&self, hash: HashAlgorithm) -> Vec<u8> {
        hash.digest(&self.inner.der)
    }

    /// Its SHA-256 fingerprint: what is signalled and compared.
    pub fn sha256(&self) -> [u8; 32] {
        self.inner.sha256
    }

    /// Its fingerprints by every hash function.
    pub fn fingerprints(&self) -> CertificateFingerprint {
        CertificateFingerprint::of_certificate(&self.inner.der)
    }

    /// What the drafts call the local side's `dtls`.
    pub fn connection_info(&self) -> RTCDtlsConnectionInfo {
        RTCDtlsConnectionInfo { fingerprint: self.fingerprints() }
    }

    pub(crate) fn to_engine(&self) -> DtlsCertificate {
        DtlsCertificate {
            certificate: self.inner.der.clone(),
            private_key: self.inner.private_key.clone(),
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = CertificateFingerprint::from_sha256(self.inner.sha256);
        f.debug_tuple("Certificate").field(&fingerprint.to_string()).finish()
    }
}

/// Builds the certificate: the first 8 bytes of `unique` become the name, 16 the serial number.
pub(crate) fn self_signed(
    key: &impl SigningKey,
    unique: [u8; 24],
    not_before: OffsetDateTime,
) -> Result<Vec<u8>, CertificateError> {
    let (name, serial) = unique.split_at(8);
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    let mut serial = serial.to_vec();
    // RFC 5280 §4.1.2.2: positive, and the encoding of constant length.
    serial[0] = (serial[0] & 0x7f) | 0x40;

    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(generation)?;
    params.distinguished_name = distinguished_name;
    params.is_ca = IsCa::NoCa;
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = not_before;
    params.not_after = not_before + BACKDATED + VALIDITY;
    let certificate = params.self_signed(key).map_err(generation)?;
    Ok(certificate.der().to_vec())
}

fn generation(error: rcgen::Error) -> CertificateError {
    CertificateError::Generation(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_certificates_differ_and_load_again() {
        let (one, other) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        assert_ne!(one.sha256(), other.sha256());
        assert_eq!(one.fingerprint(HashAlgorithm::Sha256), one.sha256());
        assert_eq!(one.fingerprints().sha256(), Some(one.sha256()));
        let again = Certificate::from_der(one.der(), &one.inner.private_key).unwrap();
        assert_eq!(again.der(), one.der());
    }

    #[test]
    fn a_bad_key_or_certificate_is_an_error() {
        let (one, other) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let load =
            |der: &[u8], key: &[u8]| Certificate::from_der(der, key).map(|_| ()).unwrap_err();
        let key = &one.inner.private_key;
        assert_eq!(load(one.der(), &[]), CertificateError::UnusableKey);
        assert_eq!(load(one.der(), &key[..key.len() - 1]), CertificateError::UnusableKey);
        assert_eq!(load(one.der(), &other.inner.private_key), CertificateError::KeyMismatch);
        assert_eq!(load(b"no certificate", key), CertificateError::KeyMismatch);
    }

    #[test]
    fn debug_shows_the_fingerprint_and_no_key() {
        let certificate = Certificate::generate().unwrap();
        let expected = CertificateFingerprint::from_sha256(certificate.sha256());
        assert_eq!(format!("{certificate:?}"), format!("Certificate(\"{expected}\")"));
    }
}
