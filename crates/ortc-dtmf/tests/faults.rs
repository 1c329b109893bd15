//! Random tone programs through random networks and faulty peers: a key pressed once is reported
//! once, if any packet of it arrives.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ortc_dtmf::{
    DTMFTone, Digit, EventPacket, ReceivedPacket, RedundancyConfig, TelephoneEvent, ToneOutput,
    ToneQueue, ToneQueueConfig, ToneReceiver, ToneReceiverConfig, ToneReport, decode_redundant,
};

const PAYLOAD_TYPE: u8 = 101;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
struct Faults {
    loss: f64,
    duplicates: f64,
    /// Packets are late by up to this many ms, each for itself.
    jitter: u64,
    /// `Some(true)`: all packets are marked, `Some(false)`: none is.
    markers: Option<bool>,
    no_begin: bool,
    no_end: bool,
    /// Tones are cut off after a random packet.
    cut: bool,
    durations_go_back: bool,
    /// Times the rate that is described.
    clock: f64,
    redundancy: bool,
    /// No audio beside the events.
    no_audio: bool,
    hold: u64,
}

#[derive(Debug, Clone)]
struct Sent {
    at: u64,
    sequence: u16,
    /// An event, or audio.
    event: Option<EventPacket>,
}

/// A pressed key: what was sent of it, and what arrived.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    event: u8,
    arrived: bool,
    /// Units that arrived of it, at most.
    units: u64,
}

struct Run {
    start: Instant,
    rng: Rng,
    rate: u32,
    faults: Faults,
}

impl Run {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rate = rng.choice([8_000, 16_000, 48_000]).unwrap();
        Self { start: Instant::now(), rng, rate, faults }
    }

    /// Plays a random program, with audio every 20 ms, and numbers the packets.
    fn send(&mut self) -> Vec<Sent> {
        let redundancy = RedundancyConfig { payload_type: PAYLOAD_TYPE, events: 2 };
        let redundancy = self.faults.redundancy.then_some(redundancy);
        let config = ToneQueueConfig { redundancy, ..ToneQueueConfig::new(self.rate) };
        let mut queue = ToneQueue::new(config);
        let base = self.rng.u32(..);
        let mut sequence = self.rng.u16(..);
        for _ in 0..self.rng.usize(1..8) {
            let digits =
                (0..self.rng.usize(1..4)).filter_map(|_| Digit::from_event(self.rng.u8(..16)));
            let digits: String = digits.map(Digit::to_char).collect();
            let long = self.rng.u8(..8) == 0;
            let duration =
                ms(if long { self.rng.u64(1_000..6_000) } else { self.rng.u64(70..300) });
            let inter_tone_gap = ms(self.rng.u64(50..400));
            queue.play(self.start, &[DTMFTone { digits, duration, inter_tone_gap }]).unwrap();
        }
        let (mut sent, mut at) = (Vec::new(), 0);
        while at < 200 || !queue.is_idle() {
            let now = self.start + ms(at);
            // Tones begin after some audio.
            while let Some(output) = (at >= 200).then(|| queue.poll_output(now)).flatten() {
                if let ToneOutput::Packet(packet) = output {
                    sequence = sequence.wrapping_add(1);
                    sent.push(Sent { at, sequence, event: Some(packet) });
                }
            }
            if at.is_multiple_of(20) {
                queue
                    .audio_sent(now, base.wrapping_add((at * u64::from(self.rate) / 1_000) as u32));
                if !queue.is_audio_paused() && !self.faults.no_audio {
                    sequence = sequence.wrapping_add(1);
                    sent.push(Sent { at, sequence, event: None });
                }
            }
            at += 1;
        }
        sent
    }

    /// Drops, duplicates and delays packets; returns them as they arrive.
    fn carry(&mut self, sent: &[Sent]) -> Vec<Sent> {
        let faults = self.faults.clone();
        let mut per_key: BTreeMap<Instant, usize> = BTreeMap::new();
        for event in sent.iter().filter_map(|sent| sent.event.as_ref()) {
            *per_key.entry(event.begin).or_default() += 1;
        }
        let cuts: BTreeMap<Instant, usize> =
            per_key.iter().map(|(begin, count)| (*begin, self.rng.usize(1..=*count))).collect();
        let mut seen: BTreeMap<Instant, usize> = BTreeMap::new();
        let mut arrived = Vec::new();
        for packet in sent {
            if let Some(event) = &packet.event {
                let at = seen.entry(event.begin).or_default();
                *at += 1;
                if faults.no_begin && *at <= 2
                    || faults.no_end && event.report.end
                    || faults.cut && *at > cuts[&event.begin]
                {
                    continue;
                }
            }
            if self.rng.f64() < faults.loss {
                continue;
            }
            let copies = if self.rng.f64() < faults.duplicates { 2 } else { 1 };
            for _ in 0..copies {
                let late = if faults.jitter == 0 { 0 } else { self.rng.u64(0..=faults.jitter) };
                arrived.push(Sent { at: packet.at + late, ..packet.clone() });
            }
        }
        arrived.sort_by_key(|packet| packet.at);
        arrived
    }

    /// What a receiver reports of what arrives: code and length of each tone, in order, and how
    /// many it called late.
    fn receive(&mut self, arrived: &[Sent]) -> (Vec<(u8, Duration)>, u64) {
        let config = ToneReceiverConfig { hold: ms(self.faults.hold), ..Default::default() };
        let mut receiver = ToneReceiver::new(config);
        let described = (f64::from(self.rate) * self.faults.clock) as u32;
        let mut reports = Vec::new();
        for packet in arrived {
            let now = self.start + ms(packet.at);
            while let Some((due, _)) = receiver.poll_timeout().filter(|(due, _)| *due <= now) {
                receiver.handle_timeout(due);
            }
            let Some(event) = &packet.event else {
                receiver.handle_other(now, packet.sequence);
                continue;
            };
            let mut payload = event.payload().to_vec();
            if self.faults.durations_go_back && self.rng.bool() && !event.report.end {
                let at = payload.len() - 2;
                payload[at..]
                    .copy_from_slice(&self.rng.u16(1..=event.report.duration).to_be_bytes());
            }
            let received = ReceivedPacket {
                sequence: packet.sequence,
                timestamp: event.timestamp,
                marker: self.faults.markers.unwrap_or(event.marker),
                clock_rate: described,
                payload: &payload,
            };
            if event.is_redundant() {
                receiver.handle_redundant(now, &received, PAYLOAD_TYPE).unwrap();
            } else {
                receiver.handle_packet(now, &received).unwrap();
            }
            reports.extend(std::iter::from_fn(|| receiver.poll_output()));
        }
        while let Some((due, _)) = receiver.poll_timeout() {
            receiver.handle_timeout(due);
        }
        reports.extend(std::iter::from_fn(|| receiver.poll_output()));
        (paired(&reports), receiver.counts().late_tones)
    }
}

