//! One address of a server: asked, and what it gives given back.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::report::{ServerAttempt, ServerResponse, ServerTransport};
use crate::ServerFailure;
use crate::random::Seeds;
use crate::servers::message::{Class, Message};
use crate::servers::{
    Action, BRIEF_WAITS, Login, PREPARATION, Step, StunClient, Taken, Transaction, TurnClient,
};

/// Where a transaction identifier stands in a STUN message.
const ID: std::ops::Range<usize> = 8..20;

#[derive(Debug)]
enum State {
    /// Its socket or stream is not there yet.
    Opening,
    Stun(StunClient),
    Turn(Box<TurnClient>),
    /// It has answered with an allocation, which is being given back.
    Releasing(Transaction),
    Done,
}

/// What is to be done for an attempt.
#[derive(Debug)]
pub(super) enum Wanted {
    Transmit(Bytes),
    /// Ask this server in its place.
    Redirect(SocketAddr),
}

#[derive(Debug)]
pub(super) struct Attempt {
    /// Index of the server.
    pub(super) server: usize,
    pub(super) address: SocketAddr,
    pub(super) transport: ServerTransport,
    /// Of its socket or stream.
    pub(super) token: u64,
    pub(super) redirects: u8,
    login: Option<Login>,
    state: State,
    begun: Instant,
    result: Option<Result<ServerResponse, ServerFailure>>,
}

impl Attempt {
    pub(super) fn new(
        now: Instant,
        server: usize,
        address: SocketAddr,
        transport: ServerTransport,
        login: Option<Login>,
        token: u64,
    ) -> Self {
        Self {
            server,
            address,
            transport,
            token,
            redirects: 0,
            login,
            state: State::Opening,
            begun: now,
            result: None,
        }
    }

    fn is_stream(&self) -> bool {
        self.transport != ServerTransport::Udp
    }

    /// Whether nothing more is to come of it.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn report(&self) -> Option<ServerAttempt> {
        let result = self.result.clone()?;
        Some(ServerAttempt { address: self.address, transport: self.transport, result })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Opening => Some(self.begun + PREPARATION),
            State::Stun(stun) => stun.poll_timeout(false),
            State::Turn(turn) => turn.poll_timeout(),
            State::Releasing(release) => Some(release.next()),
            State::Done => None,
        }
    }

    /// Its socket or stream is there.
    pub(super) fn opened(&mut self, now: Instant, ids: &mut Seeds) -> Vec<Wanted> {
        if !matches!(self.state, State::Opening) {
            return Vec::new();
        }
        if !self.is_stream() {
            // What it took to bind a socket says nothing about the server.
            self.begun = now;
        }
        let (ipv6, is_stream) = (self.address.is_ipv6(), self.is_stream());
        self.state = match self.login.clone() {
            Some(login) => State::Turn(Box::new(TurnClient::new(now, login, ipv6, is_stream))),
            None => State::Stun(StunClient::new(now, is_stream)),
        };
        self.handle_timeout(now, ids)
    }

    /// Its socket or stream is gone, or has never been there.
    pub(super) fn closed(&mut self, reason: String) {
        if self.result.is_none() {
            self.result = Some(Err(ServerFailure::Stream(reason)));
        }
        self.state = State::Done;
    }

    /// Another server is asked in its place, and answers for it.
    pub(super) fn is_followed(&mut self) {
        self.result = None;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ids: &mut Seeds) -> Vec<Wanted> {
        let mut actions = Vec::new();
        match &mut self.state {
            State::Opening if self.begun + PREPARATION <= now => {
                self.result = Some(Err(ServerFailure::TimedOut));
                self.state = State::Done;
            }
            State::Opening | State::Done => {}
            State::Stun(stun) => stun.handle_timeout(now, false, ids, &mut actions),
            State::Turn(turn) => turn.handle_timeout(now, |_| false, ids, &mut actions),
            State::Releasing(release) => match release.step(now) {
                Step::Wait => {}
                Step::Send(datagram) => actions.push(Action::Transmit(datagram)),
                Step::Expired => self.state = State::Done,
            },
        }
        self.carry_out(now, actions, ids)
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        message: Message<'_>,
        ids: &mut Seeds,
    ) -> (Taken, Vec<Wanted>) {
        let mut actions = Vec::new();
        let taken = match &mut self.state {
            State::Opening | State::Done => Taken::Unasked,
            State::Stun(stun) => stun.handle(now, message, &mut actions),
            State::Turn(turn) => turn.handle(now, message, ids, &mut actions),
            State::Releasing(release) if release.id == message.id => {
                if let Some(Ok(answer)) = &mut self.result {
                    answer.given_back = message.class == Class::Success;
                }
                self.state = State::Done;
                Taken::Yes
            }
            State::Releasing(_) => Taken::Unasked,
        };
        (taken, self.carry_out(now, actions, ids))
    }

    fn carry_out(&mut self, now: Instant, actions: Vec<Action>, ids: &mut Seeds) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let time = now.saturating_duration_since(self.begun);
        for action in actions {
            match action {
                Action::Transmit(datagram) => wanted.push(Wanted::Transmit(datagram)),
                Action::Mapped(mapped) => {
                    let mapped = Some(mapped);
                    let answer = ServerResponse { time, mapped, relayed: None, given_back: false };
                    self.result = Some(Ok(answer));
                    self.state = State::Done;
                }
                Action::Allocated { relayed, mapped } => {
                    let relayed = Some(relayed);
                    self.result =
                        Some(Ok(ServerResponse { time, mapped, relayed, given_back: false }));
                    wanted.extend(self.release(now, ids));
                }
                Action::Redirected(to) => {
                    self.result = Some(Err(ServerFailure::Redirected));
                    self.state = State::Done;
                    wanted.push(Wanted::Redirect(to));
                }
                Action::Failed(reason) => {
                    self.result.get_or_insert(Err(reason));
                    self.state = State::Done;
                }
                // No peer is sent to, and what has been given back is not lost.
                Action::TransmitOn(..) | Action::Lost(_) | Action::PeerRefused(_) => {}
            }
        }
        wanted
    }

    /// Gives the allocation back, and waits to hear that it was taken.
    fn release(&mut self, now: Instant, ids: &mut Seeds) -> Option<Wanted> {
        let State::Turn(turn) = &mut self.state else { return None };
        let mut actions = Vec::new();
        turn.release(ids, &mut actions);
        let Some(Action::Transmit(request)) = actions.pop() else { return None };
        let id = request.get(ID)?.try_into().ok()?;
        // Over a stream one copy is enough.
        let waits = if self.is_stream() { &BRIEF_WAITS[3..] } else { &BRIEF_WAITS[..] };
        let mut release = Transaction::new(now, id, request, false).with_waits(waits);
        let Step::Send(request) = release.step(now) else { return None };
        self.state = State::Releasing(release);
        Some(Wanted::Transmit(request))
    }
}
