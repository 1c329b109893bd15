mod candidates;
mod flight;
mod handlers;
mod local_socket;
mod receiving;
mod ssrcs;
mod statistics;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use ortc_dtls::{Certificate, RTCDtlsConnectionInfo};
use ortc_ice::{IceCommand, RTCIceCandidateDescription, RTCIceConnectionInfo};
use ortc_io::ConnectionId;
use ortc_io::consent::CheckCounters;
use ortc_io::ring::ring;
use ortc_rtp::{RTCTrackDescription, RtpCommand, Ssrc, TrackKind, TrackSource};
use tokio::sync::mpsc;

use crate::codec;
use crate::core::Peer;
use crate::described::Described;
use crate::dtmf::{AddDtmfError, Attachment, DTMFMediaStreamTrack, ToneReception, ToneRoutes};
use crate::ending::{Ending, ending};
use crate::engine::Engine;
use crate::error::{
    AddStreamError, CandidateError, ConnectError, LocalSocketError, NewConnectionError,
    ReceiveTrackError, RestartIceError, SetRemoteIceError, TrackError,
};
use crate::events::{MediaEvent, RTCEvent, RTCEventKind, RTCEvents};
use crate::hub::{Handler, ListenerId, Subscription};
use crate::identity::{self, Roles};
use crate::local_side::LocalSide;
use crate::media::{MediaStream, MediaStreamTrack, lock};
use crate::options::RTCConnectionOptions;
use crate::reader::{FrameReceiver, receive_ring};
use crate::socket::{RTCSocket, SocketHold, SocketUse};
use crate::stats::TransportFacts;
use crate::tcp_port::RTCTcpPort;
use crate::track::{RTCTrack, RTCTrackFilter};

/// Commands that may wait for the control thread before further ones are refused. A burst of
/// signalling is a few dozen.
const MAX_WAITING: usize = 1024;

/// Tracks that one connection sends, and that it receives: far beyond any call, and a bound on
/// what a signalling channel can make us hold.
const MAX_TRACKS: usize = 256;

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

    /// Sends a command that comes from within, and seldom, without a look at the state. Nobody
    /// hears it any more if it cannot be sent.
    pub(crate) fn tell(&self, command: Command) {
        if let Some(inner) = self.0.upgrade() {
            inner.shared.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = inner.commands.send(Box::new(command));
        }
    }
}

/// What the handles of a connection share.
pub(crate) struct Inner {
    id: ConnectionId,
    engine: Engine,
    /// Whether it has a socket actor of its own, which cannot forward.
    has_own_sockets: bool,
    /// Whether its credentials are its own, and its ICE engine can change them.
    restarts: bool,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Box<Command>>,
    /// Hangs up when everything is let go of.
    ending: Ending,
    next_listener: AtomicU64,
    allow_unverified_remote: bool,
    /// Whether telephone keys are in the sound of tracks that have no codec for them.
    pub(crate) in_band_dtmf: bool,
    pub(crate) audio_redundancy: u8,
}

/// What the handles and the actor of a connection share.
pub(crate) struct Shared {
    pub(crate) local: RTCConnectionSide,
    pub(crate) state: Mutex<SharedState>,
    /// Commands sent and not yet taken: what bounds the channel.
    pub(crate) waiting: AtomicUsize,
    certificate: Certificate,
    /// What ICE and its socket port count.
    pub(crate) checks: CheckCounters,
    /// The port that the connection is on, if it is on one.
    port: Weak<SocketHold>,
}

