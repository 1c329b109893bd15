//! Names of the link that stand for addresses of ours (RFC 6762), so that a peer need not be
//! told these to find us from the same link (draft-ietf-mmusic-mdns-ice-candidates).
//!
//! As browsers do, nothing is probed or announced: nobody else makes up the same random name.
//! Answers go to the group of the link that was asked from, never to an address: what comes from
//! beyond the link gets none, and nobody can have them sent elsewhere.

mod answers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socket2::Domain;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

pub(crate) use self::answers::Answers;
use self::answers::LinkId;
use super::mdns::{GROUP, GROUP_V6, PORT, beside_others};
use crate::{InterfaceAddress, interfaces, now};

/// Most links that questions are taken from.
const MAX_LINKS: usize = 32;

/// How long a link is left alone whose socket reports an error.
const PAUSE: Duration = Duration::from_secs(1);

/// What has been asked and answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkNameStats {
    /// Names that there are now.
    pub names: u64,
    /// Names refused, over 4,096.
    pub refused: u64,
    /// Questions for names that there were.
    pub asked: u64,
    /// Of these, the ones that were answered.
    pub answered: u64,
    /// Those that were not, less than a second after the same answer went to the same link.
    pub repeated: u64,
    /// Those whose asker has said that it knows.
    pub known: u64,
    /// Messages that break the grammar.
    pub malformed: u64,
}

/// Names of the link that stand for addresses of this host: a handle, which is cheap to clone.
///
/// Port 5353 is bound, beside whoever else has it, while there are names.
#[derive(Clone)]
pub struct LinkNames(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: Answers,
    links: Vec<Link>,
    next_link: LinkId,
    refused: u64,
}

/// A link on which questions are heard.
struct Link {
    /// The address of ours there, or the number of the interface.
    at: At,
    socket: Arc<UdpSocket>,
    hearing: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    V4(Ipv4Addr),
    V6(u32),
}

/// A name that is answered as long as this lives.
pub struct PublishedName {
    names: LinkNames,
    name: String,
}

impl LinkNames {
    /// Makes a handle with no names.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Has a name, `LABEL.local`, stand for an address, answered by tasks of this runtime.
    ///
    /// # Errors
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) over 4,096 names;
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists); what the system says when it lets nobody
    /// hear on any link.
    pub fn publish(&self, name: &str, address: IpAddr) -> io::Result<PublishedName> {
        let mut state = self.state();
        if let Err(error) = state.answers.insert(name, address) {
            state.refused += u64::from(error.kind() == io::ErrorKind::QuotaExceeded);
            return Err(error);
        }
        let published = PublishedName { names: self.clone(), name: name.to_owned() };
        let heard = state.hear(&self.0);
        // Dropping the name takes the lock.
        drop(state);
        heard.map(|()| published)
    }

    /// What has been asked and answered so far.
    pub fn stats(&self) -> LinkNameStats {
        let state = self.state();
        LinkNameStats { refused: state.refused, ..state.answers.stats() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LinkNames {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for LinkNames {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LinkNames {}

impl fmt::Debug for LinkNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkNames").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl PublishedName {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for PublishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublishedName").field(&self.name).finish()
    }
}

impl Drop for PublishedName {
    fn drop(&mut self) {
        let mut state = self.names.state();
        let Some(farewell) = state.answers.remove(&self.name) else { return };
        // Who knows it is told that it has gone (RFC 6762 §10.1); if not, it forgets it itself.
        for link in &state.links {
            let _ = link.socket.try_send_to(&farewell, link.at.group());
        }
        if state.answers.is_empty() {
            state.links.clear();
        }
    }
}

impl State {
    /// Hears on all links that there are now.
    fn hear(&mut self, own: &Arc<Mutex<Self>>) -> io::Result<()> {
        let wanted = links(&interfaces::enumerate_interfaces()?);
        self.links.retain(|link| wanted.contains(&link.at));
        let mut failure = None;
        for at in wanted {
            if self.links.len() >= MAX_LINKS || self.links.iter().any(|link| link.at == at) {
                continue;
            }
            match at.open() {
                Ok(socket) => {
                    let (id, socket) = (self.next_link, Arc::new(socket));
                    self.next_link += 1;
                    let hearing = hear(id, at, Arc::clone(&socket), Arc::downgrade(own));
                    let hearing = tokio::spawn(hearing).abort_handle();
                    self.links.push(Link { at, socket, hearing });
                }
                // One without multicast, for example: the others will do.
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if self.links.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

/// One address for each interface and family.
fn links(interfaces: &[InterfaceAddress]) -> Vec<At> {
    let (mut seen, mut links) = (Vec::new(), Vec::new());
    for InterfaceAddress { name, address, scope_id, .. } in interfaces {
        let at = match address {
            IpAddr::V4(v4) => At::V4(*v4),
            // Of each interface with IPv6 there is one, and it alone says which it is.
            IpAddr::V6(_) if *scope_id != 0 => At::V6(*scope_id),
            IpAddr::V6(_) => continue,
        };
        let key = (name.as_str(), address.is_ipv4());
        if !seen.contains(&key) {
            seen.push(key);
            links.push(at);
        }
    }
    links
}

impl At {
    fn group(self) -> SocketAddr {
        match self {
            Self::V4(_) => (GROUP, PORT).into(),
            Self::V6(_) => (GROUP_V6, PORT).into(),
        }
    }

    /// A socket that hears what is said on this link, and on no other, beside those of others.
    fn open(self) -> io::Result<UdpSocket> {
        let domain = if matches!(self, Self::V4(_)) { Domain::IPV4 } else { Domain::IPV6 };
        let socket = beside_others(domain)?;
        match self {
            Self::V4(address) => {
                socket.set_multicast_loop_v4(true)?;
                socket.set_multicast_ttl_v4(255)?;
                #[cfg(target_os = "linux")]
                socket.set_multicast_all_v4(false)?;
                socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
                socket.join_multicast_v4(&GROUP, &address)?;
                socket.set_multicast_if_v4(&address)?;
            }
            Self::V6(index) => {
                socket.set_only_v6(true)?;
                socket.set_multicast_loop_v6(true)?;
                socket.set_multicast_hops_v6(255)?;
                #[cfg(target_os = "linux")]
                socket.set_multicast_all_v6(false)?;
                socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
                socket.join_multicast_v6(&GROUP_V6, index)?;
                socket.set_multicast_if_v6(index)?;
            }
        }
        UdpSocket::from_std(socket.into())
    }
}

/// Answers what is asked on one link.
async fn hear(id: LinkId, at: At, socket: Arc<UdpSocket>, state: Weak<Mutex<State>>) {
    let mut buffer = [0; 2048];
    loop {
        let received = socket.recv_from(&mut buffer).await;
        let Some(state) = state.upgrade() else { return };
        match received {
            Ok((len, _)) => {
                let answer = lock(&state).answers.answer(now(), id, &buffer[..len]);
                if let Some(answer) = answer {
                    // It is asked again if it is lost.
                    let _ = socket.send_to(&answer, at.group()).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, ?at, "questions on a link are not heard");
                drop(state);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
