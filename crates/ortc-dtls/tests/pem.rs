//! Certificates and keys as PEM, against what OpenSSL 3.0 has made and says of it.

use ortc_dtls::{Certificate, CertificateError, HashAlgorithm, PemError};

// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes …`, and its key
// again by `openssl ecparam -name prime256v1; openssl ec`, `openssl pkcs8 -topk8` and
// `openssl ec -aes128`. The two blocks of P-384 are made alike, the key first.
const CERTIFICATE: &str = include_str!("fixtures/p256-certificate.pem");
const KEY: &str = include_str!("fixtures/p256-key.pem");
const SEC1_KEY: &str = include_str!("fixtures/p256-key-sec1.pem");
const ENCRYPTED_KEY: &str = include_str!("fixtures/p256-key-encrypted.pem");
const ENCRYPTED_LEGACY_KEY: &str = include_str!("fixtures/p256-key-encrypted-legacy.pem");
const P384: &str = include_str!("fixtures/p384.pem");

/// What `openssl x509 -noout -fingerprint -sha1` (and so on) prints for [`CERTIFICATE`].
const FINGERPRINTS: [(HashAlgorithm, &str); 4] = [
    (HashAlgorithm::Sha1, "47:D8:08:19:DC:2C:5D:A9:F2:DF:2D:4E:5A:6C:47:10:A2:1E:5A:93"),
    (
        HashAlgorithm::Sha256,
        "73:11:FE:2F:F2:F9:FF:20:D1:A9:B8:6B:47:2E:A3:81:B7:AE:EA:35:C0:CB:6A:01:67:B3:F9:54:FC:F0:CF:69",
    ),
    (
        HashAlgorithm::Sha384,
        "21:35:46:1D:69:47:6A:99:DF:A1:51:4D:3B:A7:E5:93:56:18:C1:12:F9:AF:8C:7C:DC:A5:B5:66:40:1E:ED:E2:\
         BC:70:CD:80:AB:5F:CA:FE:0C:FB:4A:E7:8E:71:14:B8",
    ),
    (
        HashAlgorithm::Sha512,
        "49:B4:59:D1:90:15:9E:FC:B9:A5:C8:9C:D2:2B:06:8C:01:D1:CB:20:26:F2:B1:45:F2:C8:22:ED:06:D0:AE:94:\
         94:64:C3:E5:42:84:9B:B4:02:8F:D3:5F:67:73:2E:08:5D:20:45:AF:82:CE:5F:BA:3C:B1:02:A4:DE:84:1F:F9",
    ),
];

#[test]
fn a_certificate_of_openssl_is_taken_and_has_the_fingerprints_that_openssl_prints() {
    let certificate = Certificate::from_pem(&[CERTIFICATE, KEY].concat()).unwrap();
    for (hash, expected) in FINGERPRINTS {
        assert_eq!(hex(&certificate.fingerprint(hash)), expected, "{}", hash.name());
        let all = certificate.connection_info().fingerprint;
        assert_eq!(hex(all.get(hash.name()).unwrap()), expected, "{}", hash.name());
    }
}

#[test]
fn what_is_written_is_what_openssl_has_written() {
    let pem = [CERTIFICATE, KEY].concat();
    assert_eq!(Certificate::from_pem(&pem).unwrap().to_pem(), pem);

    let (_, bare) = SEC1_KEY.split_once("-----END EC PARAMETERS-----\n").unwrap();
    let sec1 = Certificate::from_pem(&[CERTIFICATE, SEC1_KEY].concat()).unwrap();
    assert_eq!(sec1.to_pem(), [CERTIFICATE, bare].concat());
}

#[test]
fn what_is_written_is_read_again() {
    for certificate in [Certificate::generate().unwrap(), Certificate::from_pem(P384).unwrap()] {
        let again = Certificate::from_pem(&certificate.to_pem()).unwrap();
        assert_eq!(again.der(), certificate.der());
        assert_eq!(again.private_key_der(), certificate.private_key_der());
    }
}

