//! `webrtc-dtls` behind the DTLS port.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, WeakAddr,
    WeakRecipient,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ortc_dtls::{
    Certificate, CertificateFingerprint, DtlsCommand, DtlsConfig, DtlsEvent, DtlsFailure, DtlsRole,
};
use ortc_io::{ConnectionId, DatagramReceived, SocketCommand, SrtpKeys, SrtpProfile};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use webrtc_dtls::config::{ClientAuthType, Config};
use webrtc_dtls::conn::DTLSConn;
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_util::KeyingMaterialExporter;

use crate::conn::{Arrival, PortConn};
use crate::error::{Limits, Unsupported};
use crate::gate::Gate;

/// Messages that may wait for this actor.
const MAILBOX: usize = 256;

/// Datagrams kept until the role is known: the first flight of a client, sent again a few
/// times.
const MAX_PARKED: usize = 8;

/// Application data that waits to be written.
const MAX_WAITING: usize = 16;

/// Room for one record of application data: nothing longer than a datagram comes.
const READ_BUFFER: usize = 2048;

/// RFC 5764 §4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// DTLS 1.2 by `webrtc-dtls`, for one connection.
///
/// It takes the commands and tells the events of [`ortc_dtls::DtlsActor`]. See the
/// [crate's documentation](crate) for what it cannot do.
pub struct WebrtcDtlsActor {
    config: DtlsConfig,
    certificate: Certificate,
    connection: ConnectionId,
    sockets: Recipient<SocketCommand>,
    owner: WeakRecipient<DtlsEvent>,
    gate: Gate,
    state: State,
    /// Datagrams dropped because the stack had not read those before them.
    overflowed: u64,
    limits: Limits,
}

/// Named by what is awaited.
enum State {
    /// [`DtlsCommand::Start`]; what comes earlier is kept.
    AwaitingStart(VecDeque<Bytes>),
    /// The end, which the association tells.
    AwaitingEnd {
        arrivals: mpsc::Sender<Arrival>,
        wishes: mpsc::Sender<Wish>,
        task: JoinHandle<()>,
        connected: bool,
    },
    /// Nothing any more.
    Stopped,
}

/// What is asked of a running association.
enum Wish {
    Send(Bytes),
    Close,
}

/// What an association tells the actor.
#[derive(Message)]
#[rtype(result = "()")]
struct Report(DtlsEvent);

impl WebrtcDtlsActor {
    /// Makes an actor that waits for [`DtlsCommand::Start`].
    ///
    /// Of `config` it uses `mtu`, `first_rto` (the stack retransmits at that one interval) and
    /// `handshake_timeout`; the version is always 1.2.
    pub fn new(
        config: DtlsConfig,
        certificate: Certificate,
        connection: ConnectionId,
        sockets: Recipient<SocketCommand>,
        owner: WeakRecipient<DtlsEvent>,
    ) -> Self {
        Self {
            config,
            certificate,
            connection,
            sockets,
            owner,
            gate: Gate::default(),
            state: State::AwaitingStart(VecDeque::new()),
            overflowed: 0,
            limits: Limits::new(connection),
        }
    }

    /// Has `report` called, once for each, with what is asked of it that the stack cannot do.
    #[must_use]
    pub fn with_report(mut self, report: impl FnMut(Unsupported) + Send + 'static) -> Self {
        self.limits.report_to(report);
        self
    }

    fn start(&mut self, role: DtlsRole, expected: Option<[u8; 32]>, context: &mut Context<Self>) {
        let State::AwaitingStart(parked) = &mut self.state else {
            return warn!(connection = ?self.connection, "DTLS was started twice");
        };
        let parked = std::mem::take(parked);
        if self.config.version != ortc_dtls::DtlsVersion::V12 {
            self.limits.tell(Unsupported::Dtls13);
        }
        let config = match stack_config(&self.config, &self.certificate, expected) {
            Ok(config) => config,
            Err(failure) => return self.finish(DtlsEvent::Stopped(Err(failure)), context),
        };
        let sockets = self.sockets.clone();
        let (conn, arrivals) = PortConn::of_selected_path(sockets, self.connection);
        let (wishes, asked) = mpsc::channel(MAX_WAITING);
        let association = Association {
            conn,
            config,
            is_client: role == DtlsRole::Client,
            expected,
            timeout: self.config.handshake_timeout,
            actor: context.address().downgrade(),
        };
        let task = actix::spawn(association.run(asked));
        self.state = State::AwaitingEnd { arrivals, wishes, task, connected: false };
        for datagram in parked {
            self.push(datagram);
        }
    }

