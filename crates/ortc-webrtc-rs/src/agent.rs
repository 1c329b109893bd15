//! One `webrtc-ice` agent for one local candidate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use ortc_ice::{IceConfig, RTCIceCandidateDescription, RTCIceConnectionInfo};
use ortc_io::{ConnectionId, SocketCommand, SocketId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;
use webrtc_ice::Error;
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::candidate_base::unmarshal_candidate;
use webrtc_ice::candidate::{Candidate, CandidatePairState, CandidateType};
use webrtc_ice::network_type::NetworkType;
use webrtc_ice::state::ConnectionState;
use webrtc_ice::udp_network::UDPNetwork;

use crate::conn::{Arrival, OneSocket, PortConn};

/// Checks of a pair before the stack gives it up. Its default of 7 is spent after 1.6 s, and a
/// peer that comes later never connects.
const MAX_BINDING_REQUESTS: u16 = u16::MAX;

/// When the stack gives up for good, beyond the consent time-out: it cannot be started again.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Time between two checks of the selected pair; RFC 7675 §5.1 has 5 s, and the stack does
/// not repeat a lost one.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Descriptions that wait for the agent; as many as are kept of the peer.
const QUEUE: usize = 128;

/// What an agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentEvent {
    /// A check to this address of the peer was answered, for the first time.
    Validated { remote: SocketAddr },
    /// It has a pair with this address of the peer, of this type and priority.
    Selected { remote: SocketAddr, kind: CandidateType, priority: u32 },
    /// Its selected pair answers again.
    Alive,
    /// Its selected pair does not answer any more.
    Silent,
}

/// Tells whose event it is; `session` counts the credentials of the peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct AgentReport {
    pub(crate) socket: SocketId,
    pub(crate) session: u32,
    pub(crate) event: AgentEvent,
}

/// Whom an agent speaks for, and to.
#[derive(Debug, Clone)]
pub(crate) struct AgentStart {
    pub(crate) connection: ConnectionId,
    pub(crate) socket: SocketId,
    pub(crate) local: SocketAddr,
    pub(crate) session: u32,
    pub(crate) remote: RTCIceConnectionInfo,
    pub(crate) controlling: bool,
}

/// A running agent; dropped, it closes.
pub(crate) struct AgentHandle {
    conn: Arc<PortConn>,
    arrivals: mpsc::Sender<Arrival>,
    candidates: mpsc::Sender<RTCIceCandidateDescription>,
    _task: JoinHandle<()>,
}

impl AgentHandle {
    pub(crate) fn start(
        start: AgentStart,
        config: &IceConfig,
        sockets: Recipient<SocketCommand>,
        reports: Recipient<AgentReport>,
    ) -> Self {
        let (conn, arrivals) =
            PortConn::of_socket(sockets, start.connection, start.socket, start.local);
        let agent_config =
            agent_config(config, Arc::clone(&conn), start.local.ip(), start.controlling);
        let (candidates, described) = mpsc::channel(QUEUE);
        let of_agent = Arc::clone(&conn);
        let task = actix::spawn(async move {
            let (connection, local) = (start.connection, start.local);
            if let Err(error) = run(start, agent_config, &of_agent, described, reports).await {
                warn!(?connection, %local, %error, "an ICE agent has failed");
            }
        });
        Self { conn, arrivals, candidates, _task: task }
    }

    /// Hands a STUN datagram to the agent; whether there was room.
    pub(crate) fn push(&self, arrival: Arrival) -> bool {
        self.conn.may_hear(arrival.1) && self.arrivals.try_send(arrival).is_ok()
    }

    /// Tells the agent of a candidate of the peer; whether there was room.
    pub(crate) fn add(&self, candidate: RTCIceCandidateDescription) -> bool {
        self.candidates.try_send(candidate).is_ok()
    }
}