#[derive(Default)]
pub(crate) struct SharedState {
    pub(crate) closed: bool,
    /// Our credentials since the last restart.
    restarted: Option<RTCIceConnectionInfo>,
    remote: Option<RTCIceConnectionInfo>,
    remote_sha256: Option<[u8; 32]>,
    pub(crate) remote_dtls: Option<RTCDtlsConnectionInfo>,
    pub(crate) transport: TransportFacts,
    /// Whom `connect()` began with; roles and fingerprint stay.
    first_peer: Option<Peer>,
    pub(crate) found: Vec<RTCIceCandidateDescription>,
    /// What other connections share of this one, or this one of another.
    pub(crate) local_side: Weak<LocalSide>,
    sending: Vec<RTCTrack>,
    /// SSRCs of removed tracks and of what was sent again of them, oldest first.
    retired: VecDeque<(Ssrc, Option<Ssrc>)>,
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
        tones: Option<Box<(ToneRoutes, ToneReception)>>,
    },
    /// A received track that goes on otherwise.
    ReceiveAs {
        command: RtpCommand,
        tones: Option<Box<(ToneRoutes, ToneReception)>>,
    },
    /// Telephone keys that are to be sent.
    Tones(Attachment),
    /// A track not to receive any more, the streams that it has left, and those of them that
    /// end with it.
    StopReceiving {
        track: MediaStreamTrack,
        left: Vec<MediaStream>,
        ended: Vec<MediaStream>,
    },
    Subscribe(Subscription<RTCConnection, RTCEvent>),
    SubscribeTrack(MediaStreamTrack, Subscription<MediaStreamTrack, MediaEvent>),
    SubscribeStream(MediaStream, Subscription<MediaStream, MediaEvent>),
    Close,
}

impl Command {
    /// Whether it is carried out however many are waiting: an application sends few of these,
    /// and what frees something is never put off.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Rtp(RtpCommand::RemoveSender(_)) | Self::Ice(IceCommand::ShareSockets))
            || !matches!(
                self,
                Self::Ice(_)
                    | Self::Rtp(_)
                    | Self::Receive { .. }
                    | Self::ReceiveAs { .. }
                    | Self::Tones(_)
            )
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

from_command_error!(
    CandidateError,
    AddStreamError,
    LocalSocketError,
    ReceiveTrackError,
    RestartIceError,
    TrackError
);

/// A command that was not taken.
struct Refused {
    error: CommandError,
    /// Boxed for its size. A handler in it may own anything, and do anything when it goes.
    _command: Box<Command>,
}

impl Inner {
    pub(crate) fn send(&self, command: Command) -> Result<(), CommandError> {
        // What is refused is dropped when the state is unlocked again.
        let sent = self.send_within(&lock(&self.shared.state), command);
        sent.map_err(|refused| refused.error)
    }

    /// Sends a command in the same breath as the state is looked at or changed: so commands
    /// arrive in the order of the changes, whichever threads make them.
    fn send_within(&self, state: &SharedState, command: Command) -> Result<(), Refused> {
        let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let refused = if state.closed {
            Some((CommandError::Closed, command))
        } else if waiting >= MAX_WAITING && !command.is_urgent() {
            Some((CommandError::Overloaded, command))
        } else {
            let sent = self.commands.send(Box::new(command)).err();
            sent.map(|refused| (CommandError::Closed, *refused.0))
        };
        match refused {
            None => Ok(()),
            Some((error, command)) => {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(Refused { error, _command: Box::new(command) })
            }
        }
    }

    /// Whether a track is local, or received where it can be forwarded from.
    fn can_send(&self, track: &MediaStreamTrack) -> bool {
        let Some(reception) = track.reception() else { return true };
        reception.connection().is_some_and(|source| {
            let own_sockets = self.has_own_sockets || source.has_own_sockets;
            !own_sockets && self.engine.forwards_from(&source.engine)
        })
    }

