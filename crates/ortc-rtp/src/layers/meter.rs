use std::time::{Duration, Instant};

use super::{LayerMark, MAX_SPATIAL, MAX_TEMPORAL};

/// How often rates are worked out.
const TICK: Duration = Duration::from_millis(200);

/// What a rate is averaged over: long enough that a key frame does not count for a rise.
const AVERAGED: f64 = 1.0;

/// An encoding that has been silent for so long has stopped, if the others have brought so many
/// frames meanwhile: of a screen there may be one in a second, of all encodings alike.
const SILENCE: Duration = Duration::from_millis(400);
const FRAMES: u32 = 5;

/// One that has not come for so long has stopped, whatever the others do.
const LONG_SILENCE: Duration = Duration::from_secs(3);

/// What the layers of a track take, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerRates {
    /// Of each spatial and temporal layer, without those below.
    pub(crate) bits: [[u32; MAX_TEMPORAL]; MAX_SPATIAL],
    /// Which encodings come at present, as a set of bits.
    pub(crate) active: u8,
}

/// Measures what the layers of a received track take.
#[derive(Debug, Default)]
pub(crate) struct LayerMeter {
    encodings: [Metered; MAX_SPATIAL],
    bytes: [[u32; MAX_TEMPORAL]; MAX_SPATIAL],
    rates: LayerRates,
    ticked: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Metered {
    last: Option<Instant>,
    begun: Option<Instant>,
    /// Frames that others have brought since.
    frames_of_others: u32,
}

impl LayerMeter {
    /// Notes a packet of `len` bytes; the rates when they have been worked out anew.
    pub(crate) fn on_packet(
        &mut self,
        now: Instant,
        mark: LayerMark,
        len: usize,
    ) -> Option<LayerRates> {
        let encoding = usize::from(mark.encoding);
        let spatial = encoding.max(usize::from(mark.layer.spatial)).min(MAX_SPATIAL - 1);
        let temporal = usize::from(mark.layer.temporal).min(MAX_TEMPORAL - 1);
        self.bytes[spatial][temporal] += len as u32;
        let begun = self.encodings[encoding].begun;
        self.encodings[encoding] =
            Metered { last: Some(now), begun: begun.or(Some(now)), frames_of_others: 0 };
        if mark.begins() {
            for (at, other) in self.encodings.iter_mut().enumerate() {
                other.frames_of_others += u32::from(at != encoding);
            }
        }
        let ticked = *self.ticked.get_or_insert(now);
        // One that comes, or comes back, is told of at once; but to begin with all of them come.
        let is_back = begun.is_none() && self.rates.active != 0;
        if now < ticked + TICK && !is_back {
            return None;
        }
        self.tick(now, ticked);
        Some(self.rates)
    }

    fn tick(&mut self, now: Instant, ticked: Instant) {
        for (at, metered) in self.encodings.iter_mut().enumerate() {
            let silent =
                metered.last.map_or(LONG_SILENCE, |last| now.saturating_duration_since(last));
            let has_stopped =
                silent >= LONG_SILENCE || silent >= SILENCE && metered.frames_of_others >= FRAMES;
            self.rates.active &= !(1 << at);
            if has_stopped {
                *metered = Metered::default();
            } else {
                self.rates.active |= 1 << at;
            }
        }
        let passed = now.saturating_duration_since(ticked);
        if passed < TICK {
            return;
        }
        let seconds = passed.as_secs_f64();
        for (at, (bytes, rates)) in self.bytes.iter_mut().zip(&mut self.rates.bits).enumerate() {
            // To begin with, the average is that of all that has come. Without encodings, spatial
            // layers are all of the first.
            let begun = self.encodings[at].begun.or(self.encodings[0].begun).unwrap_or(ticked);
            let known = now.saturating_duration_since(begun).as_secs_f64();
            let weight = (seconds / known.min(AVERAGED)).clamp(0.0, 1.0);
            for (bytes, rate) in bytes.iter_mut().zip(rates) {
                let measured = f64::from(std::mem::take(bytes)) * 8.0 / seconds;
                *rate = (f64::from(*rate) + (measured - f64::from(*rate)) * weight) as u32;
            }
        }
        self.ticked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CodecName;

    fn mark(encoding: u8) -> LayerMark {
        LayerMark::of(CodecName::Vp8, encoding, &[0x10, 0x01, 0, 0])
    }

    #[test]
    fn rates_are_those_of_the_last_second_and_one_that_stops_is_noticed_soon() {
        let start = Instant::now();
        let mut meter = LayerMeter::default();
        let mut rates = LayerRates::default();
        let mut stopped_at = None;
        for n in 0..150u64 {
            let now = start + Duration::from_millis(33 * n);
            for encoding in 0..3 {
                if encoding == 2 && n >= 90 {
                    continue;
                }
                let len = 500 << encoding;
                rates = meter.on_packet(now, mark(encoding), len).unwrap_or(rates);
            }
            if n == 80 {
                assert_eq!(rates.active, 0b111);
                for (rate, expected) in rates.bits.iter().zip([121_000, 242_000, 485_000]) {
                    let rate = i64::from(rate[0]);
                    assert!((rate - expected).abs() < expected / 10, "{rate} {expected}");
                }
            }
            if n >= 90 && rates.active == 0b011 {
                stopped_at.get_or_insert(33 * (n - 89));
            }
        }
        assert!(stopped_at.is_some_and(|ms| (400..=700).contains(&ms)), "{stopped_at:?}");
        assert!(rates.bits[2][0] < 100_000, "{rates:?}");
    }

    #[test]
    fn slow_pictures_are_none_that_have_stopped() {
        let start = Instant::now();
        let mut meter = LayerMeter::default();
        for n in 0..20u64 {
            let now = start + Duration::from_millis(1_000 * n);
            for encoding in 0..2 {
                let rates = meter.on_packet(now, mark(encoding), 1_000);
                if n > 0
                    && let Some(rates) = rates
                {
                    assert_eq!(rates.active, 0b11);
                }
            }
        }
    }
}
