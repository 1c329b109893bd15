//! webrtc-rs 0.17, its whole stack as an application has it: `RTCPeerConnection` with the
//! default codecs and interceptors.
//!
//! It has no interface without SDP for all of this, so the client's credentials are put into
//! an offer, and taken from the answer. Departures from the defaults, all in its favour or
//! forced: no mDNS, only the loopback addresses, and one pair of ICE credentials for all
//! connections, which sorts before every client's, so that it is the controlled side and
//! the DTLS client. It must be, since it answers, and does not settle role conflicts.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use webrtc::api::interceptor_registry::register_default_interceptors;
use webrtc::api::media_engine::MediaEngine;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::api::{API, APIBuilder};
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::network_type::NetworkType;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

use crate::signalling::{Offer, answer};
use crate::{Result, usage};

/// `+` is the smallest ice-char.
const UFRAG: &str = "++++++++";
const PASSWORD: &str = "benchmarkbenchmarkbenchmark";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let candidates: u8 = arguments.first().ok_or("how many candidates?")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(candidates))
}

fn api(candidates: u8) -> Result<API> {
    let mut settings = settings(candidates);
    settings.set_ice_credentials(UFRAG.into(), PASSWORD.into());
    build(settings)
}

pub(crate) fn build(settings: SettingEngine) -> Result<API> {
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    Ok(APIBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings)
        .build())
}

pub(crate) fn settings(candidates: u8) -> SettingEngine {
    let mut settings = SettingEngine::default();
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    settings.set_network_types(vec![NetworkType::Udp4]);
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(move |address| match address {
        IpAddr::V4(v4) => v4.is_loopback() && (1..=candidates).contains(&v4.octets()[3]),
        IpAddr::V6(_) => false,
    }));
    settings
}

async fn serve(candidates: u8) -> Result<()> {
    let api = Arc::new(api(candidates)?);
    let replies = speak();
    let (open, mut opened) = mpsc::unbounded_channel();
    // Keeps connections, as an application would.
    tokio::spawn(async move {
        let mut all: Vec<Arc<RTCPeerConnection>> = Vec::new();
        while let Some(connection) = opened.recv().await {
            all.push(connection);
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if message["usage"] == true {
            replies.send(usage::report()?)?;
            continue;
        }
        let (api, replies, open) = (Arc::clone(&api), replies.clone(), open.clone());
        tokio::spawn(async move {
            match accept(&api, &message, &replies).await {
                Ok(connection) => drop(open.send(connection)),
                Err(error) => {
                    let failed = json!({ "id": message["id"], "failed": error.to_string() });
                    drop(replies.send(failed));
                }
            }
        });
    }
    Ok(())
}

/// Where what is to be said goes; it is written line by line.
pub(crate) fn speak() -> mpsc::UnboundedSender<Value> {
    let (replies, mut waiting) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(reply) = waiting.recv().await {
            let line = format!("{reply}\n");
            if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
                return;
            }
        }
    });
    replies
}

async fn accept(
    api: &API,
    message: &Value,
    replies: &mpsc::UnboundedSender<Value>,
) -> Result<Arc<RTCPeerConnection>> {
    let offer = Offer::parse(message)?;
    let id = offer.id;
    let connection = Arc::new(api.new_peer_connection(RTCConfiguration::default()).await?);
    tell_state(&connection, id, replies);
    let local = respond(&connection, sdp(&offer)).await?;
    let ice = Ice::of(&local)?;
    replies.send(ice.answer(id))?;
    Ok(connection)
}

/// Has it said when the connection is there, and when it is lost.
pub(crate) fn tell_state(
    connection: &RTCPeerConnection,
    id: u64,
    replies: &mpsc::UnboundedSender<Value>,
) {
    let told = replies.clone();
    connection.on_peer_connection_state_change(Box::new(move |state| {
        let _ = match state {
            RTCPeerConnectionState::Connected => told.send(json!({ "id": id, "connected": true })),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Disconnected => {
                told.send(json!({ "id": id, "failed": state.to_string() }))
            }
            _ => Ok(()),
        };
        Box::pin(async {})
    }));
}

/// Takes an offer and gathers; the whole answer.
pub(crate) async fn respond(connection: &RTCPeerConnection, offer: String) -> Result<String> {
    connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
    let description = connection.create_answer(None).await?;
    let mut gathered = connection.gathering_complete_promise().await;
    connection.set_local_description(description).await?;
    let _ = gathered.recv().await;
    Ok(connection.local_description().await.ok_or("no local description")?.sdp)
}

/// What an answer says of its side's transports.
pub(crate) struct Ice {
    ufrag: String,
    password: String,
    fingerprint: String,
    candidates: Vec<String>,
}

impl Ice {
    pub(crate) fn of(sdp: &str) -> Result<Self> {
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(&format!("a={name}:")));
            line.map(str::to_owned).ok_or_else(|| format!("the answer has no {name}"))
        };
        let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
        // webrtc-rs writes each candidate once for RTP and once for RTCP.
        let candidates =
            lines.filter(|line| line.split(' ').nth(1) == Some("1")).map(str::to_owned).collect();
        let (ufrag, password) = (value("ice-ufrag")?, value("ice-pwd")?);
        Ok(Self { ufrag, password, fingerprint: value("fingerprint")?, candidates })
    }

    pub(crate) fn answer(&self, id: u64) -> Value {
        answer(id, &self.ufrag, &self.password, &self.fingerprint, &self.candidates)
    }
}

/// What a browser would offer that knows what the client has signalled.
fn sdp(offer: &Offer) -> String {
    let section = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111".to_owned(),
        "a=sendonly".to_owned(),
        "a=rtpmap:111 opus/48000/2".to_owned(),
        "a=setup:actpass".to_owned(),
        "a=msid:stream track".to_owned(),
        format!("a=ssrc:{} cname:bench", offer.ssrc),
    ];
    session(offer, &section)
}

/// An offer with one section of media, which begins with its `m=` line.
pub(crate) fn session(offer: &Offer, section: &[String]) -> String {
    let Offer { ufrag, password, fingerprint, candidates, .. } = offer;
    let mut lines = vec![
        "v=0".to_owned(),
        "o=- 1 1 IN IP4 127.0.0.1".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        "a=group:BUNDLE 0".to_owned(),
        section[0].clone(),
        "c=IN IP4 0.0.0.0".to_owned(),
        "a=mid:0".to_owned(),
        "a=rtcp-mux".to_owned(),
        format!("a=ice-ufrag:{ufrag}"),
        format!("a=ice-pwd:{password}"),
        format!("a=fingerprint:{fingerprint}"),
    ];
    lines.extend_from_slice(&section[1..]);
    lines.extend(candidates.iter().map(|line| format!("a={line}")));
    lines.push("a=end-of-candidates".to_owned());
    lines.join("\r\n") + "\r\n"
}
