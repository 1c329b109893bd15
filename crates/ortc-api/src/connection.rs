use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use ortc_dtls::{Certificate, DtlsVersion, RTCDtlsConnectionInfo};
use ortc_ice::{IceCommand, InterfaceFilter, RTCIceCandidateDescription, RTCIceConnectionInfo};
use ortc_io::ring::ring;
use ortc_rtp::{RTCTrackDescription, RtpCommand, Ssrc};
use tokio::sync::{mpsc, watch};

use crate::codec;
use crate::core::Peer;
use crate::engine::Engine;
use crate::error::{
    AddStreamError, CandidateError, ConnectError, NewConnectionError, ReceiveTrackError,
    SetRemoteIceError, TrackError,
};
use crate::events::{MediaEvent, RTCDisconnectReason, RTCEvent, RTCEventKind, RTCEvents};
use crate::hub::{Handler, ListenerId, Subscription};
use crate::identity::{self, Roles};
use crate::media::{MediaStream, MediaStreamTrack, lock};
use crate::reader::{FrameReceiver, receive_ring};
use crate::track::{RTCTrack, RTCTrackFilter};
use crate::transports::Transports;

/// Commands that may wait for the control thread before further ones are refused. A burst of
/// signalling is a few dozen.
const MAX_WAITING: usize = 1024;

/// Tracks that one connection sends, and that it receives: far beyond any call, and a bound on
/// what a signalling channel can make us hold.
const MAX_TRACKS: usize = 256;

/// What an [`RTCConnection`] is made with (ORTC drafts, "RTCConnectionOptions").
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RTCConnectionOptions {
    /// The threads to run on; the process-wide engine when `None`.
    pub engine: Option<Engine>,
    /// Which addresses of this host become candidates; by default all but loopback.
    pub interfaces: InterfaceFilter,
    /// Lets `connect()` begin although the peer's credentials name no fingerprint: whoever can
    /// change packets on the path can then be the peer.
    pub allow_unverified_remote: bool,
    /// The certificate; a fresh one when `None`.
    pub certificate: Option<Certificate>,
    /// The versions of DTLS that are spoken; 1.2 alone by default, as browsers are tested with.
    pub dtls_version: DtlsVersion,
    /// Who makes the transport actors; the default ones, unless they are swapped.
    pub transports: Transports,
}

impl RTCConnectionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs on this engine.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Makes loopback addresses candidates as well, or not.
    #[must_use]
    pub fn with_loopback(mut self, include: bool) -> Self {
        self.interfaces.loopback = include;
        self
    }

    /// Chooses the addresses that become candidates.
    #[must_use]
    pub fn with_interfaces(mut self, filter: InterfaceFilter) -> Self {
        self.interfaces = filter;
        self
    }

    /// Lets `connect()` begin without a fingerprint; see
    /// [`allow_unverified_remote`](Self::allow_unverified_remote).
    #[must_use]
    pub fn with_unverified_remote(mut self, allow: bool) -> Self {
        self.allow_unverified_remote = allow;
        self
    }

    /// Uses this certificate.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Chooses the versions of DTLS: [`DtlsVersion::Auto`] speaks 1.3 where the peer does.
    #[must_use]
    pub fn with_dtls_version(mut self, version: DtlsVersion) -> Self {
        self.dtls_version = version;
        self
    }

    /// Swaps transport actors: ICE, DTLS, RTP, the sockets.
    #[must_use]
    pub fn with_transports(mut self, transports: Transports) -> Self {
        self.transports = transports;
        self
    }
}

/// What is known of one side of a connection (ORTC drafts, "RTCConnectionSide").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RTCConnectionSide {
    /// Its ICE credentials.
    pub ice: RTCIceConnectionInfo,
    /// Its certificate; of the remote side `None` until connected.
    pub dtls: Option<RTCDtlsConnectionInfo>,
}

/// A direct connection to another peer (ORTC drafts, "RTCConnection").
///
/// Cheap to clone, `Send` and `Sync`; clones are the same connection. Every method answers at
/// once and none blocks: the work is done on the control thread and the media thread of its
/// [`Engine`]. When the last handle is dropped the connection is closed.
///
/// Gathering of candidates begins at once. Signal [`local`](Self::local)`.ice` and every
/// candidate to the peer, by whatever means; hand each candidate back with
/// [`set_local_candidate`](Self::set_local_candidate) to let it take part; set the peer's
/// credentials and call [`connect`](Self::connect).
///
/// A handler that captures a handle of its own connection keeps it from being closed by
/// dropping; use the one that is passed in, or [`downgrade`](Self::downgrade).
#[derive(Clone)]
pub struct RTCConnection {
    inner: Arc<Inner>,
}

