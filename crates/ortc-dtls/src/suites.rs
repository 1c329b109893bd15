//! The cipher suites of the engine, which tell within one call what keys it has made.
//!
//! The engine holds all that a handshake has needed for as long as it lives, some 11 kB, and its
//! keys are to be had nowhere but where it has its ciphers made. So the ciphers that it gets are
//! the backend's, which note beside their key what has been done with it: what nonces begin with,
//! the numbers sealed and opened. With that, [`crate::records`] goes on.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use dimpl::CryptoError;
use dimpl::crypto::{
    Aad, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, HashAlgorithm, Nonce,
    SupportedDtls12CipherSuite, TmpBuf, aws_lc_rs as backend,
};
use zeroize::Zeroizing;

use crate::records::{EXPLICIT, LAST_NUMBER, NONCE, ReplayWindow};

thread_local! {
    /// The keys made within a [`capture`] of this thread; `None` outside of one.
    static MADE: RefCell<Option<Vec<SharedKey>>> = const { RefCell::new(None) };
}

/// What a cipher of the engine and its association both hold.
pub(crate) type SharedKey = Arc<Mutex<KeyInUse>>;

/// The key of one direction, and what it has been used for in epoch 1, the only one it has.
#[derive(Clone)]
pub(crate) struct KeyInUse {
    pub(crate) algorithm: &'static Algorithm,
    pub(crate) key: Zeroizing<Box<[u8]>>,
    /// What nonces are made of, known from the first use on.
    pub(crate) iv: [u8; NONCE],
    pub(crate) has_sealed: bool,
    /// One more than the highest number sealed.
    pub(crate) next_sealed: u64,
    pub(crate) has_opened: bool,
    pub(crate) opened: ReplayWindow,
}

impl fmt::Debug for KeyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyInUse").finish_non_exhaustive()
    }
}

impl KeyInUse {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Self {
        Self {
            algorithm,
            key: Zeroizing::new(key.into()),
            iv: [0; NONCE],
            has_sealed: false,
            next_sealed: 0,
            has_opened: false,
            opened: ReplayWindow::default(),
        }
    }

    /// Bytes of a record's nonce that travel with it: all but a fixed part in GCM (RFC 5288 §3),
    /// none where the number is woven into it (RFC 7905 §2).
    pub(crate) fn explicit(&self) -> usize {
        if *self.algorithm == CHACHA20_POLY1305 { 0 } else { EXPLICIT }
    }

    /// Notes a nonce, and returns the number within its epoch of the record that it was for.
    fn note(&mut self, aad: &Aad, nonce: &Nonce) -> u64 {
        // RFC 5246 §6.2.3.3: additional data begin with epoch and number.
        let sequence = aad.first_chunk().map_or(LAST_NUMBER, |it| u64::from_be_bytes(*it));
        self.iv = nonce.0;
        if self.explicit() == 0 {
            weave(&mut self.iv, sequence);
        }
        sequence & LAST_NUMBER
    }
}

/// XORs epoch and number of a record into the end of a nonce (RFC 7905 §2).
pub(crate) fn weave(nonce: &mut [u8; NONCE], sequence: u64) {
    let end = nonce.iter_mut().rev().zip(sequence.to_be_bytes().into_iter().rev());
    end.for_each(|(byte, with)| *byte ^= with);
}

/// Nobody panics while holding one but in the backend, which leaves it whole.
pub(crate) fn lock(key: &SharedKey) -> MutexGuard<'_, KeyInUse> {
    key.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `call`, and returns the keys that were made within it, too.
pub(crate) fn capture<T>(call: impl FnOnce() -> T) -> (T, Vec<SharedKey>) {
    MADE.set(Some(Vec::new()));
    let result = call();
    (result, MADE.take().unwrap_or_default())
}

/// `provider` with suites of DTLS 1.2 whose keys can be [captured](capture).
pub(crate) fn capturing(provider: CryptoProvider) -> CryptoProvider {
    static SUITES: &[&dyn SupportedDtls12CipherSuite] = &[
        &Captured(Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256, &AES_128_GCM),
        &Captured(Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384, &AES_256_GCM),
        &Captured(Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256, &CHACHA20_POLY1305),
    ];
    CryptoProvider { cipher_suites: SUITES, ..provider }
}

/// A suite of the backend.
#[derive(Debug)]
struct Captured(Dtls12CipherSuite, &'static Algorithm);

impl Captured {
    fn inner(&self) -> &'static dyn SupportedDtls12CipherSuite {
        let suites = backend::default_provider().cipher_suites;
        let found = suites.iter().find(|it| it.suite() == self.0);
        *found.expect("the backend has the three suites; its version is pinned")
    }
}

impl SupportedDtls12CipherSuite for Captured {
    fn suite(&self) -> Dtls12CipherSuite {
        self.0
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.inner().hash_algorithm()
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        self.inner().key_lengths()
    }

    fn explicit_nonce_len(&self) -> usize {
        self.inner().explicit_nonce_len()
    }

    fn tag_len(&self) -> usize {
        self.inner().tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let cipher = self.inner().create_cipher(key)?;
        let in_use = MADE.with_borrow_mut(|made| {
            let made = made.as_mut()?;
            let in_use = Arc::new(Mutex::new(KeyInUse::new(self.1, key)));
            made.push(Arc::clone(&in_use));
            Some(in_use)
        });
        Ok(match in_use {
            Some(in_use) => Box::new(Noted { cipher, in_use }),
            None => cipher,
        })
    }
}

/// A cipher of the backend that notes what it is used for.
#[derive(Debug)]
struct Noted {
    cipher: Box<dyn Cipher>,
    in_use: SharedKey,
}

impl Cipher for Noted {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let mut in_use = lock(&self.in_use);
        let number = in_use.note(&aad, &nonce);
        in_use.has_sealed = true;
        in_use.next_sealed = in_use.next_sealed.max(number + 1);
        self.cipher.encrypt(plaintext, aad, nonce)
    }

    fn decrypt(
        &mut self,
        ciphertext: &mut TmpBuf<'_>,
        aad: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        self.cipher.decrypt(ciphertext, aad.clone(), nonce)?;
        let mut in_use = lock(&self.in_use);
        let number = in_use.note(&aad, &nonce);
        in_use.has_opened = true;
        in_use.opened.note(number);
        Ok(())
    }
}
