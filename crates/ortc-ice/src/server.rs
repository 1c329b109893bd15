use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ServerError;
use crate::description::parse_address;
use crate::error::Quoted;

/// A STUN or TURN server, as the application describes it (ORTC draft A and B, "RTCIceServer").
///
/// The drafts declare `url` a sequence and write it as a string in their example; both are
/// read. A TURN URI may name its user, as in their example (`turn:user@turn.example.org`).
///
/// ```
/// use ortc_ice::{IceServerScheme, RTCIceServer};
///
/// let json = r#"{ "url": "turn:user@turn.example.org", "credential": "myPassword" }"#;
/// let server: RTCIceServer = serde_json::from_str(json)?;
/// let uris = server.uris().unwrap();
/// assert_eq!((uris[0].scheme, uris[0].port), (IceServerScheme::Turn, 3478));
/// assert_eq!(uris[0].username.as_deref(), Some("user"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RTCIceServer {
    /// STUN or TURN URIs (RFC 7064, RFC 7065) of one server, with one credential.
    #[serde(
        alias = "urls",
        deserialize_with = "deserialize_one_or_many",
        serialize_with = "serialize_one_or_many"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "OneOrMany"))]
    pub url: Vec<String>,
    /// The password, for TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The user, for TURN, unless the URI names it: an addition of ours, optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

impl RTCIceServer {
    /// A server with one URI.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: vec![url.into()], credential: None, username: None }
    }

    /// With a user and a credential, for TURN.
    #[must_use]
    pub fn with_credential(
        mut self,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Self {
        self.username = Some(username.into());
        self.credential = Some(credential.into());
        self
    }

    /// Parses every URI and checks that TURN servers have their credential.
    ///
    /// # Errors
    /// The first thing that is wrong, with the URI.
    pub fn uris(&self) -> Result<Vec<IceServerUri>, ServerError> {
        if self.url.is_empty() {
            return Err(ServerError::NoUrl);
        }
        let parse = |url: &String| {
            let mut uri: IceServerUri = url.parse()?;
            uri.username = self.username.clone().or(uri.username);
            let relays = matches!(uri.scheme, IceServerScheme::Turn | IceServerScheme::Turns);
            if relays && (uri.username.is_none() || self.credential.is_none()) {
                return Err(ServerError::NoCredential(Quoted::new(url)));
            }
            Ok(uri)
        };
        self.url.iter().map(parse).collect()
    }
}

impl fmt::Debug for RTCIceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RTCIceServer")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("credential", &self.credential.as_ref().map(|_| "…"))
            .finish()
    }
}

/// The scheme of an ICE server's URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IceServerScheme {
    /// `stun:` over UDP.
    Stun,
    /// `stuns:`, STUN over TLS. It tells of no candidate: what it sees is the outer end of one
    /// TCP connection, where nobody else can connect to. A diagnosis makes use of it.
    Stuns,
    /// `turn:` over UDP or TCP.
    Turn,
    /// `turns:`, TURN over TLS, or over DTLS with `?transport=udp`.
    Turns,
}

/// The transport of an ICE server's URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IceServerTransport {
    /// `?transport=udp`, and the default of `stun:` and `turn:`.
    Udp,
    /// `?transport=tcp`, and the default of `stuns:` and `turns:`.
    Tcp,
}

/// A parsed STUN or TURN URI (RFC 7064 §3.1, RFC 7065 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServerUri {
    /// What is spoken, and whether over TLS.
    pub scheme: IceServerScheme,
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port; 3478, or 5349 over TLS, if the URI names none.
    pub port: u16,
    /// UDP or TCP.
    pub transport: IceServerTransport,
    /// The user that a TURN URI names, percent-encoding and all.
    pub username: Option<String>,
}

impl IceServerUri {
    /// Whether it is asked over TLS: `stuns:`, and `turns:` but for `?transport=udp`.
    pub fn is_over_tls(&self) -> bool {
        let is_secure = matches!(self.scheme, IceServerScheme::Stuns | IceServerScheme::Turns);
        is_secure && self.transport == IceServerTransport::Tcp
    }

