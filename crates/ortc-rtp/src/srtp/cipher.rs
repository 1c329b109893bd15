use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use ortc_io::{SrtpProfile, prefetch};
use zeroize::Zeroizing;

use crate::SrtpError;

/// GCM's tag, never truncated (RFC 7714 §13.2).
const GCM_TAG: usize = 16;
/// HMAC-SHA1 cut to 80 bits (RFC 3711 §4.2).
const HMAC_TAG: usize = 10;
/// The E bit and the SRTCP index (RFC 3711 §3.4).
pub(super) const RTCP_INDEX: usize = 4;
/// What SRTCP leaves readable: the first header and the sender's SSRC.
pub(super) const RTCP_HEADER: usize = 8;
/// Set in the index word of an encrypted SRTCP packet.
pub(super) const RTCP_ENCRYPTED: u32 = 1 << 31;
/// Key of HMAC-SHA1 (RFC 3711 §8.2).
const HMAC_KEY: usize = 20;

/// The labels of the key derivation (RFC 3711 §4.3.1): encryption, authentication, salt.
const RTP_LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// The session keys of one direction and one of RTP and RTCP.
///
/// AES key schedules and HMAC states are computed once, when there is a first packet: they are
/// ten times the keys, and many a connection is idle or only receives. The key bytes are zeroized
/// when it is dropped, and never printed.
pub(super) struct SessionKey {
    cipher: OnceLock<Cipher>,
    profile: SrtpProfile,
    derived: Zeroizing<Derived>,
}

/// What is derived for a profile; of one with shorter keys, the rest is zero.
type Derived = [u8; CIPHER_KEY + HMAC_KEY + SALT];

/// The longest key of a cipher.
const CIPHER_KEY: usize = 32;
/// The longest salt.
const SALT: usize = 14;

enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: Zeroizing<[u8; 12]>,
    },
    /// Boxed: its key schedules for both directions are 50 times the size of the other.
    Cm(Box<CounterMode>),
}

struct CounterMode {
    key: EncryptingKey,
    auth: hmac::Key,
    salt: Zeroizing<[u8; 14]>,
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionKey").field(&self.profile).finish()
    }
}

/// Length of what a profile appends to an RTP packet, and to an RTCP packet.
pub(super) const fn overheads(profile: SrtpProfile) -> (usize, usize) {
    let tag = match profile {
        SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => GCM_TAG,
        SrtpProfile::Aes128CmSha1_80 => HMAC_TAG,
    };
    (tag, tag + RTCP_INDEX)
}

/// Derives the keys for RTP and RTCP from a master key (RFC 3711 §4.3, key derivation rate 0).
pub(super) fn derive(
    profile: SrtpProfile,
    master_key: &[u8],
    master_salt: &[u8],
) -> Result<(SessionKey, SessionKey), SrtpError> {
    if master_key.len() != profile.key_len() || master_salt.len() != profile.salt_len() {
        return Err(SrtpError::KeyLength);
    }
    Ok((
        SessionKey::derive(profile, master_key, master_salt, RTP_LABELS)?,
        SessionKey::derive(profile, master_key, master_salt, RTCP_LABELS)?,
    ))
}

/// Fills `out` with the output of AES-CM for one label (RFC 3711 §4.3.3, RFC 7714 §11).
fn derive_label(master: &EncryptingKey, salt: &[u8], label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    // A salt of 96 bits is padded on the right (RFC 7714 §11).
    iv[..salt.len()].copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    counter_mode(master, iv, out);
}

