//! Telephone keys, as a test hears them.

use std::time::Duration;

use ortc_api::{RTCDTMFEvent, RTCDTMFHandler, RTCEvent};

use crate::Peer;

/// How long nothing is to be heard until it is the end.
const SILENCE: Duration = Duration::from_secs(3);

/// The handler that an event brings.
pub fn handler_in(event: &RTCEvent) -> Option<RTCDTMFHandler> {
    match event {
        RTCEvent::AddDtmfHandler(handler) => Some(handler.clone()),
        _ => None,
    }
}

/// Waits for the handler that comes with the description of a track.
///
/// # Panics
/// When none comes within 10 s of virtual time.
pub async fn next_handler(peer: &mut Peer) -> RTCDTMFHandler {
    let event = peer.until(Duration::from_secs(10), |event| handler_in(event).is_some()).await;
    handler_in(&event).expect("matched above")
}

/// The keys that a handler reports until three seconds are silent.
///
/// # Panics
/// When it reports anything else.
pub async fn keys(handler: &RTCDTMFHandler) -> String {
    let mut events = handler.events();
    let mut heard = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(SILENCE, events.recv()).await {
        let RTCDTMFEvent::Dtmf { tone } = event else { panic!("{event:?}") };
        heard.push_str(&tone);
    }
    heard
}
