//! One member of a room: its WebSocket, and the server's connection to it.

use std::collections::BTreeMap;
use std::future::pending;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use ortc_api::{
    AddStreamError, CodecName, DisconnectReason, MediaEvent, MediaStream, MediaStreamTrack,
    RTCCodec, RTCConnection, RTCDisconnectReason, RTCEvent, RTCEvents, RTCTrack,
    RTCTrackDescription,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::room_server::{Publication, Published, RoomServer, Seat};
use crate::rooms::{Complaint, MemberId, Notice, Received, Refusal, TrackId};
use crate::signalling::{Signal, TrackEnded, TrackLimit};
use crate::socket::{Attention, GOING_AWAY, close, closed, frame_of, ping, refuse, say};

/// RFC 6455 §7.4.1: the purpose of the connection is fulfilled.
const NORMAL: u16 = 1000;

/// How long the connection may take to let go of everything.
const CLOSE: Duration = Duration::from_secs(3);

/// Why a member is not attended to any longer.
#[derive(Debug)]
enum Leaving {
    /// Its socket is gone, or not to be spoken to: nothing can be said to it any more.
    Gone(&'static str),
    /// It has hung up.
    HungUp,
    /// It is put out.
    PutOut(Refusal),
    /// The server shuts down.
    Shutdown,
}

impl From<&'static str> for Leaving {
    fn from(reason: &'static str) -> Self {
        Self::Gone(reason)
    }
}

type Step = ControlFlow<Leaving>;

pub(crate) struct Member<'a> {
    rooms: &'a RoomServer,
    id: MemberId,
    connection: RTCConnection,
    events: RTCEvents,
    /// What the member publishes, by SSRC.
    received: BTreeMap<u32, MediaStreamTrack>,
    /// How its tracks come and go on the wire.
    media: SelectAll<BoxStream<'static, (u32, MediaStreamTrack, MediaEvent)>>,
    /// What it is sent of the others.
    forwarded: BTreeMap<TrackId, Forwarded>,
    /// Whether packets of sound that it is sent may repeat others.
    has_redundancy: bool,
    woken: Arc<Notify>,
    closing: watch::Receiver<bool>,
}

/// A track of another member.
struct Forwarded {
    stream: MediaStream,
    sent: RTCTrack,
    /// The codecs that it was described with.
    codecs: Vec<RTCCodec>,
}

impl Forwarded {
    /// Sends sound as it comes, or without what its packets repeat (RFC 2198).
    fn set_redundancy(&self, has_redundancy: bool) {
        let is_red = |codec: &RTCCodec| codec.known() == Some(CodecName::Red);
        if !self.codecs.iter().any(is_red) {
            return;
        }
        let mut codecs = self.codecs.clone();
        codecs.retain(|codec| has_redundancy || !is_red(codec));
        if let Err(error) = self.sent.set_codecs(codecs) {
            // It has ended, or there is nothing else to send.
            debug!(%error, "a track goes on as it was");
        }
    }
}