    /// Whether it is of a TURN server over UDP, which has one relay for each socket that asks.
    pub fn relays_over_udp(&self) -> bool {
        self.scheme == IceServerScheme::Turn && self.transport == IceServerTransport::Udp
    }
}

impl FromStr for IceServerUri {
    type Err = ServerError;

    fn from_str(uri: &str) -> Result<Self, ServerError> {
        let quoted = || Quoted::new(uri);
        let (scheme, rest) = uri.split_once(':').ok_or_else(|| ServerError::Scheme(quoted()))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "stun" => IceServerScheme::Stun,
            "stuns" => IceServerScheme::Stuns,
            "turn" => IceServerScheme::Turn,
            "turns" => IceServerScheme::Turns,
            _ => return Err(ServerError::Scheme(quoted())),
        };
        let relays = matches!(scheme, IceServerScheme::Turn | IceServerScheme::Turns);
        let secure = matches!(scheme, IceServerScheme::Stuns | IceServerScheme::Turns);
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let transport = match query.map(str::to_ascii_lowercase).as_deref() {
            None if secure => IceServerTransport::Tcp,
            None => IceServerTransport::Udp,
            Some("transport=udp") if relays => IceServerTransport::Udp,
            Some("transport=tcp") if relays => IceServerTransport::Tcp,
            Some(_) => return Err(ServerError::Query(quoted())),
        };
        let (username, host_port) = match authority.rsplit_once('@') {
            Some((user, rest)) if relays && !user.is_empty() => (Some(user.to_owned()), rest),
            Some(_) => return Err(ServerError::Host(quoted())),
            None => (None, authority),
        };
        let (host, port) = match host_port.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) =
                    bracketed.split_once(']').ok_or_else(|| ServerError::Host(quoted()))?;
                let port = match rest.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if rest.is_empty() => None,
                    None => return Err(ServerError::Host(quoted())),
                };
                let valid = host.parse::<std::net::Ipv6Addr>().is_ok();
                (if valid { host } else { "" }, port)
            }
            None => match host_port.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_port, None),
            },
        };
        if parse_address(host).is_none() {
            return Err(ServerError::Host(quoted()));
        }
        let port = match port {
            None if secure => 5349,
            None => 3478,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = digits.parse().ok().filter(|port| *port != 0);
                port.ok_or_else(|| ServerError::Port(quoted()))?
            }
            Some(_) => return Err(ServerError::Port(quoted())),
        };
        Ok(Self { scheme, host: host.to_owned(), port, transport, username })
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(untagged, expecting = "url must be a string or an array of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn deserialize_one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(url) => vec![url],
        OneOrMany::Many(urls) => urls,
    })
}

