/// Why a certificate could not be made or taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The private key is no ECDSA key on P-256 or P-384 in PKCS #8 or SEC 1 DER.
    #[error("the private key cannot be loaded: an ECDSA key (P-256 or P-384, DER) is needed")]
    UnusableKey,
    /// The certificate is no X.509 certificate, or is for another key.
    #[error("the certificate does not belong to the private key, or is no X.509 certificate (DER)")]
    KeyMismatch,
    /// The system gave no randomness, or refused to sign.
    #[error("no certificate could be generated: {0}")]
    Generation(String),
}

/// Why PEM text is not a certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// There is no certificate in it.
    #[error(
        "there is no certificate: a block that begins with -----BEGIN CERTIFICATE----- is needed"
    )]
    NoCertificate,
    /// There is no private key in it.
    #[error(
        "there is no private key: a block that begins with -----BEGIN PRIVATE KEY----- is needed"
    )]
    NoKey,
    /// There is more than one certificate: the fingerprint is that of one, and no chain is sent.
    #[error("there are several certificates: leave the one that the private key belongs to")]
    SeveralCertificates,
    /// There is more than one private key.
    #[error("there are several private keys: leave the one that the certificate belongs to")]
    SeveralKeys,
    /// The private key is encrypted.
    #[error("the private key is encrypted: decrypt it first, for example with `openssl pkcs8`")]
    EncryptedKey,
    /// A block does not end, or is no base64.
    #[error("the PEM block that begins in line {line} does not end as it began, or is no base64")]
    Malformed {
        /// Where the block begins, from 1.
        line: usize,
    },
    /// They were read, but cannot be used, or not together.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Why text is not a certificate fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// There is no `name AB:CD:…` in it.
    #[error("a fingerprint is written \"sha-256 AB:CD:…\"; this is {0:?}")]
    Malformed(String),
    /// The digest is not as long as its hash function makes it.
    #[error("a {hash} fingerprint has {expected} bytes, this one has {actual}")]
    WrongLength {
        /// The hash function.
        hash: String,
        /// Bytes it produces.
        expected: usize,
        /// Bytes found.
        actual: usize,
    },
}

/// Why a call on an endpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// It has already been started.
    #[error("the DTLS endpoint has been started before; a role is decided once")]
    AlreadyStarted,
    /// It is not connected, or not any more.
    #[error("application data can be sent only between Connected and Stopped")]
    NotConnected,
    /// The message does not fit into one datagram.
    #[error("application data of {actual} bytes does not fit into one datagram; {limit} do")]
    TooLarge {
        /// Bytes given.
        actual: usize,
        /// Bytes that fit.
        limit: usize,
    },
}