impl<'a> Member<'a> {
    pub(crate) fn new(
        rooms: &'a RoomServer,
        id: MemberId,
        connection: RTCConnection,
        woken: Arc<Notify>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            rooms,
            id,
            events: connection.events(),
            connection,
            received: BTreeMap::new(),
            media: SelectAll::new(),
            forwarded: BTreeMap::new(),
            has_redundancy: false,
            woken,
            closing,
        }
    }

    /// Attends to the member until it leaves `seat`; then lets go of its connection.
    pub(crate) async fn attend(mut self, socket: &mut WebSocket, seat: Seat<'_>) -> &'static str {
        let leaving = match self.run(socket).await {
            ControlFlow::Break(leaving) => leaving,
            ControlFlow::Continue(()) => Leaving::Gone("done"),
        };
        // First of all: the others are not to wait for the goodbyes.
        drop(seat);
        let reason = match leaving {
            Leaving::Gone(reason) => reason,
            Leaving::HungUp => {
                close(socket, NORMAL, "bye").await;
                "hung up"
            }
            Leaving::PutOut(refusal) => {
                debug!(id = %self.id, %refusal, "member put out");
                refuse(socket, refusal.close_code(), refusal.to_signal()).await;
                "put out"
            }
            Leaving::Shutdown => {
                close(socket, GOING_AWAY, "the server is shutting down").await;
                "shutdown"
            }
        };
        self.connection.close();
        if timeout(CLOSE, self.connection.closed()).await.is_err() {
            tracing::warn!(id = %self.id, "a connection does not let go of everything");
        }
        reason
    }

    async fn run(&mut self, socket: &mut WebSocket) -> Step {
        tell(socket, Signal::IceInfo(self.connection.local().ice)).await?;
        let mut closing = self.closing.clone();
        let mut attention = Attention::new();
        loop {
            while let Some((notice, published)) = self.rooms.take(self.id) {
                self.heed_notice(socket, notice, published).await?;
            }
            let deadline = self.rooms.poll_timeout(self.id);
            tokio::select! {
                frame = socket.recv() => {
                    let frame = match frame {
                        Some(Ok(frame)) => frame,
                        Some(Err(_)) => return Step::Break("broken connection".into()),
                        None => return Step::Break("closed".into()),
                    };
                    attention.heard();
                    let Some(frame) = frame_of(frame) else { continue };
                    let received = self.rooms.receive(self.id, frame);
                    self.hear(socket, received).await?;
                }
                event = self.events.recv() => self.notice(socket, event).await?,
                Some((ssrc, track, event)) = self.media.next() => {
                    self.media_changed(ssrc, &track, event);
                }
                () = self.woken.notified() => {}
                due = attention.due() => {
                    let pinged = match due {
                        ControlFlow::Continue(()) => ping(socket).await,
                        silent => silent,
                    };
                    pinged.map_break(Leaving::Gone)?;
                }
                () = reached(deadline) => {
                    if let Some(refusal) = self.rooms.handle_timeout(self.id) {
                        return Step::Break(Leaving::PutOut(refusal));
                    }
                }
                () = closed(&mut closing) => return Step::Break(Leaving::Shutdown),
            }
        }
    }

    /// The member has sent something.
    async fn hear(&mut self, socket: &mut WebSocket, received: Received) -> Step {
        match received {
            Received::Heard(signals) => {
                for signal in signals {
                    match self.heed(signal) {
                        Ok(step) => step?,
                        Err(complaint) => {
                            let complaint = self.rooms.complain(complaint);
                            tell(socket, Signal::Error(complaint.to_signal())).await?;
                        }
                    }
                }
                Step::Continue(())
            }
            Received::Complained(complaint) => {
                tell(socket, Signal::Error(complaint.to_signal())).await
            }
            Received::Refused(refusal) => Step::Break(Leaving::PutOut(refusal)),
        }
    }

    fn heed(&mut self, signal: Signal) -> Result<Step, Complaint> {
        match signal {
            Signal::IceInfo(info) => {
                let ice_info =
                    |error: &dyn std::fmt::Display| Complaint::IceInfo(error.to_string());
                self.connection.set_remote_ice(info).map_err(|error| ice_info(&error))?;
                self.connection.connect().map_err(|error| ice_info(&error))?;
            }
            Signal::Candidate(candidate) => self
                .connection
                .set_remote_candidate(&candidate)
                .map_err(|error| Complaint::Candidate(error.to_string()))?,
            Signal::CandidateWithdrawn(candidate) => self
                .connection
                .remove_remote_candidate(&candidate)
                .map_err(|error| Complaint::Candidate(error.to_string()))?,
            Signal::Track(description) => self.publish(&description)?,
            Signal::TrackEnded(TrackEnded { ssrc }) => {
                let ended = ssrc.parse().ok().filter(|ssrc| self.end(*ssrc));
                ended.ok_or(Complaint::NoSuchTrack(ssrc.chars().take(20).collect()))?;
            }
            Signal::Capabilities(capabilities) => {
                self.has_redundancy = capabilities.has_redundancy();
                let has_redundancy = self.has_redundancy;
                self.forwarded.values().for_each(|track| track.set_redundancy(has_redundancy));
            }
            Signal::TrackLimit(TrackLimit { ssrc, max_bitrate }) => {
                // Of a track that has just ended, nothing is sent anyway.
                let sent = self.connection.tracks(None);
                if let Some(track) = sent.iter().find(|track| track.ssrc() == ssrc) {
                    let _ = track.set_max_bitrate(max_bitrate);
                }
            }
            Signal::EndOfCandidates {} => {
                // Refused only when the connection is closed, which is noticed by itself.
                let _ = self.connection.set_remote_end_of_candidates();
            }
            Signal::Bye {} => return Ok(Step::Break(Leaving::HungUp)),
            // What a member finds wrong is nothing to be answered.
            Signal::Error(_) => {}
        }
        Ok(Step::Continue(()))
    }

    fn publish(&mut self, description: &RTCTrackDescription) -> Result<(), Complaint> {
        match self.rooms.publish(self.id, &self.connection, description)? {
            Publication::Known => {}
            Publication::New(track) => {
                // Nobody reads along here: the packets are not to be kept.
                drop(track.take_frames());
                if let Ok(ssrc) = description.ssrc() {
                    let of = track.clone();
                    let events = track.events().map(move |event| (ssrc.0, of.clone(), event));
                    self.media.push(events.boxed());
                    self.received.insert(ssrc.0, track);
                }
            }
        }
        Ok(())
    }

    /// Ends a track of the member's own; whether there was one.
    fn end(&mut self, ssrc: u32) -> bool {
        if let Some(track) = self.received.remove(&ssrc) {
            self.connection.stop_receiving(&track);
        }
        self.rooms.end(self.id, ssrc)
    }

    /// A track of the member has begun or ended on the wire. One that is only silent may go on;
    /// one that has said BYE has ended, as if the member had said so here.
    fn media_changed(&mut self, ssrc: u32, track: &MediaStreamTrack, event: MediaEvent) {
        let is_received = self.received.get(&ssrc) == Some(track);
        if is_received && event == MediaEvent::Disconnected(DisconnectReason::Bye) {
            debug!(id = %self.id, ssrc, "a track says BYE");
            self.end(ssrc);
        }
    }

    /// Something has become of a track of another member.
    async fn heed_notice(
        &mut self,
        socket: &mut WebSocket,
        notice: Notice,
        published: Option<Published>,
    ) -> Step {
        match (notice, published) {
            (Notice::TrackAdded(track), Some(published)) => match self.forward(track, published) {
                Ok(Some(description)) => tell(socket, Signal::Track(description)).await,
                Ok(None) => Step::Continue(()),
                Err(error) => Step::Break(Leaving::PutOut(Refusal::Failed(error.to_string()))),
            },
            (Notice::TrackEnded(track), _) => {
                let Some(Forwarded { stream, sent, .. }) = self.forwarded.remove(&track) else {
                    return Step::Continue(());
                };
                let ssrc = sent.ssrc();
                self.connection.remove_stream(&stream);
                tell(socket, Signal::TrackEnded(TrackEnded { ssrc })).await
            }
            // It has ended meanwhile.
            (Notice::TrackAdded(_), None) => Step::Continue(()),
        }
    }

    /// Forwards a track to this member: how it is described, unless it is gone already.
    fn forward(
        &mut self,
        id: TrackId,
        published: Published,
    ) -> Result<Option<RTCTrackDescription>, AddStreamError> {
        let Published { stream, track, msid } = published;
        match self.connection.add_stream(&stream, true) {
            Ok(()) => {}
            // Its publisher is leaving; or our own connection has closed, which is noticed by
            // itself.
            Err(AddStreamError::CannotForward(_) | AddStreamError::Closed) => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(sent) = self.connection.track(&track) else { return Ok(None) };
        if let Err(error) = sent.set_msid(msid) {
            debug!(%error, "the names of a forwarded track");
        }
        let description = sent.description();
        let forwarded = Forwarded { stream, sent, codecs: description.codecs.clone() };
        // It is described with all that may come later: what a member can receive it may say late.
        if !self.has_redundancy {
            forwarded.set_redundancy(false);
        }
        self.forwarded.insert(id, forwarded);
        Ok(Some(description))
    }

    /// The connection to the member has something to say.
    async fn notice(&mut self, socket: &mut WebSocket, event: Option<RTCEvent>) -> Step {
        match event {
            Some(RTCEvent::Candidate(candidate)) => {
                match self.connection.set_local_candidate(&candidate) {
                    Ok(()) => return tell(socket, Signal::Candidate(candidate)).await,
                    // Withdrawn meanwhile, or closed, which is noticed by itself.
                    Err(error) => debug!(id = %self.id, %error, "a local candidate"),
                }
            }
            Some(RTCEvent::CandidateWithdrawn(candidate)) => {
                return tell(socket, Signal::CandidateWithdrawn(candidate)).await;
            }
            Some(RTCEvent::EndOfCandidates) => {
                return tell(socket, Signal::EndOfCandidates {}).await;
            }
            Some(RTCEvent::Connected) => self.rooms.connected(self.id),
            Some(RTCEvent::Disconnected(RTCDisconnectReason::PathLost)) => {
                self.rooms.path_lost(self.id);
            }
            // It is put out when the time for that is over.
            Some(RTCEvent::Disconnected(RTCDisconnectReason::NoPath)) => {}
            Some(RTCEvent::Disconnected(RTCDisconnectReason::ClosedByPeer)) => {
                return Step::Break(Leaving::HungUp);
            }
            Some(RTCEvent::Disconnected(reason)) => {
                return Step::Break(Leaving::PutOut(Refusal::Failed(reason.to_string())));
            }
            Some(_) => {}
            None => {
                let refusal = Refusal::Failed("it was closed from inside".to_owned());
                return Step::Break(Leaving::PutOut(refusal));
            }
        }
        Step::Continue(())
    }
}

async fn tell(socket: &mut WebSocket, signal: Signal) -> Step {
    say(socket, &signal).await.map_break(Leaving::Gone)
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
