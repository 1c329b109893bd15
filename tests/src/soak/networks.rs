//! Addresses that vanish and come back under the calls, in a network namespace of one's own.

use std::time::Duration;

use tokio::process::Command;

/// The interface, which leads nowhere.
const INTERFACE: &str = "soak0";

/// Its addresses (RFC 2544: networks of test benches), beside loopback.
const ADDRESSES: [&str; 3] = ["198.18.0.1/24", "198.18.0.2/24", "198.18.0.3/24"];

/// How long an address is away, and how long all are there.
const AWAY: Duration = Duration::from_millis(300);

/// An interface whose addresses come and go.
#[derive(Debug)]
pub(super) struct Networks(());

impl Networks {
    /// Makes the interface. The process has to be alone in its network namespace, and may change
    /// it, or this changes the network of the machine.
    pub(super) async fn begin() -> Result<Self, String> {
        ip(&["link", "set", "lo", "up"]).await?;
        ip(&["link", "add", INTERFACE, "type", "dummy"]).await?;
        ip(&["link", "set", INTERFACE, "up"]).await?;
        for address in ADDRESSES {
            ip(&["addr", "add", address, "dev", INTERFACE]).await?;
        }
        Ok(Self(()))
    }

    /// Has one address after the other vanish while `calls` go on; in the end all are there.
    pub(super) async fn change_during<T>(
        &self,
        calls: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut calls = std::pin::pin!(calls);
        for address in ADDRESSES.iter().cycle() {
            ip(&["addr", "del", address, "dev", INTERFACE]).await?;
            let within = tokio::time::timeout(AWAY, &mut calls).await;
            ip(&["addr", "add", address, "dev", INTERFACE]).await?;
            match within {
                Ok(done) => return done,
                Err(_) => {
                    if let Ok(done) = tokio::time::timeout(AWAY, &mut calls).await {
                        return done;
                    }
                }
            }
        }
        Err("there are no addresses".to_owned())
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
