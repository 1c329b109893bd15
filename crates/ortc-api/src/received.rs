//! Which received streams and tracks are connected, and who is told.

use ortc_rtp::{DisconnectReason, Ssrc};

use crate::events::MediaEvent;
use crate::hub::{EventHub, Subscription};
use crate::media::{MediaStream, MediaStreamTrack};

/// The received streams and tracks of one connection, with their listeners.
///
/// A stream is connected while at least one of its tracks is (ORTC drafts, "Extensions to
/// MediaCapture MediaStream").
#[derive(Default)]
pub(crate) struct Received {
    tracks: Vec<Track>,
    streams: Vec<Stream>,
}

struct Track {
    track: MediaStreamTrack,
    connected: bool,
    hub: EventHub<MediaStreamTrack, MediaEvent>,
}

struct Stream {
    stream: MediaStream,
    hub: EventHub<MediaStream, MediaEvent>,
}

impl Received {
    /// Adds a track, and the streams that are new with it.
    pub(crate) fn add(&mut self, track: MediaStreamTrack, new: &[MediaStream]) {
        self.tracks.reserve_exact(1);
        self.tracks.push(Track { track, connected: false, hub: EventHub::new() });
        self.streams.reserve_exact(new.len());
        self.streams.extend(
            new.iter().map(|stream| Stream { stream: stream.clone(), hub: EventHub::new() }),
        );
    }

    /// Forgets a track, and the streams that end with it; whoever listens to these hears nothing
    /// more. A stream that goes on and was connected by that track alone is disconnected.
    pub(crate) fn remove(
        &mut self,
        track: &MediaStreamTrack,
        left: &[MediaStream],
        ended: &[MediaStream],
    ) {
        self.streams.retain(|entry| !ended.contains(&entry.stream));
        let was_connected =
            self.tracks.iter().any(|entry| entry.track == *track && entry.connected);
        self.tracks.retain(|entry| entry.track != *track);
        if !was_connected {
            return;
        }
        for Stream { stream, hub } in &mut self.streams {
            let members = stream.tracks();
            let is_connected =
                self.tracks.iter().any(|entry| entry.connected && members.contains(&entry.track));
            if left.contains(stream) && !is_connected {
                hub.emit(MediaEvent::Disconnected(DisconnectReason::Bye), Some(stream));
            }
        }
    }

    /// The connection has ended: so has all that is connected.
    pub(crate) fn end(&mut self, reason: DisconnectReason) {
        let connected = self.tracks.iter().filter(|entry| entry.connected);
        let ssrcs: Vec<_> = connected.filter_map(|entry| entry.track.received_ssrc()).collect();
        for ssrc in ssrcs {
            self.disconnected(ssrc, reason);
        }
    }

    /// Whether a track of this SSRC has been described.
    pub(crate) fn has(&self, ssrc: Ssrc) -> bool {
        self.tracks.iter().any(|entry| entry.track.received_ssrc() == Some(ssrc))
    }

    /// RTP of a track has come.
    pub(crate) fn connected(&mut self, ssrc: Ssrc) {
        self.change(ssrc, MediaEvent::Connected);
    }

    /// A track has ended, for now.
    pub(crate) fn disconnected(&mut self, ssrc: Ssrc, reason: DisconnectReason) {
        self.change(ssrc, MediaEvent::Disconnected(reason));
    }

    fn change(&mut self, ssrc: Ssrc, event: MediaEvent) {
        let connects = event == MediaEvent::Connected;
        let of_ssrc = |entry: &&mut Track| entry.track.received_ssrc() == Some(ssrc);
        let Some(entry) = self.tracks.iter_mut().find(of_ssrc) else { return };
        if entry.connected == connects {
            return;
        }
        entry.connected = connects;
        let changed = entry.track.clone();
        // The stream first: a track is connected in a stream that is.
        let others = |stream: &MediaStream, tracks: &[Track]| {
            let members = stream.tracks();
            tracks.iter().any(|entry| {
                entry.connected && entry.track != changed && members.contains(&entry.track)
            })
        };
        for Stream { stream, hub } in &mut self.streams {
            if stream.tracks().contains(&changed) && !others(stream, &self.tracks) {
                hub.emit(event, Some(stream));
            }
        }
        if let Some(entry) = self.tracks.iter_mut().find(|entry| entry.track == changed) {
            entry.hub.emit(event, Some(&entry.track));
        }
    }

