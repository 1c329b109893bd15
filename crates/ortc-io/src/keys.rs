use std::fmt;

use zeroize::Zeroizing;

/// An SRTP protection profile that DTLS-SRTP can negotiate (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_128_GCM`, 0x0007.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, 0x0008.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, 0x0001.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Length of a master key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of a master salt in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }
}

/// The SRTP master keys of one connection, already sorted into ours and theirs.
///
/// The key bytes are zeroized when dropped and never printed.
#[derive(Clone)]
pub struct SrtpKeys {
    /// The negotiated profile; it fixes the lengths below.
    pub profile: SrtpProfile,
    /// Master key for what we send, [`SrtpProfile::key_len`] bytes.
    pub local_key: Zeroizing<Vec<u8>>,
    /// Master salt for what we send, [`SrtpProfile::salt_len`] bytes.
    pub local_salt: Zeroizing<Vec<u8>>,
    /// Master key for what we receive.
    pub remote_key: Zeroizing<Vec<u8>>,
    /// Master salt for what we receive.
    pub remote_salt: Zeroizing<Vec<u8>>,
}

impl SrtpKeys {
    /// Cuts exported keying material (RFC 5764 §4.2: client key, server key, client salt,
    /// server salt) into the keys of one side.
    ///
    /// Returns `None` when `material` is shorter than the profile needs.
    pub fn from_exported(profile: SrtpProfile, material: &[u8], is_client: bool) -> Option<Self> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if material.len() < 2 * (key + salt) {
            return None;
        }
        let (client_key, rest) = material.split_at(key);
        let (server_key, rest) = rest.split_at(key);
        let (client_salt, rest) = rest.split_at(salt);
        let server_salt = &rest[..salt];
        let own = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let client = (own(client_key), own(client_salt));
        let server = (own(server_key), own(server_salt));
        let (local, remote) = if is_client { (client, server) } else { (server, client) };
        Some(Self {
            profile,
            local_key: local.0,
            local_salt: local.1,
            remote_key: remote.0,
            remote_salt: remote.1,
        })
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_material_is_cut_in_the_order_of_rfc_5764() {
        let material: Vec<u8> = (0..56).collect();
        let client = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, true).unwrap();
        let server = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, false).unwrap();
        assert_eq!(client.local_key[..], material[0..16]);
        assert_eq!(client.remote_key[..], material[16..32]);
        assert_eq!(client.local_salt[..], material[32..44]);
        assert_eq!(client.remote_salt[..], material[44..56]);
        assert_eq!(server.local_key, client.remote_key);
        assert_eq!(server.remote_salt, client.local_salt);
    }

    #[test]
    fn short_material_is_refused_and_keys_are_never_printed() {
        assert!(SrtpKeys::from_exported(SrtpProfile::AeadAes256Gcm, &[7; 87], true).is_none());
        let keys = SrtpKeys::from_exported(SrtpProfile::Aes128CmSha1_80, &[7; 60], true).unwrap();
        assert_eq!(format!("{keys:?}"), "SrtpKeys { profile: Aes128CmSha1_80, .. }");
    }
}
