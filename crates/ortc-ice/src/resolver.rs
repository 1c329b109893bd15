//! Names, resolved by the system off the thread.

use std::net::IpAddr;
use std::time::Duration;

/// How long a name may take: what a resolver needs to ask two servers twice.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 16;

/// The addresses of a name, or why there are none.
pub(crate) async fn resolve(host: String) -> Result<Vec<IpAddr>, String> {
    let lookup = async {
        let found = tokio::net::lookup_host((host.as_str(), 0)).await;
        found.map_err(|error| error.to_string()).map(|found| {
            found.map(|address| address.ip().to_canonical()).take(MAX_ADDRESSES).collect()
        })
    };
    match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(result) => result,
        Err(_) => Err("no answer within 5 s".into()),
    }
}
