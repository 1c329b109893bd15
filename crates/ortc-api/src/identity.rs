//! Who a peer is: ICE credentials that carry the certificate's fingerprint, and the roles that
//! follow from them.
//!
//! The drafts signal `usernameFrag` and `password` and nothing else, so a man in the middle of
//! the media path could not be noticed. Our password therefore ends in the fingerprint:
//!
//! ```text
//! 22 random ice-chars | 2 check characters | 43 characters of unpadded base64 of the SHA-256
//! ```
//!
//! The check characters are the first 12 bits of SHA-256 over the username fragment, the 22
//! characters and the fingerprint, so that a foreign password is not taken for one of ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ortc_dtls::{CertificateFingerprint, DtlsRole};
use ortc_ice::RTCIceConnectionInfo;

use crate::error::SetRemoteIceError;

/// Random characters of a password: 22 × 6 bits are over the 128 that RFC 8445 §5.3 asks for.
const RANDOM_CHARS: usize = 22;
const CHECK_CHARS: usize = 2;
const FINGERPRINT_CHARS: usize = 43;
/// Characters of a password that carries a fingerprint.
const PASSWORD_CHARS: usize = RANDOM_CHARS + CHECK_CHARS + FINGERPRINT_CHARS;

/// Makes the credentials of a connection whose certificate has this fingerprint.
pub(crate) fn credentials(random: [u8; 32], sha256: &[u8; 32]) -> RTCIceConnectionInfo {
    let mut info = RTCIceConnectionInfo::from_random(random);
    let check = check(&info.username_frag, &info.password, sha256);
    info.password.push_str(&check);
    info.password.push_str(&STANDARD_NO_PAD.encode(sha256));
    info.fingerprint = Some(CertificateFingerprint::from_sha256(*sha256).to_string());
    info
}

fn check(username_frag: &str, random: &str, sha256: &[u8; 32]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(username_frag.as_bytes());
    context.update(random.as_bytes());
    context.update(sha256);
    let mut text = STANDARD_NO_PAD.encode(context.finish());
    text.truncate(CHECK_CHARS);
    text
}

/// Finds the fingerprint that the peer's credentials name.
///
/// The explicit `fingerprint` goes first, then the one in the password; `None` when there is
/// neither.
pub(crate) fn fingerprint(
    info: &RTCIceConnectionInfo,
) -> Result<Option<[u8; 32]>, SetRemoteIceError> {
    match &info.fingerprint {
        Some(text) => explicit(text).map(Some),
        None => Ok(embedded(info)),
    }
}

fn explicit(text: &str) -> Result<[u8; 32], SetRemoteIceError> {
    let fingerprint: CertificateFingerprint =
        text.parse().map_err(|_| SetRemoteIceError::Fingerprint)?;
    let bytes = fingerprint.get("sha-256").ok_or(SetRemoteIceError::Fingerprint)?;
    bytes.try_into().map_err(|_| SetRemoteIceError::Fingerprint)
}

fn embedded(info: &RTCIceConnectionInfo) -> Option<[u8; 32]> {
    // ice-chars are ASCII, so every index is a character boundary.
    if info.password.len() != PASSWORD_CHARS {
        return None;
    }
    let (random, rest) = info.password.split_at(RANDOM_CHARS);
    let (found, encoded) = rest.split_at(CHECK_CHARS);
    let sha256: [u8; 32] = STANDARD_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
    (check(&info.username_frag, random, &sha256) == found).then_some(sha256)
}

/// The roles of a connection, decided once from the first credentials of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Who sends the ClientHello.
    pub(crate) dtls: DtlsRole,
    /// Whether ICE begins as controlling; role conflicts may change that, never `dtls`.
    pub(crate) controlling: bool,
}

impl Roles {
    /// Decides the roles: the side whose `usernameFrag:password` is smaller, bytewise, is the
    /// DTLS client, the other begins as controlling. Both never being the same is for
    /// [`RTCIceConnectionInfo::validate_remote`] to see to.
    pub(crate) fn decide(local: &RTCIceConnectionInfo, remote: &RTCIceConnectionInfo) -> Self {
        let text =
            |info: &RTCIceConnectionInfo| format!("{}:{}", info.username_frag, info.password);
        if text(local) < text(remote) {
            Self { dtls: DtlsRole::Client, controlling: false }
        } else {
            Self { dtls: DtlsRole::Server, controlling: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> RTCIceConnectionInfo {
        credentials([0x5a; 32], &[7; 32])
    }

    #[test]
    fn credentials_are_ice_chars_and_carry_the_fingerprint_twice() {
        let info = ours();
        assert_eq!((info.username_frag.len(), info.password.len()), (8, 67));
        assert_eq!(fingerprint(&info).unwrap(), Some([7; 32]));
        let embedded_only = RTCIceConnectionInfo { fingerprint: None, ..info };
        assert_eq!(fingerprint(&embedded_only).unwrap(), Some([7; 32]));
    }

    #[test]
    fn a_password_with_one_changed_character_carries_no_fingerprint() {
        for index in [0, 21, 22, 23, 24, 60] {
            let mut info = RTCIceConnectionInfo { fingerprint: None, ..ours() };
            let other = if info.password.as_bytes()[index] == b'A' { "B" } else { "A" };
            info.password.replace_range(index..=index, other);
            assert_eq!(fingerprint(&info).unwrap(), None, "character {index}");
        }
    }

    #[test]
    fn the_explicit_fingerprint_goes_first() {
        let text = CertificateFingerprint::from_sha256([9; 32]).to_string();
        let info = RTCIceConnectionInfo { fingerprint: Some(text), ..ours() };
        assert_eq!(fingerprint(&info).unwrap(), Some([9; 32]));
    }

    #[test]
    fn an_explicit_fingerprint_must_be_a_whole_sha_256() {
        for text in ["sha-256 00:11", "sha-1 00:11", "nonsense", ""] {
            let info = RTCIceConnectionInfo { fingerprint: Some(text.into()), ..ours() };
            assert_eq!(fingerprint(&info), Err(SetRemoteIceError::Fingerprint), "{text}");
        }
    }

    #[test]
    fn roles_are_opposite() {
        let (a, b) = (ours(), credentials([0x11; 32], &[8; 32]));
        let (one, other) = (Roles::decide(&a, &b), Roles::decide(&b, &a));
        assert_ne!(one.dtls, other.dtls);
        assert_ne!(one.controlling, other.controlling);
        assert_eq!(one.controlling, one.dtls == DtlsRole::Server);
    }

    #[test]
    fn the_smaller_credentials_are_the_dtls_client() {
        let info = |username_frag: &str, password: &str| RTCIceConnectionInfo {
            username_frag: username_frag.into(),
            password: password.into(),
            fingerprint: None,
        };
        for (smaller, larger) in [
            (info("abcd", "x"), info("abce", "a")),
            (info("abcd", "a"), info("abcd", "b")),
            // Byte by byte, the colon included: '+' < '/' < '0' to '9' < ':' < 'A' < 'a'.
            (info("abcd+", "a"), info("abcd", "a")),
            (info("abcd", "a"), info("abcdA", "a")),
            (info("abcZ", "a"), info("abca", "a")),
        ] {
            let client = Roles { dtls: DtlsRole::Client, controlling: false };
            let server = Roles { dtls: DtlsRole::Server, controlling: true };
            assert_eq!(Roles::decide(&smaller, &larger), client, "{smaller:?}");
            assert_eq!(Roles::decide(&larger, &smaller), server, "{smaller:?}");
        }
    }
}