/// Holds each beginning against its end: they alternate but for late tones, which come whole.
fn paired(reports: &[ToneReport]) -> Vec<(u8, Duration)> {
    let mut open = None;
    let mut tones = Vec::new();
    for report in reports {
        match report {
            ToneReport::Began(tone) if tone.is_late => {}
            ToneReport::Began(tone) => {
                assert_eq!(open.replace(tone.event), None, "{reports:#?}");
            }
            ToneReport::Ended(tone, _) if tone.is_late => tones.push((tone.event, tone.duration)),
            ToneReport::Ended(tone, _) => {
                assert_eq!(open.take(), Some(tone.event), "{reports:#?}");
                tones.push((tone.event, tone.duration));
            }
        }
    }
    assert_eq!(open, None, "{reports:#?}");
    tones
}

/// The reference: the keys that were pressed, in order, and what arrived of them.
fn keys(sent: &[Sent], arrived: &[Sent]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut of_segment: BTreeMap<u32, usize> = BTreeMap::new();
    let mut newest = None;
    for event in sent.iter().filter_map(|sent| sent.event.as_ref()) {
        // What repeats an end is not a key again.
        of_segment.entry(event.timestamp).or_insert_with(|| {
            if newest != Some(event.begin) {
                newest = Some(event.begin);
                keys.push(Key { event: event.report.event, arrived: false, units: 0 });
            }
            keys.len() - 1
        });
    }
    for event in arrived.iter().filter_map(|sent| sent.event.as_ref()) {
        let key = &mut keys[of_segment[&event.timestamp]];
        let units = u64::from(event.timestamp_offset) + u64::from(event.report.duration);
        key.arrived = true;
        key.units = key.units.max(units);
        if event.is_redundant() {
            for block in decode_redundant(event.payload()).unwrap() {
                let timestamp = event.timestamp.wrapping_sub(block.timestamp_offset.into());
                assert!(TelephoneEvent::decode(block.payload).is_ok());
                keys[of_segment[&timestamp]].arrived = true;
            }
        }
    }
    keys.retain(|key| key.arrived);
    keys
}

/// Runs a program for each seed, more of them where `cargo xtask model` says so of this model.
fn each_seed(
    model: &str,
    from: u64,
    seeds: u64,
    faults: impl Fn(&mut Rng) -> Faults,
    check: impl Fn(&str, &[Key], &[(u8, Duration)], u64, u32),
) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("ORTC_MODEL_FIRST").unwrap_or(0);
    let seeds = number("ORTC_MODEL_SEEDS").unwrap_or(seeds);
    let mut tones = 0;
    for seed in from + first..from + first + seeds {
        let faults = faults(&mut Rng::with_seed(seed));
        let again = format!("cargo xtask model {model} --seed {}", seed - from);
        let what = format!("{again}: {faults:?}");
        let mut run = Run::new(seed, faults);
        let sent = run.send();
        let arrived = run.carry(&sent);
        let keys = keys(&sent, &arrived);
        let (reported, late) = run.receive(&arrived);
        tones += keys.len();
        check(&what, &keys, &reported, late, run.rate);
    }
    eprintln!("{tones} tones arrived");
    assert!(tones as u64 > seeds, "the programs had {tones} tones");
}

