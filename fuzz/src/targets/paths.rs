//! The demultiplexer and the table of paths: whatever comes from where, nothing is sent to or
//! taken from an address that nobody vouches for, and what is kept has a bound.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ortc_io::paths::{
    Admission, MAX_PARKED, MAX_PARKED_BYTES, MAX_PARKED_MEDIA, MAX_PARKED_MEDIA_BYTES, MEDIA_WAIT,
    Parked, PathTable, Standing,
};
use ortc_io::{ConnectionId, DatagramKind, Path, PathUpdate, SocketId, classify};

use crate::Dice;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut table = PathTable::new();
    let mut now = Instant::now();
    let connection =
        |n: u8| ConnectionId { slot: u32::from(n & 3), generation: u32::from(n >> 2 & 3) };
    let socket = |n: u8| SocketId { slot: u32::from(n & 7), generation: 0 };
    let local = |n: u8| SocketAddr::from(([10, 0, 0, 1], 5_000 + u16::from(n & 7)));
    let path = |n: u8| {
        Path::plain(
            socket(n),
            SocketAddr::from(([10, 0, 1, n >> 6], 6_000 + u16::from(n >> 3 & 7))),
        )
    };
    while !dice.is_over() {
        let (operation, who, what) = (dice.byte(), dice.byte(), dice.byte());
        let of = connection(who);
        match operation & 0x0f {
            0 => drop(table.attach(of)),
            1 if !table.is_bound(socket(what)) => drop(table.bound(of, socket(what), local(what))),
            2 if !table.is_bound(socket(what)) => table.bound_shared(socket(what), local(what)),
            3 => drop(table.join(of, socket(what), "abcd", dice.byte() & 1 == 0)),
            4 => drop(table.unbind(of, socket(what))),
            5 => drop(table.update(now, of, PathUpdate::Authenticated(path(what)))),
            6 => {
                let released = table.update(now, of, PathUpdate::Validated(path(what)));
                let released = released.unwrap_or_default();
                assert!(released.iter().all(|parked| parked.path == path(what)));
                let (media, dtls): (Vec<_>, Vec<_>) =
                    released.iter().partition(|parked| classify(&parked.datagram).is_media());
                assert!(dtls.len() <= MAX_PARKED && bytes(&dtls) <= MAX_PARKED_BYTES);
                assert!(media.len() <= MAX_PARKED_MEDIA && bytes(&media) <= MAX_PARKED_MEDIA_BYTES);
                assert!(media.iter().all(|parked| now < parked.received_at + MEDIA_WAIT));
            }
            7 => {
                let selected = table.update(now, of, PathUpdate::Selected(path(what))).is_ok();
                assert!(!selected || table.sending_path(of) == Some(path(what)));
            }
            8 => drop(table.update(now, of, PathUpdate::Lost(path(what)))),
            9 => {
                let _ = table.update(now, of, PathUpdate::SendingSuspended);
                assert_eq!(table.sending_path(of), None);
            }
            10 => drop(table.detach(of)),
            11 => drop(table.release(socket(what))),
            12 => drop(table.claim(now, of, &format!("peer{}", what & 3))),
            13 => {
                now += Duration::from_millis(u64::from(dice.short()));
                table.handle_timeout(now);
            }
            14 => {
                let datagram = dice.bytes();
                let to = (what & 1 == 0).then(|| path(what));
                if let Some(path) = table.outgoing(now, of, to, datagram) {
                    assert!(table.sockets(of).contains(&path.socket), "another one's socket");
                }
            }
            _ => {
                let datagram = dice.bytes();
                let kind = classify(datagram);
                let standing = table.standing(now, path(what));
                let admission = table.admit(now, path(what), kind, datagram);
                if let Admission::Deliver(to) = admission {
                    assert!(table.is_attached(to));
                    assert!(kind == DatagramKind::Stun || is_validated(standing), "{standing:?}");
                }
                assert!(admission != Admission::Parked || is_early(kind), "{kind:?} is parked");
            }
        }
        while table.poll_taken().is_some() {}
        for n in 0..16 {
            if let Some(path) = table.sending_path(connection(n)) {
                assert!(table.is_attached(connection(n)));
                assert!(table.is_bound(path.socket));
            }
        }
    }
}

fn is_validated(standing: Option<Standing>) -> bool {
    matches!(standing, Some(Standing::Validated | Standing::Lingering { .. }))
}

fn bytes(parked: &[&Parked]) -> usize {
    parked.iter().map(|parked| parked.datagram.len()).sum()
}

/// What may wait: for the validation of its path, or for the fork that takes its sender.
fn is_early(kind: DatagramKind) -> bool {
    matches!(kind, DatagramKind::Dtls | DatagramKind::Stun) || kind.is_media()
}
