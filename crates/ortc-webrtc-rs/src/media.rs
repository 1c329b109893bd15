//! `webrtc-srtp` behind the route port.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, SpawnHandle, StreamHandler};
use bytes::Bytes;
use futures_util::stream::poll_fn;
use ortc_io::ring::{RingReceiver, RingSender};
use ortc_io::{
    AttachMedia, ConnectionId, DatagramReceived, SendMedia, SocketActor, SocketCommand, now,
};
use ortc_rtp::{
    KeyFrameFeedback, NtpClock, OutgoingPacket, ReceiveStream, ReceiveTimings, ReceivedPacket,
    ReceiverConfig, Reporter, RouteCommand, RouteEvent, RtcpScheduler, RtcpView, RtpView,
    SendStream, SenderConfig, SessionOptions, SplitPacket, Ssrc, StreamEvent, TonePacket,
    TonePlacer, ToneRoute, ToneSplitter, is_rtcp,
};
use tracing::{debug, warn};

use crate::error::{Limits, Unsupported};
use crate::srtp::SrtpContexts;

/// Messages that may wait for this actor.
const MAILBOX: usize = 256;

/// How often time-outs and reports are looked at; a tenth of the shortest of them.
const TICK: Duration = Duration::from_millis(50);

/// Sealed packets that wait for the keys: what overtakes the last flight of the handshake.
const MAX_PARKED: usize = 64;
const PARKED_FOR: Duration = Duration::from_millis(200);

/// Tracks of one connection, each way.
const MAX_TRACKS: usize = 256;

/// Routes for telephone keys whose tracks have not been added yet: one comes right before its
/// track.
const MAX_TONE_ROUTES: usize = 16;

/// Length of an RTP header without sources and extensions.
const HEADER: usize = 12;

/// A media plane of one connection, with SRTP by `webrtc-srtp`: the socket port and the route
/// port, over a [`SocketActor`] of its own.
///
/// Streams, reports and their timing are the cores of `ortc-rtp`. A packet is a message of an
/// actor here, and copied several times; it is for tests and comparison, not for servers.
///
/// It stops when its last address is dropped, and its sockets with it.
pub struct WebrtcMediaActor {
    connection: ConnectionId,
    sockets: Addr<SocketActor>,
    contexts: Option<SrtpContexts>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    /// Of tracks that are yet to be added.
    tone_routes: VecDeque<(Ssrc, ToneRoute)>,
    parked: VecDeque<(Instant, Bytes)>,
    events: Option<Recipient<RouteEvent>>,
    clock: NtpClock,
    scheduler: RtcpScheduler,
    reporter: Reporter,
    random: Random,
    stats: Stats,
    limits: Limits,
}

struct Sender {
    stream: SendStream,
    enabled: bool,
    /// Takes packets from the ring; dropped, the ring hangs up.
    pump: Option<SpawnHandle>,
    /// What takes the place of the audio for moments.
    tones: Option<Tones>,
}

struct Tones {
    placer: TonePlacer,
    pump: SpawnHandle,
}

struct Receiver {
    stream: ReceiveStream,
    packets: RingSender<ReceivedPacket>,
    /// The highest sequence number so far, with its rollovers.
    highest: Option<u64>,
    tones: Option<ToneSplitter>,
}

/// What came and went, told at the end.
#[derive(Debug, Default)]
struct Stats {
    sent: u64,
    received: u64,
    /// Not sent: no keys yet, or disabled.
    unsent: u64,
    /// Audio that was not sent because a telephone key sounded.
    silenced: u64,
    /// Not opened, or not expected.
    refused: u64,
    /// Parked too long or too many.
    parked_dropped: u64,
    /// The application has not kept up.
    ring_full: u64,
}

/// A packet of a ring.
struct Pushed(Ssrc, OutgoingPacket);

/// A packet of a telephone key.
struct PushedTone(Ssrc, TonePacket);

