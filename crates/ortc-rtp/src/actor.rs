use std::time::Duration;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Recipient, Running, WeakRecipient,
};
use ortc_io::ConnectionId;
use ortc_io::ring::{RingReceiver, RingSender};

use crate::{
    ArrivalFeedback, CodecName, ExtHeaders, ForwardConfig, ForwardedPayloadType, KeyFrameFeedback,
    OutgoingPacket, PayloadType, RTCCodec, RTCEncoding, RTCTrackDescription,
    ReceiveEncodingsConfig, ReceivedEncoding, ReceivedPacket, ReceiverConfig, ReceiverUpdate,
    RecoverConfig, RedundancyConfig, RetransmitConfig, RouteCommand, RouteEvent, RtcpFeedback,
    RtpCommand, RtpEvent, RtxStream, SelectLayersConfig, SenderConfig, TonePayloadTypes, TrackKind,
    TrackSource, header_extension,
};

/// Messages that may wait; commands come from one owner, events from one media plane.
const MAILBOX: usize = 256;

/// How often the owner is looked for: the media plane holds this actor's address, so that it
/// would outlive an owner that has panicked.
const OWNER_CHECK: Duration = Duration::from_secs(60);

/// The media of one connection, for the control plane: compiles tracks and their descriptions
/// into [`RouteCommand`]s, and [`RouteEvent`]s into [`RtpEvent`]s.
///
/// It opens the connection's routes when it starts. After [`RtpCommand::Close`], or when it
/// is stopped otherwise, or its owner is gone, it closes them; it stops by itself once they
/// are gone.
#[derive(Debug)]
pub struct RtpActor {
    connection: ConnectionId,
    cname: String,
    routes: Recipient<RouteCommand>,
    owner: WeakRecipient<RtpEvent>,
    state: State,
}

/// Named by what is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingCommands,
    /// [`RouteCommand::Close`] has been sent.
    AwaitingClosed,
    Closed,
}

impl RtpActor {
    /// Makes the actor of one connection.
    ///
    /// `cname` is the connection's RTCP CNAME (RFC 7022); `routes` is the route port of the
    /// media plane; `owner` hears [`RtpEvent`]s.
    pub fn new(
        connection: ConnectionId,
        cname: String,
        routes: Recipient<RouteCommand>,
        owner: WeakRecipient<RtpEvent>,
    ) -> Self {
        Self { connection, cname, routes, owner, state: State::AwaitingCommands }
    }

    fn tell(&self, event: RtpEvent) {
        if let Some(owner) = self.owner.upgrade() {
            owner.do_send(event);
        }
    }

    fn close(&mut self) {
        if self.state == State::AwaitingCommands {
            self.state = State::AwaitingClosed;
            self.routes.do_send(RouteCommand::Close(self.connection));
        }
    }

    fn compile(&self, command: RtpCommand) -> Option<RouteCommand> {
        let id = self.connection;
        match command {
            RtpCommand::SetKeys(keys) => Some(RouteCommand::SetKeys(id, keys)),
            RtpCommand::Send { description, packets, enabled } => self
                .sender(&description, packets, enabled)
                .map(|config| RouteCommand::AddSender(id, config)),
            RtpCommand::Forward { description, source, received, enabled } => self
                .forward(&description, source, &received, enabled)
                .map(|config| RouteCommand::AddForward(id, config)),
            RtpCommand::SetExtHeaders(description) => {
                ext_headers(&description).map(|pairs| RouteCommand::SetExtHeaders(id, pairs))
            }
            RtpCommand::EnableSender(ssrc, enabled) => {
                Some(RouteCommand::EnableSender(id, ssrc, enabled))
            }
            RtpCommand::RemoveSender(ssrc) => Some(RouteCommand::RemoveSender(id, ssrc)),
            RtpCommand::Receive { description, packets } => {
                receiver(&description, packets).map(|config| RouteCommand::AddReceiver(id, config))
            }
            RtpCommand::UpdateReceiver(description) => {
                update(&description).map(|update| RouteCommand::UpdateReceiver(id, update))
            }
            RtpCommand::RemoveReceiver(ssrc) => Some(RouteCommand::RemoveReceiver(id, ssrc)),
            RtpCommand::Insert(ssrc, packets) => Some(RouteCommand::Insert(id, ssrc, packets)),
            RtpCommand::SendTones(ssrc, packets) => {
                Some(RouteCommand::SendTones(id, ssrc, packets))
            }
            RtpCommand::ReceiveTones(ssrc, route) => {
                Some(RouteCommand::ReceiveTones(id, ssrc, route))
            }
            RtpCommand::AddTap(ssrc, tap) => Some(RouteCommand::AddTap(id, ssrc, tap)),
            RtpCommand::RequestKeyFrame(ssrc) => Some(RouteCommand::RequestKeyFrame(id, ssrc)),
            RtpCommand::TakeSnapshot(reply) => Some(RouteCommand::TakeSnapshot(id, reply)),
            RtpCommand::LimitBandwidth(limits) => Some(RouteCommand::LimitBandwidth(id, limits)),
            RtpCommand::CapSender(ssrc, cap) => Some(RouteCommand::CapSender(id, ssrc, cap)),
            RtpCommand::LimitLayer(ssrc, max) => Some(RouteCommand::LimitLayer(id, ssrc, max)),
            RtpCommand::TakeRecording(reply) => Some(RouteCommand::TakeRecording(id, reply)),
            RtpCommand::Note(words) => Some(RouteCommand::Note(id, words)),
            RtpCommand::Close => None,
        }
    }

