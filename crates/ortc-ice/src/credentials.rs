use crate::error::Quoted;
use crate::{CredentialsError, RTCIceConnectionInfo};

/// The 64 ice-chars (RFC 8839 §5.1), so that six random bits make one without bias.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters of a username fragment of ours: 48 bits, twice what RFC 8445 §5.3 asks for.
const UFRAG_LEN: usize = 8;

/// Characters of a password of ours: 132 bits, where RFC 8445 §5.3 asks for 128.
const PASSWORD_LEN: usize = 22;

/// Bytes that the engine can write as USERNAME (`theirs:ours`).
const USERNAME_LIMIT: usize = 128;

impl RTCIceConnectionInfo {
    /// Makes credentials from 32 bytes of a CSPRNG: 8 characters of fragment, 22 of password.
    ///
    /// The password carries 132 random bits. Whoever wants to embed more in it (a
    /// fingerprint, say) may append up to 234 ice-chars.
    pub fn from_random(random: [u8; 32]) -> Self {
        let mut chars = random.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte % 64)]));
        Self {
            username_frag: chars.by_ref().take(UFRAG_LEN).collect(),
            password: chars.take(PASSWORD_LEN).collect(),
            fingerprint: None,
        }
    }

    /// Makes credentials from the random generator of aws-lc-rs.
    ///
    /// # Panics
    /// When the system has no randomness: then nothing here is safe.
    pub fn generate() -> Self {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random generator works");
        Self::from_random(random)
    }

    /// Checks lengths and characters (RFC 8445 §5.3).
    ///
    /// # Errors
    /// What is wrong; ask the peer to signal its credentials again.
    pub fn validate(&self) -> Result<(), CredentialsError> {
        let ufrag = self.username_frag.as_bytes();
        if !(4..=256).contains(&ufrag.len()) || !ufrag.iter().copied().all(is_ice_char) {
            return Err(CredentialsError::UsernameFrag(Quoted::new(&self.username_frag)));
        }
        let password = self.password.as_bytes();
        if !(22..=256).contains(&password.len()) || !password.iter().copied().all(is_ice_char) {
            return Err(CredentialsError::Password { len: self.password.chars().count() });
        }
        Ok(())
    }

    /// Checks credentials of the peer for use beside `local`, our own.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); also when they are our own, and when both fragments
    /// together do not fit a request.
    pub fn validate_remote(&self, local: &Self) -> Result<(), CredentialsError> {
        self.validate()?;
        if self.username_frag == local.username_frag && self.password == local.password {
            return Err(CredentialsError::Ours);
        }
        let limit = USERNAME_LIMIT.saturating_sub(1 + local.username_frag.len());
        if self.username_frag.len() > limit {
            let len = self.username_frag.len();
            return Err(CredentialsError::UsernameFragTooLong { len, limit });
        }
        Ok(())
    }
}

/// Whether a byte is ALPHA, DIGIT, `+` or `/`.
pub(crate) fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(ufrag: &str, password: &str) -> RTCIceConnectionInfo {
        RTCIceConnectionInfo {
            username_frag: ufrag.into(),
            password: password.into(),
            fingerprint: None,
        }
    }

    #[test]
    fn random_bytes_become_ice_chars() {
        let made = RTCIceConnectionInfo::from_random(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(made, info("AHOVcjqx", "4/GNUbipw3+FMTahov29EL"));
        assert_eq!(made.validate(), Ok(()));
        assert_ne!(RTCIceConnectionInfo::generate(), RTCIceConnectionInfo::generate());
    }

    #[test]
    fn lengths_and_characters_are_checked() {
        let good = "a".repeat(22);
        assert_eq!(info("abcd", &good).validate(), Ok(()));
        assert_eq!(info(&"u".repeat(256), &"p".repeat(256)).validate(), Ok(()));
        for bad in ["abc", "ab:d", "äbcd", &"u".repeat(257)] {
            let expected = CredentialsError::UsernameFrag(Quoted::new(bad));
            assert_eq!(info(bad, &good).validate(), Err(expected));
        }
        for (bad, len) in [("short".to_owned(), 5), ("é".repeat(22), 22), ("p".repeat(257), 257)] {
            assert_eq!(info("abcd", &bad).validate(), Err(CredentialsError::Password { len }));
        }
    }

    #[test]
    fn our_own_credentials_and_fragments_that_do_not_fit_are_refused() {
        let ours = info("abcdefgh", &"a".repeat(22));
        assert_eq!(ours.validate_remote(&ours), Err(CredentialsError::Ours));
        let fits = info(&"u".repeat(119), &"b".repeat(22));
        assert_eq!(fits.validate_remote(&ours), Ok(()));
        let long = info(&"u".repeat(120), &"b".repeat(22));
        assert_eq!(
            long.validate_remote(&ours),
            Err(CredentialsError::UsernameFragTooLong { len: 120, limit: 119 })
        );
    }
}