fn serialize_one_or_many<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    match urls {
        [one] => serializer.serialize_str(one),
        many => serializer.collect_seq(many),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<IceServerUri, ServerError> {
        text.parse()
    }

    #[test]
    fn uris_are_parsed_with_their_defaults() {
        use IceServerScheme::*;
        use IceServerTransport::*;
        let cases = [
            ("stun:stun.example.net", (Stun, "stun.example.net", 3478, Udp, None)),
            ("stuns:stun.example.net", (Stuns, "stun.example.net", 5349, Tcp, None)),
            ("STUN:192.0.2.1:19302", (Stun, "192.0.2.1", 19302, Udp, None)),
            ("turn:[2001:db8::1]:80?transport=tcp", (Turn, "2001:db8::1", 80, Tcp, None)),
            ("turns:turn.example.org?transport=udp", (Turns, "turn.example.org", 5349, Udp, None)),
            ("turn:user@turn.example.org", (Turn, "turn.example.org", 3478, Udp, Some("user"))),
            ("turn:a@b@[::1]", (Turn, "::1", 3478, Udp, Some("a@b"))),
        ];
        for (text, (scheme, host, port, transport, user)) in cases {
            let (host, username) = (host.to_owned(), user.map(str::to_owned));
            assert_eq!(uri(text), Ok(IceServerUri { scheme, host, port, transport, username }));
        }
    }

    #[test]
    fn what_is_wrong_with_a_uri_is_named() {
        type Make = fn(Quoted) -> ServerError;
        let cases: [(&str, Make); 19] = [
            ("", ServerError::Scheme),
            ("stun", ServerError::Scheme),
            ("http://example.org", ServerError::Scheme),
            ("stun:", ServerError::Host),
            ("stun://example.org", ServerError::Host),
            ("stun:user@example.org", ServerError::Host),
            ("turn:@example.org", ServerError::Host),
            ("turn:[2001:db8::1", ServerError::Host),
            ("turn:[example.org]", ServerError::Host),
            ("turn:[::1]80", ServerError::Host),
            ("stun:example.org:", ServerError::Port),
            ("stun:example.org:0", ServerError::Port),
            ("stun:example.org:65536", ServerError::Port),
            ("stun:example.org:+1", ServerError::Port),
            ("stun:example.org?transport=udp", ServerError::Query),
            ("stun:example.org?transport=tcp", ServerError::Query),
            ("stuns:example.org?transport=tcp", ServerError::Query),
            ("stun:example.org?", ServerError::Query),
            ("turn:example.org?transport=quic", ServerError::Query),
        ];
        for (text, error) in cases {
            assert_eq!(uri(text), Err(error(Quoted::new(text))), "{text}");
        }
    }

    #[test]
    fn one_url_or_many_are_read_and_a_missing_one_is_named() {
        let read = |json: &str| serde_json::from_str::<RTCIceServer>(json);
        let one = read(r#"{"url":"stun:stun.example.net","priority":1}"#).unwrap();
        assert_eq!(one, RTCIceServer::new("stun:stun.example.net"));
        assert_eq!(serde_json::to_string(&one).unwrap(), r#"{"url":"stun:stun.example.net"}"#);
        let json = r#"{"url":["stun:a.example","turn:a.example"],"credential":"c","username":"u"}"#;
        let many = read(json).unwrap();
        assert_eq!(serde_json::to_string(&many).unwrap(), json);
        assert_eq!(many.uris().unwrap().len(), 2);
        let error = read("{}").unwrap_err().to_string();
        assert!(error.starts_with("missing field `url`"), "{error}");
        let error = read(r#"{"url":7}"#).unwrap_err().to_string();
        assert!(error.starts_with("url must be a string or an array of strings"), "{error}");
    }

    #[test]
    fn the_drafts_example_is_accepted_as_written() {
        let json = r#"[ { "url":"stun:stun.example.net" } ,
            { "url":"turn:user@turn.example.org", "credential":"myPassword"} ]"#;
        let servers: Vec<RTCIceServer> = serde_json::from_str(json).unwrap();
        let uris: Vec<_> = servers.iter().flat_map(|server| server.uris().unwrap()).collect();
        let hosts: Vec<_> = uris.iter().map(|uri| (uri.scheme, uri.host.as_str())).collect();
        assert_eq!(
            hosts,
            [
                (IceServerScheme::Stun, "stun.example.net"),
                (IceServerScheme::Turn, "turn.example.org"),
            ]
        );
        assert_eq!(servers[1].credential.as_deref(), Some("myPassword"));
        let null = r#"{"url":"stun:stun.example.net","credential":null}"#;
        assert_eq!(serde_json::from_str::<RTCIceServer>(null).unwrap(), servers[0]);
    }

    #[test]
    fn a_turn_server_needs_a_user_and_a_credential_that_are_never_printed() {
        let bare = RTCIceServer::new("turn:turn.example.org");
        let missing = ServerError::NoCredential(Quoted::new("turn:turn.example.org"));
        assert_eq!(bare.uris(), Err(missing));
        let full = bare.with_credential("alice", "secret");
        assert_eq!(full.uris().unwrap()[0].username.as_deref(), Some("alice"));
        assert!(!format!("{full:?}").contains("secret"));
        let none = RTCIceServer { url: vec![], credential: None, username: None };
        assert_eq!(none.uris(), Err(ServerError::NoUrl));
    }
}
