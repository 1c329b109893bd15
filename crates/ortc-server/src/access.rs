//! Who may use a server: pages of which origins, and who has the join token.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

/// Who may use a server. By default whoever reaches it, but no page of another site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Origins whose pages may, such as `https://meet.example.org`, beside the server's own at an
    /// IP address, and those of this computer. A server that is reached by a name needs that here: else a page
    /// from elsewhere could let its own name lead to this server.
    pub origins: Vec<String>,
    /// What a peer has to give as `?token=` to join anything. Default `None`: nothing.
    pub token: Option<String>,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// A page of another site asks.
    #[error("pages of this origin may not use this server: allow it with --origin")]
    Origin,
    /// The token is missing or wrong.
    #[error("this server asks for a join token, and this is not it")]
    Token,
}

impl AccessConfig {
    /// Whether the page that asks is one of ours. A program that is no browser says no origin.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().map_err(|_| Denied::Origin)?;
        let host =
            headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is_allowed = self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
        (is_allowed || is_own(origin, host)).then_some(()).ok_or(Denied::Origin)
    }

    /// Whether this is a request of one of our own pages: one that says so.
    pub(crate) fn check_page(&self, headers: &HeaderMap) -> Result<(), Denied> {
        if !headers.contains_key(header::ORIGIN) {
            return Err(Denied::Origin);
        }
        self.check_origin(headers)
    }

    /// Whether the token is in the query, if one is asked for.
    pub(crate) fn check_token(&self, uri: &Uri) -> Result<(), Denied> {
        let Some(expected) = &self.token else { return Ok(()) };
        let query = uri.query().unwrap_or_default();
        let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        let is_right = given.is_some_and(|given| is_same(given.as_bytes(), expected.as_bytes()));
        is_right.then_some(()).ok_or(Denied::Token)
    }
}

/// Whether a token can stand in a URL as it is: 1 to 128 of the characters that names have.
pub(crate) fn is_token(token: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=128).contains(&token.len()) && token.bytes().all(is_unreserved)
}

/// Whether an origin is the host that was asked, by an address that no name server gives out; of
/// this computer, at any port: whoever serves pages here is trusted with less than a room.
fn is_own(origin: &str, host: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let is_literal = is_loopback(authority) || name_of(authority).parse::<IpAddr>().is_ok();
    (is_literal && authority.eq_ignore_ascii_case(host))
        || (is_loopback(authority) && is_loopback(host))
}

fn is_loopback(authority: &str) -> bool {
    let name = name_of(authority);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The host of `HOST:PORT`, without the brackets of IPv6.
fn name_of(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// Compares without telling by the time it takes where two secrets differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(origin: Option<&'static str>, host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    fn may(origin: Option<&'static str>, host: &'static str) -> bool {
        let access = AccessConfig { origins: vec!["https://meet.example".to_owned()], token: None };
        access.check_origin(&headers(origin, host)).is_ok()
    }

    #[test]
    fn pages_of_other_sites_may_not() {
        assert!(may(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"));
        assert!(may(Some("http://[::1]:8080"), "[::1]:8080"));
        assert!(may(Some("http://localhost"), "localhost"));
        assert!(may(Some("https://meet.example"), "10.0.0.1:8080"));
        assert!(may(Some("http://localhost:3000"), "127.0.0.1:8080"));
        assert!(!may(Some("http://192.0.2.1:9090"), "192.0.2.1:8080"));
        assert!(!may(Some("https://evil.example"), "127.0.0.1:8080"));
        assert!(!may(Some("null"), "127.0.0.1:8080"));
    }

    #[test]
    fn a_name_that_is_made_to_lead_here_is_another_site() {
        assert!(!may(Some("http://evil.example:8080"), "evil.example:8080"));
        assert!(!may(Some("http://localhost.evil.example"), "localhost.evil.example"));
    }

    #[test]
    fn a_program_needs_no_origin_and_a_page_that_changes_something_does() {
        assert!(may(None, "127.0.0.1:8080"));
        let access = AccessConfig::default();
        assert_eq!(access.check_page(&headers(None, "127.0.0.1:1")), Err(Denied::Origin));
        let own = headers(Some("http://127.0.0.1:1"), "127.0.0.1:1");
        assert_eq!(access.check_page(&own), Ok(()));
    }

    #[test]
    fn the_token_is_asked_for_if_there_is_one() {
        let check = |token: Option<&str>, uri: &'static str| {
            let token = token.map(str::to_owned);
            AccessConfig { origins: Vec::new(), token }.check_token(&Uri::from_static(uri))
        };
        assert_eq!(check(None, "/rooms/x"), Ok(()));
        assert_eq!(check(Some("abc"), "/rooms/x"), Err(Denied::Token));
        assert_eq!(check(Some("abc"), "/rooms/x?token=abd"), Err(Denied::Token));
        assert_eq!(check(Some("abc"), "/rooms/x?token=abcd"), Err(Denied::Token));
        assert_eq!(check(Some("abc"), "/rooms/x?a=1&token=abc"), Ok(()));
    }

    #[test]
    fn a_token_stands_in_a_url_as_it_is() {
        assert!(is_token("Az09._~-"));
        assert!(
            !is_token("") && !is_token("a b") && !is_token("a&b") && !is_token(&"a".repeat(129))
        );
    }
}