    /// What follows a command where the description of its track names numbers.
    fn numbering(&self, command: &RtpCommand) -> Option<RouteCommand> {
        let id = self.connection;
        match command {
            RtpCommand::Send { description, .. } | RtpCommand::Forward { description, .. } => {
                let ssrc = description.ssrc().ok()?;
                match description.transport_number_id() {
                    None => arrival_feedback(description)
                        .map(|feedback| RouteCommand::CountSent(id, ssrc, feedback)),
                    number_id => Some(RouteCommand::NumberSent(id, ssrc, number_id)),
                }
            }
            RtpCommand::Receive { description, .. } | RtpCommand::UpdateReceiver(description) => {
                let ssrc = description.ssrc().ok()?;
                match description.transport_number_id() {
                    None => arrival_feedback(description)
                        .map(|feedback| RouteCommand::AnswerArrivals(id, ssrc, feedback)),
                    number_id => Some(RouteCommand::AnswerNumbers(id, ssrc, number_id)),
                }
            }
            _ => None,
        }
    }

    /// What follows a command where the description of its track names times of capture.
    fn capturing(&self, command: &RtpCommand) -> Option<RouteCommand> {
        match command {
            RtpCommand::Receive { description, .. } | RtpCommand::UpdateReceiver(description) => {
                let id = Some(description.capture_time_id()?);
                Some(RouteCommand::ReadCaptureTimes(self.connection, description.ssrc().ok()?, id))
            }
            _ => None,
        }
    }

    /// What follows a command where the track comes in several layers.
    fn layers(&self, command: &RtpCommand) -> Option<RouteCommand> {
        let id = self.connection;
        match command {
            RtpCommand::Forward { description, received, .. } if received.is_layered() => {
                Some(RouteCommand::SelectLayers(
                    id,
                    SelectLayersConfig {
                        ssrc: description.ssrc().ok()?,
                        codecs: codecs(received),
                        is_simulcast: received.encodings.len() > 1,
                    },
                ))
            }
            RtpCommand::Receive { description, .. } | RtpCommand::UpdateReceiver(description)
                if description.is_layered() =>
            {
                Some(RouteCommand::ReceiveEncodings(id, Box::new(encodings(description)?)))
            }
            _ => None,
        }
    }

    /// What is repeated in the packets of a received track, where its description has `red`.
    fn redundancy(&self, command: &RtpCommand) -> Option<RouteCommand> {
        let (RtpCommand::Receive { description, .. } | RtpCommand::UpdateReceiver(description)) =
            command
        else {
            return None;
        };
        let redundant = description.payload_types_of(CodecName::Red);
        let is_repeated = |codec: &&RTCCodec| codec.known().is_some_and(CodecName::is_repeatable);
        let repeated = description.codecs.iter().filter(is_repeated);
        let repeated: Vec<_> = repeated.map(RTCCodec::payload_type).collect();
        if redundant.is_empty() || repeated.is_empty() {
            return None;
        }
        let config = RedundancyConfig { ssrc: description.ssrc().ok()?, redundant, repeated };
        Some(RouteCommand::Repair(self.connection, config))
    }

