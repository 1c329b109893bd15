//! The signalling channel of a peer: a WebSocket to the server.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::SignalUrl;
use crate::signalling::{Signal, SignalError, SignalParseError};
use crate::tls::{Authorities, TlsError};

/// How long the server may take to accept the connection, and to take a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest message that is accepted: four times what our server passes on.
const MAX_MESSAGE: usize = 256 * 1024;

type Socket = WebSocketStream<Box<dyn Stream>>;

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no signalling channel, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody listens there.
    #[error("nothing listens at {0}: start a server there with `ortc serve`")]
    Refused(String),
    /// The host has no address.
    #[error("the host of {0} cannot be found")]
    NoSuchHost(String),
    /// It does not answer.
    #[error("{0} does not answer")]
    Silent(String),
    /// The certificate of the server is not by anyone who is trusted, or not for this host.
    #[error("the certificate of {url} is not trusted: {reason}; --tls-ca FILE names who is to be")]
    Untrusted {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: CertificateError,
    },
    /// The server speaks no TLS, or none that we do.
    #[error("there is no TLS with {url}: {source}; a server without TLS is reached by ws://")]
    Tls {
        /// What was asked.
        url: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Certificates of whom to trust cannot be read.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// It answers, but with something else than a WebSocket.
    #[error("{url} is no WebSocket of a signalling server: it answers with HTTP status {status}")]
    NotASocket {
        /// What was asked.
        url: String,
        /// The HTTP status of the answer.
        status: u16,
    },
    /// The server has closed the connection and said why.
    #[error("the signalling server has closed the connection: {reason} ({code})")]
    Closed {
        /// The WebSocket close code; see `docs/signalling.md`.
        code: u16,
        /// The server's reason.
        reason: String,
    },
    /// The connection ended without a word.
    #[error("the connection to the signalling server is lost")]
    Lost,
    /// It answers, and not in HTTP, as a server at `wss://` does.
    #[error(
        "what answers at {url} is no signalling server ({source}); one with TLS is reached by wss://"
    )]
    NotHttp {
        /// What was asked.
        url: String,
        /// What happened.
        source: Box<WsError>,
    },
    /// Something else.
    #[error("signalling at {url} fails: {source}")]
    Other {
        /// What was asked.
        url: String,
        /// What happened.
        source: Box<WsError>,
    },
}

/// What comes in on a channel.
#[derive(Debug)]
pub enum Incoming {
    /// What a message says, in order.
    Signals(Vec<Signal>),
    /// A message that cannot be understood.
    Malformed(SignalParseError),
    /// The channel is gone.
    Ended(ChannelError),
}

/// The sending half of a channel.
pub struct SignalSender {
    sink: SplitSink<Socket, Message>,
}

/// The receiving half of a channel.
pub struct SignalReceiver {
    stream: SplitStream<Socket>,
    /// What the server has said last: the reason of the close that follows.
    complaint: Option<SignalError>,
}

/// Connects to a signalling server, within ten seconds. `authorities` vouch for it, where it is
/// reached over TLS.
///
/// # Errors
/// One clear line about what is wrong.
pub async fn connect(
    url: &SignalUrl,
    authorities: &Authorities,
) -> Result<(SignalSender, SignalReceiver), ChannelError> {
    let connecting = async {
        let stream = open(url, authorities).await?;
        upgrade(url, stream).await
    };
    timeout(PATIENCE, connecting)
        .await
        .unwrap_or_else(|_| Err(ChannelError::Silent(url.to_string())))
}

