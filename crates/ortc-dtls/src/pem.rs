//! Certificates and their keys as text (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::{Certificate, PemError};

const CERTIFICATE: &str = "CERTIFICATE";
/// PKCS #8, RFC 7468 §10.
const PKCS8_KEY: &str = "PRIVATE KEY";
/// SEC 1, RFC 5915 §4.
const SEC1_KEY: &str = "EC PRIVATE KEY";
/// PKCS #8, RFC 7468 §11.
const ENCRYPTED_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// Characters in a line: RFC 7468 §2.
const LINE: usize = 64;

impl Certificate {
    /// Writes the certificate and then its private key as PEM (RFC 7468 §5, §10): **a secret**,
    /// to be stored as one.
    ///
    /// A key that was given as SEC 1 is written as that (`EC PRIVATE KEY`, RFC 5915 §4), any
    /// other as PKCS #8. [`Certificate::from_pem`] reads both, and so does OpenSSL.
    pub fn to_pem(&self) -> String {
        let key = self.private_key_der();
        let mut pem = String::new();
        write_block(&mut pem, CERTIFICATE, self.der());
        write_block(&mut pem, if is_sec1(key) { SEC1_KEY } else { PKCS8_KEY }, key);
        pem
    }

    /// Takes a certificate and its private key from PEM text (RFC 7468), in either order.
    ///
    /// The key is ECDSA on P-256 or P-384, as PKCS #8 or SEC 1. Text around the blocks and
    /// blocks of other kinds, such as `EC PARAMETERS`, are passed over. As in
    /// [`Certificate::from_der`], the key signs a probe that the certificate must verify.
    ///
    /// ```
    /// use ortc_dtls::Certificate;
    ///
    /// let certificate = Certificate::generate()?;
    /// let again = Certificate::from_pem(&certificate.to_pem())?;
    /// assert_eq!(again.sha256(), certificate.sha256());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PemError`] says what is missing, too much, encrypted or broken; no part of the key is
    /// in it.
    pub fn from_pem(pem: &str) -> Result<Self, PemError> {
        let (mut certificate, mut key) = (None, None);
        let mut lines = pem.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(label) = boundary(line, "-----BEGIN ") else { continue };
            let block = Block::read(label, at + 1, &mut lines)?;
            // The algorithm of a key is for the loading to judge.
            if label == ENCRYPTED_KEY || (label.ends_with(PKCS8_KEY) && block.is_encrypted) {
                return Err(PemError::EncryptedKey);
            } else if label == CERTIFICATE {
                if certificate.replace(block.decode()?).is_some() {
                    return Err(PemError::SeveralCertificates);
                }
            } else if label.ends_with(PKCS8_KEY) && key.replace(block.decode()?).is_some() {
                return Err(PemError::SeveralKeys);
            }
        }
        let certificate = certificate.ok_or(PemError::NoCertificate)?;
        let key = key.ok_or(PemError::NoKey)?;
        Ok(Self::from_der(&certificate, &key)?)
    }
}

/// What stands between a `BEGIN` and its `END`.
struct Block {
    /// The line of its `BEGIN`, from 1.
    line: usize,
    base64: Zeroizing<String>,
    /// Whether a header of RFC 1421 §4.6.1.1 says so: the form before PKCS #8.
    is_encrypted: bool,
}

impl Block {
    fn read<'a>(
        label: &str,
        line: usize,
        lines: &mut impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<Self, PemError> {
        let mut block = Self { line, base64: Zeroizing::default(), is_encrypted: false };
        for (_, text) in lines {
            match boundary(text, "-----END ") {
                Some(end) if end == label => return Ok(block),
                Some(_) => break,
                None if text.starts_with("-----") => break,
                // No base64 has a colon in it.
                None if text.contains(':') => block.is_encrypted |= text.contains("ENCRYPTED"),
                None => block.base64.extend(text.split_ascii_whitespace()),
            }
        }
        Err(PemError::Malformed { line })
    }

    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let malformed = |_| PemError::Malformed { line: self.line };
        STANDARD.decode(self.base64.as_bytes()).map(Zeroizing::new).map_err(malformed)
    }
}

/// The label of an encapsulation boundary (RFC 7468 §2).
fn boundary<'a>(line: &'a str, begin: &str) -> Option<&'a str> {
    line.trim_end().strip_prefix(begin)?.strip_suffix("-----")
}

/// Tells SEC 1, which begins `SEQUENCE { INTEGER 1, OCTET STRING`, from PKCS #8, which has a
/// `SEQUENCE` after its version.
fn is_sec1(key: &[u8]) -> bool {
    let content = match key {
        [0x30, length, rest @ ..] if *length < 0x80 => rest,
        [0x30, length, rest @ ..] => rest.get(usize::from(length & 0x7f)..).unwrap_or_default(),
        _ => return false,
    };
    content.starts_with(&[0x02, 0x01, 0x01, 0x04])
}

fn write_block(pem: &mut String, label: &str, der: &[u8]) {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        // base64 is ASCII: every index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
}
