//! What may be on the wire, whatever a program does.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ortc_io::DatagramKind;
use ortc_io::sim::{Network, Observed, Verdict};

use super::{Failure, fail};

/// The first two bytes of a STUN binding success response (RFC 8489 §5).
const BINDING_SUCCESS: [u8; 2] = [1, 1];

/// Watches a network.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The candidates that take part.
    permitted: BTreeSet<SocketAddr>,
    /// Who has answered a check of whom.
    answered: BTreeSet<(SocketAddr, SocketAddr)>,
    /// What was sent under an index of SRTP.
    sealed: BTreeMap<(u32, u16), u64>,
    failure: Option<Failure>,
}

impl Watch {
    pub(super) fn over(net: &Network) -> Self {
        let watch = Self::default();
        let own = watch.clone();
        net.tap(move |seen| {
            own.with(|state| {
                if let Err(failure) = state.see(seen) {
                    state.failure.get_or_insert(failure);
                }
            });
            Verdict::Pass
        });
        watch
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says which addresses may send from now on.
    pub(super) fn permit(&self, addresses: BTreeSet<SocketAddr>) {
        self.with(|state| state.permitted = addresses);
    }

    /// What was seen that may not be.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.with(|state| state.failure.take()).map_or(Ok(()), Err)
    }
}

impl State {
    fn see(&mut self, seen: &Observed<'_>) -> Result<(), Failure> {
        let Observed { at, from, to, kind, bytes } = *seen;
        if !self.permitted.contains(&from) {
            let what = format!("{at:?}: {kind:?} from {from} to {to}");
            return fail("what is not set, not connecting or closed sends nothing", what);
        }
        if kind == DatagramKind::Stun {
            if bytes.starts_with(&BINDING_SUCCESS) {
                self.answered.insert((from, to));
            }
            return Ok(());
        }
        if !self.answered.contains(&(to, from)) {
            let what = format!("{at:?}: {kind:?} from {from} to {to}, which never answered");
            return fail("only a validated path is sent on", what);
        }
        if let (DatagramKind::Rtp, [_, _, s0, s1, _, _, _, _, a, b, c, d, ..]) = (kind, bytes) {
            let ssrc = u32::from_be_bytes([*a, *b, *c, *d]);
            let sequence = u16::from_be_bytes([*s0, *s1]);
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            let hash = hasher.finish();
            if *self.sealed.entry((ssrc, sequence)).or_insert(hash) != hash {
                let what = format!("{at:?}: packet {sequence} of {ssrc}");
                return fail("an index of SRTP is never used for two packets", what);
            }
        }
        Ok(())
    }
}
