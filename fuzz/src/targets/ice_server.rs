//! STUN and TURN URIs, and servers in JSON.

use ortc_ice::{IceServerUri, RTCIceServer};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = text.parse::<IceServerUri>() {
        assert!(!uri.host.is_empty(), "{uri:?}");
    }
    if let Ok(server) = serde_json::from_str::<RTCIceServer>(text) {
        let urls = server.url.len();
        assert!(server.uris().is_ok_and(|uris| uris.len() == urls) || server.uris().is_err());
    }
}