    pub(crate) fn subscribe_track(
        &mut self,
        track: &MediaStreamTrack,
        subscription: Subscription<MediaStreamTrack, MediaEvent>,
    ) {
        if let Some(entry) = self.tracks.iter_mut().find(|entry| entry.track == *track) {
            entry.hub.subscribe(subscription, Some(track));
        }
    }

    pub(crate) fn subscribe_stream(
        &mut self,
        stream: &MediaStream,
        subscription: Subscription<MediaStream, MediaEvent>,
    ) {
        if let Some(entry) = self.streams.iter_mut().find(|entry| entry.stream == *stream) {
            entry.hub.subscribe(subscription, Some(stream));
        }
    }

    /// Drops every handler and ends every stream of events.
    pub(crate) fn close(&mut self) {
        self.tracks.clear();
        self.streams.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::tests::received_opus as track;
    use std::sync::{Arc, Mutex, Weak};

    type Log = Arc<Mutex<Vec<(&'static str, MediaEvent)>>>;

    fn listen<T>(
        log: &Log,
        name: &'static str,
        kind: crate::MediaEventKind,
    ) -> Subscription<T, MediaEvent> {
        let log = Arc::clone(log);
        let handler = move |_: &T, event| log.lock().unwrap().push((name, event));
        Subscription::Handler(kind, Some(Box::new(handler)))
    }

    fn listen_to_all(received: &mut Received, log: &Log) {
        use crate::MediaEventKind::{Connected, Disconnected};
        let names = ["first", "second", "third"];
        for kind in [Connected, Disconnected] {
            for (entry, name) in received.tracks.iter_mut().zip(names) {
                let track = entry.track.clone();
                entry.hub.subscribe(listen(log, name, kind), Some(&track));
            }
            for entry in &mut received.streams {
                let stream = entry.stream.clone();
                entry.hub.subscribe(listen(log, "stream", kind), Some(&stream));
            }
        }
    }

    #[test]
    fn a_stream_is_connected_from_its_first_track_to_its_last() {
        const BYE: DisconnectReason = DisconnectReason::Bye;
        let log = Log::default();
        let mut received = Received::default();
        let stream = MediaStream::remote("m".into(), Weak::new());
        let (one, two) = (track(1), track(2));
        stream.join(&one);
        stream.join(&two);
        received.add(one, std::slice::from_ref(&stream));
        received.add(two, &[]);
        listen_to_all(&mut received, &log);
        received.connected(Ssrc(1));
        received.connected(Ssrc(1));
        received.connected(Ssrc(2));
        received.disconnected(Ssrc(1), BYE);
        received.disconnected(Ssrc(2), DisconnectReason::TimedOut);
        received.disconnected(Ssrc(9), BYE);
        let timed_out = MediaEvent::Disconnected(DisconnectReason::TimedOut);
        assert_eq!(
            *log.lock().unwrap(),
            [
                ("stream", MediaEvent::Connected),
                ("first", MediaEvent::Connected),
                ("second", MediaEvent::Connected),
                ("first", MediaEvent::Disconnected(BYE)),
                ("stream", timed_out),
                ("second", timed_out),
            ]
        );
    }

    #[test]
    fn what_is_let_go_of_and_what_ends_with_its_connection_is_disconnected_once() {
        let log = Log::default();
        let mut received = Received::default();
        let stream = MediaStream::remote("m".into(), Weak::new());
        let (one, two) = (track(1), track(2));
        stream.join(&one);
        stream.join(&two);
        received.add(one.clone(), std::slice::from_ref(&stream));
        received.add(two, &[]);
        listen_to_all(&mut received, &log);
        received.connected(Ssrc(1));
        received.connected(Ssrc(2));
        received.disconnected(Ssrc(2), DisconnectReason::TimedOut);
        log.lock().unwrap().clear();
        stream.leave(&one);
        received.remove(&one, std::slice::from_ref(&stream), &[]);
        received.connected(Ssrc(2));
        received.end(DisconnectReason::Bye);
        received.end(DisconnectReason::Bye);
        let bye = MediaEvent::Disconnected(DisconnectReason::Bye);
        assert_eq!(
            *log.lock().unwrap(),
            [
                ("stream", bye),
                ("stream", MediaEvent::Connected),
                ("second", MediaEvent::Connected),
                ("stream", bye),
                ("second", bye),
            ]
        );
    }
}
