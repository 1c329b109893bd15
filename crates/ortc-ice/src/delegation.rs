//! Consent that the socket port keeps in our stead; see [`ortc_io::consent`].
//!
//! While the port has the selected path, nothing of consent comes here. The engine is not run at
//! all then, or, where spares are checked, it is told that its checks of the path are answered:
//! the port vouches for it, and would give it back if it were not so.

use std::time::Instant;

use is::stun::StunMessage;
use ortc_io::{
    ConsentCredentials, ConsentDelegation, ConsentReturn, Encapsulation, Path, SocketEvent,
};
use tracing::debug;

use crate::agent::{IceAgent, Output};
use crate::engine::Pace;
use crate::{IceState, RTCIceConnectionInfo};

/// What is to be delegated: other values are another delegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subject {
    path: Path,
    controlling: bool,
}

/// Who keeps the consent of the selected path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Keeper {
    /// We do.
    #[default]
    Ours,
    /// We do, until the port says that it does. One that cannot never says so.
    AwaitingPort(Subject),
    Port(Subject),
}

/// What was handed to the socket port.
#[derive(Debug, Default)]
pub(crate) struct Delegation {
    keeper: Keeper,
    /// Of the newest delegation.
    token: u64,
    /// A delegation that was taken back and when: that moment stands for when a response last
    /// came, until the port has said it.
    taken_back: Option<(u64, Instant)>,
}

impl Delegation {
    /// Whether the port keeps the consent of this path.
    pub(crate) fn covers(&self, path: Path) -> bool {
        matches!(self.keeper, Keeper::Port(subject) if subject.path == path)
    }

    /// Whether the port keeps the consent of the selected path.
    pub(crate) fn is_with_port(&self) -> bool {
        matches!(self.keeper, Keeper::Port(_))
    }

    fn subject(&self) -> Option<Subject> {
        match self.keeper {
            Keeper::Ours => None,
            Keeper::AwaitingPort(subject) | Keeper::Port(subject) => Some(subject),
        }
    }
}

impl IceAgent {
    /// Hands the selected path over, or takes it back, after everything that may have changed
    /// what is right.
    pub(crate) fn review_delegation(&mut self, now: Instant) {
        let wanted = self.to_be_delegated();
        let current = self.delegation.subject();
        if wanted == current {
            return;
        }
        if current.is_some() {
            self.output(Output::ReclaimConsent(self.delegation.token));
            if self.delegation.is_with_port() {
                self.delegation.taken_back = Some((self.delegation.token, now));
                self.take_back(now, now);
            }
            self.delegation.keeper = Keeper::Ours;
        }
        let delegation = wanted.and_then(|subject| self.delegation_of(subject));
        if let (Some(subject), Some(delegation)) = (wanted, delegation) {
            self.delegation.keeper = Keeper::AwaitingPort(subject);
            self.output(Output::DelegateConsent(Box::new(delegation)));
        }
    }

    /// What should be with the port now: the selected path, once the connection has settled.
    fn to_be_delegated(&self) -> Option<Subject> {
        if self.state != IceState::Connected || !self.upkeep.is_settled() {
            return None;
        }
        let path = self.paths.selected()?;
        let fits = path.encapsulation == Encapsulation::Plain && !self.paths.is_barred(path);
        fits.then(|| Subject { path, controlling: self.is_controlling() })
    }

    fn delegation_of(&mut self, subject: Subject) -> Option<ConsentDelegation> {
        let Subject { path, controlling } = subject;
        let local = self.gathering.by_socket(path.socket)?;
        let priority = local.check_priority();
        let (patience, answered) = (self.upkeep.patience(), self.upkeep.answered()?);
        let remote = credentials(self.remote.as_ref()?);
        self.delegation.token += 1;
        Some(ConsentDelegation {
            token: self.delegation.token,
            path,
            local: credentials(&self.config.credentials),
            remote,
            controlling,
            tie_breaker: self.config.tie_breaker,
            priority,
            interval: self.config.timing.consent_interval,
            patience,
            answered,
            seed: self.engine.as_mut()?.seed(),
            counters: self.config.counters.clone(),
        })
    }

    /// Takes what the port says of a delegation.
    pub(crate) fn handle_consent_event(&mut self, now: Instant, event: &SocketEvent) {
        match *event {
            SocketEvent::ConsentDelegated { token } if token == self.delegation.token => {
                if let Keeper::AwaitingPort(subject) = self.delegation.keeper {
                    self.delegation.keeper = Keeper::Port(subject);
                    self.stats.consents_delegated += 1;
                    self.upkeep.pause_consent();
                }
            }
            SocketEvent::ConsentReturned { token, answered, reason } => {
                self.consent_returned(now, token, answered, reason);
            }
            _ => {}
        }
    }

    fn consent_returned(
        &mut self,
        now: Instant,
        token: u64,
        answered: Instant,
        reason: ConsentReturn,
    ) {
        if let Some((_, at)) = self.delegation.taken_back.take_if(|(taken, _)| *taken == token) {
            return self.upkeep.correct_consent(at, answered);
        }
        if token != self.delegation.token || !self.delegation.is_with_port() {
            return;
        }
        debug!(?reason, "the socket port gives the selected path back");
        self.stats.consents_returned += 1;
        self.take_back(now, answered);
        self.delegation.keeper = Keeper::Ours;
        // Whatever it is, ICE is to find out, and look at all pairs for it.
        self.upkeep.something_new(now);
        self.set_pace(Pace::Search);
        self.handle_timeout(now);
    }

    /// Goes on where the port has stopped. The engine has nothing open on the path, so that it
    /// sees no outage where it only was not run.
    fn take_back(&mut self, now: Instant, answered: Instant) {
        if let Keeper::Port(subject) = self.delegation.keeper {
            self.paths.vouch(subject.path, answered);
        }
        self.delegation.keeper = Keeper::Ours;
        self.upkeep.resume_consent(answered);
        self.run_engine(now);
    }

    /// Whether the port keeps the consent of this path, and still should: what has changed since
    /// the last [review](Self::review_delegation) may need a check of its own.
    pub(crate) fn is_vouched_for(&self, path: Path) -> bool {
        self.delegation.covers(path) && self.to_be_delegated() == self.delegation.subject()
    }

    /// Tells the engine that its check of a path that the port keeps is answered.
    pub(crate) fn vouch(&mut self, now: Instant, path: Path, request: &[u8]) {
        self.stats.requests_vouched += 1;
        let (ends, request) = (self.ends(path), StunMessage::parse(request));
        if let (Some(ends), Ok(request), Some(engine)) = (ends, request, self.engine.as_mut()) {
            engine.answer(now, ends, &request);
        }
    }

    /// Whether the engine has nothing to do: the port keeps the only path that is checked.
    pub(crate) fn engine_rests(&self) -> bool {
        self.delegation.is_with_port() && self.upkeep.keeps_one_path()
    }
}

fn credentials(info: &RTCIceConnectionInfo) -> ConsentCredentials {
    ConsentCredentials {
        username_frag: info.username_frag.clone(),
        password: info.password.clone(),
    }
}
