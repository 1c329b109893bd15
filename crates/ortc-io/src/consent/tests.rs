use super::stun::{integrity_key, request, seal};
use super::*;
use crate::SocketId;

const OURS: ConnectionId = ConnectionId { slot: 3, generation: 1 };
const SECOND: Duration = Duration::from_secs(1);

fn path(port: u16) -> Path {
    Path::plain(SocketId { slot: 0, generation: 0 }, ([192, 0, 2, 1], port).into())
}

fn credentials(name: &str) -> ConsentCredentials {
    ConsentCredentials { username_frag: name.into(), password: format!("the password of {name}") }
}

fn delegation(ours: &str, theirs: &str, controlling: bool, now: Instant) -> ConsentDelegation {
    ConsentDelegation {
        token: 7,
        path: path(9),
        local: credentials(ours),
        remote: credentials(theirs),
        controlling,
        tie_breaker: 1,
        priority: 99,
        interval: 5 * SECOND,
        patience: 7 * SECOND,
        answered: now,
        seed: 5,
        counters: CheckCounters::default(),
    }
}

/// Two tables, each with one connection, towards each other.
struct Pair {
    now: Instant,
    tables: [ConsentTable; 2],
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut pair = Self { now, tables: [ConsentTable::new(), ConsentTable::new()] };
        pair.tables[0].delegate(now, OURS, &delegation("anna", "bert", true, now));
        pair.tables[1].delegate(now, OURS, &delegation("bert", "anna", false, now));
        for table in &mut pair.tables {
            let (id, event) = table.poll_event().unwrap();
            assert_eq!(id, OURS);
            assert!(matches!(event, SocketEvent::ConsentDelegated { token: 7 }));
        }
        pair
    }

    /// The next request of the first, with the time that it takes to come.
    fn request(&mut self) -> (Duration, Vec<u8>) {
        let start = self.now;
        let mut out = CONSENT_BUFFER;
        loop {
            let (at, _) = self.tables[0].poll_timeout().unwrap();
            self.now = self.now.max(at);
            if let Some((on, len)) = self.tables[0].poll_request(self.now, &mut out) {
                assert_eq!(on, path(9));
                return (self.now - start, out[..len].to_vec());
            }
        }
    }

    fn hand_to(&mut self, side: usize, datagram: &[u8]) -> (ConsentVerdict, Vec<u8>) {
        let mut out = CONSENT_BUFFER;
        let verdict = self.tables[side].handle(self.now, OURS, path(9), datagram, &mut out);
        let len = if let ConsentVerdict::Answer(len) = verdict { len } else { 0 };
        (verdict, out[..len].to_vec())
    }
}

