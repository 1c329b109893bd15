//! Consent of settled paths, kept on the media thread.

use std::time::Duration;

use ortc_io::consent::CheckCounters;
use ortc_io::sim;
use ortc_io::{ConsentCredentials, ConsentDelegation, ConsentReturn, ConsentStats};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn credentials(name: &str) -> ConsentCredentials {
    ConsentCredentials { username_frag: name.into(), password: format!("the password of {name}") }
}

fn delegation(path: Path, token: u64, ours: &str, theirs: &str) -> ConsentDelegation {
    ConsentDelegation {
        token,
        path,
        local: credentials(ours),
        remote: credentials(theirs),
        controlling: ours < theirs,
        tie_breaker: 1,
        priority: 99,
        interval: 5 * SECOND,
        patience: 7 * SECOND,
        answered: ortc_io::now(),
        seed: 7,
        counters: CheckCounters::default(),
    }
}

impl Peer {
    fn delegate(&self, delegation: ConsentDelegation) {
        self.send(ForwarderCommand::DelegateConsent(ID, Box::new(delegation)));
    }

    async fn consent(&self) -> ConsentStats {
        self.stats().await.consent
    }
}

/// Two forwarders that keep the consent of the path between them.
async fn keeping(net: &Network) -> (Peer, Peer) {
    let (mut a, mut b) = pair(net).await;
    a.delegate(delegation(a.path_to(&b), 1, "anna", "bert"));
    b.delegate(delegation(b.path_to(&a), 1, "bert", "anna"));
    for peer in [&mut a, &mut b] {
        let event = peer.event().await;
        let ForwarderEvent::Socket(ID, SocketEvent::ConsentDelegated { token: 1 }) = event else {
            panic!("{event:?}");
        };
    }
    (a, b)
}

fn returned(event: &ForwarderEvent) -> Option<(u64, ConsentReturn)> {
    match event {
        ForwarderEvent::Socket(ID, SocketEvent::ConsentReturned { token, reason, .. }) => {
            Some((*token, *reason))
        }
        _ => None,
    }
}

#[test]
fn an_idle_connection_bothers_the_control_plane_with_nothing() {
    sim::run(41, |net| async move {
        let (mut a, mut b) = keeping(&net).await;
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!((a.pending().await.len(), b.pending().await.len()), (0, 0));
        let [of_a, of_b] = [a.consent().await, b.consent().await];
        for stats in [of_a, of_b] {
            assert!((110..=130).contains(&stats.requests), "{stats:?}");
            assert_eq!((stats.kept, stats.forged, stats.silent), (1, 0, 0));
        }
        assert_eq!((of_a.answered, of_b.answered), (of_b.requests, of_a.requests));
        assert_eq!((of_a.confirmed, of_b.confirmed), (of_a.requests, of_b.requests));
    });
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let run = |seed| {
        sim::run(seed, |net| async move {
            let (_a, _b) = keeping(&net).await;
            tokio::time::sleep(60 * SECOND).await;
            net.transcript()
        })
    };
    let once = run(42);
    assert!(once.len() > 40);
    assert_eq!(once, run(42));
}

#[test]
fn a_peer_that_falls_silent_is_a_matter_for_ice() {
    sim::run(43, |net| async move {
        let (mut a, mut b) = keeping(&net).await;
        tokio::time::sleep(20 * SECOND).await;
        // It lets go of the path without a word to the peer.
        b.send(ForwarderCommand::ReclaimConsent(ID, 1));
        let events = b.pending().await;
        assert_eq!(events.iter().find_map(returned), Some((1, ConsentReturn::Reclaimed)));
        tokio::time::sleep(8 * SECOND).await;
        let events = a.pending().await;
        assert_eq!(events.iter().find_map(returned), Some((1, ConsentReturn::Silent)));
        // What b is asked now is for its ICE, as ever.
        let asked = b.pending().await;
        assert!(asked.iter().any(|event| matches!(event, ForwarderEvent::Stun(_))), "{asked:?}");
        assert_eq!((a.consent().await.kept, b.consent().await.kept), (0, 0));
    });
}

#[test]
fn a_path_that_is_not_sent_on_any_more_goes_back() {
    sim::run(44, |net| async move {
        let (mut a, b) = keeping(&net).await;
        a.send(ForwarderCommand::Path(ID, PathUpdate::SendingSuspended));
        let events = a.pending().await;
        assert_eq!(events.iter().find_map(returned), Some((1, ConsentReturn::PathChanged)));
        // Nor is one taken on that is not selected.
        a.delegate(delegation(a.path_to(&b), 2, "anna", "bert"));
        assert_eq!((a.pending().await.len(), a.consent().await.kept), (0, 0));
        assert_eq!(a.stats().await.stale_commands, 1);
        a.select(a.path_to(&b));
        a.delegate(delegation(a.path_to(&b), 3, "anna", "bert"));
        let event = a.event().await;
        assert!(
            matches!(event, ForwarderEvent::Socket(ID, SocketEvent::ConsentDelegated { token: 3 })),
            "{event:?}"
        );
        a.send(ForwarderCommand::Detach(ID));
        settle().await;
        assert_eq!(a.consent().await.kept, 0);
    });
}