    fn push(&mut self, datagram: Bytes) {
        // The stack wants no address: there is one path at a time.
        let from = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        match &mut self.state {
            State::AwaitingStart(parked) if parked.len() < MAX_PARKED => parked.push_back(datagram),
            State::AwaitingStart(_) => self.overflowed += 1,
            State::AwaitingEnd { arrivals, .. } => {
                if self.gate.admits(&datagram) && arrivals.try_send((datagram, from)).is_err() {
                    self.overflowed += 1;
                }
            }
            State::Stopped => {}
        }
    }

    fn ask(&mut self, wish: Wish, context: &mut Context<Self>) {
        match &self.state {
            State::AwaitingEnd { wishes, connected: true, .. } => {
                // Closing is not lost: the association ends when its wishes hang up as well.
                let closing = matches!(wish, Wish::Close);
                if wishes.try_send(wish).is_err() && closing {
                    self.finish(DtlsEvent::Stopped(Ok(())), context);
                }
            }
            State::AwaitingStart(_) | State::AwaitingEnd { .. } => match wish {
                Wish::Close => self.finish(DtlsEvent::Stopped(Ok(())), context),
                Wish::Send(_) => warn!(connection = ?self.connection, "no DTLS to send data on"),
            },
            State::Stopped => {}
        }
    }

    /// Tells the end and stops.
    fn finish(&mut self, end: DtlsEvent, context: &mut Context<Self>) {
        self.tell(end, context);
        context.stop();
    }

    fn tell(&self, event: DtlsEvent, context: &mut Context<Self>) {
        match self.owner.upgrade() {
            Some(owner) => owner.do_send(event),
            None => context.stop(),
        }
    }
}

impl Actor for WebrtcDtlsActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let (refused, overflowed) = (self.gate.refused(), self.overflowed);
        debug!(connection = ?self.connection, refused, overflowed, "DTLS is over");
    }
}

impl Drop for WebrtcDtlsActor {
    fn drop(&mut self) {
        if let State::AwaitingEnd { task, connected, .. } =
            std::mem::replace(&mut self.state, State::Stopped)
            && !connected
        {
            // A connected one says goodbye when its wishes hang up.
            task.abort();
        }
    }
}

impl Handler<DtlsCommand> for WebrtcDtlsActor {
    type Result = ();

    fn handle(&mut self, command: DtlsCommand, context: &mut Self::Context) {
        match command {
            DtlsCommand::Start { role, expected_sha256 } => {
                self.start(role, expected_sha256, context);
            }
            DtlsCommand::SendApplicationData(data) => self.ask(Wish::Send(data), context),
            // That engine sends again by itself, and gives up in its own time.
            DtlsCommand::PathLost | DtlsCommand::PathFound | DtlsCommand::RoundTrip(_) => {}
            DtlsCommand::Close => self.ask(Wish::Close, context),
        }
    }
}

impl Handler<DatagramReceived> for WebrtcDtlsActor {
    type Result = ();

    fn handle(&mut self, received: DatagramReceived, _: &mut Self::Context) {
        if received.connection == self.connection {
            self.push(received.datagram);
        }
    }
}

impl Handler<Report> for WebrtcDtlsActor {
    type Result = ();

    fn handle(&mut self, Report(event): Report, context: &mut Self::Context) {
        let over = matches!(event, DtlsEvent::Stopped(_));
        if let (DtlsEvent::Connected { .. }, State::AwaitingEnd { connected, .. }) =
            (&event, &mut self.state)
        {
            *connected = true;
            self.gate.connected();
        }
        self.tell(event, context);
        if over {
            context.stop();
        }
    }
}

/// One association, from its first flight to its end.
struct Association {
    conn: Arc<PortConn>,
    config: Config,
    is_client: bool,
    expected: Option<[u8; 32]>,
    timeout: Duration,
    actor: WeakAddr<WebrtcDtlsActor>,
}