    /// How what is lost of a track is sent again or asked for, where its description says so.
    fn repair(&self, command: &RtpCommand) -> Option<RouteCommand> {
        let id = self.connection;
        match command {
            RtpCommand::Send { description, .. } | RtpCommand::Forward { description, .. } => {
                let config = retransmission(description)?;
                config.nack.then_some(RouteCommand::Retransmit(id, config))
            }
            RtpCommand::Receive { description, .. } => {
                let config = recovery(description)?;
                let is_silent =
                    !config.nack && config.key_frames != KeyFrameFeedback::FullIntraRequest;
                (!is_silent || config.rtx.is_some()).then_some(RouteCommand::Recover(id, config))
            }
            RtpCommand::UpdateReceiver(description) => {
                recovery(description).map(|config| RouteCommand::Recover(id, config))
            }
            _ => None,
        }
    }

    /// The first codec is the one that is sent (ORTC drafts, "codecs").
    fn sender(
        &self,
        description: &RTCTrackDescription,
        packets: RingReceiver<OutgoingPacket>,
        enabled: bool,
    ) -> Option<SenderConfig> {
        let codec = description.codecs.first()?;
        Some(SenderConfig {
            ssrc: description.ssrc().ok()?,
            payload_type: codec.payload_type(),
            clock_rate: description.clock_rate_of(codec)?,
            cname: self.cname.clone(),
            packets,
            enabled,
        })
    }

    /// What is received is sent as the first codec of the description that is the same one, and
    /// a header extension by the id that the description has for its name.
    fn forward(
        &self,
        description: &RTCTrackDescription,
        source: TrackSource,
        received: &RTCTrackDescription,
        enabled: bool,
    ) -> Option<ForwardConfig> {
        let mut payload_types: Vec<_> = received
            .codecs
            .iter()
            // What was sent again is put back among the rest where it is received.
            .filter(|codec| codec.known() != Some(CodecName::Rtx))
            .filter_map(|codec| {
                let sent = description.codecs.iter().find(|sent| sent.is_same_format(codec))?;
                let clock_rate = received.clock_rate_of(codec)?;
                let (received, sent) = (codec.payload_type(), sent.payload_type());
                Some(ForwardedPayloadType { received, sent, clock_rate })
            })
            .collect();
        // What `red` holds goes on as it is, so it must be called the same on the other side. Where
        // it is not, or the other side knows no `red`, what it repeats is left out.
        let is_same = |types: &[ForwardedPayloadType], id| {
            types.iter().any(|it| it.received == id && it.sent == id)
        };
        let mut unwrapped = Vec::new();
        let red = received.codecs.iter().filter(|codec| codec.known() == Some(CodecName::Red));
        for codec in red {
            let red = codec.payload_type();
            let within = codec.redundant_types().unwrap_or_default();
            let goes_on = payload_types.iter().any(|it| it.received == red);
            if !goes_on || !within.into_iter().all(|id| is_same(&payload_types, id)) {
                payload_types.retain(|it| it.received != red);
                unwrapped.push(red);
            }
        }
        if payload_types.is_empty() {
            return None;
        }
        Some(ForwardConfig {
            ssrc: description.ssrc().ok()?,
            source,
            payload_types,
            unwrapped,
            extensions: header_extension::passed_on(
                &received.header_extensions,
                &description.header_extensions,
            ),
            cname: self.cname.clone(),
            needs_key_frames: description.kind == TrackKind::Video,
            enabled,
        })
    }
}

/// Of what a sender acts upon without transport-wide numbers, the best.
fn arrival_feedback(description: &RTCTrackDescription) -> Option<ArrivalFeedback> {
    if description.takes(RtcpFeedback::CongestionControl) {
        Some(ArrivalFeedback::PerStream)
    } else if description.takes(RtcpFeedback::MaximumBitrate) {
        Some(ArrivalFeedback::MaximumBitrate)
    } else {
        None
    }
}

fn rtx(description: &RTCTrackDescription) -> Option<RtxStream> {
    let ssrc = description.rtx_ssrc().ok()??;
    Some(RtxStream { ssrc, payload_types: description.associated_types() })
}

fn retransmission(description: &RTCTrackDescription) -> Option<RetransmitConfig> {
    let nack = description.takes(RtcpFeedback::Nack);
    Some(RetransmitConfig { ssrc: description.ssrc().ok()?, nack, rtx: rtx(description) })
}

