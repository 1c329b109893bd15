//! str0m, driven as its own `chat` example drives it, without SDP: its direct API.
//!
//! One thread, one poller, a heap of deadlines. A socket for each candidate of each
//! connection, as all contestants have; str0m leaves that to the application.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufRead, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use serde_json::{Value, json};
use str0m::crypto::Fingerprint;
use str0m::media::MediaKind;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc};

use crate::signalling::{Offer, answer};
use crate::{Result, usage};

const WAKER: Token = Token(usize::MAX);

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let candidates: usize = arguments.first().ok_or("how many candidates?")?.parse()?;
    str0m::crypto::from_feature_flags().install_process_default();
    let poll = Poll::new()?;
    let waiting = listen(poll.registry())?;
    Server { poll, candidates, connections: Vec::new(), deadlines: BinaryHeap::new() }.run(&waiting)
}

/// What is said to this process, line by line; each line wakes the poller.
pub(crate) fn listen(registry: &Registry) -> Result<Receiver<String>> {
    let waker = Arc::new(Waker::new(registry, WAKER)?);
    let (lines, waiting) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if lines.send(line).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(lines);
        let _ = waker.wake();
    });
    Ok(waiting)
}

struct Server {
    poll: Poll,
    candidates: usize,
    connections: Vec<Connection>,
    /// When which connection wants to be called; entries that are not its latest are stale.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
}

struct Connection {
    id: u64,
    rtc: Rtc,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    deadline: Instant,
}

impl Server {
    fn run(mut self, lines: &Receiver<String>) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; 2048];
        loop {
            let next = self.deadlines.peek().map(|Reverse((at, _))| *at);
            let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                if event.token() != WAKER {
                    self.receive(event.token().0, &mut buffer)?;
                }
            }
            self.fire()?;
            loop {
                match lines.try_recv() {
                    Ok(line) => self.message(&serde_json::from_str(&line)?)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
        }
    }

    fn message(&mut self, message: &Value) -> Result<()> {
        if message["usage"] == true {
            return say(&usage::report()?);
        }
        self.accept(&Offer::parse(message)?)
    }

    fn accept(&mut self, offer: &Offer) -> Result<()> {
        // A certificate of its own, which is also str0m's default.
        let mut rtc = Rtc::builder().build(Instant::now());
        let index = self.connections.len();
        let mut sockets = Vec::new();
        let mut lines = Vec::new();
        for n in 0..self.candidates {
            let octet = u8::try_from(n + 1)?;
            let mut socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, octet], 0)))?;
            let token = Token(index * self.candidates + n);
            self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
            let address = socket.local_addr()?;
            let candidate = Candidate::host(address, "udp")?;
            lines.push(candidate.to_sdp_string());
            rtc.add_local_candidate(candidate);
            sockets.push((address, socket));
        }
        for line in &offer.candidates {
            rtc.add_remote_candidate(Candidate::from_sdp_string(line)?);
        }
        let mut api = rtc.direct_api();
        let ours = api.local_ice_credentials();
        let fingerprint = api.local_dtls_fingerprint().to_string();
        // The rule of the client: the smaller is the DTLS client, the other controls.
        let client =
            format!("{}:{}", ours.ufrag, ours.pass) < format!("{}:{}", offer.ufrag, offer.password);
        api.set_ice_controlling(!client);
        let remote = IceCreds { ufrag: offer.ufrag.clone(), pass: offer.password.clone() };
        api.set_remote_ice_credentials(remote);
        api.set_remote_fingerprint(offer.fingerprint.parse::<Fingerprint>()?);
        api.start_dtls(client)?;
        let mid = "0".into();
        api.declare_media(mid, MediaKind::Audio);
        api.expect_stream_rx(offer.ssrc.into(), None, mid, None);
        say(&answer(offer.id, &ours.ufrag, &ours.pass, &fingerprint, &lines))?;
        let deadline = Instant::now();
        self.connections.push(Connection { id: offer.id, rtc, sockets, deadline });
        self.drive(index)
    }

    fn receive(&mut self, token: usize, buffer: &mut [u8]) -> Result<()> {
        let (index, n) = (token / self.candidates, token % self.candidates);
        let connection = &mut self.connections[index];
        loop {
            let (destination, socket) = &connection.sockets[n];
            let (length, source) = match socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let contents = buffer[..length].try_into()?;
            let receive =
                Receive { proto: Protocol::Udp, source, destination: *destination, contents };
            connection.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
        }
        self.drive(index)
    }

    fn fire(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            let connection = &mut self.connections[index];
            if connection.deadline == at {
                connection.rtc.handle_input(Input::Timeout(now))?;
                self.drive(index)?;
            }
        }
        Ok(())
    }

    fn drive(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        loop {
            match connection.rtc.poll_output()? {
                Output::Transmit(transmit) => {
                    let own = |(address, _): &&(SocketAddr, UdpSocket)| *address == transmit.source;
                    if let Some((_, socket)) = connection.sockets.iter().find(own) {
                        match socket.send_to(&transmit.contents, transmit.destination) {
                            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                                return Err(error.into());
                            }
                            _ => {}
                        }
                    }
                }
                Output::Event(Event::Connected) => {
                    say(&json!({ "id": connection.id, "connected": true }))?;
                }
                Output::Event(Event::IceConnectionStateChange(state))
                    if state.is_disconnected() =>
                {
                    say(&json!({ "id": connection.id, "failed": "ICE is disconnected" }))?;
                }
                Output::Event(_) => {}
                Output::Timeout(at) => {
                    if connection.deadline != at {
                        connection.deadline = at;
                        self.deadlines.push(Reverse((at, index)));
                    }
                    return Ok(());
                }
            }
        }
    }
}

pub(crate) fn say(message: &Value) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{message}")?;
    Ok(output.flush()?)
}
