//! The sockets and the clock of a diagnosis of the network.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::Bytes;
use ortc_ice::RTCIceServer;
use ortc_ice::diagnosis::{Diagnosis, DiagnosisOutput, NetworkReport};
use ortc_io::{StreamTls, enumerate_interfaces, now, open_stream, resolve};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::DiagnoseError;

/// Messages that wait to be looked at; what comes beyond them is dropped, as by any socket.
const WAITING: usize = 256;

/// The longest message that is taken.
const LONGEST: usize = 2048;

/// Finds out what the network of this host lets through: whether UDP gets out, what kinds of NAT
/// are in the way, what each of these servers answers, and whether a relay is needed.
///
/// It asks from sockets of its own, concerns no connection, and takes some seconds: up to 20 where
/// servers do not answer. TURN servers are asked for an allocation, which is given back; over TLS
/// they are trusted by the system's roots. Dropping the future stops it.
///
/// # Errors
/// When a server is malformed, and when the system does not tell the addresses of this host. A
/// server that does not answer is no error but a part of the report.
///
/// ```no_run
/// # async fn run() -> Result<(), ortc_api::DiagnoseError> {
/// use ortc_api::{RTCIceServer, Verdict, diagnose_network};
///
/// let report = diagnose_network(&[RTCIceServer::new("stun:stun.example.net")]).await?;
/// if report.verdict() == Verdict::RelayMissing {
///     println!("this network needs a TURN server");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn diagnose_network(servers: &[RTCIceServer]) -> Result<NetworkReport, DiagnoseError> {
    let interfaces = enumerate_interfaces().map_err(DiagnoseError::Interfaces)?;
    let mut seed = [0; 8];
    rand::fill(&mut seed).map_err(|_| DiagnoseError::Entropy)?;
    let diagnosis = Diagnosis::new(now(), interfaces, servers, u64::from_be_bytes(seed))?;
    let (told, heard) = mpsc::channel(WAITING);
    let links = BTreeMap::new();
    Ok(Driver { diagnosis, links, told, tasks: JoinSet::new() }.run(heard).await)
}

/// What a task has to tell.
enum Heard {
    Resolved(u64, Result<Vec<IpAddr>, String>),
    Opened(u64, SocketAddr),
    Message(u64, SocketAddr, Bytes),
    Failed(u64, String),
}

/// A socket or a stream.
enum Link {
    Socket(Arc<UdpSocket>, AbortHandle),
    /// Its task sends what comes here, and ends with it.
    Stream(mpsc::Sender<Bytes>),
}

struct Driver {
    diagnosis: Diagnosis,
    /// By token.
    links: BTreeMap<u64, Link>,
    told: mpsc::Sender<Heard>,
    tasks: JoinSet<()>,
}

impl Driver {
    async fn run(mut self, mut heard: mpsc::Receiver<Heard>) -> NetworkReport {
        loop {
            while let Some(output) = self.diagnosis.poll_output() {
                self.carry_out(output).await;
            }
            if self.diagnosis.is_done() {
                return self.diagnosis.report();
            }
            let due = self.diagnosis.poll_timeout().map(|(at, _)| at);
            let timeout = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(heard) = heard.recv() => self.take(heard),
                () = timeout => self.diagnosis.handle_timeout(now()),
                // Of those that have ended nothing is kept.
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Resolved(token, result) => {
                self.diagnosis.handle_resolved(now(), token, result);
            }
            Heard::Opened(token, local) => self.diagnosis.handle_bound(now(), token, local),
            Heard::Message(token, from, bytes) => {
                self.diagnosis.handle_datagram(now(), token, from, &bytes);
            }
            Heard::Failed(token, reason) => self.diagnosis.handle_failed(now(), token, reason),
        }
    }

    async fn carry_out(&mut self, output: DiagnosisOutput) {
        match output {
            DiagnosisOutput::Bind { token, address, remote } => {
                match self.bind(token, address, remote).await {
                    Ok(local) => self.diagnosis.handle_bound(now(), token, local),
                    Err(error) => {
                        self.diagnosis.handle_failed(now(), token, error.to_string());
                    }
                }
            }
            DiagnosisOutput::OpenStream { token, server, tls } => {
                self.open(token, server, tls.map(|name| StreamTls { name, roots: None }));
            }
            DiagnosisOutput::Resolve { token, host } => {
                let told = self.told.clone();
                self.tasks.spawn(async move {
                    let result = resolve(host).await;
                    let _ = told.send(Heard::Resolved(token, result)).await;
                });
            }
            DiagnosisOutput::Transmit { token, to, datagram } => match self.links.get(&token) {
                Some(Link::Socket(socket, _)) => {
                    let sent = match socket.peer_addr() {
                        Ok(_) => socket.send(&datagram).await,
                        Err(_) => socket.send_to(&datagram, to).await,
                    };
                    if let Err(error) = sent {
                        let reason = error.to_string();
                        self.diagnosis.handle_send_failed(now(), token, to, reason);
                    }
                }
                Some(Link::Stream(stream)) => {
                    // A stream that takes no more has been told of, or answers in vain.
                    let _ = stream.try_send(datagram);
                }
                None => {}
            },
            DiagnosisOutput::Close { token } => {
                if let Some(Link::Socket(_, reader)) = self.links.remove(&token) {
                    reader.abort();
                }
            }
        }
    }

    async fn bind(
        &mut self,
        token: u64,
        address: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind(address).await?;
        if let Some(remote) = remote {
            socket.connect(remote).await?;
        }
        let (socket, told) = (Arc::new(socket), self.told.clone());
        let local = socket.local_addr()?;
        let reader = Arc::clone(&socket);
        let reader = self.tasks.spawn(async move {
            let mut buffer = [0; LONGEST];
            loop {
                match reader.recv_from(&mut buffer).await {
                    Ok((length, from)) => {
                        let bytes = Bytes::copy_from_slice(&buffer[..length]);
                        // A flood loses to what is open already.
                        let _ = told.try_send(Heard::Message(token, from, bytes));
                    }
                    Err(error) => {
                        let _ = told.send(Heard::Failed(token, error.to_string())).await;
                        return;
                    }
                }
            }
        });
        self.links.insert(token, Link::Socket(socket, reader));
        Ok(local)
    }

    fn open(&mut self, token: u64, server: SocketAddr, tls: Option<StreamTls>) {
        let (sender, mut to_send) = mpsc::channel::<Bytes>(WAITING);
        let told = self.told.clone();
        self.links.insert(token, Link::Stream(sender));
        self.tasks.spawn(async move {
            let (mut end, task) = match open_stream(server, tls).await {
                Ok(opened) => opened,
                Err(error) => {
                    let _ = told.send(Heard::Failed(token, error.to_string())).await;
                    return;
                }
            };
            let exchange = async move {
                let _ = told.send(Heard::Opened(token, end.local_addr())).await;
                loop {
                    tokio::select! {
                        message = to_send.recv() => match message {
                            Some(message) => _ = end.send(&message),
                            // Closed: dropping the end does that to the stream.
                            None => return,
                        },
                        message = end.recv() => {
                            let (heard, is_over) = match message {
                                Ok(bytes) => (Heard::Message(token, server, bytes), false),
                                Err(error) => (Heard::Failed(token, error.to_string()), true),
                            };
                            if told.send(heard).await.is_err() || is_over {
                                return;
                            }
                        }
                    }
                }
            };
            tokio::join!(task.run(), exchange);
        });
    }
}
