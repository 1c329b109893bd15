//! Consent that a socket port keeps: two tables that ask each other, and a network in between.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ortc_io::consent::{
    CONSENT_BUFFER, CheckCounters, ConsentCredentials, ConsentDelegation, ConsentTable,
    ConsentVerdict,
};
use ortc_io::{ConnectionId, Path, SocketId};

use crate::Dice;

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut now = Instant::now();
    let credentials = |n: usize| ConsentCredentials {
        username_frag: ["abcd", "efgh"][n].into(),
        password: ["p", "q"][n].repeat(22),
    };
    let paths = [2, 1].map(|n| Path::plain(SOCKET, SocketAddr::from(([10, 0, 0, n], 5_000))));
    let mut tables = [ConsentTable::new(), ConsentTable::new()];
    for (n, table) in tables.iter_mut().enumerate() {
        let delegation = ConsentDelegation {
            token: 1,
            path: paths[n],
            local: credentials(n),
            remote: credentials(1 - n),
            controlling: n == 0,
            tie_breaker: n as u64,
            priority: 1,
            interval: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            answered: now,
            seed: n as u64,
            counters: CheckCounters::default(),
        };
        table.delegate(now, CONNECTION, &delegation);
    }
    let mut flying: Vec<(usize, Vec<u8>)> = Vec::new();
    for _ in 0..200 {
        if dice.is_over() {
            break;
        }
        let operation = dice.byte();
        let n = usize::from(operation >> 7);
        match operation & 7 {
            0 => {
                let bytes = dice.bytes();
                let verdict =
                    tables[n].handle(now, CONNECTION, paths[n], bytes, &mut CONSENT_BUFFER.clone());
                assert!(!matches!(verdict, ConsentVerdict::Answer(_)), "nobody has signed it");
            }
            1 => {
                let (at, by) = (usize::from(dice.byte()), dice.byte());
                if let Some((_, bytes)) = flying.first_mut() {
                    let at = at % bytes.len();
                    bytes[at] ^= by;
                }
            }
            2 => flying.extend(flying.first().cloned()),
            3 => flying.truncate(flying.len().saturating_sub(1)),
            4 => {
                now += Duration::from_millis(u64::from(dice.short()));
                let mut out = CONSENT_BUFFER;
                while let Some((path, len)) = tables[n].poll_request(now, &mut out) {
                    assert_eq!(path, paths[n]);
                    flying.push((1 - n, out[..len].to_vec()));
                }
            }
            _ if flying.is_empty() => {}
            _ => {
                let (to, bytes) = flying.remove(0);
                let mut out = CONSENT_BUFFER;
                let verdict = tables[to].handle(now, CONNECTION, paths[to], &bytes, &mut out);
                if let ConsentVerdict::Answer(len) = verdict {
                    flying.push((1 - to, out[..len].to_vec()));
                }
            }
        }
        flying.truncate(32);
        for table in &mut tables {
            let mut events = 0;
            while table.poll_event().is_some() {
                events += 1;
            }
            assert!(events <= 2, "it is delegated and returned, once");
            let stats = table.stats();
            assert!(stats.confirmed <= stats.requests, "more is confirmed than was asked");
        }
    }
}
