//! Addresses that vanish and come back under the calls, in a network namespace of one's own.

use std::cell::Cell;
use std::time::Duration;

use ortc_io::enumerate_interfaces;
use tokio::process::Command;

/// The interface, and the other end of its cable, where nobody is.
const INTERFACE: &str = "soak0";
const PEER: &str = "soak1";

/// Its addresses (RFC 2544: networks of test benches), beside loopback. Each is alone in its
/// network: with the first address of one the others would go as well.
const ADDRESSES: [&str; 3] = ["198.18.0.1/32", "198.18.0.2/32", "198.18.0.3/32"];

/// How long an address is away, and how long all are there: the calls of a round take half a second
/// where nothing else is to be done, and several changes are to meet them.
const AWAY: Duration = Duration::from_millis(100);

/// An interface whose addresses come and go.
#[derive(Debug)]
pub(super) struct Networks {
    /// Whose turn it is to go, from round to round: else the first one would be gone the most, and
    /// always before there are calls.
    turn: Cell<usize>,
}

impl Networks {
    /// Makes the interface.
    ///
    /// # Errors
    /// When the process is not alone in its network namespace, as this would change the network of
    /// the machine, or may not change it.
    pub(super) async fn begin() -> Result<Self, String> {
        let addresses = enumerate_interfaces().map_err(|error| error.to_string())?;
        if let Some(other) = addresses.iter().find(|it| !it.address.is_loopback()) {
            return Err(format!(
                "this network has {} already: cargo xtask soak --changing-networks makes one apart",
                other.address
            ));
        }
        ip(&["link", "set", "lo", "up"]).await?;
        ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", PEER]).await?;
        for end in [PEER, INTERFACE] {
            ip(&["link", "set", end, "up"]).await?;
        }
        for address in ADDRESSES {
            ip(&["addr", "add", address, "dev", INTERFACE]).await?;
        }
        Ok(Self { turn: Cell::new(0) })
    }

    /// Has one address after the other vanish while `calls` go on; in the end all are there.
    pub(super) async fn change_during<T>(
        &self,
        calls: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut calls = std::pin::pin!(calls);
        loop {
            if let Ok(done) = tokio::time::timeout(AWAY, &mut calls).await {
                return done;
            }
            let turn = self.turn.replace(self.turn.get() + 1);
            let address = ADDRESSES[turn % ADDRESSES.len()];
            ip(&["addr", "del", address, "dev", INTERFACE]).await?;
            let within = tokio::time::timeout(AWAY, &mut calls).await;
            ip(&["addr", "add", address, "dev", INTERFACE]).await?;
            if let Ok(done) = within {
                return done;
            }
        }
    }
}

async fn ip(arguments: &[&str]) -> Result<(), String> {
    let line = arguments.join(" ");
    let status = Command::new("ip").args(arguments).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip {line}: {status}")),
        Err(error) => Err(format!("ip {line}: {error}")),
    }
}
