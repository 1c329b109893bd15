//! What is served to browsers: the page and `ortc.js`, out of the program itself.

use std::path::PathBuf;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

/// Nothing from elsewhere, no script or style in a page itself, no frame, no form. What a page
/// connects to is this server, as `'self'` stands for its WebSockets too.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; worker-src 'self'; media-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What this site may ask a browser for: nobody else's page may in its name.
const PERMISSIONS: &str =
    "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self)";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file that is served: its path there, its path in this crate's directory, and its content.
struct Asset {
    path: &'static str,
    source: &'static str,
    kind: &'static str,
    body: &'static str,
}

macro_rules! assets {
    ($($path:literal = $kind:ident $source:literal),* $(,)?) => {
        &[$(Asset {
            path: $path,
            source: $source,
            kind: $kind,
            body: include_str!(concat!("../", $source)),
        }),*]
    };
}

const ASSETS: &[Asset] = assets![
    "/start" = HTML "assets/index.html",
    "/r/" = HTML "assets/room.html",
    "/style.css" = STYLE "assets/style.css",
    "/room.css" = STYLE "assets/room.css",
    "/icon.svg" = IMAGE "assets/icon.svg",
    "/page/start.js" = SCRIPT "assets/page/start.js",
    "/page/room.js" = SCRIPT "assets/page/room.js",
    "/page/call.js" = SCRIPT "assets/page/call.js",
    "/page/media.js" = SCRIPT "assets/page/media.js",
    "/page/figures.js" = SCRIPT "assets/page/figures.js",
    "/page/grid.js" = SCRIPT "assets/page/grid.js",
    "/page/plot.js" = SCRIPT "assets/page/plot.js",
    "/page/keypad.js" = SCRIPT "assets/page/keypad.js",
    "/ortc.js" = SCRIPT "js/ortc.js",
    "/ortc/candidates.js" = SCRIPT "js/ortc/candidates.js",
    "/ortc/capabilities.js" = SCRIPT "js/ortc/capabilities.js",
    "/ortc/codecs.js" = SCRIPT "js/ortc/codecs.js",
    "/ortc/connection.js" = SCRIPT "js/ortc/connection.js",
    "/ortc/description.js" = SCRIPT "js/ortc/description.js",
    "/ortc/dtmf.js" = SCRIPT "js/ortc/dtmf.js",
    "/ortc/events.js" = SCRIPT "js/ortc/events.js",
    "/ortc/identity.js" = SCRIPT "js/ortc/identity.js",
    "/ortc/monitor.js" = SCRIPT "js/ortc/monitor.js",
    "/ortc/prepare.js" = SCRIPT "js/ortc/prepare.js",
    "/ortc/receiving.js" = SCRIPT "js/ortc/receiving.js",
    "/ortc/sha256.js" = SCRIPT "js/ortc/sha256.js",
    "/ortc/simulcast.js" = SCRIPT "js/ortc/simulcast.js",
    "/ortc/tone-receiver.js" = SCRIPT "js/ortc/tone-receiver.js",
    "/ortc/tone-worker.js" = SCRIPT "js/ortc/tone-worker.js",
    "/ortc/tones.js" = SCRIPT "js/ortc/tones.js",
    "/ortc/track.js" = SCRIPT "js/ortc/track.js",
    "/ortc/transport.js" = SCRIPT "js/ortc/transport.js",
];

/// The files of the site.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Read files from this crate's directory instead, so that a change shows without a build.
    source: Option<PathBuf>,
    /// The address of the server, as a browser on this host takes it.
    url: String,
    /// The room that `/` leads to; without one, it leads to the start page.
    lobby: Option<String>,
}

impl Site {
    pub(crate) fn new(source: Option<PathBuf>, url: String, lobby: Option<String>) -> Self {
        Self { source, url, lobby }
    }

    /// The file at this path, if there is one. Any name under `/r/` is the page of a room.
    pub(crate) fn get(&self, path: &str) -> Option<Response> {
        if path == "/" {
            let path = self.lobby.as_ref().map_or("/start".to_owned(), |room| format!("/r/{room}"));
            return Some(Redirect::to(&path).into_response());
        }
        let path = match path.strip_prefix("/r/") {
            Some(name) if !name.is_empty() && !name.contains('/') => "/r/",
            Some(_) => return None,
            None => path,
        };
        let asset = ASSETS.iter().find(|asset| asset.path == path)?;
        // Only what is in the table is ever read, and never a path that somebody sends.
        let read =
            self.source.as_ref().map(|root| std::fs::read_to_string(root.join(asset.source)));
        let mut body = match read {
            Some(Ok(text)) => text,
            Some(Err(_)) => return None,
            None => asset.body.to_owned(),
        };
        if path == "/start" {
            let socket = self.url.replacen("http", "ws", 1);
            body = body.replace("{version}", env!("CARGO_PKG_VERSION"));
            body = body.replace("{url}", &self.url).replace("{socket}", &socket);
        }
        Some(typed(asset.kind, body))
    }
}

/// A response of this content type.
pub(crate) fn typed(kind: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Adds what browsers are told with every response.
pub(crate) async fn guard(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::new(None, "http://127.0.0.1:1".to_owned(), Some("tea".to_owned()))
    }

    #[test]
    fn a_room_has_the_same_page_whatever_its_name() {
        for path in ["/r/tea", "/r/a.b~c", "/", "/start", "/ortc.js", "/ortc/connection.js"] {
            assert!(site().get(path).is_some(), "{path}");
        }
        for path in ["/r/", "/r/a/b", "/ortc/", "/ortc/../ortc.js", "/js/ortc.js", "/nothing"] {
            assert!(site().get(path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_address_alone_leads_to_one_room() {
        let response = site().get("/").unwrap();
        assert_eq!(response.headers()[header::LOCATION], "/r/tea");
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT) {
            let imports = asset.body.lines().filter_map(|line| {
                let (_, path) = line.rsplit_once(" from ")?;
                path.strip_suffix(';')?.strip_prefix('"')?.strip_suffix('"')
            });
            for import in imports {
                let directory = asset.path.rsplit_once('/').map_or("", |(directory, _)| directory);
                let path = match import.strip_prefix("./") {
                    Some(name) => format!("{directory}/{name}"),
                    None => import.to_owned(),
                };
                assert!(
                    ASSETS.iter().any(|asset| asset.path == path),
                    "{} needs {path}",
                    asset.path
                );
            }
        }
    }

    #[test]
    fn pages_obey_the_policy_that_they_are_served_with() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == HTML) {
            let lower = asset.body.to_ascii_lowercase();
            for forbidden in
                ["<style", " style=", " onclick=", "<script>", "http://", "https://", "//cdn"]
            {
                assert!(!lower.contains(forbidden), "{} has {forbidden}", asset.path);
            }
        }
    }
}
