//! The life of one connection, as a state machine without actors, clocks or sockets.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use ortc_dtls::{DtlsCommand, DtlsEvent};
use ortc_ice::{IceCommand, IceEvent, IceState, RTCIceConnectionInfo};
use ortc_rtp::{RtpCommand, RtpEvent};

use crate::events::{RTCDisconnectReason, RTCEvent};
use crate::identity::Roles;

/// What comes in: from the application, from the transport actors, from the clock.
#[derive(Debug)]
pub(crate) enum Input {
    /// `connect()`, and again when the peer has restarted ICE.
    Connect(Peer),
    /// The last handle has gone, or `close()`.
    Close,
    Ice(IceEvent),
    Dtls(DtlsEvent),
    Rtp(RtpEvent),
    /// The socket port has let go of the connection.
    Detached,
    /// A step of closing has not been answered in time.
    StepTimedOut,
    /// The time to find a first path is over.
    ConnectTimedOut,
    /// A transport actor has died.
    ActorLost,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) ice: RTCIceConnectionInfo,
    pub(crate) roles: Roles,
    /// `None` only where the application has allowed an unverified remote.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// What goes out.
#[derive(Debug)]
pub(crate) enum Output {
    Ice(IceCommand),
    Dtls(DtlsCommand),
    Rtp(RtpCommand),
    Emit(RTCEvent),
    /// The peer's certificate is the expected one.
    RemoteCertificate(Bytes),
    /// Has the socket port let go of everything.
    Detach,
    /// Has [`Input::StepTimedOut`] come in a while, unless the state changes first.
    ArmStepTimer,
    /// Wait for a first path.
    ArmConnectTimer,
    /// All is let go of: stop.
    Finish,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// `connect()`.
    AwaitingConnect,
    /// A first path to the peer.
    AwaitingPath,
    /// The end of the DTLS handshake.
    AwaitingKeys,
    /// Nothing: media flows.
    Connected,
    /// A path, after all of them were lost; the keys stay.
    AwaitingPathAgain,
    /// The media plane's word that the routes are gone.
    AwaitingRoutesClosed,
    /// close_notify to be sent.
    AwaitingDtlsStopped,
    /// ICE to give back what TURN servers have for it.
    AwaitingIceClosed,
    /// The socket port's word that the sockets are closed.
    AwaitingDetached,
    /// Nothing any more.
    Closed,
}

/// Why the state changes; with the state it makes up the table below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    ConnectCalled,
    PathFound,
    KeysAgreed,
    PathLost,
    ClosingBegan,
    RoutesClosed,
    DtlsStopped,
    IceClosed,
    Detached,
}

impl State {
    /// The legal table: where each cause leads, `None` where it is not expected.
    fn after(self, cause: Cause) -> Option<Self> {
        use State as S;
        match (self, cause) {
            (S::AwaitingConnect, Cause::ConnectCalled) => Some(S::AwaitingPath),
            (S::AwaitingPath, Cause::PathFound) => Some(S::AwaitingKeys),
            (S::AwaitingKeys, Cause::KeysAgreed) => Some(S::Connected),
            (S::Connected, Cause::PathLost) => Some(S::AwaitingPathAgain),
            (S::AwaitingPathAgain, Cause::PathFound) => Some(S::Connected),
            (
                S::AwaitingConnect
                | S::AwaitingPath
                | S::AwaitingKeys
                | S::Connected
                | S::AwaitingPathAgain,
                Cause::ClosingBegan,
            ) => Some(S::AwaitingRoutesClosed),
            (S::AwaitingRoutesClosed, Cause::RoutesClosed) => Some(S::AwaitingDtlsStopped),
            (S::AwaitingDtlsStopped, Cause::DtlsStopped) => Some(S::AwaitingIceClosed),
            (S::AwaitingIceClosed, Cause::IceClosed) => Some(S::AwaitingDetached),
            (S::AwaitingDetached, Cause::Detached) => Some(S::Closed),
            _ => None,
        }
    }

