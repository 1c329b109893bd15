//! The WebSocket of a peer, of a pair or of a room: what is the same for both.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use crate::pairs::Frame;
use crate::signalling::{Signal, SignalError};

/// How often a peer is pinged, so that proxies keep the connection and silence means death.
const PING: Duration = Duration::from_secs(20);

/// How long a peer may say nothing, not even a pong, before it is taken to be gone.
const SILENCE: Duration = Duration::from_secs(60);

/// How long one message may take to be written to a peer that does not read.
const WRITE: Duration = Duration::from_secs(10);

/// RFC 6455 §7.4.1: the server goes away.
pub(crate) const GOING_AWAY: u16 = 1001;

/// Whether a peer is still there.
#[derive(Debug)]
pub(crate) struct Attention {
    ping: Interval,
    heard: Instant,
}

impl Attention {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let mut ping = interval_at(now + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ping, heard: now }
    }

    /// Something has come from the peer.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until the peer is to be pinged again: whether the time for its last answer is not
    /// over. Nothing is lost by dropping the future.
    pub(crate) async fn due(&mut self) -> ControlFlow<&'static str> {
        self.ping.tick().await;
        if self.heard.elapsed() > SILENCE {
            ControlFlow::Break("silent")
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Pings the peer.
pub(crate) async fn ping(socket: &mut WebSocket) -> ControlFlow<&'static str> {
    send(socket, Message::Ping(Default::default())).await
}

/// What a peer has sent; `None` for a close frame, after which the next read ends.
pub(crate) fn frame_of(message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::Text(text.as_str().to_owned())),
        Message::Binary(_) => Some(Frame::Binary),
        Message::Ping(_) | Message::Pong(_) => Some(Frame::Control),
        Message::Close(_) => None,
    }
}

/// Completes when the server shuts down.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which comes to the same.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Says why, as a message and as the reason of the close frame.
pub(crate) async fn refuse(socket: &mut WebSocket, close_code: u16, error: SignalError) {
    let reason = error.message.clone();
    if say(socket, &Signal::Error(error)).await.is_continue() {
        close(socket, close_code, reason).await;
    }
}

/// Closes, and waits a little for the peer to agree, so that it surely reads the reason.
pub(crate) async fn close(socket: &mut WebSocket, code: u16, reason: impl Into<Cow<'static, str>>) {
    let frame = CloseFrame { code, reason: reason.into().into_owned().into() };
    if send(socket, Message::Close(Some(frame))).await.is_continue() {
        let agreed = async { while let Some(Ok(_)) = socket.recv().await {} };
        // A peer that does not answer has had its time.
        let _ = timeout(Duration::from_secs(1), agreed).await;
    }
}

/// Sends a message.
pub(crate) async fn say(socket: &mut WebSocket, signal: &Signal) -> ControlFlow<&'static str> {
    send(socket, Message::text(signal.to_text())).await
}

pub(crate) async fn send(socket: &mut WebSocket, message: Message) -> ControlFlow<&'static str> {
    match timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => ControlFlow::Continue(()),
        _ => ControlFlow::Break("does not read"),
    }
}
