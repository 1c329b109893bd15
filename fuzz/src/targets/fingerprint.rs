//! Certificate fingerprints (RFC 8122 §5).

use ortc_dtls::CertificateFingerprint;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(fingerprint) = text.parse::<CertificateFingerprint>() {
        let again = fingerprint.to_string().parse();
        assert_eq!(again.as_ref().ok(), Some(&fingerprint));
    }
}
