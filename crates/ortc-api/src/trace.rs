//! What a connection tells `tracing`: a span from its making to its end, a span for each step in
//! it, and how long the steps took.

use std::time::{Duration, Instant};

use ortc_dtls::DtlsEvent;
use ortc_ice::{IceEvent, IceState};
use ortc_io::ConnectionId;
use ortc_rtp::RtpEvent;
use tracing::{Span, debug_span, info, info_span};

/// The spans of one connection.
///
/// ```text
/// connection{id=3.1}
/// ├─ gathering      from its making to the end of candidates
/// ├─ signalling     from its making to `connect()`
/// ├─ establishing   from `connect()` to the first path
/// ├─ securing       from that to the keys
/// └─ first_packet   from that to the first RTP of a track
/// ```
///
/// Nothing secret is in any of them: no credentials and no keys, but for the username fragment,
/// which goes over the network as it is.
pub(crate) struct Trace {
    span: Span,
    begun: Instant,
    /// Those that go on: one or two.
    steps: Vec<Step>,
}

/// One step that goes on.
struct Step {
    kind: Kind,
    /// Told at its end.
    span: Span,
    begun: Instant,
}

/// The steps; several may go on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gathering,
    Signalling,
    Establishing,
    Securing,
    FirstPacket,
}

impl Trace {
    pub(crate) fn new(now: Instant, id: ConnectionId) -> Self {
        let span = info_span!("connection", id = format_args!("{}.{}", id.slot, id.generation));
        let mut trace = Self { span, begun: now, steps: Vec::new() };
        trace.begin(now, Kind::Gathering);
        trace.begin(now, Kind::Signalling);
        trace
    }

    /// The span of the connection, to be entered while it is handled.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn on_connect(&mut self, now: Instant) {
        if self.end(now, Kind::Signalling, "the peer is known") {
            self.begin(now, Kind::Establishing);
        }
    }

    pub(crate) fn on_ice(&mut self, now: Instant, event: &IceEvent) {
        if *event == IceEvent::EndOfCandidates {
            self.end(now, Kind::Gathering, "all candidates are found");
        }
        if *event == IceEvent::StateChanged(IceState::Connected)
            && self.end(now, Kind::Establishing, "a path is found")
        {
            self.begin(now, Kind::Securing);
        }
    }

    pub(crate) fn on_dtls(&mut self, now: Instant, event: &DtlsEvent) {
        if let DtlsEvent::Connected { keys, .. } = event
            && self.end(now, Kind::Securing, "keys are agreed on")
        {
            self.span.in_scope(|| info!(profile = ?keys.profile, "the peer is who was signalled"));
            self.begin(now, Kind::FirstPacket);
        }
    }

    pub(crate) fn on_rtp(&mut self, now: Instant, event: &RtpEvent) {
        if let RtpEvent::TrackConnected(_) | RtpEvent::UnknownTrack(_) = event {
            self.end(now, Kind::FirstPacket, "the first packet has come");
        }
    }

    fn begin(&mut self, now: Instant, kind: Kind) {
        let parent = &self.span;
        let span = match kind {
            Kind::Gathering => debug_span!(parent: parent, "gathering"),
            Kind::Signalling => debug_span!(parent: parent, "signalling"),
            Kind::Establishing => debug_span!(parent: parent, "establishing"),
            Kind::Securing => debug_span!(parent: parent, "securing"),
            Kind::FirstPacket => debug_span!(parent: parent, "first_packet"),
        };
        self.steps.retain(|step| step.kind != kind);
        self.steps.reserve_exact(1);
        self.steps.push(Step { kind, span, begun: now });
    }

    /// Ends a step, and says how long it took; whether it went on.
    fn end(&mut self, now: Instant, kind: Kind, what: &'static str) -> bool {
        let Some(at) = self.steps.iter().position(|step| step.kind == kind) else { return false };
        let step = self.steps.remove(at);
        self.steps.shrink_to_fit();
        let (took, after) = (millis(now, step.begun), millis(now, self.begun));
        step.span.in_scope(|| info!(took_ms = took, after_ms = after, "{what}"));
        true
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    let passed: Duration = now.saturating_duration_since(since);
    passed.as_millis().try_into().unwrap_or(u64::MAX)
}
