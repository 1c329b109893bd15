//! Keys that are pressed here: one queue, and the tracks that it is sent with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_dtmf::{EventPacket, Law, ToneEvent, ToneOutput, ToneQueue, ToneQueueConfig};
use ortc_io::ring::{PushError, RingReceiver, RingSender, ring};
use ortc_rtp::{CodecName, PayloadType, RTCCodec, TonePacket, ToneRedundancy};
use tokio::sync::watch;

use super::ToneError;
use super::engine::Tones;
use super::in_band::{self, ToneSound};
use crate::media::lock;

/// Packets between the queue and the media thread: a tone has one every 20 ms, and three more.
const TONE_RING: usize = 64;

/// The audio is silent for this long after a packet of a tone that goes on: twelve reports. A
/// control thread that is held up longer gives the line back.
pub(super) const SILENCE: Duration = Duration::from_millis(250);

/// The queue of one end, and where its packets go.
pub(crate) struct Sending {
    queue: ToneQueue,
    /// Hz of the clock of tones that begin now.
    clock_rate: u32,
    sinks: Vec<Sink>,
    next_sink: u64,
    /// Whether it has ever been sent with a track.
    is_used: bool,
}

/// One track that tones are sent with.
struct Sink {
    id: u64,
    packets: RingSender<TonePacket>,
    form: Option<(PayloadType, Form)>,
    /// Whether its connection has been connected: before, nobody would hear a tone.
    is_active: bool,
}

/// What tones are put into packets as.
enum Form {
    /// Telephone events.
    Events(Option<ToneRedundancy>),
    /// Sound.
    Sound(ToneSound),
}

/// What [`Tones`] are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    payload_type: PayloadType,
    clock_rate: u32,
    means: Means,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Events(Option<ToneRedundancy>),
    Sound(Law),
}

impl Sent {
    /// Telephone events with a clock of `clock_rate` Hz.
    pub(crate) fn events(
        payload_type: PayloadType,
        clock_rate: u32,
        redundancy: Option<ToneRedundancy>,
    ) -> Self {
        Self { payload_type, clock_rate, means: Means::Events(redundancy) }
    }

    /// Sound of this codec; `None` unless it is G.711.
    pub(crate) fn in_sound(codec: &RTCCodec) -> Option<Self> {
        let (payload_type, law) = (codec.payload_type(), in_band::law(codec)?);
        let clock_rate = codec.known()?.default_clock_rate();
        Some(Self { payload_type, clock_rate, means: Means::Sound(law) })
    }

    fn form(self) -> Option<(PayloadType, Form)> {
        let form = match self.means {
            Means::Events(redundancy) => Form::Events(redundancy),
            Means::Sound(law) => Form::Sound(ToneSound::new(law)?),
        };
        Some((self.payload_type, form))
    }
}

impl Default for Sending {
    fn default() -> Self {
        let clock_rate = CodecName::Dtmf.default_clock_rate();
        Self {
            queue: ToneQueue::new(ToneQueueConfig::new(clock_rate)),
            clock_rate,
            sinks: Vec::new(),
            next_sink: 0,
            is_used: false,
        }
    }
}

impl Sending {
    /// What is due at `now`: packets go to every track that is connected. Until one is, time
    /// stands still, and tones wait.
    pub(super) fn pump(&mut self, now: Instant) -> (Vec<ToneEvent>, Option<Instant>) {
        let mut events = Vec::new();
        if !self.sinks.iter().any(|sink| sink.is_active) {
            return (events, None);
        }
        while let Some(output) = self.queue.poll_output(now) {
            match output {
                ToneOutput::Packet(packet) => {
                    let clock_rate = self.clock_rate;
                    self.sinks.retain_mut(|sink| sink.send(&packet, clock_rate));
                }
                ToneOutput::Event(event) => events.push(event),
            }
        }
        (events, self.queue.poll_timeout().map(|(due, _)| due))
    }

    fn set_clock_rate(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
        self.queue.set_clock_rate(clock_rate);
    }

    pub(super) fn queue(&self) -> &ToneQueue {
        &self.queue
    }

    /// The queue, if there is, or may yet be, a track to send it with.
    pub(super) fn open_queue(&mut self) -> Result<&mut ToneQueue, ToneError> {
        if self.is_used && self.sinks.is_empty() {
            return Err(ToneError::Closed);
        }
        Ok(&mut self.queue)
    }
}