fn recovery(description: &RTCTrackDescription) -> Option<RecoverConfig> {
    let takes = |feedback| description.takes(feedback);
    let key_frames = match description.kind {
        TrackKind::Audio | TrackKind::Dtmf => KeyFrameFeedback::None,
        // It does no harm where it is not known.
        TrackKind::Video if takes(RtcpFeedback::PictureLoss) => KeyFrameFeedback::PictureLoss,
        TrackKind::Video if takes(RtcpFeedback::FullIntraRequest) => {
            KeyFrameFeedback::FullIntraRequest
        }
        TrackKind::Video => KeyFrameFeedback::PictureLoss,
    };
    let (ssrc, nack) = (description.ssrc().ok()?, takes(RtcpFeedback::Nack));
    Some(RecoverConfig { ssrc, nack, key_frames, rtx: rtx(description) })
}

fn receiver(
    description: &RTCTrackDescription,
    packets: RingSender<ReceivedPacket>,
) -> Option<ReceiverConfig> {
    let payload_types = description.payload_types();
    if payload_types.is_empty() {
        return None;
    }
    Some(ReceiverConfig { ssrc: description.ssrc().ok()?, payload_types, packets })
}

fn ext_headers(description: &RTCTrackDescription) -> Option<ExtHeaders> {
    let pairs = description.rtp_ext_headers.clone().unwrap_or_default();
    Some(ExtHeaders { ssrc: description.ssrc().ok()?, pairs, codecs: codecs(description) })
}

/// The payload types of the codecs that are known.
fn codecs(description: &RTCTrackDescription) -> Vec<(PayloadType, CodecName)> {
    let codecs = description.codecs.iter();
    codecs.filter_map(|codec| Some((codec.payload_type(), codec.known()?))).collect()
}

/// The encodings of a track, known by their SSRCs or their names.
fn encodings(description: &RTCTrackDescription) -> Option<ReceiveEncodingsConfig> {
    let RecoverConfig { ssrc, nack, key_frames, .. } = recovery(description)?;
    let encoding = |it: &RTCEncoding| ReceivedEncoding {
        rid: it.rid.clone(),
        ssrc: it.ssrc_number(),
        rtx_ssrc: it.rtx_ssrc_number(),
    };
    let id = |uri| header_extension::id_of(&description.header_extensions, uri);
    Some(ReceiveEncodingsConfig {
        ssrc,
        encodings: description.ranked_encodings().into_iter().map(encoding).collect(),
        payload_types: description.payload_types(),
        codecs: codecs(description),
        rtx_payload_types: description.associated_types(),
        nack,
        key_frames,
        rid_ids: (id(header_extension::RID), id(header_extension::REPAIRED_RID)),
        dependency_id: id(header_extension::DEPENDENCY_DESCRIPTOR),
    })
}

fn update(description: &RTCTrackDescription) -> Option<ReceiverUpdate> {
    let payload_types = description.payload_types();
    let ssrc = description.ssrc().ok().filter(|_| !payload_types.is_empty())?;
    Some(ReceiverUpdate { ssrc, payload_types, tones: TonePayloadTypes::of(description) })
}

impl TonePayloadTypes {
    /// Those that a description names.
    pub fn of(description: &RTCTrackDescription) -> Self {
        Self {
            events: description.payload_types_of(CodecName::Dtmf),
            redundant: description.payload_types_of(CodecName::Red),
        }
    }
}

impl Actor for RtpActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
        let events = context.address().recipient();
        self.routes.do_send(RouteCommand::Open(self.connection, events));
        context.run_interval(OWNER_CHECK, |actor, _| {
            if actor.owner.upgrade().is_none_or(|owner| !owner.connected()) {
                actor.close();
            }
        });
    }

    fn stopping(&mut self, _context: &mut Context<Self>) -> Running {
        self.close();
        Running::Stop
    }
}

impl Handler<RtpCommand> for RtpActor {
    type Result = ();

