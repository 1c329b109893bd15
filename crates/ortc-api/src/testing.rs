//! For tests of what is built on this crate: signalling within one process.

use crate::connection::RTCConnection;
use crate::error::{ConnectError, ReceiveTrackError, SetRemoteIceError};

/// Why two connections could not be introduced to each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntroduceError {
    /// The credentials of one were not taken by the other.
    #[error(transparent)]
    RemoteIce(#[from] SetRemoteIceError),
    /// A track of one was not taken by the other.
    #[error(transparent)]
    Track(#[from] ReceiveTrackError),
    /// One did not begin to connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Has two connections of one process signal each other all that a signalling channel would carry:
/// credentials, the tracks that they send by now, and candidates as they come and go. Both connect.
///
/// It sets the handlers of candidates of both (`on_candidate`, `on_candidate_withdrawn`); neither
/// keeps the other open. A track that is added later is the application's to describe, by
/// [`RTCConnection::receive_track`].
///
/// ```
/// use ortc_api::sim;
/// use ortc_api::testing::introduce;
/// use ortc_api::{Engine, RTCConnection, RTCConnectionOptions, RTCEvent};
///
/// sim::run(7, |net| async move {
///     let [one, two] = [1, 2].map(|n| {
///         let host = net.host(&format!("host {n}"), &[[10, 0, 0, n].into()]);
///         let engine = Engine::simulated(host.io(), net.random());
///         RTCConnection::new(RTCConnectionOptions::new().with_engine(engine)).unwrap()
///     });
///     introduce(&one, &two).unwrap();
///     let mut events = one.events();
///     while events.recv().await.expect("open") != RTCEvent::Connected {}
/// });
/// ```
///
/// # Errors
/// When one of them does not take what the other says, as it would be on a channel.
pub fn introduce(one: &RTCConnection, two: &RTCConnection) -> Result<(), IntroduceError> {
    for (own, other) in [(one, two), (two, one)] {
        let (peer, left) = (other.downgrade(), other.downgrade());
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            // Either may have been closed by now.
            let is_set = conn.set_local_candidate(&candidate).is_ok();
            if let Some(peer) = peer.upgrade().filter(|_| is_set) {
                let _ = peer.set_remote_candidate(&candidate);
            }
        }));
        own.on_candidate_withdrawn(Some(move |_: &RTCConnection, candidate| {
            if let Some(peer) = left.upgrade() {
                let _ = peer.remove_remote_candidate(&candidate);
            }
        }));
        own.set_remote_ice(other.local().ice)?;
        for track in other.tracks(None) {
            own.receive_track(&track.description())?;
        }
    }
    one.connect()?;
    Ok(two.connect()?)
}
