//! Names, resolved off the threads that have better things to do.

pub(crate) mod mdns;
pub(crate) mod names;

use std::net::IpAddr;
use std::time::Duration;

pub use self::names::{LinkNameStats, LinkNames, PublishedName};

/// How long a name may take: what a resolver needs to ask two servers twice.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 16;

/// The addresses of a name: asked of the system, or, if it ends in `.local`, of the hosts on
/// the same links by multicast (RFC 6762), as browsers hide their addresses.
///
/// # Errors
/// In words, why there are none: the system says so, or nobody answers within 5 s, on a link
/// within 3 s.
pub async fn resolve(name: String) -> Result<Vec<IpAddr>, String> {
    if is_of_the_link(&name) {
        return mdns::resolve(&name).await.map_err(|error| error.to_string());
    }
    let lookup = async {
        let found = tokio::net::lookup_host((name.as_str(), 0)).await;
        found.map_err(|error| error.to_string()).map(|found| {
            found.map(|address| address.ip().to_canonical()).take(MAX_ADDRESSES).collect()
        })
    };
    match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(result) => result,
        Err(_) => Err("no answer within 5 s".into()),
    }
}

/// Whether a name is one of RFC 6762 with a single label before `.local`, as those of ICE
/// candidates are.
pub fn is_of_the_link(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels = name.rsplit_once('.');
    labels.is_some_and(|(host, top)| top.eq_ignore_ascii_case("local") && !host.contains('.'))
}