    fn handle(&mut self, command: RtpCommand, _context: &mut Context<Self>) {
        if self.state != State::AwaitingCommands {
            tracing::debug!(id = ?self.connection, "a command for closed media is dropped");
            return;
        }
        if matches!(command, RtpCommand::Close) {
            self.close();
            return;
        }
        // Which layers it has, and how it is numbered and repaired, goes right behind the track.
        let follows = [
            self.layers(&command),
            self.numbering(&command),
            self.capturing(&command),
            self.repair(&command),
            self.redundancy(&command),
        ];
        let Some(command) = self.compile(command) else {
            // The owner validates before it sends; dropping the ring tells the application.
            tracing::error!(id = ?self.connection, "a track description that is not valid");
            return;
        };
        self.routes.do_send(command);
        for command in follows.into_iter().flatten() {
            self.routes.do_send(command);
        }
    }
}

impl Handler<RouteEvent> for RtpActor {
    type Result = ();

    fn handle(&mut self, event: RouteEvent, context: &mut Context<Self>) {
        let (connection, event) = match event {
            RouteEvent::ReceiverConnected(id, ssrc) => (id, RtpEvent::TrackConnected(ssrc)),
            RouteEvent::ReceiverDisconnected(id, ssrc, reason) => {
                (id, RtpEvent::TrackDisconnected(ssrc, reason))
            }
            RouteEvent::UnknownTrack(id, track) => (id, RtpEvent::UnknownTrack(track)),
            RouteEvent::BandwidthChanged(id, bits) => (id, RtpEvent::BandwidthChanged(bits)),
            RouteEvent::KeyFrameRequested(id, ssrc) => (id, RtpEvent::KeyFrameRequested(ssrc)),
            RouteEvent::Closed(id) => (id, RtpEvent::Closed),
        };
        if connection != self.connection || self.state == State::Closed {
            tracing::warn!(?connection, "a route event of another connection is dropped");
            return;
        }
        let closed = event == RtpEvent::Closed;
        self.tell(event);
        if closed {
            self.state = State::Closed;
            context.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use actix::Message;
    use ortc_io::ring::ring;
    use ortc_io::{SrtpKeys, SrtpProfile};

    use super::*;
    use crate::{DisconnectReason, RTCHeaderExtension, Ssrc};

    const ID: ConnectionId = ConnectionId { slot: 1, generation: 2 };

    /// Notes whatever it hears.
    struct Notes<M>(Arc<Mutex<Vec<M>>>);

    impl<M: Unpin + 'static> Actor for Notes<M> {
        type Context = Context<Self>;
    }

    impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Notes<M> {
        type Result = ();

        fn handle(&mut self, message: M, _context: &mut Context<Self>) {
            self.0.lock().unwrap().push(message);
        }
    }

    struct Fixture {
        actor: actix::Addr<RtpActor>,
        routes: Arc<Mutex<Vec<RouteCommand>>>,
        events: Arc<Mutex<Vec<RtpEvent>>>,
        owner: actix::Addr<Notes<RtpEvent>>,
    }

    impl Fixture {
        async fn new() -> Self {
            let (routes, events) = (Arc::default(), Arc::default());
            let port = Notes(Arc::clone(&routes)).start();
            let owner = Notes(Arc::clone(&events)).start();
            let weak = owner.downgrade().recipient();
            let actor = RtpActor::new(ID, "name".into(), port.recipient(), weak).start();
            let fixture = Self { actor, routes, events, owner };
            fixture.settle().await;
            fixture
        }

        async fn settle(&self) {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }

        async fn send(&self, command: RtpCommand) -> Vec<RouteCommand> {
            self.actor.do_send(command);
            self.settle().await;
            std::mem::take(&mut *self.routes.lock().unwrap())
        }
    }

    fn description() -> RTCTrackDescription {
        serde_json::from_str(
            r#"{"kind":"audio","ssrc":"77","msid":["m"],"codecs":[
                {"payload-id":111,"name":"opus"},{"payload-id":110,"name":"dtmf"}]}"#,
        )
        .unwrap()
    }

    #[actix::test]
    async fn commands_are_compiled_and_the_connection_is_opened_first() {
        let f = Fixture::new().await;
        let keys = SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &[0; 56], true).unwrap();
        let all = f.send(RtpCommand::SetKeys(keys)).await;
        assert!(matches!(all[..], [RouteCommand::Open(ID, _), RouteCommand::SetKeys(ID, _)]));

        let packets = ring(1).1;
        let send = RtpCommand::Send { description: description(), packets, enabled: true };
        let [RouteCommand::AddSender(ID, config)] = &f.send(send).await[..] else { panic!() };
        assert_eq!(
            (config.ssrc, config.payload_type, config.clock_rate, &config.cname[..]),
            (Ssrc(77), PayloadType(111), 48_000, "name")
        );
        assert!(config.enabled);

        let packets = ring(1).0;
        let receive = RtpCommand::Receive { description: description(), packets };
        let [RouteCommand::AddReceiver(ID, config)] = &f.send(receive).await[..] else { panic!() };
        let types = [(PayloadType(111), 48_000), (PayloadType(110), 48_000)];
        assert_eq!((config.ssrc, &config.payload_types[..]), (Ssrc(77), &types[..]));

        let all = f.send(RtpCommand::EnableSender(Ssrc(7), false)).await;
        assert!(matches!(all[..], [RouteCommand::EnableSender(ID, Ssrc(7), false)]));
        let all = f.send(RtpCommand::RemoveSender(Ssrc(7))).await;
        assert!(matches!(all[..], [RouteCommand::RemoveSender(ID, Ssrc(7))]));
        let all = f.send(RtpCommand::RemoveReceiver(Ssrc(7))).await;
        assert!(matches!(all[..], [RouteCommand::RemoveReceiver(ID, Ssrc(7))]));
    }

    #[actix::test]
    async fn header_extensions_are_forwarded_by_their_names() {
        let f = Fixture::new().await;
        let with = |extensions: &[(&str, u8)]| RTCTrackDescription {
            header_extensions: extensions
                .iter()
                .map(|(uri, id)| RTCHeaderExtension { uri: (*uri).to_owned(), id: *id })
                .collect(),
            ..description()
        };
        f.settle().await;
        f.routes.lock().unwrap().clear();
        let other = ConnectionId { slot: 9, generation: 9 };
        let forward = RtpCommand::Forward {
            description: with(&[("urn:a", 7), ("urn:c", 8)]),
            source: TrackSource { connection: other, ssrc: Ssrc(5) },
            received: with(&[("urn:a", 1), ("urn:b", 2)]),
            enabled: true,
        };
        let [RouteCommand::AddForward(ID, config)] = &f.send(forward).await[..] else { panic!() };
        assert_eq!(config.extensions, [(1, 7)]);
    }

    #[actix::test]
    async fn events_reach_the_owner_and_the_last_one_stops_the_actor() {
        let f = Fixture::new().await;
        let other = ConnectionId { slot: 9, generation: 9 };
        f.actor.do_send(RouteEvent::ReceiverConnected(ID, Ssrc(7)));
        f.actor.do_send(RouteEvent::ReceiverConnected(other, Ssrc(8)));
        f.actor.do_send(RouteEvent::ReceiverDisconnected(ID, Ssrc(7), DisconnectReason::Bye));
        f.send(RtpCommand::Close).await;
        assert!(f.send(RtpCommand::RemoveSender(Ssrc(7))).await.is_empty());
        f.actor.do_send(RouteEvent::Closed(ID));
        f.settle().await;
        assert_eq!(
            *f.events.lock().unwrap(),
            [
                RtpEvent::TrackConnected(Ssrc(7)),
                RtpEvent::TrackDisconnected(Ssrc(7), DisconnectReason::Bye),
                RtpEvent::Closed,
            ]
        );
        assert!(!f.actor.connected());
    }

    #[actix::test]
    async fn an_owner_that_is_gone_closes_the_routes() {
        let f = Fixture::new().await;
        tokio::time::pause();
        let Fixture { actor, routes, owner, .. } = f;
        drop(owner);
        tokio::time::advance(OWNER_CHECK * 2).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let all = std::mem::take(&mut *routes.lock().unwrap());
        assert!(matches!(all[..], [RouteCommand::Open(ID, _), RouteCommand::Close(ID)]));
        assert!(actor.connected(), "until the routes are gone");
    }

    #[actix::test]
    async fn a_description_that_is_not_valid_is_dropped_with_its_ring() {
        let f = Fixture::new().await;
        let (sender, packets) = ring(1);
        let description = RTCTrackDescription { ssrc: "x".into(), ..description() };
        let all = f.send(RtpCommand::Send { description, packets, enabled: true }).await;
        assert!(matches!(all[..], [RouteCommand::Open(ID, _)]));
        let packet = OutgoingPacket { payload: Default::default(), timestamp: 0, marker: false };
        assert!(sender.push(packet).is_err());
    }
}
