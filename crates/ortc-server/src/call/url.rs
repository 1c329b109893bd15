use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::Uri;

/// Whom a peer calls: `ws://HOST:PORT/pairs/NAME` is the other peer of a pair,
/// `ws://HOST:PORT/rooms/NAME` a room; with `wss` over TLS.
///
/// Shown, it is without its query, in which a join token is.
#[derive(Clone, PartialEq, Eq)]
pub struct SignalUrl {
    uri: Uri,
}

/// Why text is no [`SignalUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalUrlError {
    /// It is of another form.
    #[error(
        "a WebSocket address is needed, of the form ws://HOST:PORT/pairs/NAME or wss://HOST:PORT/rooms/NAME"
    )]
    Malformed,
    /// It names a server, but neither a pair nor a room.
    #[error(
        "the name of a pair or a room is missing: ws://HOST:PORT/pairs/NAME or ws://HOST:PORT/rooms/NAME"
    )]
    NoName,
}

impl SignalUrl {
    /// Whether the server runs on this host, as far as its name tells.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback())
    }

    /// Whether it is a room: there the server is the peer.
    pub fn is_room(&self) -> bool {
        self.uri.path().starts_with("/rooms/")
    }

    /// Whether signalling goes over TLS.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("wss")
    }

    /// The name or the address of the server, without its port.
    pub fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// What the server is asked for, join token and all.
    pub(super) fn request(&self) -> String {
        self.uri.to_string()
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }
}

impl FromStr for SignalUrl {
    type Err = SignalUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| SignalUrlError::Malformed)?;
        if !matches!(uri.scheme_str(), Some("ws" | "wss")) || uri.host().is_none_or(str::is_empty) {
            return Err(SignalUrlError::Malformed);
        }
        // Other servers may have other paths, but none where a name would be missing.
        if matches!(uri.path(), "" | "/" | "/pairs" | "/pairs/" | "/rooms" | "/rooms/") {
            return Err(SignalUrlError::NoName);
        }
        Ok(Self { uri })
    }
}

impl fmt::Display for SignalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}{}", self.uri.path())?;
        f.write_str(if self.uri.query().is_some() { "?…" } else { "" })
    }
}

impl fmt::Debug for SignalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_taken_apart() {
        let url: SignalUrl = "ws://example.test:8080/pairs/x".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.is_loopback()), ("example.test", 8080, false));
        assert_eq!(url.to_string(), "ws://example.test:8080/pairs/x");
        assert!(!url.is_room());
        assert!("ws://h/rooms/x".parse::<SignalUrl>().unwrap().is_room());
        let loopback = |text: &str| text.parse::<SignalUrl>().unwrap().is_loopback();
        assert!(loopback("ws://localhost/pairs/x"));
        assert!(loopback("ws://127.0.0.2:1/pairs/x"));
        assert!(loopback("ws://[::1]:1/pairs/x"));
        assert!(!loopback("ws://192.0.2.1/pairs/x"));
        let secure: SignalUrl = "wss://[2001:db8::1]/rooms/x".parse().unwrap();
        assert_eq!((secure.host(), secure.port(), secure.is_secure()), ("2001:db8::1", 443, true));
        assert!(!url.is_secure());
    }

    #[test]
    fn a_join_token_is_asked_with_and_not_shown() {
        let url: SignalUrl = "ws://u:pw@[::1]:8080/rooms/x?token=s3cret".parse().unwrap();
        let shown = "ws://[::1]:8080/rooms/x?…";
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            (shown.into(), format!("SignalUrl({shown})"))
        );
        assert_eq!(url.request(), "ws://u:pw@[::1]:8080/rooms/x?token=s3cret");
        assert!(url.is_room());
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let error = |text: &str| text.parse::<SignalUrl>().unwrap_err();
        for text in ["", "x", "http://h/pairs/x", "/pairs/x", "ws:///pairs/x", "ws://h h/pairs/x"] {
            assert_eq!(error(text), SignalUrlError::Malformed, "{text:?}");
        }
        assert_eq!(error("ws://h:1"), SignalUrlError::NoName);
        assert_eq!(error("ws://h:1/pairs/"), SignalUrlError::NoName);
        assert_eq!(error("ws://h:1/rooms/"), SignalUrlError::NoName);
    }
}
