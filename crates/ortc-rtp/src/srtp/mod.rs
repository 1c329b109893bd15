//! SRTP in place (RFC 3711, RFC 7714) on `aws-lc-rs`.
//!
//! Key derivation rate 0, no MKI, SRTCP always encrypted: what DTLS-SRTP negotiates.

mod cipher;
mod receiver;
mod seal;
mod sender;
mod window;

pub use receiver::{RtpOpened, SrtpReceiver};
pub use seal::{Seal, SealJob, SealTicket, SerialSeal};
pub use sender::{SealMark, SrtpSender};
pub(crate) use window::ReplayWindow;

#[cfg(test)]
mod tests;

#[cfg(test)]
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
