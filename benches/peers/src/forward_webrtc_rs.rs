//! webrtc-rs 0.17 forwarding as its own `broadcast` example does, over its whole stack.
//!
//! A task reads the publisher's `TrackRemote` and writes each packet to a `TrackLocalStaticRTP`
//! for each subscriber. In its favour: no feedback and no header extensions are agreed upon, so
//! that its interceptors keep nothing and add nothing. Forced: it offers no API without SDP.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use webrtc::api::API;
use webrtc::api::media_engine::MIME_TYPE_VP8;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocalWriter;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use crate::setup_webrtc_rs::{Ice, build, respond, session, settings, speak, tell_state};
use crate::signalling::Offer;
use crate::{Result, usage};

/// What is sent to subscribers. A packet takes a look at it, as subscribers come and go.
type Subscribers = Arc<Mutex<Arc<Vec<Arc<TrackLocalStaticRTP>>>>>;

pub(crate) fn run(_: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let api = build(settings(1))?;
    let replies = speak();
    let subscribers = Subscribers::default();
    let mut open = Vec::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if message["usage"] == true {
            replies.send(usage::report()?)?;
            continue;
        }
        match accept(&api, &message, &replies, &subscribers).await {
            Ok(connection) => open.push(connection),
            Err(error) => {
                let failed = json!({ "id": message["id"], "failed": error.to_string() });
                replies.send(failed)?;
            }
        }
    }
    Ok(())
}

async fn accept(
    api: &API,
    message: &Value,
    replies: &mpsc::UnboundedSender<Value>,
    subscribers: &Subscribers,
) -> Result<RTCPeerConnection> {
    let offer = Offer::parse(message)?;
    let connection = api.new_peer_connection(RTCConfiguration::default()).await?;
    tell_state(&connection, offer.id, replies);
    if offer.publishes {
        forward(&connection, subscribers);
    } else {
        let codec = RTCRtpCodecCapability {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            ..Default::default()
        };
        let (id, stream) = (format!("track{}", offer.id), "stream".to_owned());
        let track = Arc::new(TrackLocalStaticRTP::new(codec, id, stream));
        let sender = connection.add_track(track.clone()).await?;
        // What receivers report has to be read, for interceptors to see it.
        tokio::spawn(async move {
            let mut buffer = vec![0; 1500];
            while sender.read(&mut buffer).await.is_ok() {}
        });
        let mut all = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).push(track);
    }
    let local = respond(&connection, sdp(&offer)).await?;
    let mut reply = Ice::of(&local)?.answer(offer.id);
    let ssrc = local.lines().find_map(|line| line.strip_prefix("a=ssrc:")?.split(' ').next());
    reply["ssrc"] = json!(ssrc.and_then(|ssrc| ssrc.parse::<u32>().ok()));
    replies.send(reply)?;
    Ok(connection)
}

fn forward(connection: &RTCPeerConnection, subscribers: &Subscribers) {
    let subscribers = Arc::clone(subscribers);
    connection.on_track(Box::new(move |track, _, _| {
        let subscribers = Arc::clone(&subscribers);
        tokio::spawn(async move {
            while let Ok((packet, _)) = track.read_rtp().await {
                let all = subscribers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                for subscriber in all.iter() {
                    if let Err(error) = subscriber.write_rtp(&packet).await {
                        eprintln!("error: webrtc-rs: {error}");
                    }
                }
            }
        });
        Box::pin(async {})
    }));
}

fn sdp(offer: &Offer) -> String {
    let mut section = vec![
        "m=video 9 UDP/TLS/RTP/SAVPF 96".to_owned(),
        "a=rtpmap:96 VP8/90000".to_owned(),
        // Its side is the server then, and takes the one profile that is offered.
        "a=setup:active".to_owned(),
    ];
    if offer.publishes {
        section.push("a=sendonly".to_owned());
        section.push("a=msid:stream track".to_owned());
        section.push(format!("a=ssrc:{} cname:bench", offer.ssrc));
    } else {
        section.push("a=recvonly".to_owned());
    }
    session(offer, &section)
}
