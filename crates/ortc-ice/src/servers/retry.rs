//! Allocations that were lost, made again: the server has restarted, or the stream to it has broken.

use std::time::{Duration, Instant};

use super::client::{Client, Core, Link};
use super::{Done, PREPARATION, ServerFailure, Servers, TurnClient};

/// How long after an allocation is lost it is made again, at first: longer each time that it fails,
/// up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Longest time between two attempts to make an allocation again.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Attempts to make an allocation again: for half an hour. Gathering anew begins afresh.
const MAX_RETRIES: u32 = 36;

/// An allocation that was had for so long begins afresh, too, when it is lost.
const LASTING: Duration = Duration::from_secs(60);

/// Whether a client has an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Never,
    Since(Instant),
    Lost,
}

impl Servers {
    /// Looks after all allocations: nothing comes through one of them, so it may be gone.
    pub(crate) fn doubt(&mut self, now: Instant) {
        for client in &mut self.clients {
            if let Core::Turn(turn) = &mut client.core {
                turn.doubt(now);
            }
        }
    }

    /// Plans to make an allocation again that was there; whether it will be.
    pub(super) fn retry(&mut self, now: Instant, at: usize, reason: &ServerFailure) -> bool {
        let client = &mut self.clients[at];
        match client.held {
            Held::Never => return false,
            Held::Since(since) => {
                client.held = Held::Lost;
                if now.saturating_duration_since(since) >= LASTING {
                    client.retries = 0;
                }
            }
            Held::Lost => {}
        }
        if !reason.may_pass() || client.retries >= MAX_RETRIES {
            return false;
        }
        let delay = FIRST_RETRY * 2_u32.saturating_pow(client.retries).min(1024);
        // Many clients lose their server at one moment, and are not to come back at one.
        let permille = 750 + self.ids.next() % 501;
        let delay = delay.min(LONGEST_RETRY).mul_f64(permille as f64 / 1000.0);
        client.retries += 1;
        client.again = Some(now + delay);
        true
    }

    pub(super) fn allocate_again(&mut self, now: Instant, at: usize) {
        let Client { server, address, link, .. } = self.clients[at];
        let Some(login) = self.servers[server].login.clone() else { return };
        let is_stream = !matches!(link, Link::Socket(_));
        let turn = TurnClient::again(now, login, address.is_ipv6(), is_stream);
        self.clients[at].core = Core::Turn(Box::new(turn));
        if link == Link::Closed {
            let uri = &self.servers[server].uri;
            let tls = uri.is_over_tls().then(|| uri.host.clone());
            let token = self.token();
            self.clients[at].link = Link::Opening { token, until: now + PREPARATION };
            self.done.push_back(Done::Open { token, server: address, tls });
        }
    }
}
