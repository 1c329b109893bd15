use std::time::Instant;

use super::*;
use crate::resolver::mdns;

const NAME: &str = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn with(address: &str) -> Answers {
    let mut answers = Answers::default();
    answers.insert(NAME, ip(address)).unwrap();
    answers
}

#[test]
fn a_name_is_answered_with_its_address_and_that_there_is_no_other() {
    for (address, kind) in [("192.0.2.7", 1), ("2001:db8::7", 28)] {
        let mut answers = with(address);
        let question = mdns::question(&NAME.to_uppercase()).unwrap();
        let answer = answers.answer(Instant::now(), 0, &question).unwrap();
        assert_eq!(mdns::answers(&answer, NAME), [ip(address)]);
        assert_eq!(&answer[..12], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        // The bit of the type, in the only window of the record that denies all others.
        assert_eq!(answer.last(), Some(&(0x80 >> (kind % 8))));
        assert_eq!(answers.stats().answered, 1);
    }
}

#[test]
fn only_what_is_not_there_is_denied_to_who_asks_for_nothing_else() {
    let mut answers = with("192.0.2.7");
    let mut question = mdns::question(NAME).unwrap();
    // The second question alone, which is for IPv6.
    let first = 12 + NAME.len() + 2 + 4;
    question.drain(12..first);
    question[5] = 1;
    let answer = answers.answer(Instant::now(), 0, &question).unwrap();
    assert_eq!(mdns::answers(&answer, NAME), [] as [IpAddr; 0]);
    assert_eq!(&answer[..12], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let name_end = 12 + NAME.len() + 2;
    assert_eq!(&answer[name_end..name_end + 2], [0, 47]);
}

#[test]
fn the_same_link_is_answered_once_a_second() {
    let (mut answers, now) = (with("192.0.2.7"), Instant::now());
    let question = mdns::question(NAME).unwrap();
    let mut is_answered =
        |ms: u64, link| answers.answer(now + Duration::from_millis(ms), link, &question).is_some();
    assert!(is_answered(0, 1) && is_answered(0, 2));
    assert!(!is_answered(999, 1));
    assert!(is_answered(1000, 1) && !is_answered(1001, 1) && is_answered(1001, 2));
    let LinkNameStats { asked, answered, repeated, .. } = answers.stats();
    assert_eq!((asked, answered, repeated), (6, 4, 2));
}

#[test]
fn who_knows_is_not_told_and_answers_of_others_are_no_questions() {
    let (mut answers, now) = (with("192.0.2.7"), Instant::now());
    let question = mdns::question(NAME).unwrap();
    let answer = answers.answer(now, 0, &question).unwrap();
    assert_eq!(answers.answer(now + Duration::from_secs(2), 0, &answer), None);
    // The question, with what is known behind it.
    let mut knowing = question.clone();
    knowing[7] = 1;
    let record = &answer[12..12 + NAME.len() + 2 + 10 + 4];
    knowing.extend_from_slice(record);
    assert_eq!(answers.answer(now + Duration::from_secs(2), 0, &knowing), None);
    *knowing.last_mut().unwrap() ^= 1;
    assert!(answers.answer(now + Duration::from_secs(2), 0, &knowing).is_some());
    let other = mdns::question("other.local").unwrap();
    assert_eq!(answers.answer(now + Duration::from_secs(4), 0, &other), None);
    let LinkNameStats { asked, answered, known, malformed, .. } = answers.stats();
    assert_eq!((asked, answered, known, malformed), (3, 2, 1, 0));
}

#[test]
fn a_name_that_goes_says_so_and_the_number_of_names_is_bounded() {
    let mut answers = with("192.0.2.7");
    assert_eq!(answers.insert(NAME, ip("::1")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let farewell = answers.remove(NAME).unwrap();
    let ttl = &farewell[12 + NAME.len() + 2 + 4..][..4];
    assert_eq!((ttl, answers.is_empty()), (&[0; 4][..], true));
    assert_eq!(answers.answer(Instant::now(), 0, &mdns::question(NAME).unwrap()), None);
    for n in 0..4096 {
        answers.insert(&format!("name-{n}.local"), ip("192.0.2.7")).unwrap();
    }
    let error = answers.insert("one-more.local", ip("192.0.2.7")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    for wrong in ["a.example", "local", "a.b.local", &format!("{}.local", "x".repeat(64))] {
        let error = Answers::default().insert(wrong, ip("192.0.2.7")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
    }
}

#[test]
fn any_bytes_can_be_asked() {
    let (mut answers, now) = (with("192.0.2.7"), Instant::now());
    let whole = mdns::question(NAME).unwrap();
    for len in 0..whole.len() {
        answers.answer(now, 0, &whole[..len]);
    }
    assert!(answers.stats().malformed > 12);
    let mut random: u64 = 1;
    for _ in 0..50_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bytes = whole.clone();
        let at = (random >> 33) as usize % bytes.len();
        bytes[at] = (random >> 24) as u8;
        answers.answer(now, 0, &bytes);
    }
    // A name that points to itself.
    let mut circle = whole[..12].to_vec();
    circle.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(answers.answer(now, 0, &circle), None);
}

#[test]
fn each_interface_is_one_link_for_each_family() {
    let at = |name: &str, address: &str, scope_id| InterfaceAddress {
        name: name.into(),
        address: ip(address),
        scope_id,
        kind: crate::InterfaceKind::Network,
    };
    let all = [
        at("lo", "127.0.0.1", 0),
        at("lo", "::1", 0),
        at("eth0", "192.0.2.1", 0),
        at("eth0", "192.0.2.2", 0),
        at("eth0", "2001:db8::1", 0),
        at("eth0", "fe80::1", 2),
    ];
    let v4 = |address: &str| At::V4(address.parse().unwrap());
    assert_eq!(links(&all), [v4("127.0.0.1"), v4("192.0.2.1"), At::V6(2)]);
}

#[tokio::test]
async fn our_own_resolver_finds_a_name_until_it_is_gone() {
    let names = LinkNames::new();
    let name = format!("ortc-test-{}.local", std::process::id());
    let published = names.publish(&name, ip("192.0.2.7")).unwrap();
    assert_eq!(published.name(), name);
    assert_eq!(crate::resolve(name.clone()).await, Ok(vec![ip("192.0.2.7")]));
    let other = names.publish("other-of-ours.local", ip("192.0.2.8")).unwrap();
    drop(published);
    assert!(crate::resolve(name).await.is_err());
    assert!(!names.state().links.is_empty());
    drop(other);
    assert!(names.state().links.is_empty(), "nothing is heard for no name");
    assert_eq!(names.stats().names, 0);
}
