//! How a program ends: the network lies still, everybody signals everything, and what can be
//! connected is; then all is closed, and nothing is left.

use std::time::Duration;

use ortc_api::RTCConnection;
use ortc_io::sim::LinkConfig;

use super::program::HOSTS;
use super::side::{CLOSING, Side};
use super::world::{World, address, turned};
use super::{Failure, check, fail};
use crate::pass;

/// What a connection takes at most once the network lies still: one round of forming all pairs
/// again, and the longest pause between checks; where nothing was in the way, much less.
const LIMIT: Duration = Duration::from_secs(40);
const CALM_LIMIT: Duration = Duration::from_secs(8);

/// How often everybody signals what is new.
const ROUND: Duration = Duration::from_millis(200);

/// After how long nothing is left of what was closed: paths have a grace of 5 s, and what was
/// asked of servers and held for forks waits 10 s.
const FORGOTTEN: Duration = Duration::from_secs(30);

impl World<'_> {
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.lie_still()?;
        let limit = if self.is_calm && !self.is_left_to_consent() { CALM_LIMIT } else { LIMIT };
        let until = self.net.elapsed() + limit;
        while self.net.elapsed() < until {
            self.signal_everything()?;
            pass(ROUND).await;
            self.observe()?;
        }
        self.all_agree()?;
        self.all_is_heard().await?;
        self.all_closes().await?;
        self.nothing_is_left().await
    }

    /// Whether somebody may be connected to a peer that closed before it was connected itself, and
    /// so had nothing to say that with: consent tells, in 30 s.
    fn is_left_to_consent(&self) -> bool {
        let leaves = |side: &Side| side.closed.is_some() && !side.was_connected;
        self.calls().any(|(one, two)| leaves(one) || leaves(two))
    }

    fn lie_still(&mut self) -> Result<(), Failure> {
        for host in 0..HOSTS {
            self.resume(host);
            for n in 0..2 {
                if !self.hosts[host].addresses().contains(&address(host, n)) {
                    self.hosts[host].set_up(address(host, n), true);
                }
            }
            (0..host).for_each(|other| self.net.heal(&self.hosts[other], &self.hosts[host]));
        }
        self.net.link(LinkConfig::default());
        if !self.is_calm {
            (0..self.sides.len()).try_for_each(|conn| self.update_open(conn))?;
        }
        Ok(())
    }

    fn update_open(&mut self, conn: usize) -> Result<(), Failure> {
        if self.side(conn).is_some_and(|side| side.open().is_some()) {
            self.update(conn)?;
        }
        Ok(())
    }

    fn signal_everything(&mut self) -> Result<(), Failure> {
        for conn in 0..self.sides.len() {
            let has_peer = self.peer_of(conn).is_some_and(|peer| peer.open().is_some());
            let Some(side) = self.side(conn).filter(|side| has_peer && side.open().is_some())
            else {
                continue;
            };
            if side.connecting.is_none() {
                self.set_ice(conn)?;
                self.connect(conn)?;
            }
            let streams: Vec<_> = self
                .side(conn)
                .into_iter()
                .flat_map(|side| &side.sending)
                .map(|it| it.stream)
                .collect();
            // In this order, as one that is back may have been gone.
            self.withdraw(conn)?;
            self.signal(conn)?;
            streams.into_iter().try_for_each(|stream| self.describe(conn, stream))?;
        }
        Ok(())
    }

    /// The calls, as their two sides.
    fn calls(&self) -> impl Iterator<Item = (&Side, &Side)> {
        [(0, 1), (2, 3)].into_iter().filter_map(|(one, two)| self.side(one).zip(self.side(two)))
    }

    fn all_agree(&self) -> Result<(), Failure> {
        for (one, two) in self.calls() {
            let who = || format!("{} and {}", one.number, two.number);
            match (one.is_closed(), two.is_closed()) {
                (false, false) => {
                    let both = one.connected && two.connected;
                    let says = || format!("{}: {}, {}", who(), one.connected, two.connected);
                    check("who can be connected is", both, says)?;
                    let is_one = two.active.map(turned) == one.active;
                    let says = || format!("{}: {:?}, {:?}", who(), one.active, two.active);
                    check("both sides use one pair", is_one, says)?;
                }
                (true, true) => {}
                (_, one_is_open) => {
                    let open = if one_is_open { one } else { two };
                    check("who is left is told", !open.connected, who)?;
                }
            }
            for side in [one, two].into_iter().filter(|side| side.open().is_some()) {
                let told = side.announced.is_empty();
                check("a new stream is told of", told, || format!("{}", side.number))?;
            }
        }
        Ok(())
    }

    /// What is sent is heard, at the peer and behind a server, and what is stopped is not.
    async fn all_is_heard(&mut self) -> Result<(), Failure> {
        // What was started just now is sent.
        pass(Duration::from_millis(100)).await;
        let mut sent = Vec::new();
        for side in self.sides.iter().flatten().filter(|side| is_in_call(side)) {
            for track in &side.sending {
                let Some(to) = self.program.shape.peer(side.number) else { continue };
                let source = self.side(track.origin.0);
                let has_source = source.is_some_and(is_in_call);
                // What a server forwards may be stopped where it comes from.
                let is_sent = source.is_some_and(|source| sends(source, track.origin));
                let is_received = track.origin.0 == side.number
                    || side_receives(self.side(3 - side.number), track.origin);
                if has_source && is_received && self.side(to).is_some_and(is_in_call) {
                    let is_enabled = track.enabled && is_sent;
                    sent.push(((to, track.track.ssrc()), track.origin, is_enabled));
                }
            }
        }
        let mut origins: Vec<_> = sent.iter().map(|(_, origin, _)| *origin).collect();
        origins.sort_unstable();
        origins.dedup();
        let mut firsts = Vec::new();
        for (conn, stream) in origins {
            let side = self.side(conn);
            firsts.push(((conn, stream), side.map_or(0, |side| side.sources[stream].sent)));
            self.talk(conn, stream, 3).await?;
        }
        pass(Duration::from_secs(1)).await;
        self.observe()?;
        for (ear, origin, _) in sent.into_iter().filter(|(.., is_enabled)| *is_enabled) {
            let numbers = self.heard.numbers(&ear, origin)?;
            let first = firsts.iter().find(|(of, _)| *of == origin).map_or(0, |(_, first)| *first);
            let all = (first..first + 3).all(|n| numbers.contains(&n));
            let stats = match self.side(ear.0).and_then(|side| side.conn.clone()) {
                Some(conn) if !all => format!("{:#?}", conn.stats().await),
                _ => String::new(),
            };
            let what =
                || format!("{ear:?} hears {numbers:?} of {origin:?}, from {first} on; {stats}");
            check("in the end all is heard", all, what)?;
        }
        Ok(())
    }

    async fn all_closes(&mut self) -> Result<(), Failure> {
        let mut told = Vec::new();
        for (one, two) in self.calls() {
            if is_in_call(one) && is_in_call(two) {
                told.push(one.number);
            }
        }
        // One side of each call, and then what is left.
        told.iter().for_each(|conn| self.close(*conn));
        pass(Duration::from_secs(2)).await;
        self.observe()?;
        for conn in told {
            let peer = self.peer_of(conn).is_some_and(|peer| peer.ended.is_some());
            check("a close is heard", peer, || format!("of {conn}"))?;
        }
        (0..self.sides.len()).for_each(|conn| self.close(conn));
        pass(CLOSING).await;
        for side in self.sides.iter().flatten() {
            if let Some(conn) = &side.conn {
                is_let_go(conn).await?;
            }
        }
        self.observe()
    }

    async fn nothing_is_left(mut self) -> Result<(), Failure> {
        let port = self.port.take();
        let weak: Vec<_> = self.sides.iter().flatten().map(|side| side.weak.clone()).collect();
        self.sides.clear();
        drop(port);
        pass(FORGOTTEN).await;
        for (host, engine) in self.hosts.iter().zip(&self.engines) {
            let bound = host.bound();
            check("no socket is left", bound.is_empty(), || format!("{bound:?}"))?;
            let Some(stats) = engine.stats().await else {
                return fail("no forwarder dies", host.name());
            };
            let left = (stats.connections, stats.sockets, stats.panicked_connections);
            check("no connection is left", left == (0, 0, 0), || format!("{left:?}"))?;
        }
        let is_gone = weak.iter().all(|weak| weak.upgrade().is_none());
        check("no handle is left", is_gone, || "one is".into())?;
        let left = self.census.left();
        check("no actor is left", left.is_empty(), || format!("{left:?}"))
    }
}

/// Whether it is connected, and not closed.
fn is_in_call(side: &Side) -> bool {
    side.connected && !side.is_closed()
}

fn sends(side: &Side, origin: (usize, usize)) -> bool {
    side.sending.iter().any(|sent| sent.origin == origin && sent.enabled)
}

fn side_receives(side: Option<&Side>, origin: (usize, usize)) -> bool {
    side.is_some_and(|side| {
        is_in_call(side) && side.receiving.values().any(|received| received.origin == origin)
    })
}

/// Whether a connection has let go of everything by now.
async fn is_let_go(conn: &RTCConnection) -> Result<(), Failure> {
    let closed = tokio::time::timeout(Duration::ZERO, conn.closed()).await;
    check("what is closed lets go in time", closed.is_ok(), || format!("{conn:?}"))
}
