//! str0m forwarding in RTP mode, in a plain loop: one thread, one socket, one `send_to` a packet.
//!
//! An `Rtc` for the publisher and one for each subscriber, told apart by their addresses. Each
//! packet that comes out of the publisher's is written to every subscriber's, and what those
//! have to send is sent at once. In its favour: nothing is kept to be sent again, no bandwidth
//! is estimated, there are no header extensions, and only those are polled that something has
//! happened to.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use str0m::crypto::Fingerprint;
use str0m::media::MediaKind;
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};

use crate::setup_str0m::{listen, say};
use crate::signalling::{Offer, answer};
use crate::{Result, usage};

const SOCKET: Token = Token(0);

/// As the other contestants ask for; the system may grant less.
const BUFFER: usize = 8 << 20;

/// Longer than it ever is until an `Rtc` has something to do.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) fn run(_: &[String]) -> Result<()> {
    str0m::crypto::from_feature_flags().install_process_default();
    let poll = Poll::new()?;
    let lines = listen(poll.registry())?;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    socket.set_nonblocking(true)?;
    let mut socket = UdpSocket::from_std(socket);
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
    let local = socket.local_addr()?;
    let (clients, by_address, published) = (Vec::new(), HashMap::new(), Vec::new());
    Forwarder { poll, socket, local, clients, by_address, published }.run(&lines)
}

struct Forwarder {
    poll: Poll,
    socket: UdpSocket,
    local: SocketAddr,
    clients: Vec<Client>,
    /// Where each is, in `clients`, once its address is known.
    by_address: HashMap<SocketAddr, usize>,
    /// What the publisher's `Rtc` has handed out and nobody has been sent yet.
    published: Vec<RtpPacket>,
}

struct Client {
    id: u64,
    rtc: Rtc,
    deadline: Instant,
    /// What it is sent; nothing, if it is the publisher.
    sent: Option<Ssrc>,
}

impl Forwarder {
    fn run(mut self, lines: &Receiver<String>) -> Result<()> {
        let mut events = Events::with_capacity(16);
        let mut buffer = vec![0; 2048];
        loop {
            let next = self.clients.iter().map(|client| client.deadline).min();
            let wait = next.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.receive(&mut buffer)?;
            self.fire()?;
            loop {
                match lines.try_recv() {
                    Ok(line) => {
                        let message: Value = serde_json::from_str(&line)?;
                        if message["usage"] == true {
                            say(&usage::report()?)?;
                        } else {
                            self.accept(&Offer::parse(&message)?)?;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
        }
    }

    fn accept(&mut self, offer: &Offer) -> Result<()> {
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
        let candidate = Candidate::host(self.local, "udp")?;
        let line = candidate.to_sdp_string();
        rtc.add_local_candidate(candidate);
        for line in &offer.candidates {
            rtc.add_remote_candidate(Candidate::from_sdp_string(line)?);
        }
        let mut api = rtc.direct_api();
        api.set_ice_controlling(false);
        let remote = IceCreds { ufrag: offer.ufrag.clone(), pass: offer.password.clone() };
        api.set_remote_ice_credentials(remote);
        api.set_remote_fingerprint(offer.fingerprint.parse::<Fingerprint>()?);
        let ours = api.local_ice_credentials();
        let shown = api.local_dtls_fingerprint().to_string();
        api.start_dtls(false)?;
        let mid = "0".into();
        api.declare_media(mid, MediaKind::Video);
        let ssrc = Ssrc::from(offer.ssrc);
        let sent = if offer.publishes {
            api.expect_stream_rx(ssrc, None, mid, None);
            None
        } else {
            api.declare_stream_tx(ssrc, None, mid, None);
            Some(ssrc)
        };
        let mut reply = answer(offer.id, &ours.ufrag, &ours.pass, &shown, &[line]);
        reply["ssrc"] = json!(offer.ssrc);
        say(&reply)?;
        self.clients.push(Client { id: offer.id, rtc, deadline: Instant::now(), sent });
        self.drive(self.clients.len() - 1, Instant::now())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            let (length, source) = match self.socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let Ok(contents) = buffer[..length].try_into() else { continue };
            let destination = self.local;
            let receive = Receive { proto: Protocol::Udp, source, destination, contents };
            let input = Input::Receive(now, receive);
            let known = self.by_address.get(&source).copied();
            let found = known.or_else(|| self.clients.iter().position(|it| it.rtc.accepts(&input)));
            let Some(index) = found else { continue };
            if known.is_none() {
                self.by_address.insert(source, index);
            }
            self.clients[index].rtc.handle_input(input)?;
            self.drive(index, now)?;
            self.forward(now)?;
        }
    }

    /// Writes what was published to all who are sent it.
    fn forward(&mut self, now: Instant) -> Result<()> {
        let published = std::mem::take(&mut self.published);
        if published.is_empty() {
            return Ok(());
        }
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let Some(ssrc) = client.sent else { continue };
            for packet in &published {
                let mut api = client.rtc.direct_api();
                let stream = api.stream_tx(&ssrc).ok_or("a stream is gone")?;
                let (header, payload) = (&packet.header, packet.payload.clone());
                let (pt, time) = (header.payload_type, header.timestamp);
                let write = RtpWrite::new(pt, packet.seq_no, time, now, payload);
                stream.write_rtp(write.marker(header.marker));
            }
            self.drive(index, now)?;
        }
        Ok(())
    }

    fn fire(&mut self) -> Result<()> {
        let now = Instant::now();
        for index in 0..self.clients.len() {
            if self.clients[index].deadline <= now {
                self.clients[index].rtc.handle_input(Input::Timeout(now))?;
                self.drive(index, now)?;
            }
        }
        self.forward(now)
    }

    fn drive(&mut self, index: usize, now: Instant) -> Result<()> {
        let client = &mut self.clients[index];
        loop {
            match client.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    match self.socket.send_to(&transmit.contents, transmit.destination) {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
                Output::Event(Event::RtpPacket(packet)) => self.published.push(packet),
                Output::Event(Event::Connected) => {
                    say(&json!({ "id": client.id, "connected": true }))?;
                }
                Output::Event(Event::IceConnectionStateChange(state))
                    if state.is_disconnected() =>
                {
                    say(&json!({ "id": client.id, "failed": "ICE is disconnected" }))?;
                }
                Output::Event(_) => {}
                Output::Timeout(at) => {
                    // What is due at once is done when the loop comes round.
                    client.deadline = at.max(now);
                    return Ok(());
                }
            }
        }
    }
}