fn counter_mode(key: &EncryptingKey, iv: [u8; 16], in_out: &mut [u8]) {
    key.less_safe_encrypt(in_out, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length and a 128-bit counter");
}

impl SessionKey {
    fn derive(
        profile: SrtpProfile,
        master_key: &[u8],
        master_salt: &[u8],
        [encryption, authentication, salting]: [u8; 3],
    ) -> Result<Self, SrtpError> {
        let aes = if profile.key_len() == 32 { &AES_256 } else { &AES_128 };
        let master = UnboundCipherKey::new(aes, master_key)
            .and_then(EncryptingKey::ctr)
            .map_err(|_| SrtpError::KeyLength)?;
        let mut derived = Zeroizing::new([0; CIPHER_KEY + HMAC_KEY + SALT]);
        let (key, rest) = derived.split_at_mut(CIPHER_KEY);
        let (auth, salt) = rest.split_at_mut(HMAC_KEY);
        derive_label(&master, master_salt, encryption, &mut key[..profile.key_len()]);
        if profile == SrtpProfile::Aes128CmSha1_80 {
            derive_label(&master, master_salt, authentication, auth);
        }
        derive_label(&master, master_salt, salting, &mut salt[..profile.salt_len()]);
        Ok(Self { cipher: OnceLock::new(), profile, derived })
    }

    /// Has the processor fetch what the next packet looks at.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.cipher);
    }

    #[inline]
    fn cipher(&self) -> &Cipher {
        self.cipher.get_or_init(|| self.make_cipher())
    }

    #[cold]
    fn make_cipher(&self) -> Cipher {
        const LENGTH: &str = "the keys were derived at the lengths of their profile";
        let (key, rest) = self.derived.split_at(CIPHER_KEY);
        let (auth, salt) = rest.split_at(HMAC_KEY);
        let key = &key[..self.profile.key_len()];
        let algorithm = match self.profile {
            SrtpProfile::AeadAes128Gcm => &AES_128_GCM,
            SrtpProfile::AeadAes256Gcm => &AES_256_GCM,
            SrtpProfile::Aes128CmSha1_80 => {
                let key = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::ctr);
                let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth);
                let salt = Zeroizing::new(*salt.first_chunk().expect(LENGTH));
                return Cipher::Cm(Box::new(CounterMode { key: key.expect(LENGTH), auth, salt }));
            }
        };
        let key = UnboundKey::new(algorithm, key).map(LessSafeKey::new);
        let salt = Zeroizing::new(*salt.first_chunk().expect(LENGTH));
        Cipher::Gcm { key: key.expect(LENGTH), salt }
    }

    /// Length of the authentication tag.
    pub(super) fn tag_len(&self) -> usize {
        overheads(self.profile).0
    }

    /// Seals an RTP packet of `len` bytes in place; `buffer` has room for the tag.
    pub(super) fn seal_rtp(
        &self,
        index: u64,
        ssrc: u32,
        header_len: usize,
        buffer: &mut [u8],
        len: usize,
    ) {
        match self.cipher() {
            Cipher::Gcm { key, salt } => {
                let (header, rest) = buffer.split_at_mut(header_len);
                let (text, tail) = rest.split_at_mut(len - header_len);
                let nonce = rtp_nonce(salt, ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), text)
                    .expect("a packet is far shorter than what GCM can seal");
                tail[..GCM_TAG].copy_from_slice(tag.as_ref());
            }
            Cipher::Cm(cipher) => {
                let CounterMode { key, auth, salt } = &**cipher;
                counter_mode(key, counter(salt, ssrc, index), &mut buffer[header_len..len]);
                sign_rtp(auth, index, buffer, len);
            }
        }
    }

    /// Seals `text` under `header` into `out`, which has room for both and the tag.
    pub(super) fn seal_rtp_from(
        &self,
        index: u64,
        ssrc: u32,
        header: &[u8],
        text: &[u8],
        out: &mut [u8],
    ) {
        out[..header.len()].copy_from_slice(header);
        self.seal_rtp_behind(index, ssrc, header.len(), text, &[], out);
    }

    /// Seals `text` and `padding` behind the header that `out` begins with; there is room for the
    /// tag too.
    pub(super) fn seal_rtp_behind(
        &self,
        index: u64,
        ssrc: u32,
        header_len: usize,
        text: &[u8],
        padding: &[u8],
        out: &mut [u8],
    ) {
        let (header, rest) = out.split_at_mut(header_len);
        let (body, tail) = rest.split_at_mut(text.len());
        match self.cipher() {
            Cipher::Gcm { key, salt } => key
                .seal_out_of_place_scatter(
                    rtp_nonce(salt, ssrc, index),
                    Aad::from(&*header),
                    text,
                    body,
                    padding,
                    &mut tail[..padding.len() + GCM_TAG],
                )
                .expect("a packet is far shorter than what GCM can seal"),
            Cipher::Cm(cipher) => {
                let CounterMode { key, auth, salt } = &**cipher;
                body.copy_from_slice(text);
                tail[..padding.len()].copy_from_slice(padding);
                let end = text.len() + padding.len();
                counter_mode(key, counter(salt, ssrc, index), &mut rest[..end]);
                sign_rtp(auth, index, out, header_len + end);
            }
        }
    }

    /// Opens an RTP packet in place and returns its length without the tag.
    ///
    /// What the buffer holds after an error is unspecified.
    pub(super) fn open_rtp(
        &self,
        index: u64,
        ssrc: u32,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let len = packet
            .len()
            .checked_sub(self.tag_len())
            .filter(|len| *len >= header_len)
            .ok_or(crate::RtpError::TooShort)?;
        match self.cipher() {
            Cipher::Gcm { key, salt } => {
                let (header, sealed) = packet.split_at_mut(header_len);
                key.open_in_place(rtp_nonce(salt, ssrc, index), Aad::from(&*header), sealed)
                    .map_err(|_| SrtpError::NotAuthentic)?;
            }
            Cipher::Cm(cipher) => {
                let CounterMode { key, auth, salt } = &**cipher;
                let mut tag = [0; HMAC_TAG];
                tag.copy_from_slice(&packet[len..]);
                // The rollover counter is signed behind the packet (RFC 3711 §4.2).
                packet[len..len + 4].copy_from_slice(&rollovers(index));
                let expected = hmac::sign(auth, &packet[..len + 4]);
                verify_slices_are_equal(&expected.as_ref()[..HMAC_TAG], &tag)
                    .map_err(|_| SrtpError::NotAuthentic)?;
                counter_mode(key, counter(salt, ssrc, index), &mut packet[header_len..len]);
            }
        }
        Ok(len)
    }

    /// Seals an RTCP compound of `len` bytes in place and returns its new length; `buffer`
    /// has room for index and tag.
    pub(super) fn seal_rtcp(&self, index: u32, ssrc: u32, buffer: &mut [u8], len: usize) -> usize {
        let word = (index | RTCP_ENCRYPTED).to_be_bytes();
        match self.cipher() {
            Cipher::Gcm { key, salt } => {
                let (header, rest) = buffer.split_at_mut(RTCP_HEADER);
                let (text, tail) = rest.split_at_mut(len - RTCP_HEADER);
                let tag = key
                    .seal_in_place_separate_tag(
                        rtcp_nonce(salt, ssrc, index),
                        Aad::from(rtcp_aad(header, word)),
                        text,
                    )
                    .expect("a packet is far shorter than what GCM can seal");
                tail[..GCM_TAG].copy_from_slice(tag.as_ref());
                tail[GCM_TAG..GCM_TAG + RTCP_INDEX].copy_from_slice(&word);
            }
            Cipher::Cm(cipher) => {
                let CounterMode { key, auth, salt } = &**cipher;
                let iv = counter(salt, ssrc, u64::from(index));
                counter_mode(key, iv, &mut buffer[RTCP_HEADER..len]);
                buffer[len..len + RTCP_INDEX].copy_from_slice(&word);
                let signed = len + RTCP_INDEX;
                let tag = hmac::sign(auth, &buffer[..signed]);
                buffer[signed..signed + HMAC_TAG].copy_from_slice(&tag.as_ref()[..HMAC_TAG]);
            }
        }
        len + RTCP_INDEX + self.tag_len()
    }

    /// Where the index word of a sealed RTCP packet stands; `None` when it is too short.
    pub(super) fn rtcp_index_at(&self, len: usize) -> Option<usize> {
        let behind = match self.cipher() {
            Cipher::Gcm { .. } => RTCP_INDEX,
            Cipher::Cm(_) => RTCP_INDEX + HMAC_TAG,
        };
        len.checked_sub(behind).filter(|_| len >= RTCP_HEADER + RTCP_INDEX + self.tag_len())
    }

    /// Opens an RTCP packet, whose length [`rtcp_index_at`](Self::rtcp_index_at) has checked,
    /// in place and returns the length of the compound.
    pub(super) fn open_rtcp(
        &self,
        index: u32,
        ssrc: u32,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let word = (index | RTCP_ENCRYPTED).to_be_bytes();
        let len = packet.len() - RTCP_INDEX - self.tag_len();
        match self.cipher() {
            Cipher::Gcm { key, salt } => {
                let (header, rest) = packet.split_at_mut(RTCP_HEADER);
                let sealed = len - RTCP_HEADER + GCM_TAG;
                key.open_in_place(
                    rtcp_nonce(salt, ssrc, index),
                    Aad::from(rtcp_aad(header, word)),
                    &mut rest[..sealed],
                )
                .map_err(|_| SrtpError::NotAuthentic)?;
            }
            Cipher::Cm(cipher) => {
                let CounterMode { key, auth, salt } = &**cipher;
                let signed = len + RTCP_INDEX;
                let expected = hmac::sign(auth, &packet[..signed]);
                verify_slices_are_equal(&expected.as_ref()[..HMAC_TAG], &packet[signed..])
                    .map_err(|_| SrtpError::NotAuthentic)?;
                let iv = counter(salt, ssrc, u64::from(index));
                counter_mode(key, iv, &mut packet[RTCP_HEADER..len]);
            }
        }
        Ok(len)
    }
}

