use ortc_io::SrtpProfile;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::{PayloadType, RtpError, RtpHeader, SrtpError, Ssrc};

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm, SrtpProfile::Aes128CmSha1_80];
const SSRC: Ssrc = Ssrc(0x1357_9bdf);

fn material(profile: SrtpProfile) -> (Vec<u8>, Vec<u8>) {
    let key = (0..profile.key_len()).map(|n| n as u8 * 7 + 3).collect();
    let salt = (0..profile.salt_len()).map(|n| n as u8 * 11 + 5).collect();
    (key, salt)
}

fn pair(profile: SrtpProfile) -> (SrtpSender, SrtpReceiver) {
    let (key, salt) = material(profile);
    let sender = SrtpSender::new(profile, &key, &salt).unwrap();
    (sender, SrtpReceiver::new(profile, &key, &salt).unwrap())
}

fn oracle(profile: SrtpProfile) -> Context {
    let (key, salt) = material(profile);
    let profile = match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&key, &salt, profile, None, None).unwrap()
}

/// A packet whose payload tells its sequence number.
fn packet(sequence: u16) -> Vec<u8> {
    let header = RtpHeader {
        payload_type: PayloadType(111),
        marker: sequence.is_multiple_of(3),
        sequence,
        timestamp: u32::from(sequence) * 960,
        ssrc: SSRC,
        extensions: &[],
    };
    let mut bytes = vec![0; 12 + 40 + usize::from(sequence % 50)];
    header.write(&mut bytes).unwrap();
    bytes[12..].fill(sequence as u8);
    bytes
}

fn compound() -> Vec<u8> {
    hex("80c900011357 9bdf 81ca0003 13579bdf 0104 6e616d65 0000")
}

fn sealed(sender: &mut SrtpSender, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + sender.overhead(), 0xee);
    let len = sender.protect_rtp(&mut buffer, plain.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn sealed_rtcp(sender: &mut SrtpSender, plain: &[u8]) -> Vec<u8> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + sender.rtcp_overhead(), 0xee);
    let len = sender.protect_rtcp(&mut buffer, plain.len()).unwrap();
    buffer.truncate(len);
    buffer
}

fn open(receiver: &mut SrtpReceiver, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut bytes = sealed.to_vec();
    let opened = receiver.unprotect_rtp(&mut bytes)?;
    bytes.truncate(opened.len);
    Ok(bytes)
}