    pub(crate) fn is_closing(self) -> bool {
        matches!(
            self,
            Self::AwaitingRoutesClosed
                | Self::AwaitingDtlsStopped
                | Self::AwaitingIceClosed
                | Self::AwaitingDetached
                | Self::Closed
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The state machine of one connection.
///
/// Feed it with [`handle`](Self::handle), then take [`poll_output`](Self::poll_output) until
/// there is nothing.
#[derive(Debug)]
pub(crate) struct ConnectionCore {
    state: State,
    peer: Option<Peer>,
    /// ICE has a path right now.
    has_path: bool,
    /// DTLS has been started, and has not told its end.
    dtls_running: bool,
    outputs: VecDeque<Output>,
}

impl ConnectionCore {
    /// A new connection; it begins to gather.
    pub(crate) fn new() -> Self {
        Self {
            state: State::AwaitingConnect,
            peer: None,
            has_path: false,
            dtls_running: false,
            outputs: VecDeque::from([Output::Ice(IceCommand::Gather)]),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle connection holds no room for what it said last.
            self.outputs.shrink_to_fit();
        }
        output
    }

    pub(crate) fn handle(&mut self, input: Input) {
        match input {
            Input::Connect(peer) => self.connect(peer),
            Input::Close => self.close(None),
            Input::Ice(IceEvent::StateChanged(IceState::Closed)) => self.ice_closed(),
            Input::Ice(event) => self.on_ice(event),
            Input::Dtls(event) => self.on_dtls(event),
            Input::Rtp(RtpEvent::Closed) => {
                // Unasked where handling it has panicked, or the media thread is gone.
                self.close(Some(RTCDisconnectReason::Internal("the media thread gave it up")));
                self.routes_closed();
            }
            Input::Rtp(RtpEvent::BandwidthChanged(bits)) => self.emit(RTCEvent::Bandwidth(bits)),
            // Of interest to the streams, which are the shell's.
            Input::Rtp(_) => {}
            Input::Detached => {
                if self.change(Cause::Detached) {
                    self.emit_output(Output::Finish);
                }
            }
            Input::StepTimedOut => self.step_timed_out(),
            Input::ConnectTimedOut => {
                if self.state == State::AwaitingPath {
                    self.emit(RTCEvent::Disconnected(RTCDisconnectReason::NoPath));
                }
            }
            Input::ActorLost => {
                self.close(Some(RTCDisconnectReason::Internal("a transport actor has died")));
            }
        }
    }

    fn connect(&mut self, peer: Peer) {
        if self.state.is_closing() || self.peer.as_ref() == Some(&peer) {
            return;
        }
        self.emit_output(Output::Ice(IceCommand::Connect {
            remote: peer.ice.clone(),
            controlling: peer.roles.controlling,
        }));
        if self.peer.is_none() {
            self.change(Cause::ConnectCalled);
            self.emit_output(Output::ArmConnectTimer);
        }
        self.peer = Some(peer);
    }

    fn on_ice(&mut self, event: IceEvent) {
        if self.state.is_closing() {
            return;
        }
        match event {
            IceEvent::CandidateFound(candidate) => self.emit(RTCEvent::Candidate(candidate)),
            IceEvent::EndOfCandidates => self.emit(RTCEvent::EndOfCandidates),
            IceEvent::ActivePair { local, remote } => {
                self.emit(RTCEvent::ActiveCandidate { local, remote });
            }
            IceEvent::RoundTrip(round_trip) => {
                self.emit_output(Output::Dtls(DtlsCommand::RoundTrip(round_trip)));
            }
            IceEvent::StateChanged(IceState::Connected) => self.path_found(),
            IceEvent::StateChanged(IceState::Disconnected) => {
                self.has_path = false;
                if self.dtls_running {
                    self.emit_output(Output::Dtls(DtlsCommand::PathLost));
                }
                // In the middle of a handshake, too, which waits for another path.
                if self.state == State::AwaitingKeys
                    || self.state == State::Connected && self.change(Cause::PathLost)
                {
                    self.emit(RTCEvent::Disconnected(RTCDisconnectReason::PathLost));
                }
            }
            IceEvent::CandidateIgnored { candidate, reason } => {
                tracing::debug!(%candidate, %reason, "a remote candidate is of no use");
            }
            // Of interest to the forks, which are the shell's.
            IceEvent::SocketsShared { .. } => {}
            IceEvent::CandidateWithdrawn(gone) => self.emit(RTCEvent::CandidateWithdrawn(gone)),
            IceEvent::ServerFailed { url, reason } => {
                self.emit(RTCEvent::IceServerFailed { url, reason });
            }
            IceEvent::StateChanged(_) => {}
        }
    }

    fn path_found(&mut self) {
        self.has_path = true;
        if self.dtls_running {
            self.emit_output(Output::Dtls(DtlsCommand::PathFound));
        }
        match self.state {
            State::AwaitingPath => {
                self.change(Cause::PathFound);
                if let Some(peer) = &self.peer {
                    let start =
                        DtlsCommand::Start { role: peer.roles.dtls, expected_sha256: peer.sha256 };
                    self.dtls_running = true;
                    self.emit_output(Output::Dtls(start));
                }
            }
            State::AwaitingPathAgain => {
                self.change(Cause::PathFound);
                self.emit(RTCEvent::Connected);
            }
            _ => {}
        }
    }

    fn on_dtls(&mut self, event: DtlsEvent) {
        match event {
            DtlsEvent::Connected { keys, certificate, .. } => {
                if self.state != State::AwaitingKeys {
                    // Closed meanwhile: the keys are zeroized right here.
                    return;
                }
                self.emit_output(Output::RemoteCertificate(certificate));
                self.emit_output(Output::Rtp(RtpCommand::SetKeys(keys)));
                self.change(Cause::KeysAgreed);
                if self.has_path {
                    self.emit(RTCEvent::Connected);
                } else {
                    self.change(Cause::PathLost);
                }
            }
            // Nothing of the drafts travels as application data.
            DtlsEvent::ApplicationData(_) => {}
            DtlsEvent::Stopped(result) => {
                self.dtls_running = false;
                if self.state == State::AwaitingDtlsStopped {
                    self.dtls_stopped();
                } else {
                    self.close(Some(result.map_or_else(RTCDisconnectReason::Security, |()| {
                        RTCDisconnectReason::ClosedByPeer
                    })));
                }
            }
        }
    }

    /// Begins to close; `reason` is told when it was not the application's own wish.
    fn close(&mut self, reason: Option<RTCDisconnectReason>) {
        if !self.change(Cause::ClosingBegan) {
            return;
        }
        if let Some(reason) = reason {
            self.emit(RTCEvent::Disconnected(reason));
        }
        self.emit_output(Output::Rtp(RtpCommand::Close));
        self.emit_output(Output::ArmStepTimer);
    }

    fn routes_closed(&mut self) {
        if !self.change(Cause::RoutesClosed) {
            return;
        }
        if self.dtls_running {
            self.emit_output(Output::Dtls(DtlsCommand::Close));
            self.emit_output(Output::ArmStepTimer);
        } else {
            self.dtls_stopped();
        }
    }

    fn dtls_stopped(&mut self) {
        if self.change(Cause::DtlsStopped) {
            self.emit_output(Output::Ice(IceCommand::Close));
            self.emit_output(Output::ArmStepTimer);
        }
    }

    /// Whatever ICE had to send last is on its way: the sockets may go.
    fn ice_closed(&mut self) {
        if self.change(Cause::IceClosed) {
            self.emit_output(Output::Detach);
            self.emit_output(Output::ArmStepTimer);
        }
    }

    /// What does not answer is not waited for: the next step frees what it can.
    fn step_timed_out(&mut self) {
        match self.state {
            State::AwaitingRoutesClosed => self.routes_closed(),
            State::AwaitingDtlsStopped => self.dtls_stopped(),
            State::AwaitingIceClosed => self.ice_closed(),
            State::AwaitingDetached => self.handle(Input::Detached),
            _ => {}
        }
    }

    /// The one place where the state changes. An unexpected cause changes nothing.
    fn change(&mut self, cause: Cause) -> bool {
        match self.state.after(cause) {
            Some(next) => {
                tracing::debug!(from = %self.state, to = %next, ?cause, "connection");
                self.state = next;
                true
            }
            None => {
                tracing::debug!(state = %self.state, ?cause, "connection: not expected, ignored");
                false
            }
        }
    }

    fn emit(&mut self, event: RTCEvent) {
        self.emit_output(Output::Emit(event));
    }

    fn emit_output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ortc_dtls::{DtlsFailure, DtlsRole};
    use ortc_io::{SrtpKeys, SrtpProfile};

    fn peer() -> Peer {
        Peer {
            ice: RTCIceConnectionInfo {
                username_frag: "abcd".into(),
                password: "p".repeat(22),
                fingerprint: None,
            },
            roles: Roles { dtls: DtlsRole::Client, controlling: false },
            sha256: Some([1; 32]),
        }
    }

    fn keys() -> DtlsEvent {
        let keys = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &[1; 56], true).unwrap();
        DtlsEvent::Connected { keys, certificate: Bytes::new(), version: 0xfefd }
    }

    fn ice(state: IceState) -> Input {
        Input::Ice(IceEvent::StateChanged(state))
    }

    /// Runs inputs and tells the outputs of the last one, in short.
    fn after(core: &mut ConnectionCore, input: Input) -> Vec<&'static str> {
        core.handle(input);
        std::iter::from_fn(|| core.poll_output())
            .map(|output| match output {
                Output::Ice(IceCommand::Gather) => "ice gather",
                Output::Ice(IceCommand::Connect { .. }) => "ice connect",
                Output::Ice(IceCommand::Close) => "ice close",
                Output::Ice(_) => "ice other",
                Output::Dtls(DtlsCommand::Start { .. }) => "dtls start",
                Output::Dtls(DtlsCommand::Close) => "dtls close",
                Output::Dtls(DtlsCommand::RoundTrip(_)) => "dtls knows the round trip",
                Output::Dtls(DtlsCommand::PathLost) => "dtls waits",
                Output::Dtls(DtlsCommand::PathFound) => "dtls goes on",
                Output::Dtls(_) => "dtls other",
                Output::Rtp(RtpCommand::SetKeys(_)) => "rtp keys",
                Output::Rtp(RtpCommand::Close) => "rtp close",
                Output::Rtp(_) => "rtp other",
                Output::Emit(RTCEvent::Connected) => "connected",
                Output::Emit(RTCEvent::Disconnected(_)) => "disconnected",
                Output::Emit(_) => "event",
                Output::RemoteCertificate(_) => "certificate",
                Output::Detach => "detach",
                Output::ArmStepTimer => "timer",
                Output::ArmConnectTimer => "connect timer",
                Output::Finish => "finish",
            })
            .collect()
    }

    fn connected() -> ConnectionCore {
        let mut core = ConnectionCore::new();
        assert_eq!(
            after(&mut core, Input::Connect(peer())),
            ["ice gather", "ice connect", "connect timer"]
        );
        assert_eq!(after(&mut core, ice(IceState::Connected)), ["dtls start"]);
        assert_eq!(after(&mut core, Input::Dtls(keys())), ["certificate", "rtp keys", "connected"]);
        core
    }

    #[test]
    fn a_call_goes_up_step_by_step_and_closes_in_the_decided_order() {
        let mut core = connected();
        assert_eq!(core.state(), State::Connected);
        assert_eq!(after(&mut core, Input::Close), ["rtp close", "timer"]);
        assert_eq!(after(&mut core, Input::Rtp(RtpEvent::Closed)), ["dtls close", "timer"]);
        assert_eq!(
            after(&mut core, Input::Dtls(DtlsEvent::Stopped(Ok(())))),
            ["ice close", "timer"]
        );
        assert_eq!(after(&mut core, ice(IceState::Closed)), ["detach", "timer"]);
        assert_eq!(after(&mut core, Input::Detached), ["finish"]);
        assert_eq!(core.state(), State::Closed);
        assert!(after(&mut core, Input::Close).is_empty());
    }

    #[test]
    fn a_lost_path_disconnects_and_a_found_one_connects_again_without_a_handshake() {
        let mut core = connected();
        assert_eq!(after(&mut core, ice(IceState::Disconnected)), ["dtls waits", "disconnected"]);
        assert_eq!(after(&mut core, ice(IceState::Connected)), ["dtls goes on", "connected"]);
    }

    #[test]
    fn a_handshake_waits_while_the_path_is_lost() {
        let mut core = ConnectionCore::new();
        after(&mut core, Input::Connect(peer()));
        after(&mut core, ice(IceState::Connected));
        assert_eq!(after(&mut core, ice(IceState::Disconnected)), ["dtls waits", "disconnected"]);
        assert_eq!(after(&mut core, ice(IceState::Connected)), ["dtls goes on"]);
        assert_eq!(after(&mut core, Input::Dtls(keys())), ["certificate", "rtp keys", "connected"]);
    }

    #[test]
    fn keys_that_come_while_the_path_is_lost_connect_when_it_is_found() {
        let mut core = ConnectionCore::new();
        after(&mut core, Input::Connect(peer()));
        after(&mut core, ice(IceState::Connected));
        assert_eq!(after(&mut core, ice(IceState::Disconnected)), ["dtls waits", "disconnected"]);
        assert_eq!(after(&mut core, Input::Dtls(keys())), ["certificate", "rtp keys"]);
        assert_eq!(after(&mut core, ice(IceState::Connected)), ["dtls goes on", "connected"]);
    }

    #[test]
    fn a_path_that_is_not_found_in_time_is_told_once_and_looked_for_still() {
        let mut core = ConnectionCore::new();
        after(&mut core, Input::Connect(peer()));
        assert_eq!(after(&mut core, Input::ConnectTimedOut), ["disconnected"]);
        assert_eq!(after(&mut core, ice(IceState::Connected)), ["dtls start"]);
        assert_eq!(after(&mut core, Input::Dtls(keys())), ["certificate", "rtp keys", "connected"]);
        assert!(after(&mut core, Input::ConnectTimedOut).is_empty());
    }

    #[test]
    fn keys_of_a_closed_connection_are_not_used() {
        let mut core = ConnectionCore::new();
        after(&mut core, Input::Connect(peer()));
        after(&mut core, ice(IceState::Connected));
        after(&mut core, Input::Close);
        assert!(after(&mut core, Input::Dtls(keys())).is_empty());
    }

    #[test]
    fn a_failed_handshake_tells_why_and_closes() {
        let mut core = ConnectionCore::new();
        after(&mut core, Input::Connect(peer()));
        after(&mut core, ice(IceState::Connected));
        core.handle(Input::Dtls(DtlsEvent::Stopped(Err(DtlsFailure::FingerprintMismatch))));
        let Some(Output::Emit(event)) = core.poll_output() else { panic!("no event") };
        assert_eq!(
            event,
            RTCEvent::Disconnected(RTCDisconnectReason::Security(DtlsFailure::FingerprintMismatch))
        );
        assert_eq!(core.state(), State::AwaitingRoutesClosed);
        // DTLS has stopped already, so it is not asked to.
        assert_eq!(
            after(&mut core, Input::Rtp(RtpEvent::Closed)),
            ["rtp close", "timer", "ice close", "timer"]
        );
    }

    #[test]
    fn a_step_that_is_not_answered_is_passed_over() {
        let mut core = connected();
        after(&mut core, Input::Close);
        assert_eq!(after(&mut core, Input::StepTimedOut), ["dtls close", "timer"]);
        assert_eq!(after(&mut core, Input::StepTimedOut), ["ice close", "timer"]);
        assert_eq!(after(&mut core, Input::StepTimedOut), ["detach", "timer"]);
        assert_eq!(after(&mut core, Input::StepTimedOut), ["finish"]);
    }

    #[test]
    fn connecting_again_with_other_credentials_restarts_ice_only() {
        let mut core = connected();
        assert!(after(&mut core, Input::Connect(peer())).is_empty());
        let mut restarted = peer();
        restarted.ice.username_frag = "efgh".into();
        assert_eq!(after(&mut core, Input::Connect(restarted)), ["ice connect"]);
        assert_eq!(core.state(), State::Connected);
    }

    #[test]
    fn the_legal_table() {
        use Cause::*;
        use State::*;
        let states = [
            AwaitingConnect,
            AwaitingPath,
            AwaitingKeys,
            Connected,
            AwaitingPathAgain,
            AwaitingRoutesClosed,
            AwaitingDtlsStopped,
            AwaitingIceClosed,
            AwaitingDetached,
            Closed,
        ];
        let causes = [
            ConnectCalled,
            PathFound,
            KeysAgreed,
            PathLost,
            ClosingBegan,
            RoutesClosed,
            DtlsStopped,
            IceClosed,
            Detached,
        ];
        let mut table = String::new();
        for state in states {
            for cause in causes {
                if let Some(next) = state.after(cause) {
                    table += &format!("{state} --{cause:?}--> {next}\n");
                }
            }
        }
        assert_eq!(
            table,
            "AwaitingConnect --ConnectCalled--> AwaitingPath\n\
             AwaitingConnect --ClosingBegan--> AwaitingRoutesClosed\n\
             AwaitingPath --PathFound--> AwaitingKeys\n\
             AwaitingPath --ClosingBegan--> AwaitingRoutesClosed\n\
             AwaitingKeys --KeysAgreed--> Connected\n\
             AwaitingKeys --ClosingBegan--> AwaitingRoutesClosed\n\
             Connected --PathLost--> AwaitingPathAgain\n\
             Connected --ClosingBegan--> AwaitingRoutesClosed\n\
             AwaitingPathAgain --PathFound--> Connected\n\
             AwaitingPathAgain --ClosingBegan--> AwaitingRoutesClosed\n\
             AwaitingRoutesClosed --RoutesClosed--> AwaitingDtlsStopped\n\
             AwaitingDtlsStopped --DtlsStopped--> AwaitingIceClosed\n\
             AwaitingIceClosed --IceClosed--> AwaitingDetached\n\
             AwaitingDetached --Detached--> Closed\n"
        );
    }
}
