//! Messages of multicast DNS: what is read of answers, and what is answered to questions.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ortc_io::fuzzing::{LinkNameAnswers, link_name_answers, link_name_question};

/// Names that are asked for, and that there are.
const NAMES: [(&str, IpAddr); 2] = [
    ("a.local", IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
    ("b.local", IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

pub(crate) fn run(data: &[u8]) {
    let mut answers = LinkNameAnswers::default();
    for (name, address) in NAMES {
        // One is read off the message, and never more than there is.
        assert!(link_name_answers(data, name).len() <= data.len() / 4);
        assert!(answers.insert(name, address) && !answers.insert(name, address));
    }
    let now = Instant::now();
    let Some(answer) = answers.respond(now, data) else { return };
    for (name, address) in NAMES {
        // Or nothing, where the other family is asked for.
        let told = link_name_answers(&answer, name);
        assert!(told.is_empty() || told == [address], "{told:?}");
    }
    // What was just told is not told again, whoever asks.
    assert_eq!(answers.respond(now + Duration::from_millis(1), data), None);
    // A question that we would ask ourselves is one that we answer.
    for (name, address) in NAMES {
        let question = link_name_question(name).expect("it is a name");
        let later = now + Duration::from_secs(2);
        let answer = answers.respond(later, &question).expect("it is known");
        assert_eq!(link_name_answers(&answer, name), [address]);
    }
}