fn in_order(what: &str, keys: &[Key], reported: &[(u8, Duration)]) {
    let expected: Vec<u8> = keys.iter().map(|key| key.event).collect();
    let events: Vec<u8> = reported.iter().map(|(event, _)| *event).collect();
    assert_eq!(events, expected, "{what}");
}

#[test]
fn with_loss_and_duplicates_every_key_is_reported_once_with_the_length_that_arrived() {
    let faults = |rng: &mut Rng| Faults {
        loss: rng.choice([0.0, 0.1, 0.2, 0.5]).unwrap(),
        duplicates: 0.1,
        clock: 1.0,
        markers: rng.choice([None, Some(true), Some(false)]).unwrap(),
        durations_go_back: rng.bool(),
        hold: 60,
        ..Faults::default()
    };
    each_seed("lossy_tones", 0, 300, faults, |what, keys, reported, late, rate| {
        in_order(what, keys, reported);
        assert_eq!(late, 0, "{what}");
        for (key, (_, duration)) in keys.iter().zip(reported) {
            let expected = key.units as f64 / f64::from(rate);
            if what.contains("durations_go_back: true") {
                continue;
            }
            // A silence of 300 ms ends a tone, so half of all packets lost may cut one short.
            let off = (duration.as_secs_f64() - expected).abs();
            let is_exact = !what.contains("loss: 0.5");
            assert!(!is_exact || off < 0.001, "{what}: {duration:?}, not {expected}");
            assert!(
                duration.as_secs_f64() < expected + 0.001,
                "{what}: {duration:?}, not {expected}"
            );
        }
    });
}

#[test]
fn peers_without_beginnings_or_ends_are_heard() {
    let faults = |rng: &mut Rng| Faults {
        loss: 0.1,
        no_begin: rng.bool(),
        no_end: rng.bool(),
        cut: rng.bool(),
        no_audio: rng.bool(),
        markers: rng.choice([None, Some(true), Some(false)]).unwrap(),
        clock: rng.choice([1.0, 6.0, 1.0 / 6.0]).unwrap(),
        hold: rng.choice([0, 60]).unwrap(),
        ..Faults::default()
    };
    each_seed("faulty_tones", 1_000_000, 300, faults, |what, keys, reported, _, _| {
        in_order(what, keys, reported);
    });
}

#[test]
fn jitter_within_the_hold_keeps_every_key_in_order() {
    let faults = |rng: &mut Rng| Faults {
        loss: 0.2,
        duplicates: 0.1,
        jitter: 55,
        clock: 1.0,
        redundancy: rng.bool(),
        no_end: rng.bool(),
        hold: 60,
        ..Faults::default()
    };
    each_seed("jittery_tones", 2_000_000, 300, faults, |what, keys, reported, late, _| {
        in_order(what, keys, reported);
        assert_eq!(late, 0, "{what}");
    });
}

#[test]
fn five_seconds_of_disorder_double_no_key_and_lose_none() {
    let faults = |rng: &mut Rng| Faults {
        loss: 0.2,
        duplicates: 0.2,
        jitter: 5_000,
        clock: rng.choice([1.0, 6.0, 1.0 / 6.0]).unwrap(),
        redundancy: rng.bool(),
        no_begin: rng.bool(),
        hold: rng.choice([0, 60, 5_000]).unwrap(),
        ..Faults::default()
    };
    each_seed("tones", 3_000_000, 300, faults, |what, keys, reported, late, _| {
        if what.contains("hold: 5000") {
            in_order(what, keys, reported);
            assert_eq!(late, 0, "{what}");
        }
        let mut expected: Vec<u8> = keys.iter().map(|key| key.event).collect();
        let mut events: Vec<u8> = reported.iter().map(|(event, _)| *event).collect();
        expected.sort_unstable();
        events.sort_unstable();
        assert_eq!(events, expected, "{what}");
    });
}

#[test]
fn random_bytes_never_panic_and_never_grow() {
    let mut rng = Rng::with_seed(9);
    let start = Instant::now();
    let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
    let mut malformed = 0;
    for step in 0..200_000u64 {
        let payload: Vec<u8> = (0..rng.usize(..24)).map(|_| rng.u8(..)).collect();
        let packet = ReceivedPacket {
            sequence: rng.u16(..),
            timestamp: rng.u32(..),
            marker: rng.bool(),
            clock_rate: rng.u32(..),
            payload: &payload,
        };
        let now = start + ms(step * 3);
        malformed += match rng.bool() {
            true => u64::from(receiver.handle_packet(now, &packet).is_err()),
            false => u64::from(receiver.handle_redundant(now, &packet, rng.u8(..128)).is_err()),
        };
        receiver.handle_timeout(now);
        let reports = std::iter::from_fn(|| receiver.poll_output()).count();
        assert!(reports <= 256, "{reports}");
    }
    assert!(malformed > 10_000 && receiver.counts().tones > 1_000);
    assert!(receiver.counts().malformed >= malformed);
}