/// Signs `buffer[..len]` and the rollover counter, and puts the tag behind it.
fn sign_rtp(auth: &hmac::Key, index: u64, buffer: &mut [u8], len: usize) {
    buffer[len..len + 4].copy_from_slice(&rollovers(index));
    let tag = hmac::sign(auth, &buffer[..len + 4]);
    buffer[len..len + HMAC_TAG].copy_from_slice(&tag.as_ref()[..HMAC_TAG]);
}

fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 §8.1: two zero bytes, SSRC, rollover counter and sequence number.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.1: two zero bytes, SSRC, two zero bytes and the index.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[8..12], &index.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.2: the readable header and the index word.
fn rtcp_aad(header: &[u8], word: [u8; 4]) -> [u8; RTCP_HEADER + RTCP_INDEX] {
    let mut aad = [0; RTCP_HEADER + RTCP_INDEX];
    aad[..RTCP_HEADER].copy_from_slice(header);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    aad
}

/// RFC 3711 §4.1.1: salt, SSRC and index, above sixteen bits of block counter.
fn counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &ssrc.to_be_bytes());
    xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
    iv
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    #[test]
    fn the_keystream_of_rfc_3711_appendix_b_2() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let mut salt = Zeroizing::new([0; 14]);
        salt.copy_from_slice(&hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd"));
        let key = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
        let mut stream = vec![0; 16 * 0xff02];
        counter_mode(&key, counter(&salt, 0, 0), &mut stream);
        assert_eq!(
            stream[..48],
            hex("e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab\
                 41e95b3bb0a2e8dd477901e4fca894c0")
        );
        // The counter carries into its second byte.
        assert_eq!(
            stream[16 * 0xfeff..],
            hex("ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae\
                 6a2cc3787889374fbeb4c81b17ba6c44")
        );
    }

    #[test]
    fn the_key_derivation_of_rfc_3711_appendix_b_3() {
        let key = hex("e1f97a0d3e018be0d64fa32c06de4139");
        let salt = hex("0ec675ad498afeebb6960b3aabe6");
        let master = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
        let derived = |label, len| {
            let mut out = vec![0; len];
            derive_label(&master, &salt, label, &mut out);
            out
        };
        assert_eq!(derived(0, 16), hex("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(derived(2, 14), hex("30cbbc08863d8c85d49db34a9ae1"));
        assert_eq!(
            derived(1, 94),
            hex("cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbce\
                 e049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc25\
                 6d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2")
        );
    }

    /// The key of RFC 7714 §16 and §17 is a session key: nothing is derived from a master.
    fn gcm(key: &str) -> SessionKey {
        let (key, salt) = (hex(key), hex("517569642070726f2071756f"));
        let mut derived = Zeroizing::new([0; CIPHER_KEY + HMAC_KEY + SALT]);
        derived[..key.len()].copy_from_slice(&key);
        derived[CIPHER_KEY + HMAC_KEY..][..salt.len()].copy_from_slice(&salt);
        let profile = match key.len() {
            16 => SrtpProfile::AeadAes128Gcm,
            _ => SrtpProfile::AeadAes256Gcm,
        };
        SessionKey { cipher: OnceLock::new(), profile, derived }
    }

    const KEY_128: &str = "000102030405060708090a0b0c0d0e0f";
    const KEY_256: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const HEADER: &str = "8040f17b8041f8d35501a0b2";
    const TEXT: &str = "47616c6c696120657374206f6d6e6973206469766973\
                        6120696e207061727465732074726573";

    #[test]
    fn the_rtp_packets_of_rfc_7714_section_16() {
        for (key, sealed) in [
            (
                KEY_128,
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
                 899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                KEY_256,
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
                 7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ] {
            let (key, header, text) = (gcm(key), hex(HEADER), hex(TEXT));
            let expected = [header.clone(), hex(sealed)].concat();
            let mut from = vec![0; expected.len()];
            key.seal_rtp_from(0xf17b, 0x5501_a0b2, &header, &text, &mut from);
            assert_eq!(from, expected);
            let plain = [header, text].concat();
            let mut buffer = [&plain[..], &[0; 16]].concat();
            key.seal_rtp(0xf17b, 0x5501_a0b2, 12, &mut buffer, plain.len());
            assert_eq!(buffer, expected);
            let len = key.open_rtp(0xf17b, 0x5501_a0b2, 12, &mut buffer).unwrap();
            assert_eq!(buffer[..len], plain);
        }
    }

    #[test]
    fn the_rtcp_packets_of_rfc_7714_section_17() {
        let plain = hex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
             deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
        for (key, sealed) in [
            (
                KEY_128,
                "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32d\
                 c676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf872\
                 45d9eade800005d4",
            ),
            (
                KEY_256,
                "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50\
                 a2eaa5c1110555be8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6c\
                 b26ac3be800005d4",
            ),
        ] {
            let key = gcm(key);
            let mut buffer = [&plain[..], &[0; 20]].concat();
            let len = key.seal_rtcp(0x5d4, 0x4d61_7273, &mut buffer, plain.len());
            assert_eq!(buffer[..len], hex(sealed));
            assert_eq!(key.rtcp_index_at(len), Some(len - 4));
            let opened = key.open_rtcp(0x5d4, 0x4d61_7273, &mut buffer[..len]).unwrap();
            assert_eq!(buffer[..opened], plain);
        }
    }
}