impl Association {
    async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        let dtls = match self.connect().await {
            Ok((dtls, connected)) => {
                self.report(connected);
                dtls
            }
            Err(failure) => return self.report(DtlsEvent::Stopped(Err(failure))),
        };
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(Wish::Send(data)) => {
                        if let Err(error) = dtls.write(&data, None).await {
                            warn!(%error, "DTLS application data is not sent");
                        }
                    }
                    Some(Wish::Close) | None => break,
                },
                read = dtls.read(&mut buffer, None) => match read {
                    Ok(len) => {
                        let data = Bytes::copy_from_slice(&buffer[..len]);
                        self.report(DtlsEvent::ApplicationData(data));
                    }
                    // close_notify, or a fatal alert: the stack does not tell them apart.
                    Err(_) => break,
                },
            }
        }
        if let Err(error) = dtls.close().await {
            debug!(%error, "close_notify is not sent");
        }
        self.report(DtlsEvent::Stopped(Ok(())));
    }

    /// Shakes hands; the keys are handed out only once the certificate is the expected one.
    async fn connect(&mut self) -> Result<(DTLSConn, DtlsEvent), DtlsFailure> {
        let (conn, config) = (self.conn.clone(), std::mem::take(&mut self.config));
        let handshake = DTLSConn::new(conn, config, self.is_client, None);
        let dtls = match tokio::time::timeout(self.timeout, handshake).await {
            Err(_) => return Err(DtlsFailure::TimedOut),
            Ok(Err(error)) => return Err(failure(&error)),
            Ok(Ok(dtls)) => dtls,
        };
        let profile = profile_of(&dtls).ok_or(DtlsFailure::NoSrtpProfile)?;
        let state = dtls.connection_state().await;
        let certificate = state.peer_certificates.first().map(|der| Bytes::copy_from_slice(der));
        let certificate = certificate.ok_or(DtlsFailure::FingerprintMismatch)?;
        if !is_expected(&certificate, self.expected) {
            return Err(DtlsFailure::FingerprintMismatch);
        }
        let length = 2 * (profile.key_len() + profile.salt_len());
        let material = state
            .export_keying_material(EXPORTER_LABEL, &[], length)
            .await
            .map_err(|error| DtlsFailure::Protocol(error.to_string()))?;
        let keys = SrtpKeys::from_exported(profile, &material, self.is_client)
            .ok_or(DtlsFailure::NoSrtpProfile)?;
        // It has no other.
        let version = 0xfefd;
        Ok((dtls, DtlsEvent::Connected { keys, certificate, version }))
    }

    fn report(&self, event: DtlsEvent) {
        if let Some(actor) = self.actor.upgrade() {
            actor.do_send(Report(event));
        }
    }
}

/// What the stack's own error stands for when the certificate was another one.
const OTHER_CERTIFICATE: &str = "the certificate is not the signalled one";

fn failure(error: &webrtc_dtls::Error) -> DtlsFailure {
    use webrtc_dtls::Error;
    match error {
        Error::Other(text) if text == OTHER_CERTIFICATE => DtlsFailure::FingerprintMismatch,
        Error::ErrRequestedButNoSrtpExtension
        | Error::ErrServerNoMatchingSrtpProfile
        | Error::ErrClientNoMatchingSrtpProfile => DtlsFailure::NoSrtpProfile,
        other => DtlsFailure::Protocol(other.to_string()),
    }
}

fn is_expected(der: &[u8], expected: Option<[u8; 32]>) -> bool {
    expected.is_none_or(|expected| {
        CertificateFingerprint::of_certificate(der).sha256() == Some(expected)
    })
}

fn profile_of(dtls: &DTLSConn) -> Option<SrtpProfile> {
    Some(match dtls.selected_srtpprotection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => SrtpProfile::AeadAes256Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmSha1_80,
        _ => return None,
    })
}

fn stack_config(
    config: &DtlsConfig,
    certificate: &Certificate,
    expected: Option<[u8; 32]>,
) -> Result<Config, DtlsFailure> {
    install_verifier_crypto();
    let pem = pem(certificate);
    let certificate = webrtc_dtls::crypto::Certificate::from_pem(&pem)
        .map_err(|error| DtlsFailure::Protocol(format!("our certificate: {error}")))?;
    Ok(Config {
        certificates: vec![certificate],
        srtp_protection_profiles: vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ],
        client_auth: ClientAuthType::RequireAnyClientCert,
        flight_interval: config.first_rto,
        // No authority has signed the certificate; the fingerprint below is the identity.
        insecure_skip_verify: true,
        verify_peer_certificate: Some(Arc::new(move |chain, _| match chain.first() {
            Some(der) if is_expected(der, expected) => Ok(()),
            _ => Err(webrtc_dtls::Error::Other(OTHER_CERTIFICATE.to_owned())),
        })),
        server_name: "peer.invalid".to_owned(),
        mtu: config.mtu,
        ..Config::default()
    })
}

/// The stack builds a verifier of certificate chains, though it is never asked, with the
/// process's default provider of rustls, and panics where two are linked in and none is
/// installed.
fn install_verifier_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The stack's own spelling of PEM, with an underscore in the key's tag: the one way to give
/// it a key that it has not generated.
fn pem(certificate: &Certificate) -> String {
    let block = |tag: &str, der: &[u8]| {
        let mut text = format!("-----BEGIN {tag}-----\n");
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text + &format!("-----END {tag}-----\n")
    };
    block("PRIVATE_KEY", certificate.private_key_der()) + &block("CERTIFICATE", certificate.der())
}