    pub(crate) fn next_listener(&self) -> ListenerId {
        ListenerId(self.next_listener.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn remove_sender(&self, track: &RTCTrack) -> Result<(), CommandError> {
        let mut state = lock(&self.shared.state);
        for (ssrc, _) in track.ssrcs() {
            self.send_within(&state, Command::Rtp(RtpCommand::RemoveSender(ssrc)))
                .map_err(|refused| refused.error)?;
        }
        let sent = state.sending.len();
        state.sending.retain(|other| other != track);
        if state.sending.len() < sent {
            state.retired.extend(track.ssrcs());
        }
        Ok(())
    }
}

impl RTCConnection {
    /// Makes a connection; gathering begins at once.
    ///
    /// # Errors
    /// When an ICE server is malformed, the engine cannot be started or is not the socket's, or
    /// the system has no randomness.
    pub fn new(options: RTCConnectionOptions) -> Result<Self, NewConnectionError> {
        for server in &options.ice_servers {
            server.uris()?;
        }
        let engine = match (options.engine, &options.socket) {
            (Some(engine), Some(socket)) if !engine.is(socket.engine()) => {
                return Err(NewConnectionError::OtherEngine);
            }
            (Some(engine), _) => engine,
            (None, Some(socket)) => socket.engine().clone(),
            (None, None) => Engine::global()?,
        };
        let fork = options.socket.as_ref().and_then(RTCSocket::local_side).cloned();
        if options.socket.is_some() && options.transports.has_socket_actor() {
            return Err(NewConnectionError::SwappedSockets);
        }
        let (local, certificate) = match (&fork, options.certificate) {
            (Some(_), Some(_)) => return Err(NewConnectionError::SocketHasCertificate),
            (Some(fork), None) => (fork.side.clone(), fork.certificate.clone()),
            (None, given) => local_socket::new_local_side(&engine, given)?,
        };
        let socket = options.socket.as_ref().map(RTCSocket::for_connection);
        let random = engine.random()?;
        let slot = engine.take_slot(options.socket.as_ref().map(RTCSocket::place));
        let (id, has_own_sockets) = (slot.id, options.transports.has_socket_actor());
        let is_plain = options.socket.is_none() && !options.tcp_candidates.passive;
        let restarts = is_plain && !options.transports.has_ice_actor();
        let shared = Arc::new(Shared {
            local,
            state: Mutex::new(SharedState {
                local_side: fork.as_ref().map(Arc::downgrade).unwrap_or_default(),
                ..SharedState::default()
            }),
            waiting: AtomicUsize::new(0),
            certificate: certificate.clone(),
            checks: CheckCounters::default(),
            port: match &socket {
                Some(SocketUse::Port { hold, .. }) => Arc::downgrade(hold),
                _ => Weak::new(),
            },
        });
        let (commands, waiting) = mpsc::unbounded_channel();
        let (open, ending) = ending();
        let inner = Arc::new_cyclic(|weak| {
            let start = crate::engine::Start {
                slot,
                shared: Arc::clone(&shared),
                commands: waiting,
                handle: WeakRTCConnection(Weak::clone(weak)),
                open,
                certificate,
                dtls: engine.dtls_config(options.dtls_version),
                random,
                ice_servers: options.ice_servers,
                ice_server_roots: options.ice_server_roots,
                candidate_types: options.candidate_types,
                tcp: options.tcp_candidates,
                tcp_port: options.tcp_port.as_ref().map(RTCTcpPort::for_connection),
                hides_addresses: options.mdns_candidates,
                interfaces: options.interfaces,
                follow_network: options.follow_network,
                connect_timeout: options.connect_timeout,
                bandwidth: options.bandwidth,
                ice_lite: options.ice_lite,
                socket,
                transports: options.transports,
            };
            // Taken by the control thread, which may upgrade only after this returns.
            let started = engine.start(start);
            if started.is_err() {
                lock(&shared.state).closed = true;
            }
            Inner {
                id,
                engine,
                has_own_sockets,
                restarts,
                shared,
                commands,
                ending,
                next_listener: AtomicU64::new(0),
                allow_unverified_remote: options.allow_unverified_remote,
                in_band_dtmf: options.in_band_dtmf,
                audio_redundancy: options.audio_redundancy,
            }
        });
        if lock(&inner.shared.state).closed {
            return Err(NewConnectionError::EngineGone);
        }
        if let Some(fork) = fork {
            fork.register(WeakRTCConnection(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
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
        info.validate_remote(&self.local().ice)?;
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
    /// When the remote side is not set, or names no fingerprint, and when another connection of
    /// the same [local side](Self::local_socket) is connected to this peer.
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
        if let Some(side) = state.local_side.upgrade() {
            side.claim(self.inner.id, &ice.username_frag)?;
        }
        let peer = Peer { ice, roles, sha256 };
        state.first_peer.get_or_insert_with(|| peer.clone());
        // Urgent, so it can only be refused because the connection is closed.
        let sent = self.inner.send_within(&state, Command::Connect(peer));
        sent.map_err(|_| ConnectError::Closed)
    }

    /// Sends the tracks of a stream (ORTC drafts, "addStream"), once connected or, without
    /// `autostart`, when [`RTCTrack::start`] is called. `None` is the drafts' default, true.
    ///
    /// Tracks that are sent already stay as they are. All of the others are added, or none.
    ///
    /// A stream that another connection *receives* is forwarded: packet by packet, as it comes,
    /// never decoded, with an SSRC of its own and numbers that stay continuous whatever
    /// [`RTCTrack::stop`] and [`RTCTrack::start`] leave out. Of video a key frame is asked for
    /// when it begins.
    ///
    /// The keys of a [`DTMFMediaStreamTrack`] in it go out with its first audio track.
    ///
    /// # Errors
    /// When the stream is empty, has keys and no audio, or a track in it was received and cannot
    /// be forwarded: its connection is gone, of another [`Engine`], or has sockets of its own.
    #[doc(alias = "addStream")]
    pub fn add_stream(
        &self,
        stream: &MediaStream,
        autostart: impl Into<Option<bool>>,
    ) -> Result<(), AddStreamError> {
        let enabled = autostart.into().unwrap_or(true);
        let sources = stream.tracks();
        if sources.is_empty() {
            return Err(AddStreamError::Empty);
        }
        if let Some(foreign) = sources.iter().find(|track| !self.inner.can_send(track)) {
            return Err(AddStreamError::CannotForward(foreign.id().to_owned()));
        }
        let has_tones = sources.iter().any(|track| track.tones_of().is_some());
        if has_tones && !sources.iter().any(|track| track.kind() == TrackKind::Audio) {
            return Err(AddDtmfError::NoAudioTrack.into());
        }
        let mut state = lock(&self.inner.shared.state);
        if state.closed {
            return Err(AddStreamError::Closed);
        }
        let mut added: Vec<RTCTrack> = Vec::new();
        for source in sources.into_iter().filter(|track| track.tones_of().is_none()) {
            let codecs = match source.reception() {
                Some(received) => codec::forwarded(&received.description()),
                None => {
                    let repeated = self.inner.audio_redundancy;
                    let format = source.format();
                    format.map(|it| codec::offered(it, repeated)).unwrap_or_default()
                }
            };
            // Sockets of its own come with a media plane of its own, which sends nothing again.
            let has_own_plane = self.inner.has_own_sockets;
            let codecs = if has_own_plane { codec::without_feedback(codecs) } else { codecs };
            if state.sending.iter().any(|track| *track.source() == source) {
                continue;
            }
            if state.sending.len() + added.len() >= MAX_TRACKS {
                return Err(AddStreamError::TooManyTracks(MAX_TRACKS));
            }
            let wants_rtx = source.kind() == TrackKind::Video && !has_own_plane;
            let mut ssrcs = Vec::new();
            for _ in 0..source.local_encodings().len().max(1) {
                ssrcs.push(self.free_ssrcs(&mut state, &added, &ssrcs, wants_rtx)?);
            }
            let connection = Arc::downgrade(&self.inner);
            added.push(RTCTrack::new(connection, source, ssrcs, codecs, stream, enabled));
        }
        for (n, track) in added.iter().enumerate() {
            for (command, start) in track.start_sending() {
                if let Err(refused) = self.inner.send_within(&state, Command::Rtp(command)) {
                    for (ssrc, _) in added[..=n].iter().flat_map(RTCTrack::ssrcs) {
                        let command = Command::Rtp(RtpCommand::RemoveSender(ssrc));
                        // Refused only where everything is gone.
                        let _ = self.inner.send_within(&state, command);
                    }
                    return Err(refused.error.into());
                }
                track.install(start);
            }
        }
        state.sending.extend(added);
        if !state.sending_streams.contains(stream) {
            state.sending_streams.push(stream.clone());
        }
        drop(state);
        self.fold_tones(stream)
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

    /// The sending track of a source, for telephone keys that of their audio; `None` when it is
    /// not sent.
    pub fn track(&self, source: &MediaStreamTrack) -> Option<RTCTrack> {
        // Not within the lock, as below.
        let tracks = lock(&self.inner.shared.state).sending.clone();
        tracks.into_iter().find(|track| track.sends(source))
    }

    /// The sending tracks, or those that `filter` admits, in the order in which they were added.
    pub fn tracks(&self, filter: Option<&RTCTrackFilter>) -> Vec<RTCTrack> {
        // Not within the lock: a filter asks the tracks, and their locks come first.
        let mut tracks = lock(&self.inner.shared.state).sending.clone();
        tracks.retain(|track| filter.is_none_or(|filter| filter.admits(track)));
        tracks
    }

    /// Gets ready to receive a track of the peer (ORTC drafts, "receiveTrack").
    ///
    /// Returns the track that carries its frames. [`RTCEvent::AddStream`] comes for every stream
    /// of it that is new.
    ///
    /// Described again, with the same SSRC, kind and streams, it is the same track that goes on
    /// as it is described now: with codecs added, for one. When telephone keys are new with it,
    /// their handler comes with [`RTCEvent::AddDtmfHandler`]. What forwards the track goes on
    /// with the codecs that it has, until [`RTCTrack::set_codecs`].
    ///
    /// # Errors
    /// When the description is malformed, none of its codecs is supported, or its SSRC is
    /// taken by another track: one of another kind, or in other streams.
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
        let same = |(other, _): &(RTCTrackDescription, _)| other.ssrc == description.ssrc;
        let known = state.receiving.iter().position(same);
        if let Some(taken) = state.taken_ssrc(description)? {
            return Err(ReceiveTrackError::DuplicateSsrc(taken.0.to_string()));
        }
        if let Some(rid) = state.taken_rid(description) {
            return Err(ReceiveTrackError::DuplicateRid(rid.to_owned()));
        }
        if let Some(at) = known {
            return self.receive_as(&mut state, at, description);
        }
        if state.receiving.len() >= MAX_TRACKS {
            return Err(ReceiveTrackError::TooManyTracks(MAX_TRACKS));
        }
        let received = codec::received(description);
        let described = Described::new(received.clone());
        let (sender, packets) = ring(receive_ring(description.kind));
        let frames = FrameReceiver::new(packets, &described);
        let connection = Arc::downgrade(&self.inner);
        let source = TrackSource { connection: self.inner.id, ssrc };
        let track =
            MediaStreamTrack::remote(Arc::clone(&described), source, frames, connection.clone());
        let tones = ToneReception::of(&described, track.id(), self.inner.in_band_dtmf);
        let keys = tones.as_ref().map(|(_, tones)| DTMFMediaStreamTrack::of(tones.tones()));
        let mut new = Vec::new();
        let mut joined = Vec::new();
        for msid in &description.msid {
            let same = |stream: &&MediaStream| stream.id() == msid;
            let known = state.receiving_streams.iter().chain(&new).find(same).cloned();
            let stream = known.unwrap_or_else(|| {
                let stream = MediaStream::remote(msid.clone(), connection.clone());
                new.push(stream.clone());
                stream
            });
            if !joined.contains(&stream) {
                stream.join(&track);
                if let Some(keys) = &keys {
                    stream.join(keys);
                }
                joined.push(stream);
            }
        }
        let command = RtpCommand::Receive { description: received, packets: sender };
        if let Some(reception) = track.reception().filter(|_| tones.is_some()) {
            reception.set_has_tones();
        }
        let tones = tones.map(Box::new);
        let command = Command::Receive { track: track.clone(), new: new.clone(), command, tones };
        if let Err(refused) = self.inner.send_within(&state, command) {
            for stream in &joined {
                stream.leave(&track);
            }
            return Err(refused.error.into());
        }
        state.receiving_streams.reserve_exact(new.len());
        state.receiving_streams.extend(new);
        state.receiving.reserve_exact(1);
        state.receiving.push((description.clone(), track.clone()));
        Ok(track)
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
        let mut state = lock(&self.inner.shared.state);
        // Refused where it is closed already.
        let _ = self.inner.send_within(&state, Command::Close);
        state.closed = true;
    }

    /// Waits until everything that the connection had is let go of.
    pub async fn closed(&self) {
        // Whoever waits holds nothing that keeps it open.
        let ending = self.inner.ending.clone();
        ending.wait().await;
    }

    /// A handle that does not keep the connection open.
    pub fn downgrade(&self) -> WeakRTCConnection {
        WeakRTCConnection(Arc::downgrade(&self.inner))
    }

    /// All events from now on as a stream; the first stream of a connection has those as well
    /// that came before it.
    pub fn events(&self) -> RTCEvents {
        let (events, inlet) = RTCEvents::new();
        // Refused on a closed connection, and the stream has ended.
        let _ = self.inner.send(Command::Subscribe(Subscription::Stream(inlet)));
        events
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
impl fmt::Debug for RTCConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCConnection")
            .field("username_frag", &self.inner.shared.local.ice.username_frag)
            .finish_non_exhaustive()
    }
}