#[test]
fn order_line_ends_and_what_stands_around_do_not_matter() {
    let expected = Certificate::from_pem(&[CERTIFICATE, KEY].concat()).unwrap();
    let indented = KEY.replace("\nM", "\n \t M");
    for pem in [
        [KEY, CERTIFICATE].concat(),
        [CERTIFICATE, KEY].concat().replace('\n', "\r\n"),
        format!("Bag Attributes: none\n{CERTIFICATE}\n\nthe key:\n{indented}-- \n"),
    ] {
        assert_eq!(Certificate::from_pem(&pem).unwrap().to_pem(), expected.to_pem(), "{pem}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let other = Certificate::generate().unwrap().to_pem();
    let (_, other_key) = other.split_once("-----END CERTIFICATE-----\n").unwrap();
    // The object identifier of another curve.
    let foreign = KEY.replace("AwEHBG0", "AwEGBG0");
    let open = CERTIFICATE.replace("-----END CERTIFICATE-----\n", "");
    for (parts, expected) in [
        (["", ""], PemError::NoCertificate),
        (["a certificate", "and a key"], PemError::NoCertificate),
        (["", KEY], PemError::NoCertificate),
        ([CERTIFICATE, ""], PemError::NoKey),
        ([&[CERTIFICATE; 2].concat(), KEY], PemError::SeveralCertificates),
        ([CERTIFICATE, &[KEY, other_key].concat()], PemError::SeveralKeys),
        ([CERTIFICATE, ENCRYPTED_KEY], PemError::EncryptedKey),
        ([CERTIFICATE, ENCRYPTED_LEGACY_KEY], PemError::EncryptedKey),
        ([CERTIFICATE, other_key], CertificateError::KeyMismatch.into()),
        ([CERTIFICATE, &foreign], CertificateError::UnusableKey.into()),
        ([&open, KEY], PemError::Malformed { line: 1 }),
        ([&open, ""], PemError::Malformed { line: 1 }),
        ([CERTIFICATE, &KEY.replace("MIGH", "MI*H")], PemError::Malformed { line: 12 }),
        (
            [CERTIFICATE, &KEY.replace("END PRIVATE", "END PUBLIC")],
            PemError::Malformed { line: 12 },
        ),
    ] {
        let pem = parts.concat();
        assert_eq!(Certificate::from_pem(&pem).map(|_| ()), Err(expected), "{pem}");
    }
}

#[test]
fn damaged_text_is_refused_or_read_and_never_panics() {
    let pem = [CERTIFICATE, KEY].concat();
    let mut random = fastrand::Rng::with_seed(7468);
    for _ in 0..2_000 {
        let mut damaged = pem.clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            match random.u8(..4) {
                0 => damaged.truncate(at.max(1)),
                1 => drop(damaged.remove(at)),
                2 => damaged.insert(at, random.u8(..)),
                _ => damaged[at] = random.u8(..),
            }
        }
        // What is read after all is the same key: a certificate has parts that it does not use.
        if let Ok(certificate) = Certificate::from_pem(&String::from_utf8_lossy(&damaged)) {
            Certificate::from_pem(&certificate.to_pem()).unwrap();
        }
    }
}

#[test]
fn neither_debug_output_nor_an_error_shows_the_key() {
    let certificate = Certificate::from_pem(&[CERTIFICATE, KEY].concat()).unwrap();
    let expected = format!("Certificate(\"sha-256 {}\")", FINGERPRINTS[1].1);
    assert_eq!(format!("{certificate:?}"), expected);

    let error = Certificate::from_pem(&[CERTIFICATE, &KEY.replace("MIGH", "MI*H")].concat());
    let said = "the PEM block that begins in line 12 does not end as it began, or is no base64";
    assert_eq!(error.unwrap_err().to_string(), said);
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
