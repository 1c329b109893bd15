//! Packets that are not authentic, and those that are and have been changed.

use ortc_io::SrtpProfile;
use ortc_rtp::{SrtpReceiver, SrtpSender};

use crate::Dice;

const PROFILES: [(SrtpProfile, usize, usize); 3] = [
    (SrtpProfile::AeadAes128Gcm, 16, 12),
    (SrtpProfile::AeadAes256Gcm, 32, 12),
    (SrtpProfile::Aes128CmSha1_80, 16, 14),
];

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let (profile, key, salt) = PROFILES[usize::from(dice.byte()) % PROFILES.len()];
    let (key, salt) = (vec![7; key], vec![9; salt]);
    let mut receiver = SrtpReceiver::new(profile, &key, &salt).expect("the lengths are right");
    let mut sender = SrtpSender::new(profile, &key, &salt).expect("the lengths are right");
    let (at, flip) = (usize::from(dice.byte()), dice.byte());
    let plain = dice.rest();

    let mut foreign = plain.to_vec();
    assert!(receiver.unprotect_rtp(&mut foreign).is_err(), "nobody has sealed it");
    let mut foreign = plain.to_vec();
    assert!(receiver.unprotect_rtcp(&mut foreign).is_err(), "nobody has sealed it");

    let mut sealed = plain.to_vec();
    sealed.resize(plain.len() + sender.overhead(), 0);
    if let Ok(len) = sender.protect_rtp(&mut sealed, plain.len()) {
        sealed.truncate(len);
        let at = at % len;
        sealed[at] ^= flip;
        let opened = receiver.unprotect_rtp(&mut sealed);
        assert_eq!(opened.is_ok(), flip == 0, "{opened:?}");
        if let Ok(opened) = opened {
            assert_eq!(&sealed[..opened.len], plain);
        }
    }

    // What is sealed as RTCP is of its version.
    if plain.first().is_none_or(|first| first >> 6 != 2) {
        return;
    }
    let mut sealed = plain.to_vec();
    sealed.resize(plain.len() + sender.rtcp_overhead(), 0);
    if let Ok(len) = sender.protect_rtcp(&mut sealed, plain.len()) {
        sealed.truncate(len);
        let at = at % len;
        sealed[at] ^= flip;
        let opened = receiver.unprotect_rtcp(&mut sealed);
        assert_eq!(opened.is_ok(), flip == 0, "{opened:?}");
        if let Ok(len) = opened {
            assert_eq!(&sealed[..len], plain);
        }
    }
}
