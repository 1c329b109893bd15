use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Builder, Class, Message, attribute, method};
use super::transaction::{Step, Transaction, rto};
use super::{Action, ServerFailure, Taken};
use crate::random::Seeds;

/// How often a server is asked again, so that the NAT keeps its mapping (RFC 8445 §11: at
/// least 15 s apart).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Asks one STUN server, from one socket, what address that has on the other side of a NAT
/// (RFC 8489 §12).
#[derive(Debug)]
pub(crate) struct StunClient {
    asked: Option<Transaction>,
    next: Option<Instant>,
    mapped: Option<SocketAddr>,
    /// The least time that an answer has taken.
    round_trip: Option<Duration>,
    is_settled: bool,
    is_stream: bool,
}

impl StunClient {
    pub(crate) fn new(at: Instant, is_stream: bool) -> Self {
        let (next, round_trip) = (Some(at), None);
        Self { asked: None, next, mapped: None, round_trip, is_settled: false, is_stream }
    }

    /// Whether it has an answer, or has given up.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    pub(crate) fn has_succeeded(&self) -> bool {
        self.mapped.is_some()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The server has answered somebody in this time.
    pub(crate) fn learn(&mut self, round_trip: Duration) {
        self.round_trip = Some(self.round_trip.map_or(round_trip, |least| least.min(round_trip)));
        if let Some(asked) = &mut self.asked {
            asked.learn(rto(round_trip));
        }
    }

    /// It cannot be asked any more.
    pub(crate) fn fail(&mut self, reason: ServerFailure, actions: &mut Vec<Action>) {
        (self.asked, self.next) = (None, None);
        if !std::mem::replace(&mut self.is_settled, true) {
            actions.push(Action::Failed(reason));
        }
    }

    /// When something is due; `keep` says whether mappings are worth keeping.
    pub(crate) fn poll_timeout(&self, keep: bool) -> Option<Instant> {
        let next = self.next.filter(|_| keep || !self.is_settled);
        self.asked.as_ref().map(Transaction::next).into_iter().chain(next).min()
    }

    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        keep: bool,
        ids: &mut Seeds,
        actions: &mut Vec<Action>,
    ) {
        if self.asked.is_none()
            && self.next.is_some_and(|at| at <= now)
            && (keep || !self.is_settled)
        {
            let id = ids.transaction_id();
            let request = Builder::new(Class::Request, method::BINDING, id).finish();
            self.asked = Some(Transaction::new(now, id, request, self.is_stream));
            self.next = None;
        }
        match self.asked.as_mut().map(|asked| asked.step(now)) {
            None | Some(Step::Wait) => {}
            Some(Step::Send(datagram)) => actions.push(Action::Transmit(datagram)),
            Some(Step::Expired) => {
                self.asked = None;
                if self.mapped.is_some() {
                    // It has answered before; the mapping may live on all the same.
                    self.next = Some(now + KEEP_ALIVE);
                } else if !std::mem::replace(&mut self.is_settled, true) {
                    actions.push(Action::Failed(ServerFailure::TimedOut));
                }
            }
        }
    }

    pub(crate) fn handle(
        &mut self,
        now: Instant,
        message: Message<'_>,
        actions: &mut Vec<Action>,
    ) -> Taken {
        let Some(asked) = self.asked.take_if(|asked| asked.id == message.id) else {
            return Taken::Unasked;
        };
        self.learn(asked.round_trip(now));
        let mapped = message
            .address(attribute::XOR_MAPPED_ADDRESS)
            .or_else(|| message.address(attribute::MAPPED_ADDRESS));
        match (message.class, mapped) {
            (Class::Success, Some(mapped)) => {
                if self.mapped.replace(mapped) != Some(mapped) {
                    actions.push(Action::Mapped(mapped));
                }
                self.is_settled = true;
                if !self.is_stream {
                    self.next = Some(now + KEEP_ALIVE);
                }
            }
            _ => {
                if !std::mem::replace(&mut self.is_settled, true) {
                    let code = message.error_code();
                    actions.push(Action::Failed(
                        code.map_or(ServerFailure::Malformed, ServerFailure::of_code),
                    ));
                }
            }
        }
        Taken::Yes
    }
}