/// Connects, and does the handshake of TLS if there is one.
async fn open(url: &SignalUrl, authorities: &Authorities) -> Result<Box<dyn Stream>, ChannelError> {
    let name = || url.to_string();
    let stream = match TcpStream::connect((url.host(), url.port())).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Err(ChannelError::Refused(name()));
        }
        // The resolver's errors have no kind of their own.
        Err(error) if error.to_string().contains("lookup") => {
            return Err(ChannelError::NoSuchHost(name()));
        }
        Err(error) => {
            return Err(ChannelError::Other { url: name(), source: Box::new(error.into()) });
        }
    };
    // Messages are short, and each is waited for.
    let _ = stream.set_nodelay(true);
    if !url.is_secure() {
        return Ok(Box::new(stream));
    }
    let config = authorities.client_config().await?;
    let host = ServerName::try_from(url.host().to_owned())
        .map_err(|_| ChannelError::NoSuchHost(name()))?;
    match TlsConnector::from(config).connect(host, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::InvalidCertificate(reason)) => {
                ChannelError::Untrusted { url: name(), reason }
            }
            Ok(other) => ChannelError::Tls { url: name(), source: std::io::Error::other(other) },
            Err(source) => ChannelError::Tls { url: name(), source },
        }),
    }
}

/// Has the stream become a WebSocket.
async fn upgrade(
    url: &SignalUrl,
    stream: Box<dyn Stream>,
) -> Result<(SignalSender, SignalReceiver), ChannelError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let request = url.request();
    let (url, is_secure) = (url.to_string(), url.is_secure());
    match client_async_with_config(request.as_str(), stream, Some(config)).await {
        Ok((socket, _)) => {
            let (sink, stream) = socket.split();
            Ok((SignalSender { sink }, SignalReceiver { stream, complaint: None }))
        }
        Err(WsError::Http(response)) => {
            Err(ChannelError::NotASocket { url, status: response.status().as_u16() })
        }
        // A server with TLS answers with an alert, or hangs up.
        Err(source @ (WsError::Protocol(_) | WsError::HttpFormat(_) | WsError::Io(_)))
            if !is_secure =>
        {
            Err(ChannelError::NotHttp { url, source: Box::new(source) })
        }
        Err(source) => Err(ChannelError::Other { url, source: Box::new(source) }),
    }
}

impl fmt::Debug for SignalSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalSender").finish_non_exhaustive()
    }
}

impl fmt::Debug for SignalReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalReceiver").field("complaint", &self.complaint).finish_non_exhaustive()
    }
}

impl SignalSender {
    /// Sends a message.
    ///
    /// # Errors
    /// The channel is gone; the receiving half knows more about it.
    pub async fn send(&mut self, signal: &Signal) -> Result<(), ChannelError> {
        let message = Message::text(signal.to_text());
        match timeout(PATIENCE, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ChannelError::Lost),
        }
    }

    /// Closes the channel; what was sent before arrives.
    pub async fn close(mut self) {
        // Whether the server still listens makes no difference any more.
        let _ = timeout(Duration::from_secs(1), self.sink.close()).await;
    }
}

impl SignalReceiver {
    /// Waits for the next message. After [`Incoming::Ended`] there is nothing more.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            return match self.stream.next().await {
                Some(Ok(Message::Text(text))) => match Signal::parse(&text) {
                    Ok(signals) => {
                        self.remember(&signals);
                        Incoming::Signals(signals)
                    }
                    Err(error) => Incoming::Malformed(error),
                },
                Some(Ok(Message::Close(frame))) => Incoming::Ended(self.closed(frame)),
                // Pings are answered by the library; binary frames say nothing.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Incoming::Ended(ChannelError::Lost),
            };
        }
    }

    fn remember(&mut self, signals: &[Signal]) {
        let error = signals.iter().rev().find_map(|signal| match signal {
            Signal::Error(error) => Some(error.clone()),
            _ => None,
        });
        self.complaint = error.or(self.complaint.take());
    }

    fn closed(&self, frame: Option<CloseFrame>) -> ChannelError {
        let Some(frame) = frame else { return ChannelError::Lost };
        let said = || self.complaint.as_ref().map(|complaint| complaint.message.clone());
        let reason = match frame.reason.as_str() {
            "" => said().unwrap_or_else(|| "no reason given".to_owned()),
            reason => reason.to_owned(),
        };
        ChannelError::Closed { code: frame.code.into(), reason }
    }
}