fn open_rtcp(receiver: &mut SrtpReceiver, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut bytes = sealed.to_vec();
    let len = receiver.unprotect_rtcp(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

#[test]
fn the_well_known_counter_mode_packet_is_sealed_and_opened() {
    let (key, salt) =
        (hex("e1f97a0d3e018be0d64fa32c06de4139"), hex("0ec675ad498afeebb6960b3aabe6"));
    let profile = SrtpProfile::Aes128CmSha1_80;
    let plain = hex("800f1234decafbadcafebabeabababababababababababababababab");
    let expected =
        hex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb");
    let mut sender = SrtpSender::new(profile, &key, &salt).unwrap();
    assert_eq!(sealed(&mut sender, &plain), expected);
    let mut receiver = SrtpReceiver::new(profile, &key, &salt).unwrap();
    assert_eq!(open(&mut receiver, &expected), Ok(plain));
}

#[test]
fn keys_of_the_wrong_length_are_refused() {
    for profile in PROFILES {
        let (key, salt) = material(profile);
        for (key, salt) in [(&key[1..], &salt[..]), (&key[..], &salt[1..]), (&[], &[])] {
            assert_eq!(SrtpSender::new(profile, key, salt).unwrap_err(), SrtpError::KeyLength);
            assert_eq!(SrtpReceiver::new(profile, key, salt).unwrap_err(), SrtpError::KeyLength);
        }
    }
}

#[test]
fn webrtc_srtp_opens_what_we_seal_across_a_rollover() {
    for profile in PROFILES {
        let (mut sender, mut theirs) = (pair(profile).0, oracle(profile));
        for sequence in (65_500..=65_535).chain(0..40) {
            let plain = packet(sequence);
            let opened = theirs.decrypt_rtp(&sealed(&mut sender, &plain)).unwrap();
            assert_eq!(opened[..], plain, "{profile:?} {sequence}");
        }
        for _ in 0..5 {
            let opened = theirs.decrypt_rtcp(&sealed_rtcp(&mut sender, &compound())).unwrap();
            assert_eq!(opened[..], compound(), "{profile:?}");
        }
    }
}

#[test]
fn we_open_what_webrtc_srtp_seals_across_a_rollover() {
    for profile in PROFILES {
        let (mut receiver, mut theirs) = (pair(profile).1, oracle(profile));
        for sequence in (65_500..=65_535).chain(0..40) {
            let plain = packet(sequence);
            let mut bytes = theirs.encrypt_rtp(&plain).unwrap().to_vec();
            let opened = receiver.unprotect_rtp(&mut bytes).unwrap();
            let rollovers = if sequence < 100 { 65_536 } else { 0 };
            assert_eq!(
                opened,
                RtpOpened {
                    len: plain.len(),
                    header_len: 12,
                    index: rollovers + u64::from(sequence),
                    ssrc: SSRC
                }
            );
            assert_eq!(bytes[..opened.len], plain);
        }
        for _ in 0..5 {
            let bytes = theirs.encrypt_rtcp(&compound()).unwrap();
            assert_eq!(open_rtcp(&mut receiver, &bytes), Ok(compound()));
        }
    }
}

#[test]
fn csrcs_and_extensions_stay_readable_and_are_authenticated() {
    let mut plain = hex("91ef1234deca0000135 79bdf 00000002 bede0001 10aa0000");
    plain.extend([0x55; 30]);
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let bytes = sealed(&mut sender, &plain);
        assert_eq!(bytes[..24], plain[..24]);
        assert_ne!(bytes[24..54], plain[24..]);
        let theirs = oracle(profile).decrypt_rtp(&bytes).unwrap();
        assert_eq!(theirs[..], plain);
        assert_eq!(open(&mut receiver, &bytes), Ok(plain.clone()));
    }
}

#[test]
fn sealing_from_a_shared_plaintext_gives_the_same_packet() {
    for profile in PROFILES {
        let (mut one, mut other) = (pair(profile).0, pair(profile).0);
        let plain = packet(77);
        let expected = sealed(&mut one, &plain);
        let mut out = vec![0; expected.len() + 9];
        let len = other.protect_rtp_from(&plain[..12], &plain[12..], &mut out).unwrap();
        assert_eq!(out[..len], expected);
    }
}

#[test]
fn a_batch_of_jobs_seals_as_one_by_one() {
    let profile = SrtpProfile::AeadAes128Gcm;
    let (mut one, mut other) = (pair(profile).0, pair(profile).0);
    let plain = [packet(1), packet(2), packet(3)];
    let mut out = [vec![0; 200], vec![0; 200], vec![0; 200]];
    let tickets: Vec<_> = plain.iter().map(|plain| other.reserve(&plain[..12]).unwrap()).collect();
    let mut jobs: Vec<_> = tickets
        .into_iter()
        .zip(&plain)
        .zip(&mut out)
        .map(|((ticket, plain), out)| other.job(ticket, &plain[..12], &plain[12..], out).unwrap())
        .collect();
    SerialSeal.seal(&mut jobs);
    let lens: Vec<_> = jobs.iter().map(SealJob::sealed_len).collect();
    for ((plain, out), len) in plain.iter().zip(&out).zip(lens) {
        assert_eq!(out[..len], sealed(&mut one, plain));
    }
    let ticket = other.reserve(&packet(4)[..12]).unwrap();
    let wrong = other.job(ticket, &plain[0][..12], &[], &mut out[0]).unwrap_err();
    assert_eq!(wrong, SrtpError::Malformed(RtpError::Length));
}

#[test]
fn a_replay_is_refused_and_reordering_within_the_window_is_not() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let packets: Vec<_> = (0..2_000).map(|n| sealed(&mut sender, &packet(n))).collect();
        let order = [0, 2, 1, 1_500, 1_499, 477, 476, 1_999, 976, 975];
        let got: Vec<_> =
            order.iter().map(|&n| open(&mut receiver, &packets[n]).map(|_| ())).collect();
        let late = Err(SrtpError::Replayed);
        let expected = [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), late, Ok(()), Ok(()), late];
        assert_eq!(got, expected, "{profile:?}");
        for n in [0, 2, 1_500, 1_999] {
            assert_eq!(open(&mut receiver, &packets[n]), Err(SrtpError::Replayed));
        }
        let rtcp = sealed_rtcp(&mut sender, &compound());
        assert_eq!(open_rtcp(&mut receiver, &rtcp), Ok(compound()));
        assert_eq!(open_rtcp(&mut receiver, &rtcp), Err(SrtpError::Replayed));
    }
}

#[test]
fn tampering_with_any_byte_is_noticed_and_changes_no_state() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let good = sealed(&mut sender, &packet(9));
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(open(&mut receiver, &bad).is_err(), "{profile:?} byte {at}");
            }
        }
        assert_eq!(open(&mut receiver, &good), Ok(packet(9)));
        let good = sealed_rtcp(&mut sender, &compound());
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(open_rtcp(&mut receiver, &bad).is_err(), "{profile:?} byte {at}");
            }
        }
        assert_eq!(open_rtcp(&mut receiver, &good), Ok(compound()));
    }
}