/// SplitMix64: for sequence numbers and timestamp offsets, which only have to differ.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl WebrtcMediaActor {
    /// Makes the media plane of `connection` over the system's sockets.
    ///
    /// To be called where an actix system runs. `seed` decides the first sequence numbers and
    /// timestamps (RFC 3550 §5.1); outside of tests it comes from a secure generator.
    pub fn new(connection: ConnectionId, seed: u64) -> Self {
        let mut random = Random(seed);
        let options = SessionOptions::default();
        let scheduler = RtcpScheduler::new(random.next(), options.report_interval, now());
        let reporter = Reporter::new(Ssrc(random.next() as u32), "");
        Self {
            connection,
            sockets: SocketActor::new().start(),
            contexts: None,
            senders: Vec::new(),
            receivers: Vec::new(),
            tone_routes: VecDeque::new(),
            parked: VecDeque::new(),
            events: None,
            clock: NtpClock::new(now(), options.ntp_at_start),
            scheduler,
            reporter,
            random,
            stats: Stats::default(),
            limits: Limits::new(connection),
        }
    }

    /// Has `report` called, once for each, with what is asked of it that it cannot do.
    #[must_use]
    pub fn with_report(mut self, report: impl FnMut(Unsupported) + Send + 'static) -> Self {
        self.limits.report_to(report);
        self
    }

    fn add_sender(&mut self, config: SenderConfig, context: &mut Context<Self>) {
        let SenderConfig { ssrc, payload_type, clock_rate, cname, packets, enabled } = config;
        self.reporter.set_cname(&cname);
        let mut packets = packets;
        let pump = context.add_stream(poll_fn(move |task| {
            packets.poll_recv(task).map(|packet| packet.map(|packet| Pushed(ssrc, packet)))
        }));
        let there_is_room = self.senders.len() < MAX_TRACKS;
        // A track that comes back goes on with its numbers: the keys are the same.
        match self.senders.iter_mut().find(|sender| sender.stream.ssrc() == ssrc) {
            Some(sender) => {
                sender.stream.set_codec(payload_type, clock_rate);
                sender.enabled = enabled;
                if let Some(earlier) = sender.pump.replace(pump) {
                    context.cancel_future(earlier);
                }
            }
            None if there_is_room => {
                let (sequence, offset) = (self.random.next() as u16, self.random.next() as u32);
                let stream = SendStream::new(ssrc, payload_type, clock_rate, sequence, offset);
                self.senders.push(Sender { stream, enabled, pump: Some(pump), tones: None });
            }
            None => {
                warn!(connection = ?self.connection, ?ssrc, "too many tracks");
                context.cancel_future(pump);
            }
        }
    }

    fn remove_sender(&mut self, ssrc: Ssrc, context: &mut Context<Self>) {
        let found = self.senders.iter_mut().find(|sender| sender.stream.ssrc() == ssrc);
        let Some(sender) = found else { return };
        if let Some(tones) = sender.tones.take() {
            context.cancel_future(tones.pump);
        }
        if let Some(pump) = sender.pump.take() {
            context.cancel_future(pump);
            self.say_goodbye(&[ssrc]);
        }
    }

    fn send_tones(
        &mut self,
        ssrc: Ssrc,
        mut packets: RingReceiver<TonePacket>,
        context: &mut Context<Self>,
    ) {
        let of_ssrc = |sender: &&mut Sender| sender.stream.ssrc() == ssrc && sender.pump.is_some();
        let Some(sender) = self.senders.iter_mut().find(of_ssrc) else { return };
        let pump = context.add_stream(poll_fn(move |task| {
            packets.poll_recv(task).map(|packet| packet.map(|packet| PushedTone(ssrc, packet)))
        }));
        let tones = Tones { placer: TonePlacer::default(), pump };
        if let Some(earlier) = sender.tones.replace(tones) {
            context.cancel_future(earlier.pump);
        }
    }

    fn receive_tones(&mut self, ssrc: Ssrc, route: ToneRoute) {
        match self.receivers.iter_mut().find(|receiver| receiver.stream.ssrc() == ssrc) {
            Some(receiver) => receiver.tones = Some(ToneSplitter::new(route)),
            None => {
                if self.tone_routes.len() == MAX_TONE_ROUTES {
                    self.tone_routes.pop_front();
                }
                self.tone_routes.push_back((ssrc, route));
            }
        }
    }

    fn add_receiver(&mut self, config: ReceiverConfig) {
        let ReceiverConfig { ssrc, payload_types, packets } = config;
        let route = self.tone_routes.iter().rposition(|(of, _)| *of == ssrc);
        let route = route.and_then(|at| self.tone_routes.remove(at));
        self.receivers.retain(|receiver| receiver.stream.ssrc() != ssrc);
        if self.receivers.len() < MAX_TRACKS {
            let stream = ReceiveStream::new(ssrc, payload_types, ReceiveTimings::default());
            let tones = route.map(|(_, route)| ToneSplitter::new(route));
            self.receivers.push(Receiver { stream, packets, highest: None, tones });
        }
    }

    fn say_goodbye(&mut self, leaving: &[Ssrc]) {
        let (at, ntp) = (now(), self.clock.ntp(now()));
        let infos: Vec<_> = self
            .senders
            .iter()
            .filter(|sender| leaving.contains(&sender.stream.ssrc()))
            .filter_map(|sender| sender.stream.sender_info(at, ntp))
            .collect();
        for compound in self.reporter.goodbyes(&infos, leaving) {
            self.send_rtcp(&compound);
        }
    }

    fn send_rtcp(&mut self, compound: &[u8]) {
        if let Some(datagram) = self.contexts.as_mut().and_then(|it| it.seal_rtcp(compound)) {
            self.send(datagram);
        }
    }

    fn send(&mut self, datagram: Bytes) {
        self.stats.sent += 1;
        self.sockets.do_send(SendMedia { connection: self.connection, datagram });
    }

    fn close(&mut self, context: &mut Context<Self>) {
        let leaving: Vec<_> = self
            .senders
            .iter_mut()
            .filter_map(|sender| {
                if let Some(tones) = sender.tones.take() {
                    context.cancel_future(tones.pump);
                }
                context.cancel_future(sender.pump.take()?);
                Some(sender.stream.ssrc())
            })
            .collect();
        if !leaving.is_empty() {
            self.say_goodbye(&leaving);
        }
        self.senders.clear();
        self.receivers.clear();
        self.tone_routes.clear();
        self.parked.clear();
        self.contexts = None;
        if let Some(events) = self.events.take() {
            events.do_send(RouteEvent::Closed(self.connection));
        }
    }

    fn take(&mut self, at: Instant, datagram: &Bytes) {
        let Some(contexts) = &mut self.contexts else {
            self.parked.push_back((at, datagram.clone()));
            if self.parked.len() > MAX_PARKED {
                self.parked.pop_front();
                self.stats.parked_dropped += 1;
            }
            return;
        };
        let receivers = &self.receivers;
        let is_described = |ssrc| receivers.iter().any(|it| it.stream.ssrc() == ssrc);
        let taken = if is_rtcp(datagram) {
            contexts.open_rtcp(datagram).map(|compound| self.on_compound(at, &compound))
        } else {
            contexts.open_rtp(datagram, is_described).map(|packet| self.on_packet(at, &packet))
        };
        match taken {
            Ok(()) => self.stats.received += 1,
            Err(error) => {
                debug!(connection = ?self.connection, %error, "media is dropped");
                self.stats.refused += 1;
            }
        }
    }

    fn on_packet(&mut self, at: Instant, packet: &[u8]) {
        let Ok(view) = RtpView::parse(packet) else { return self.stats.refused += 1 };
        let ssrc = view.ssrc();
        let found = self.receivers.iter_mut().find(|receiver| receiver.stream.ssrc() == ssrc);
        let Some(receiver) = found else { return };
        let sequence = extend(receiver.highest, view.sequence());
        let event = receiver.stream.on_packet(at, &view, sequence);
        let mut packet = ReceivedPacket {
            payload: Bytes::copy_from_slice(view.payload()),
            payload_type: view.payload_type(),
            sequence,
            timestamp: view.timestamp(),
            marker: view.marker(),
            received_at: at,
            capture_time: receiver.stream.capture_time(view.timestamp()),
        };
        let tones = receiver.tones.as_mut();
        let split =
            tones.map(|tones| tones.take(at, &view, sequence, event.is_ok(), || packet.clone()));
        let Ok(event) = event else {
            return self.stats.refused += 1;
        };
        receiver.highest = receiver.highest.max(Some(sequence));
        if let Some(SplitPacket::Tone(pushed)) = split {
            // The reader of the audio waits for no number.
            packet.payload = Bytes::new();
            self.stats.ring_full += u64::from(pushed.is_err());
        }
        if receiver.packets.push(packet).is_err() {
            self.stats.ring_full += 1;
        }
        self.tell(ssrc, event);
    }

    fn on_compound(&mut self, at: Instant, compound: &[u8]) {
        for packet in RtcpView::new(compound) {
            let Ok(packet) = packet else { return self.stats.refused += 1 };
            for receiver in &mut self.receivers {
                let ssrc = receiver.stream.ssrc();
                if let Some(info) = packet.sender_info().filter(|info| info.ssrc == ssrc) {
                    receiver.stream.on_sender_report(at, info);
                }
                if packet.bye_sources().any(|source| source == ssrc) {
                    receiver.stream.on_bye(at);
                }
            }
            for block in packet.report_blocks() {
                for sender in &mut self.senders {
                    if sender.stream.ssrc() == block.ssrc {
                        sender.stream.on_report(at, &self.clock, &block);
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        let at = now();
        while self.parked.front().is_some_and(|(since, _)| at >= *since + PARKED_FOR) {
            self.parked.pop_front();
            self.stats.parked_dropped += 1;
        }
        let events: Vec<_> = self
            .receivers
            .iter_mut()
            .map(|receiver| (receiver.stream.ssrc(), receiver.stream.handle_timeout(at)))
            .collect();
        for (ssrc, event) in events {
            self.tell(ssrc, event);
        }
        if self.contexts.is_some() && self.scheduler.is_due(at) {
            self.report(at);
        }
    }

    fn report(&mut self, at: Instant) {
        let ntp = self.clock.ntp(at);
        let sending = self.senders.iter().filter(|sender| sender.pump.is_some());
        let infos: Vec<_> =
            sending.filter_map(|sender| sender.stream.sender_info(at, ntp)).collect();
        let blocks: Vec<_> = self
            .receivers
            .iter_mut()
            .filter(|receiver| receiver.stream.has_news())
            .filter_map(|receiver| receiver.stream.report(at))
            .collect();
        if !infos.is_empty() || !blocks.is_empty() {
            for compound in self.reporter.reports(&infos, &blocks) {
                self.send_rtcp(&compound);
            }
        }
    }

    fn tell(&self, ssrc: Ssrc, event: Option<StreamEvent>) {
        let (Some(events), Some(event)) = (&self.events, event) else { return };
        events.do_send(match event {
            StreamEvent::Connected => RouteEvent::ReceiverConnected(self.connection, ssrc),
            StreamEvent::Disconnected(reason) => {
                RouteEvent::ReceiverDisconnected(self.connection, ssrc, reason)
            }
        });
    }
}

/// A sequence number with its rollovers: that which is nearest to the highest so far.
fn extend(highest: Option<u64>, sequence: u16) -> u64 {
    // As SRTP does, the first rollover is counted from an index of one.
    let Some(highest) = highest else { return u64::from(sequence) };
    let ahead = sequence.wrapping_sub(highest as u16) as i16;
    highest.checked_add_signed(ahead.into()).unwrap_or(u64::from(sequence))
}

impl Actor for WebrtcMediaActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.run_interval(TICK, |actor, _| actor.tick());
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        debug!(connection = ?self.connection, stats = ?self.stats, "media is over");
    }
}

impl Handler<SocketCommand> for WebrtcMediaActor {
    type Result = ();

    fn handle(&mut self, command: SocketCommand, context: &mut Self::Context) {
        let attached = match &command {
            SocketCommand::Attach(attach) => Some(attach.connection),
            _ => None,
        };
        self.sockets.do_send(command);
        if let Some(connection) = attached {
            // Detaching lets go of this address again.
            let media = context.address().recipient();
            self.sockets.do_send(AttachMedia { connection, media });
        }
    }
}

impl Handler<RouteCommand> for WebrtcMediaActor {
    type Result = ();

    fn handle(&mut self, command: RouteCommand, context: &mut Self::Context) {
        match command {
            RouteCommand::Open(_, events) => self.events = Some(events),
            RouteCommand::SetKeys(_, keys) => match SrtpContexts::new(&keys) {
                Ok(contexts) => {
                    self.contexts = Some(contexts);
                    for (at, datagram) in std::mem::take(&mut self.parked) {
                        self.take(at, &datagram);
                    }
                }
                Err(error) => warn!(connection = ?self.connection, %error, "keys are refused"),
            },
            RouteCommand::AddSender(_, config) => self.add_sender(config, context),
            // Dropping their rings tells the application.
            RouteCommand::AddTap(..) | RouteCommand::Insert(..) => {
                self.limits.tell(Unsupported::Taps);
            }
            RouteCommand::SendTones(_, ssrc, packets) => self.send_tones(ssrc, packets, context),
            RouteCommand::ReceiveTones(_, ssrc, route) => self.receive_tones(ssrc, route),
            // The api refuses it where this actor stands in for the forwarder.
            RouteCommand::AddForward(..) => self.limits.tell(Unsupported::Forwarding),
            // The api describes none of it with this plane; an application or a peer may.
            RouteCommand::Retransmit(..) => self.limits.tell(Unsupported::Retransmission),
            RouteCommand::Repair(..) => self.limits.tell(Unsupported::Redundancy),
            RouteCommand::SelectLayers(..)
            | RouteCommand::LimitLayer(..)
            | RouteCommand::ReceiveEncodings(..) => self.limits.tell(Unsupported::Layers),
            RouteCommand::Recover(_, config) => {
                let has_pictures = config.key_frames != KeyFrameFeedback::None;
                if config.nack || config.rtx.is_some() || has_pictures {
                    self.limits.tell(Unsupported::Recovery);
                }
            }
            RouteCommand::RequestKeyFrame(..) => self.limits.tell(Unsupported::Recovery),
            RouteCommand::SetExtHeaders(_, pairs) => {
                if !pairs.pairs.is_empty() {
                    self.limits.tell(Unsupported::ExtHeaders);
                }
            }
            RouteCommand::EnableSender(_, ssrc, enabled) => {
                for sender in self.senders.iter_mut().filter(|it| it.stream.ssrc() == ssrc) {
                    sender.enabled = enabled;
                }
            }
            RouteCommand::RemoveSender(_, ssrc) => self.remove_sender(ssrc, context),
            RouteCommand::AddReceiver(_, config) => {
                self.add_receiver(config);
            }
            RouteCommand::UpdateReceiver(_, update) => {
                let of_it = |receiver: &&mut Receiver| receiver.stream.ssrc() == update.ssrc;
                if let Some(receiver) = self.receivers.iter_mut().find(of_it) {
                    receiver.stream.set_payload_types(update.payload_types);
                    if let Some(tones) = &mut receiver.tones {
                        tones.set_payload_types(update.tones);
                    }
                }
            }
            RouteCommand::RemoveReceiver(_, ssrc) => {
                self.receivers.retain(|receiver| receiver.stream.ssrc() != ssrc);
            }
            // Dropping the reply says that there is no such thing here.
            RouteCommand::ReadCaptureTimes(_, ssrc, id) => {
                let found =
                    self.receivers.iter_mut().find(|receiver| receiver.stream.ssrc() == ssrc);
                if let Some(receiver) = found {
                    receiver.stream.set_capture_extension(id);
                }
            }
            RouteCommand::TakeSnapshot(..) => self.limits.tell(Unsupported::Statistics),
            RouteCommand::TakeRecording(..) => self.limits.tell(Unsupported::Recording),
            RouteCommand::Note(..) => {}
            RouteCommand::NumberSent(_, _, None) | RouteCommand::AnswerNumbers(_, _, None) => {}
            RouteCommand::NumberSent(..)
            | RouteCommand::AnswerNumbers(..)
            | RouteCommand::CountSent(..)
            | RouteCommand::AnswerArrivals(..)
            | RouteCommand::CapSender(..)
            | RouteCommand::LimitBandwidth(..) => {
                self.limits.tell(Unsupported::CongestionControl);
            }
            RouteCommand::Close(_) => self.close(context),
        }
    }
}

impl Handler<DatagramReceived> for WebrtcMediaActor {
    type Result = ();

    fn handle(&mut self, received: DatagramReceived, _: &mut Self::Context) {
        self.take(received.received_at, &received.datagram);
    }
}

impl StreamHandler<Pushed> for WebrtcMediaActor {
    fn handle(&mut self, Pushed(ssrc, packet): Pushed, _: &mut Self::Context) {
        let found = self.senders.iter_mut().find(|sender| sender.stream.ssrc() == ssrc);
        let (Some(sender), Some(contexts)) = (found, &mut self.contexts) else {
            return self.stats.unsent += 1;
        };
        if !sender.enabled {
            return self.stats.unsent += 1;
        }
        if sender.tones.as_ref().is_some_and(|tones| tones.placer.is_sounding(now())) {
            sender.stream.note_silenced(now(), packet.timestamp);
            return self.stats.silenced += 1;
        }
        let mut plain = vec![0; packet.payload.len() + HEADER];
        let sealed = sender
            .stream
            .next_packet(now(), &packet, &mut plain)
            .and_then(|len| contexts.seal_rtp(&plain[..len]));
        match sealed {
            Some(datagram) => self.send(datagram),
            None => self.stats.unsent += 1,
        }
    }

    /// The source is gone; the other tracks are not.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl StreamHandler<PushedTone> for WebrtcMediaActor {
    fn handle(&mut self, PushedTone(ssrc, packet): PushedTone, _: &mut Self::Context) {
        let found = self.senders.iter_mut().find(|sender| sender.stream.ssrc() == ssrc);
        let Some((sender, contexts)) = found.zip(self.contexts.as_mut()) else {
            return self.stats.unsent += 1;
        };
        let Some(tones) = sender.tones.as_mut().filter(|_| sender.enabled) else {
            return self.stats.unsent += 1;
        };
        let (header, payload) = tones.placer.place(now(), &mut sender.stream, &packet);
        let mut plain = vec![0; payload.len() + HEADER];
        let written = header.write(&mut plain[..HEADER]);
        plain[HEADER..].copy_from_slice(&payload);
        match written.ok().and_then(|_| contexts.seal_rtp(&plain)) {
            Some(datagram) => self.send(datagram),
            None => self.stats.unsent += 1,
        }
    }

    /// The keys are gone; the tracks are not.
    fn finished(&mut self, _: &mut Self::Context) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_extended_to_the_nearest() {
        assert_eq!(extend(None, 65_535), 65_535);
        assert_eq!(extend(Some(65_535), 0), 65_536);
        assert_eq!(extend(Some(65_536), 65_535), 65_535);
        assert_eq!(extend(Some(200_000), (200_003 % 65_536) as u16), 200_003);
        assert_eq!(extend(Some(3), 65_535), 65_535);
    }
}