#[test]
fn a_request_is_answered_and_its_response_is_consent() {
    let mut pair = Pair::new();
    let mut ids = Vec::new();
    for _ in 0..100 {
        let (waited, request) = pair.request();
        assert!((4 * SECOND..=6 * SECOND + wheel::TICK).contains(&waited), "{waited:?}");
        let (verdict, response) = pair.hand_to(1, &request);
        assert!(matches!(verdict, ConsentVerdict::Answer(_)));
        assert_eq!(pair.hand_to(0, &response).0, ConsentVerdict::Done);
        // Once: whoever repeats it is not taken for the peer.
        assert_eq!(pair.hand_to(0, &response).0, ConsentVerdict::Pass);
        ids.push(request[8..20].to_vec());
    }
    let [ours, theirs] = pair.tables.each_ref().map(ConsentTable::stats);
    assert_eq!((ours.requests, ours.confirmed, theirs.answered), (100, 100, 100));
    assert!(pair.tables[0].poll_event().is_none());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn without_a_response_the_path_is_given_back_and_said_when_the_last_came() {
    let mut pair = Pair::new();
    let (_, request) = pair.request();
    let (_, response) = pair.hand_to(1, &request);
    pair.hand_to(0, &response);
    let answered = pair.now;
    let mut out = CONSENT_BUFFER;
    let mut requests = 0;
    let reason = loop {
        pair.now = pair.tables[0].poll_timeout().unwrap().0;
        requests += usize::from(pair.tables[0].poll_request(pair.now, &mut out).is_some());
        if let Some((OURS, event)) = pair.tables[0].poll_event() {
            let SocketEvent::ConsentReturned { token: 7, answered: said, reason } = event else {
                panic!("{event:?}");
            };
            assert_eq!(said, answered);
            break reason;
        }
    };
    assert_eq!((reason, requests), (ConsentReturn::Silent, 1));
    let silent = pair.now - answered;
    assert!((7 * SECOND..=7 * SECOND + wheel::TICK).contains(&silent), "{silent:?}");
    // From then on everything is for ICE again, and nothing is due.
    assert_eq!(pair.hand_to(0, &request).0, ConsentVerdict::Pass);
    assert_eq!(pair.tables[0].poll_request(pair.now + 60 * SECOND, &mut out), None);
    let stats = pair.tables[0].stats();
    assert_eq!((stats.kept, stats.silent), (0, 1));
}

#[test]
fn what_is_forged_changes_nothing_and_is_counted() {
    let mut pair = Pair::new();
    let (_, mut request) = pair.request();
    // A password that is not ours; and then a response to what was asked, with a wrong one.
    let wrong = integrity_key("a guess");
    let template = stun::request(stun::Asking {
        username: "bert:anna",
        controlling: true,
        tie_breaker: 1,
        priority: 1,
    });
    let mut out = CONSENT_BUFFER;
    out[..template.len()].copy_from_slice(&template);
    let len = seal(template.len(), &[1; 12], &wrong, &mut out);
    assert_eq!(pair.hand_to(1, &out[..len]).0, ConsentVerdict::Done);
    let id: TransactionId = request[8..20].try_into().unwrap();
    let len = stun::response(&id, path(9).remote, &wrong, &mut out);
    assert_eq!(pair.hand_to(0, &out[..len]).0, ConsentVerdict::Done);
    let forged = pair.tables.each_ref().map(|table| table.stats().forged);
    assert_eq!((forged, pair.tables[1].stats().answered), ([1, 1], 0));
    // The genuine response is still taken.
    let (_, response) = pair.hand_to(1, &request);
    assert_eq!(pair.hand_to(0, &response).0, ConsentVerdict::Done);
    assert_eq!(pair.tables[0].stats().confirmed, 1);
    // A replay is answered, as it cannot be told from a retransmission, to where the peer is.
    assert!(matches!(pair.hand_to(1, &request).0, ConsentVerdict::Answer(_)));
    request.truncate(60);
    assert_eq!(pair.hand_to(1, &request).0, ConsentVerdict::Pass);
}

#[test]
fn what_is_not_plain_consent_is_for_ice() {
    let mut pair = Pair::new();
    let key = integrity_key(&credentials("bert").password);
    let mut ask = |side: usize, username: &str, controlling: bool| {
        let template = request(stun::Asking { username, controlling, tie_breaker: 1, priority: 1 });
        let mut out = CONSENT_BUFFER;
        out[..template.len()].copy_from_slice(&template);
        let len = seal(template.len(), &[1; 12], &key, &mut out);
        pair.hand_to(side, &out[..len]).0
    };
    assert!(matches!(ask(1, "bert:anna", true), ConsentVerdict::Answer(_)));
    assert_eq!(ask(1, "bert:anna", false), ConsentVerdict::Pass, "a conflict of roles");
    assert_eq!(ask(1, "bert:carl", true), ConsentVerdict::Pass, "a peer that has restarted");
    assert_eq!(ask(1, "carl:anna", true), ConsentVerdict::Pass, "another connection");
    assert_eq!(ask(0, "anna:bert", true), ConsentVerdict::Pass, "a conflict of roles");
    let mut out = CONSENT_BUFFER;
    let (_, request) = pair.request();
    let other = ConnectionId { slot: 3, generation: 2 };
    for (connection, path) in [(OURS, path(8)), (other, path(9))] {
        let verdict = pair.tables[1].handle(pair.now, connection, path, &request, &mut out);
        assert_eq!(verdict, ConsentVerdict::Pass);
    }
    for garbage in [&b""[..], &[0; 20], &[0xff; 700]] {
        assert_eq!(pair.hand_to(1, garbage).0, ConsentVerdict::Pass);
    }
}

#[test]
fn a_path_goes_back_when_it_is_reclaimed_or_not_sent_on_any_more() {
    let mut pair = Pair::new();
    let reason = |table: &mut ConsentTable| match table.poll_event() {
        Some((OURS, SocketEvent::ConsentReturned { reason, .. })) => Some(reason),
        None => None,
        other => panic!("{other:?}"),
    };
    let table = &mut pair.tables[0];
    table.reclaim(OURS, 6);
    table.review(OURS, Some(path(9)));
    assert_eq!(reason(table), None);
    table.reclaim(OURS, 7);
    table.reclaim(OURS, 7);
    assert_eq!(reason(table), Some(ConsentReturn::Reclaimed));
    assert_eq!(reason(table), None);
    let table = &mut pair.tables[1];
    table.review(OURS, None);
    assert_eq!(reason(table), Some(ConsentReturn::PathChanged));
    table.forget(OURS);
    assert_eq!((reason(table), table.stats().kept), (None, 0));
}

#[test]
fn thousands_are_due_in_fifty_turns_and_each_is_asked_in_its_time() {
    let now = Instant::now();
    let mut table = ConsentTable::new();
    let connection = |slot| ConnectionId { slot, generation: 0 };
    for slot in 0..2_000 {
        let delegation =
            ConsentDelegation { seed: u64::from(slot), ..delegation("a", "b", true, now) };
        table.delegate(now, connection(slot), &delegation);
    }
    while table.poll_event().is_some() {}
    let (mut out, mut turns, mut requests) = (CONSENT_BUFFER, 0, 0);
    while let Some((at, _)) = table.poll_timeout().filter(|(at, _)| *at < now + 7 * SECOND) {
        turns += 1;
        while table.poll_request(at, &mut out).is_some() {
            requests += 1;
        }
    }
    assert!(turns <= 70, "{turns}");
    assert!((2_000..=2_800).contains(&requests), "{requests}");
    // Deterministic: the same seeds at the same times give the same bytes.
    let first = |mut table: ConsentTable| {
        table.delegate(now, OURS, &delegation("a", "b", true, now));
        let mut out = CONSENT_BUFFER;
        let at = table.poll_timeout().unwrap().0;
        let (_, len) = table.poll_request(at, &mut out).unwrap();
        (at, out[..len].to_vec())
    };
    assert_eq!(first(ConsentTable::new()), first(ConsentTable::new()));
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?}", delegation("anna", "bert", true, Instant::now()));
    assert!(printed.contains("anna") && !printed.contains("password"), "{printed}");
    let (mut table, now) = (ConsentTable::new(), Instant::now());
    table.delegate(now, OURS, &delegation("anna", "bert", true, now));
    let printed = format!("{table:?}");
    for name in ["anna", "bert"] {
        assert!(!printed.contains(&credentials(name).password), "{printed}");
    }
}