#[test]
fn a_forged_packet_far_ahead_does_not_move_the_window() {
    let (mut sender, mut receiver) = pair(SrtpProfile::AeadAes128Gcm);
    open(&mut receiver, &sealed(&mut sender, &packet(1))).unwrap();
    let mut forged = packet(30_000);
    forged.extend([0; 16]);
    assert_eq!(open(&mut receiver, &forged), Err(SrtpError::NotAuthentic));
    let next = sealed(&mut sender, &packet(2));
    assert_eq!(open(&mut receiver, &next), Ok(packet(2)));
}

#[test]
fn truncations_and_random_bytes_are_errors_and_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let (rtp, rtcp) = (sealed(&mut sender, &packet(9)), sealed_rtcp(&mut sender, &compound()));
        for len in 0..rtp.len() {
            assert!(open(&mut receiver, &rtp[..len]).is_err(), "{len}");
        }
        for len in 0..rtcp.len() {
            assert!(open_rtcp(&mut receiver, &rtcp[..len]).is_err(), "{len}");
        }
        for _ in 0..5_000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..120)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            assert!(open(&mut receiver, &bytes).is_err());
            assert!(open_rtcp(&mut receiver, &bytes).is_err());
        }
    }
}

#[test]
fn srtcp_that_says_it_is_not_encrypted_is_refused() {
    let (mut sender, mut receiver) = pair(SrtpProfile::Aes128CmSha1_80);
    let mut bytes = sealed_rtcp(&mut sender, &compound());
    let at = bytes.len() - 14;
    bytes[at] &= 0x7f;
    assert_eq!(open_rtcp(&mut receiver, &bytes), Err(SrtpError::NotEncrypted));
}

#[test]
fn an_index_is_sealed_once_and_none_beyond_the_last() {
    for profile in PROFILES {
        let mut sender = pair(profile).0;
        let mut buffer = packet(5);
        let len = buffer.len();
        buffer.resize(len + 16, 0);
        sender.protect_rtp(&mut buffer, len).unwrap();
        let mut again = packet(5);
        again.resize(len + 16, 0);
        assert_eq!(sender.protect_rtp(&mut again, len), Err(SrtpError::Replayed));
        assert_eq!(again[..len], packet(5));

        sender.skip_to(SSRC, (1 << 48) - 2, (1 << 31) - 1);
        let mut last = packet(65_535);
        let len = last.len();
        last.resize(len + 16, 0);
        assert!(sender.protect_rtp(&mut last, len).is_ok());
        let mut over = packet(0);
        let len = over.len();
        over.resize(len + 16, 0);
        assert_eq!(sender.protect_rtp(&mut over, len), Err(SrtpError::IndexExhausted));

        sealed_rtcp(&mut sender, &compound());
        let mut over = compound();
        let len = over.len();
        over.resize(len + 20, 0);
        assert_eq!(sender.protect_rtcp(&mut over, len), Err(SrtpError::IndexExhausted));
    }
}

#[test]
fn the_table_of_ssrcs_is_bounded_and_known_ones_go_on() {
    let (mut sender, mut receiver) = pair(SrtpProfile::AeadAes128Gcm);
    let (key, salt) = material(SrtpProfile::AeadAes128Gcm);
    let mut results = Vec::new();
    for ssrc in 0..600u32 {
        // A sender has the same bound: take a fresh one.
        let mut fresh = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &key, &salt).unwrap();
        let mut plain = packet(1);
        plain[8..12].copy_from_slice(&ssrc.to_be_bytes());
        results.push(open(&mut receiver, &sealed(&mut fresh, &plain)).map(|_| ()));
    }
    assert_eq!(results[..512], [Ok(()); 512]);
    assert_eq!(results[512..], [Err(SrtpError::TooManySsrcs); 88]);
    let mut plain = packet(2);
    plain[8..12].copy_from_slice(&17u32.to_be_bytes());
    assert_eq!(open(&mut receiver, &sealed(&mut sender, &plain)), Ok(plain));
}

#[test]
fn a_buffer_without_room_is_refused_before_an_index_is_used() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let plain = packet(3);
        let mut short = plain.clone();
        short.resize(plain.len() + sender.overhead() - 1, 0);
        assert_eq!(sender.protect_rtp(&mut short, plain.len()), Err(SrtpError::NoRoom));
        let from = sender.protect_rtp_from(&plain[..12], &plain[12..], &mut short);
        assert_eq!(from, Err(SrtpError::NoRoom));
        assert_eq!(sender.protect_rtcp(&mut [0; 20], 16), Err(SrtpError::NoRoom));
        assert_eq!(open(&mut receiver, &sealed(&mut sender, &plain)), Ok(plain));
    }
}