impl Sink {
    /// Sends a packet; whether the track is still there.
    fn send(&mut self, packet: &EventPacket, clock_rate: u32) -> bool {
        match &mut self.form {
            _ if !self.is_active => {}
            None => {}
            Some((payload_type, Form::Sound(sound))) => {
                for packet in sound.make(packet, clock_rate, *payload_type) {
                    // What has no room is a piece of sound that is missing.
                    let _ = self.packets.push(packet);
                }
            }
            Some((payload_type, Form::Events(redundancy))) => {
                let pushed = self.packets.push(TonePacket {
                    payload: Bytes::copy_from_slice(packet.payload()),
                    payload_type: *payload_type,
                    marker: packet.marker,
                    begin: packet.begin,
                    timestamp_offset: packet.timestamp_offset,
                    reaches: packet.timestamp_offset + u32::from(packet.report.duration),
                    pause: if packet.report.end { Duration::ZERO } else { SILENCE },
                    redundancy: *redundancy,
                    fill: None,
                });
                // A full ring is a media thread that stands still: the next report says the same.
                return !matches!(pushed, Err(PushError::Closed(_)));
            }
        }
        !self.packets.is_closed()
    }
}

/// That tones are sent with a track; dropping it ends that.
pub(crate) struct Attachment {
    tones: Arc<Tones>,
    sink: u64,
    /// Whether nobody else can use these tones: they end with the track.
    is_only: bool,
}

impl Tones {
    /// Has these tones sent with a track; `None` for those of a peer.
    ///
    /// The packets are for the media thread, the attachment for the control thread.
    pub(crate) fn attach(
        self: &Arc<Self>,
        sent: Sent,
        is_only: bool,
    ) -> Option<(RingReceiver<TonePacket>, Attachment)> {
        let (packets, receiver) = ring(TONE_RING);
        let mut sending = lock(self.sending.as_ref()?);
        let id = sending.next_sink;
        sending.next_sink += 1;
        sending.is_used = true;
        sending.set_clock_rate(sent.clock_rate);
        sending.sinks.push(Sink { id, packets, form: sent.form(), is_active: false });
        Some((receiver, Attachment { tones: Arc::clone(self), sink: id, is_only }))
    }

    /// Changes what tones are sent as with a track; with `None` they are not heard there.
    pub(crate) fn set_sent(&self, sink: u64, sent: Option<Sent>) {
        let Some(sending) = &self.sending else { return };
        let mut sending = lock(sending);
        if let Some(sent) = sent {
            sending.set_clock_rate(sent.clock_rate);
        }
        for sink in sending.sinks.iter_mut().filter(|other| other.id == sink) {
            sink.form = sent.and_then(Sent::form);
        }
    }

    /// Ends being sent with a track.
    pub(crate) fn detach(&self, sink: u64) {
        if let Some(sending) = &self.sending {
            lock(sending).sinks.retain(|other| other.id != sink);
            self.changed.send_replace(());
        }
    }

    /// Whether the track is still there; tones are sent with it from the first time that it is
    /// connected.
    fn refresh(&self, sink: u64, is_connected: bool) -> bool {
        let Some(sending) = &self.sending else { return false };
        let mut sending = lock(sending);
        let Some(sink) = sending.sinks.iter_mut().find(|other| other.id == sink) else {
            return false;
        };
        sink.is_active |= is_connected;
        true
    }
}

impl Attachment {
    /// Names it among the tracks that these tones are sent with.
    pub(crate) fn sink(&self) -> u64 {
        self.sink
    }

    /// Runs the tones on the control thread, until the track or its connection is gone. Where
    /// several do, whoever wakes first does what is due.
    pub(crate) async fn run(self, mut connected: watch::Receiver<bool>) {
        let mut changed = self.tones.changed.subscribe();
        loop {
            let is_connected = *connected.borrow_and_update();
            if !self.tones.refresh(self.sink, is_connected) {
                return;
            }
            self.tones.apply_changes();
            let due = self.tones.pump(ortc_io::now());
            let is_due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                still = changed.changed() => if still.is_err() { return },
                still = connected.changed() => if still.is_err() { return },
                () = is_due => {}
            }
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.tones.detach(self.sink);
        if self.is_only {
            self.tones.close();
        }
    }
}