fn agent_config(
    config: &IceConfig,
    conn: Arc<PortConn>,
    ip: IpAddr,
    controlling: bool,
) -> AgentConfig {
    AgentConfig {
        udp_network: UDPNetwork::Muxed(Arc::new(OneSocket(conn))),
        local_ufrag: config.credentials.username_frag.clone(),
        local_pwd: config.credentials.password.clone(),
        is_controlling: controlling,
        candidate_types: vec![CandidateType::Host],
        network_types: vec![NetworkType::Udp4, NetworkType::Udp6],
        include_loopback: true,
        ip_filter: Arc::new(Some(Box::new(move |local| local == ip))),
        check_interval: config.timing.check_interval,
        keepalive_interval: Some(KEEPALIVE),
        disconnected_timeout: Some(config.timing.consent_timeout),
        failed_timeout: Some(NEVER),
        max_binding_requests: Some(MAX_BINDING_REQUESTS),
        ..AgentConfig::default()
    }
}

/// Runs an agent until its handle is dropped.
async fn run(
    start: AgentStart,
    config: AgentConfig,
    conn: &PortConn,
    mut described: mpsc::Receiver<RTCIceCandidateDescription>,
    reports: Recipient<AgentReport>,
) -> Result<(), Error> {
    let agent = Agent::new(config).await?;
    let (socket, session) = (start.socket, start.session);
    let report = Arc::new(move |event| reports.do_send(AgentReport { socket, session, event }));
    report_events(&agent, &report);
    agent.gather_candidates()?;
    let RTCIceConnectionInfo { username_frag, password, .. } = start.remote;
    // Never sent to: dropping it would cancel.
    let (_cancel, cancelled) = mpsc::channel(1);
    let connecting = async {
        // The pair itself comes as an event.
        if start.controlling {
            agent.dial(cancelled, username_frag, password).await.map(|_| ())
        } else {
            agent.accept(cancelled, username_frag, password).await.map(|_| ())
        }
    };
    tokio::pin!(connecting);
    let mut connected = false;
    loop {
        tokio::select! {
            result = &mut connecting, if !connected => {
                if let Err(error) = result {
                    warn!(local = %start.local, %error, "ICE checks have not begun");
                }
                connected = true;
            }
            candidate = described.recv() => match candidate {
                Some(candidate) => add(&agent, &candidate),
                None => break,
            },
            () = conn.answer_handled() => {
                for remote in answering(&agent).await {
                    if conn.note_validated(remote) {
                        report(AgentEvent::Validated { remote });
                    }
                }
            }
        }
    }
    agent.close().await
}

/// The addresses of the peer to which a check has succeeded. The stack tells only of the pair that
/// it selects, and stays with the first that a controlling peer nominates; a peer may send on each.
async fn answering(agent: &Agent) -> Vec<SocketAddr> {
    let remotes = agent.get_remote_candidates_stats().await;
    let pairs = agent.get_candidate_pairs_stats().await;
    let succeeded = pairs.iter().filter(|pair| pair.state == CandidatePairState::Succeeded);
    succeeded
        .filter_map(|pair| remotes.iter().find(|remote| remote.id == pair.remote_candidate_id))
        .filter_map(|remote| Some(SocketAddr::new(remote.ip.parse().ok()?, remote.port)))
        .collect()
}

fn add(agent: &Agent, candidate: &RTCIceCandidateDescription) {
    let line = candidate.to_string();
    let line = line.strip_prefix("candidate:").unwrap_or(&line);
    let added = unmarshal_candidate(line).and_then(|candidate| {
        let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(candidate);
        agent.add_remote_candidate(&candidate)
    });
    if let Err(error) = added {
        warn!(%candidate, %error, "webrtc-ice does not take a candidate");
    }
}

fn report_events(agent: &Agent, report: &Arc<impl Fn(AgentEvent) + Send + Sync + 'static>) {
    let (of_state, report) = (Arc::clone(report), Arc::clone(report));
    agent.on_connection_state_change(Box::new(move |state| {
        match state {
            ConnectionState::Connected => of_state(AgentEvent::Alive),
            ConnectionState::Disconnected | ConnectionState::Failed => of_state(AgentEvent::Silent),
            _ => {}
        }
        Box::pin(std::future::ready(()))
    }));
    agent.on_selected_candidate_pair_change(Box::new(move |_, remote| {
        report(AgentEvent::Selected {
            remote: remote.addr(),
            kind: remote.candidate_type(),
            priority: remote.priority(),
        });
        Box::pin(std::future::ready(()))
    }));
    // Our own gathering has reported the candidate already.
    agent.on_candidate(Box::new(|_| Box::pin(std::future::ready(()))));
}