/// A handle that does not keep its connection open.
#[derive(Clone)]
pub struct WeakRTCConnection(Weak<Inner>);

impl WeakRTCConnection {
    /// The connection, unless every handle of it has been dropped.
    pub fn upgrade(&self) -> Option<RTCConnection> {
        self.0.upgrade().map(|inner| RTCConnection { inner })
    }
}

/// What the handles of a connection share.
pub(crate) struct Inner {
    engine: Engine,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Box<Command>>,
    /// Hangs up when everything is let go of.
    open: watch::Receiver<()>,
    next_listener: AtomicU64,
    allow_unverified_remote: bool,
}

/// What the handles and the actor of a connection share.
pub(crate) struct Shared {
    pub(crate) local: RTCConnectionSide,
    pub(crate) state: Mutex<SharedState>,
    /// Commands sent and not yet taken: what bounds the channel.
    pub(crate) waiting: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct SharedState {
    pub(crate) closed: bool,
    remote: Option<RTCIceConnectionInfo>,
    remote_sha256: Option<[u8; 32]>,
    pub(crate) remote_dtls: Option<RTCDtlsConnectionInfo>,
    /// Whom `connect()` began with; roles and fingerprint stay.
    first_peer: Option<Peer>,
    pub(crate) found: Vec<RTCIceCandidateDescription>,
    sending: Vec<RTCTrack>,
    sending_streams: Vec<MediaStream>,
    receiving: Vec<(RTCTrackDescription, MediaStreamTrack)>,
    receiving_streams: Vec<MediaStream>,
}

/// What a handle asks of the actor. Boxed on its way: the channel has room for 32 of them from
/// the start, in every connection.
pub(crate) enum Command {
    Connect(Peer),
    Ice(IceCommand),
    Rtp(RtpCommand),
    /// A track to receive, and the streams that are new with it.
    Receive {
        track: MediaStreamTrack,
        new: Vec<MediaStream>,
        command: RtpCommand,
    },
    Subscribe(Subscription<RTCConnection, RTCEvent>),
    SubscribeTrack(MediaStreamTrack, Subscription<MediaStreamTrack, MediaEvent>),
    SubscribeStream(MediaStream, Subscription<MediaStream, MediaEvent>),
    Close,
}

impl Command {
    /// Whether it is carried out however many are waiting: an application sends few of these.
    fn is_urgent(&self) -> bool {
        !matches!(self, Self::Ice(_) | Self::Rtp(_) | Self::Receive { .. })
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandError {
    Closed,
    Overloaded,
}

macro_rules! from_command_error {
    ($($error:ty),*) => {$(
        impl From<CommandError> for $error {
            fn from(error: CommandError) -> Self {
                match error {
                    CommandError::Closed => Self::Closed,
                    CommandError::Overloaded => Self::Overloaded,
                }
            }
        }
    )*};
}

from_command_error!(CandidateError, AddStreamError, ReceiveTrackError, TrackError);

impl Inner {
    pub(crate) fn send(&self, command: Command) -> Result<(), CommandError> {
        if lock(&self.shared.state).closed {
            return Err(CommandError::Closed);
        }
        let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let refused = if waiting >= MAX_WAITING && !command.is_urgent() {
            Some(CommandError::Overloaded)
        } else {
            self.commands.send(Box::new(command)).err().map(|_| CommandError::Closed)
        };
        match refused {
            None => Ok(()),
            Some(error) => {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    pub(crate) fn next_listener(&self) -> ListenerId {
        ListenerId(self.next_listener.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn forget_sending(&self, track: &RTCTrack) {
        lock(&self.shared.state).sending.retain(|other| other != track);
    }
}

impl RTCConnection {
    /// Makes a connection; gathering begins at once.
    ///
    /// # Errors
    /// When the engine cannot be started, or the system has no randomness.
    pub fn new(options: RTCConnectionOptions) -> Result<Self, NewConnectionError> {
        let engine = match options.engine {
            Some(engine) => engine,
            None => Engine::global()?,
        };
        let certificate = match options.certificate {
            Some(certificate) => certificate,
            None => engine.certificate()?,
        };
        let local = RTCConnectionSide {
            ice: identity::credentials(engine.random()?, &certificate.sha256()),
            dtls: Some(certificate.connection_info()),
        };
        let random = engine.random()?;
        let shared = Arc::new(Shared {
            local,
            state: Mutex::new(SharedState::default()),
            waiting: AtomicUsize::new(0),
        });
        let (commands, waiting) = mpsc::unbounded_channel();
        let (closed, open) = watch::channel(());
        let inner = Arc::new_cyclic(|weak| {
            let start = crate::engine::Start {
                shared: Arc::clone(&shared),
                commands: waiting,
                handle: WeakRTCConnection(Weak::clone(weak)),
                closed,
                certificate,
                dtls: engine.dtls_config(options.dtls_version),
                random,
                interfaces: options.interfaces,
                transports: options.transports,
            };
            // Taken by the control thread, which may upgrade only after this returns.
            let started = engine.start(start);
            if started.is_err() {
                lock(&shared.state).closed = true;
            }
            Inner {
                engine,
                shared,
                commands,
                open,
                next_listener: AtomicU64::new(0),
                allow_unverified_remote: options.allow_unverified_remote,
            }
        });
        if lock(&inner.shared.state).closed {
            return Err(NewConnectionError::EngineGone);
        }
        Ok(Self { inner })
    }

    /// The local side: credentials and certificate to signal to the peer.
    pub fn local(&self) -> RTCConnectionSide {
        self.inner.shared.local.clone()
    }

    /// The remote side; `None` until [`set_remote_ice`](Self::set_remote_ice), and without
    /// `dtls` until connected.
    pub fn remote(&self) -> Option<RTCConnectionSide> {
        let state = lock(&self.inner.shared.state);
        let ice = state.remote.clone()?;
        Some(RTCConnectionSide { ice, dtls: state.remote_dtls.clone() })
    }

    /// Sets the peer's credentials, as the drafts do by writing to `remote.ice`.
    ///
    /// After [`connect`](Self::connect), credentials of an ICE restart by the same peer may be
    /// set; call `connect` again to follow it.
    ///
    /// # Errors
    /// When they are malformed or our own, or name another certificate than those that
    /// `connect` began with.
    pub fn set_remote_ice(&self, info: RTCIceConnectionInfo) -> Result<(), SetRemoteIceError> {
        info.validate_remote(&self.inner.shared.local.ice)?;
        let sha256 = identity::fingerprint(&info)?;
        let mut state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(SetRemoteIceError::Closed);
        }
        if state.first_peer.as_ref().is_some_and(|peer| peer.sha256 != sha256) {
            return Err(SetRemoteIceError::FingerprintChanged);
        }
        state.remote = Some(info);
        state.remote_sha256 = sha256;
        Ok(())
    }

    /// Starts connecting to the peer (ORTC drafts, "connect"). Candidates may be set before and
    /// after.
    ///
    /// Called again with the same remote side, it does nothing; with new credentials of the
    /// same peer, it follows that peer's ICE restart.
    ///
    /// # Errors
    /// When the remote side is not set, or names no fingerprint.
    pub fn connect(&self) -> Result<(), ConnectError> {
        let mut state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(ConnectError::Closed);
        }
        let ice = state.remote.clone().ok_or(ConnectError::RemoteNotSet)?;
        let sha256 = state.remote_sha256;
        if sha256.is_none() && !self.inner.allow_unverified_remote {
            return Err(ConnectError::NoFingerprint);
        }
        let local = &self.inner.shared.local.ice;
        let roles = match &state.first_peer {
            Some(peer) => peer.roles,
            None => Roles::decide(local, &ice),
        };
        let peer = Peer { ice, roles, sha256 };
        state.first_peer.get_or_insert_with(|| peer.clone());
        drop(state);
        // Urgent, so it can only be refused because the connection is closed.
        self.inner.send(Command::Connect(peer)).map_err(|_| ConnectError::Closed)
    }

    /// Lets a local candidate take part (ORTC drafts, "setLocalCandidate").
    ///
    /// A candidate that was found and not set sends nothing and answers nothing.
    ///
    /// # Errors
    /// When it is not one of the candidates that this connection has found.
    #[doc(alias = "setLocalCandidate")]
    pub fn set_local_candidate(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Result<(), CandidateError> {
        let state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(CandidateError::Closed);
        }
        if !state.found.contains(candidate) {
            return Err(CandidateError::NotOurs);
        }
        drop(state);
        Ok(self.inner.send(Command::Ice(IceCommand::SetLocalCandidate(candidate.clone())))?)
    }

    /// Adds a candidate of the peer (ORTC drafts, "setRemoteCandidate"), before or after
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// When it is malformed.
    #[doc(alias = "setRemoteCandidate")]
    pub fn set_remote_candidate(
        &self,
        candidate: &RTCIceCandidateDescription,
    ) -> Result<(), CandidateError> {
        candidate.validate()?;
        Ok(self.inner.send(Command::Ice(IceCommand::SetRemoteCandidate(candidate.clone())))?)
    }

    /// Says that the peer has no more candidates. Optional, and an addition to the drafts.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn set_remote_end_of_candidates(&self) -> Result<(), CandidateError> {
        Ok(self.inner.send(Command::Ice(IceCommand::RemoteEndOfCandidates))?)
    }

    /// Gathers again, after the network has changed (ORTC drafts, "update").
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn update(&self) -> Result<(), CandidateError> {
        Ok(self.inner.send(Command::Ice(IceCommand::Update))?)
    }

    /// Sends the tracks of a stream (ORTC drafts, "addStream"), once connected or, without
    /// `autostart`, when [`RTCTrack::start`] is called. Tracks that are sent already stay as
    /// they are.
    ///
    /// # Errors
    /// When the stream is empty, or a track in it was not made here.
    #[doc(alias = "addStream")]
    pub fn add_stream(&self, stream: &MediaStream, autostart: bool) -> Result<(), AddStreamError> {
        let tracks = stream.tracks();
        if tracks.is_empty() {
            return Err(AddStreamError::Empty);
        }
        if let Some(foreign) = tracks.iter().find(|track| track.format().is_none()) {
            return Err(AddStreamError::NotLocal(foreign.id().to_owned()));
        }
        for source in tracks {
            self.send_track(&source, stream, autostart)?;
        }
        let mut state = lock(&self.inner.shared.state);
        if !state.sending_streams.contains(stream) {
            state.sending_streams.push(stream.clone());
        }
        Ok(())
    }

    fn send_track(
        &self,
        source: &MediaStreamTrack,
        stream: &MediaStream,
        autostart: bool,
    ) -> Result<(), AddStreamError> {
        if self.track(source).is_some() {
            return Ok(());
        }
        let not_local = || AddStreamError::NotLocal(source.id().to_owned());
        let format = source.format().ok_or_else(not_local)?;
        let codecs = codec::offered(format);
        let track = RTCTrack::new(
            Arc::downgrade(&self.inner),
            source.clone(),
            self.free_ssrc()?,
            codecs.clone(),
            stream,
            autostart,
        );
        track.send_as(codecs, autostart)?;
        lock(&self.inner.shared.state).sending.push(track);
        Ok(())
    }

    /// A random SSRC that this connection does not use yet.
    fn free_ssrc(&self) -> Result<Ssrc, AddStreamError> {
        let state = lock(&self.inner.shared.state);
        if state.sending.len() >= MAX_TRACKS {
            return Err(AddStreamError::TooManyTracks(MAX_TRACKS));
        }
        loop {
            let random = self.inner.engine.random().map_err(|_| AddStreamError::Entropy)?;
            let ssrc = u32::from_be_bytes([random[0], random[1], random[2], random[3]]);
            let text = ssrc.to_string();
            let taken = state.sending.iter().any(|track| track.ssrc() == text)
                || state.receiving.iter().any(|(description, _)| description.ssrc == text);
            if ssrc != 0 && !taken {
                return Ok(Ssrc(ssrc));
            }
        }
    }

    /// Stops sending a stream (ORTC drafts, "removeStream"). A stream that is not sent is ignored.
    #[doc(alias = "removeStream")]
    pub fn remove_stream(&self, stream: &MediaStream) {
        // By their sources: the msid of a track may have been set to anything.
        let members = stream.tracks();
        for track in self.tracks(None).iter().filter(|track| members.contains(track.source())) {
            // A connection that is closed sends nothing any more either.
            let _ = track.remove();
        }
        lock(&self.inner.shared.state).sending_streams.retain(|other| other != stream);
    }

    /// The sending track of a source; `None` when it is not sent.
    pub fn track(&self, source: &MediaStreamTrack) -> Option<RTCTrack> {
        let state = lock(&self.inner.shared.state);
        state.sending.iter().find(|track| track.source() == source).cloned()
    }

    /// The sending tracks, or those that `filter` admits, in the order in which they were added.
    pub fn tracks(&self, filter: Option<&RTCTrackFilter>) -> Vec<RTCTrack> {
        let state = lock(&self.inner.shared.state);
        let admits = |track: &&RTCTrack| filter.is_none_or(|filter| filter.admits(track));
        state.sending.iter().filter(admits).cloned().collect()
    }

    /// Gets ready to receive a track of the peer (ORTC drafts, "receiveTrack").
    ///
    /// Returns the track that carries its frames. [`RTCEvent::AddStream`] comes for every stream
    /// of it that is new. Described twice, the same track is received once.
    ///
    /// # Errors
    /// When the description is malformed, none of its codecs is supported, or its SSRC is
    /// taken by another track.
    #[doc(alias = "receiveTrack")]
    pub fn receive_track(
        &self,
        description: &RTCTrackDescription,
    ) -> Result<MediaStreamTrack, ReceiveTrackError> {
        description.validate()?;
        let ssrc = description.ssrc()?;
        let supported = |codec: &_| codec::is_supported(description.kind, codec);
        if !description.codecs.iter().any(supported) {
            let names: Vec<_> = description.codecs.iter().map(|codec| &*codec.name).collect();
            return Err(ReceiveTrackError::NoSupportedCodec(names.join(", ")));
        }
        let mut state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(ReceiveTrackError::Closed);
        }
        let same = |(other, _): &&(RTCTrackDescription, _)| other.ssrc == description.ssrc;
        if let Some((known, track)) = state.receiving.iter().find(same) {
            return if known == description {
                Ok(track.clone())
            } else {
                Err(ReceiveTrackError::DuplicateSsrc(description.ssrc.clone()))
            };
        }
        if state.receiving.len() >= MAX_TRACKS {
            return Err(ReceiveTrackError::TooManyTracks(MAX_TRACKS));
        }
        let mut received = description.clone();
        received.codecs.retain(|codec| codec::is_supported(description.kind, codec));
        let (sender, packets) = ring(receive_ring(description.kind));
        let id = format!("{}-{}", description.msid.join("+"), description.ssrc);
        let frames = FrameReceiver::new(packets, &received);
        let connection = Arc::downgrade(&self.inner);
        let track =
            MediaStreamTrack::remote(id, description.kind, ssrc, frames, connection.clone());
        let mut new = Vec::new();
        for msid in &description.msid {
            let known = state.receiving_streams.iter().find(|stream| stream.id() == msid);
            let stream = known.cloned().unwrap_or_else(|| {
                let stream = MediaStream::remote(msid.clone(), connection.clone());
                state.receiving_streams.reserve_exact(1);
                state.receiving_streams.push(stream.clone());
                new.push(stream.clone());
                stream
            });
            stream.join(&track);
        }
        state.receiving.reserve_exact(1);
        state.receiving.push((description.clone(), track.clone()));
        drop(state);
        let command = RtpCommand::Receive { description: received, packets: sender };
        let receive = Command::Receive { track: track.clone(), new: new.clone(), command };
        let sent = self.inner.send(receive);
        if let Err(error) = sent {
            self.unreceive(&track, &new);
            return Err(error.into());
        }
        Ok(track)
    }

    /// Takes back what `receive_track` has noted.
    fn unreceive(&self, track: &MediaStreamTrack, new: &[MediaStream]) {
        let mut state = lock(&self.inner.shared.state);
        state.receiving.retain(|(_, other)| other != track);
        state.receiving_streams.retain(|stream| !new.contains(stream));
        for stream in &state.receiving_streams {
            stream.leave(track);
        }
    }

    /// The streams that are sent.
    #[doc(alias = "getSendingStreams")]
    pub fn sending_streams(&self) -> Vec<MediaStream> {
        lock(&self.inner.shared.state).sending_streams.clone()
    }

    /// The streams that are received.
    #[doc(alias = "getReceivingStreams")]
    pub fn receiving_streams(&self) -> Vec<MediaStream> {
        lock(&self.inner.shared.state).receiving_streams.clone()
    }

    /// Closes the connection (ORTC drafts, "close"): RTCP BYE, close_notify, then everything is
    /// freed. Event streams end; handlers are dropped. Closing twice is no error.
    pub fn close(&self) {
        let _ = self.inner.send(Command::Close);
        lock(&self.inner.shared.state).closed = true;
    }

    /// Waits until everything that the connection had is let go of.
    pub async fn closed(&self) {
        let mut open = self.inner.open.clone();
        while open.changed().await.is_ok() {}
    }

    /// A handle that does not keep the connection open.
    pub fn downgrade(&self) -> WeakRTCConnection {
        WeakRTCConnection(Arc::downgrade(&self.inner))
    }

    /// All events from now on as a stream; the first stream of a connection has those as well
    /// that came before it.
    pub fn events(&self) -> RTCEvents {
        let (events, queue) = RTCEvents::new();
        match self.inner.send(Command::Subscribe(Subscription::Stream(queue))) {
            Ok(()) => events,
            Err(_) => RTCEvents::ended(),
        }
    }

    /// Calls `listener` for every event of a kind, beside all others, until it is removed.
    #[doc(alias = "addEventListener")]
    pub fn add_event_listener(
        &self,
        kind: RTCEventKind,
        listener: impl FnMut(&RTCConnection, RTCEvent) + Send + 'static,
    ) -> ListenerId {
        let id = self.inner.next_listener();
        let subscription = Subscription::Listener(id, kind, Box::new(listener));
        // On a closed connection there is nothing to hear.
        let _ = self.inner.send(Command::Subscribe(subscription));
        id
    }

    /// Removes a listener; one that is gone is ignored.
    #[doc(alias = "removeEventListener")]
    pub fn remove_event_listener(&self, id: ListenerId) {
        let _ = self.inner.send(Command::Subscribe(Subscription::RemoveListener(id)));
    }

    fn set_handler(&self, kind: RTCEventKind, handler: Option<Handler<Self, RTCEvent>>) {
        let _ = self.inner.send(Command::Subscribe(Subscription::Handler(kind, handler)));
    }
}

/// Defines `on_x` for one kind of event: a handler with the event's own arguments.
macro_rules! event_handler {
    (
        $(#[$doc:meta])* $name:ident, $kind:ident,
        ($($argument:ty),*), $pattern:pat => ($($value:expr),*)
    ) => {
        impl RTCConnection {
            $(#[$doc])*
            ///
            /// Replaces the handler that was set before; `None` clears it. The first handler or
            /// listener of an event hears those as well that came before it. Handlers run on
            /// the control thread and must not block.
            pub fn $name<F>(&self, handler: Option<F>)
            where
                F: FnMut(&RTCConnection $(, $argument)*) + Send + 'static,
            {
                let handler = handler.map(|mut handler| -> Handler<Self, RTCEvent> {
                    Box::new(move |connection, event| {
                        if let $pattern = event {
                            handler(connection $(, $value)*);
                        }
                    })
                });
                self.set_handler(RTCEventKind::$kind, handler);
            }
        }
    };
}

event_handler!(
    /// Sets the handler of local candidates (ORTC drafts, "oncandidate").
    on_candidate, Candidate,
    (RTCIceCandidateDescription), RTCEvent::Candidate(candidate) => (candidate)
);
event_handler!(
    /// Sets the handler of the end of gathering (ORTC drafts, "onendofcandidates").
    on_end_of_candidates, EndOfCandidates, (), RTCEvent::EndOfCandidates => ()
);
event_handler!(
    /// Sets the handler of the active pair, local and remote (ORTC drafts, "onactivecandidate").
    on_active_candidate, ActiveCandidate,
    (RTCIceCandidateDescription, RTCIceCandidateDescription),
    RTCEvent::ActiveCandidate { local, remote } => (local, remote)
);
event_handler!(
    /// Sets the handler of being connected (ORTC drafts, "onconnected").
    on_connected, Connected, (), RTCEvent::Connected => ()
);
event_handler!(
    /// Sets the handler of being disconnected (ORTC drafts, "ondisconnected").
    on_disconnected, Disconnected,
    (RTCDisconnectReason), RTCEvent::Disconnected(reason) => (reason)
);
event_handler!(
    /// Sets the handler of new streams of the peer (ORTC drafts, "onaddstream").
    on_add_stream, AddStream, (MediaStream), RTCEvent::AddStream(stream) => (stream)
);

impl fmt::Debug for RTCConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCConnection")
            .field("username_frag", &self.inner.shared.local.ice.username_frag)
            .finish_non_exhaustive()
    }
}
