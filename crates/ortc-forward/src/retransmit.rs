//! What a subscriber has lost is sent again from what its source has brought in lately: the
//! publisher hears nothing of it.

use std::time::Instant;

use ortc_io::{ConnectionId, DatagramIo, Path};
use ortc_rtp::{Retransmission, RetransmitConfig, RtpView};

use crate::flight::record_sent;
use crate::link::guarded;
use crate::plane::Plane;

/// Packets that are sent again to one connection before others get a turn.
const RETRANSMISSIONS_PER_TURN: usize = 128;

impl Plane {
    /// Has packets of a sending track be sent again, and, if another connection receives them,
    /// be kept where they are opened.
    pub(crate) fn retransmit(
        &mut self,
        now: Instant,
        id: ConnectionId,
        config: RetransmitConfig,
        io: &mut impl DatagramIo,
    ) {
        let (ssrc, keeps) = (config.ssrc, config.nack);
        if !self.with_session(id, io, |session| session.retransmit_sender(now, config)) || !keeps {
            return;
        }
        let link = self.links.get_mut(id);
        if let Some(source) = link.and_then(|link| link.session.as_ref()?.source_of(ssrc)) {
            self.keep_history(source);
        }
    }

    /// Sends a connection again what it has lost of the tracks of others.
    pub(crate) fn serve_retransmissions(
        &mut self,
        now: Instant,
        id: ConnectionId,
        path: Option<Path>,
        io: &mut impl DatagramIo,
    ) {
        for _ in 0..RETRANSMISSIONS_PER_TURN {
            let Some(link) = self.links.get_mut(id) else { return };
            let Some(session) = link.session.as_mut() else { return };
            let Some(wanted) = session.poll_retransmission() else { return };
            let mut packet = std::mem::take(&mut self.wanted);
            packet.clear();
            if let Some(kept) = self.kept(now, &wanted) {
                packet.extend_from_slice(kept);
            }
            if !self.send_again(now, (id, path), &wanted, &packet, io) {
                self.give_up(id, io);
            }
            self.wanted = packet;
        }
        // The rest goes out in the next turn.
        if let Some(link) = self.links.get_mut(id)
            && link.session.as_ref().is_some_and(|session| session.has_retransmissions())
        {
            link.mark.set();
        }
    }

    /// Seals a kept packet, empty for one that is not, into the outgoing batch; false when that
    /// has panicked.
    fn send_again(
        &mut self,
        now: Instant,
        (id, path): (ConnectionId, Option<Path>),
        wanted: &Retransmission,
        packet: &[u8],
        io: &mut impl DatagramIo,
    ) -> bool {
        loop {
            let Some(link) = self.links.get_mut(id) else { return true };
            let Some(session) = &mut link.session else { return true };
            let recorder = &mut link.recorder;
            let outgoing = &mut self.outgoing;
            let fits = guarded(|| {
                // It was parsed when it was opened, and parses again.
                let (Some(path), Ok(packet)) = (path, RtpView::parse(packet)) else {
                    session.count_unavailable(wanted);
                    return true;
                };
                let Some(room) = session.retransmission_room(wanted, &packet) else { return true };
                outgoing.push_on(path, room, |buffer| {
                    let len = session.write_retransmission(now, wanted, &packet, buffer)?;
                    record_sent(recorder, now, path, &buffer[..len]);
                    Some(len)
                })
            });
            match fits {
                Some(false) if !self.outgoing.is_empty() => self.flush(io),
                Some(_) => return true,
                None => return false,
            }
        }
    }
}
