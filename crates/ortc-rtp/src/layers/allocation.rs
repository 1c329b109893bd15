use std::cmp::Ordering;
use std::time::{Duration, Instant};

use super::{Layer, LayerRates, MAX_SPATIAL, MAX_TEMPORAL};

/// What has to be there beside what the next better layer takes, before it is gone to: an encoder
/// varies, and what it goes over would have to be given up again at once.
const ROOM: f64 = 1.15;

/// What of the layer that is sent has to be there, so that it stays: what may be sent falls for a
/// moment behind each key frame, and if it is too little for long it falls further.
const KEPT: f64 = 0.85;

/// How long it has to be there.
const UP_AFTER: Duration = Duration::from_millis(1_000);

/// How long nothing better is tried after a fall: what is left of the queue has to pass. It is
/// doubled each time that a fall follows a rise closely, up to a bound, and forgotten after a
/// while without.
const AFTER_FALL: Duration = Duration::from_secs(2);
const AFTER_FALLS: Duration = Duration::from_secs(16);
const CLOSELY: Duration = Duration::from_secs(5);
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Most steps of one track: the temporal layers of the least, and each better spatial one.
const MAX_STEPS: usize = MAX_TEMPORAL + MAX_SPATIAL - 1;

/// A layer that a track can be sent in, and what that takes in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Step {
    pub(crate) layer: Layer,
    pub(crate) bits: u64,
}

/// The layers that a track can be sent in, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    list: [Step; MAX_STEPS],
    len: usize,
}

impl LayerRates {
    /// The steps of a track whose layers take this, up to `max`. Pictures are left out only where
    /// not even the least spatial layer fits as a whole.
    ///
    /// `is_simulcast` says that spatial layers are encodings, each of which stands for itself.
    pub(crate) fn steps(&self, is_simulcast: bool, max: Layer) -> Steps {
        let mut steps = Steps { list: [Step::default(); MAX_STEPS], len: 0 };
        let mut below = 0;
        for (spatial, rates) in self.bits.iter().enumerate() {
            let comes = match is_simulcast {
                true => self.active & (1 << spatial) != 0,
                false => self.active & 1 != 0 && (spatial == 0 || rates.iter().any(|it| *it > 0)),
            };
            if !comes {
                continue;
            }
            let highest = rates.iter().rposition(|bits| *bits > 0);
            let is_least = steps.len == 0;
            // What one that has just begun takes is not known yet.
            if highest.is_none() && !is_least {
                continue;
            }
            let highest = highest.unwrap_or(MAX_TEMPORAL - 1).min(usize::from(max.temporal));
            let mut bits = if is_simulcast { 0 } else { below };
            for (temporal, rate) in rates.iter().enumerate().take(highest + 1) {
                bits += u64::from(*rate);
                if is_least || temporal == highest {
                    let layer = Layer { spatial: spatial as u8, temporal: temporal as u8 };
                    steps.push(Step { layer, bits });
                }
            }
            below = bits;
            // The least that there is is sent even if it is more than is wanted.
            if spatial >= usize::from(max.spatial) {
                break;
            }
        }
        steps
    }
}

impl Steps {
    fn push(&mut self, step: Step) {
        if let Some(place) = self.list.get_mut(self.len) {
            *place = step;
            self.len += 1;
        }
    }

    /// All of them, from the least.
    pub(crate) fn as_slice(&self) -> &[Step] {
        &self.list[..self.len]
    }

    /// The best that is not beyond this layer; the least where all are.
    pub(crate) fn up_to(&self, layer: Layer) -> Option<Step> {
        let fits = |step: &&Step| {
            step.layer.spatial < layer.spatial
                || step.layer.spatial == layer.spatial && step.layer.temporal <= layer.temporal
        };
        self.as_slice().iter().rev().find(fits).or(self.as_slice().first()).copied()
    }
}

/// What a track asks of what may be sent, and what it gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) steps: Steps,
    /// What it is sent in now.
    pub(crate) current: Layer,
    /// What it may take at most, in bits per second.
    pub(crate) cap: u64,
    /// The step that it gets.
    pub(crate) step: usize,
}

impl Demand {
    /// What it gets; `None` of a track of which nothing comes.
    pub(crate) fn given(&self) -> Option<Step> {
        self.steps.as_slice().get(self.step).copied()
    }

    /// What it would get if everything could be sent: the best that the application wants.
    pub(crate) fn wanted(&self) -> Option<Step> {
        let steps = self.steps.as_slice();
        let (least, better) = steps.split_first()?;
        let fits = better.iter().take_while(|step| step.bits <= self.cap);
        Some(*fits.last().unwrap_or(least))
    }

    /// What has to be there for the step that is next to the one that it gets.
    pub(crate) fn next_needs(&self) -> Option<u64> {
        self.steps.as_slice().get(self.step + 1).map(|step| self.needs(*step))
    }

    /// What the step takes, as far as it has to be there: more of one that is new.
    fn needs(&self, step: Step) -> u64 {
        let share = match step.layer.cmp(&self.current) {
            Ordering::Less => 1.0,
            Ordering::Equal => KEPT,
            Ordering::Greater => ROOM,
        };
        (step.bits as f64 * share) as u64
    }
}

/// Shares what may be sent, in bits per second, among tracks. Each gets its least layer, whatever
/// that takes; then always the one goes up a step that has the least, as long as there is room.
pub(crate) fn allocate(budget: u64, demands: &mut [Demand]) {
    let mut left = budget;
    for demand in demands.iter_mut() {
        demand.step = 0;
        left = left.saturating_sub(demand.given().map_or(0, |step| step.bits));
    }
    loop {
        let next = |demand: &Demand| {
            let steps = demand.steps.as_slice();
            let (now, next) = (steps.get(demand.step)?, steps.get(demand.step + 1)?);
            let needed = demand.needs(*next).saturating_sub(now.bits);
            (next.bits <= demand.cap && needed <= left).then_some((next.bits, needed))
        };
        let candidates = demands.iter().enumerate();
        let candidates = candidates.filter_map(|(at, demand)| Some((next(demand)?, at)));
        let Some(((bits, _), at)) = candidates.min() else { return };
        let demand = &mut demands[at];
        let now = demand.given().map_or(0, |step| step.bits);
        left = left.saturating_sub(bits.saturating_sub(now));
        demand.step += 1;
    }
}

/// Keeps a track from going up and down all the time: a fall is at once, a rise once there has
/// been room for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hold {
    room_since: Option<Instant>,
    rose_at: Option<Instant>,
    fell_at: Option<Instant>,
    wait: Duration,
}

impl Hold {
    /// What is sent instead of `current`, of which the allocation has given `given`.
    pub(crate) fn settle(&mut self, now: Instant, current: Layer, given: Layer) -> Layer {
        let after = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        if given == current {
            self.room_since = None;
            return current;
        }
        if given < current {
            let is_close = after(self.rose_at).is_some_and(|passed| passed < CLOSELY);
            let is_over = after(self.fell_at).is_none_or(|passed| passed > FORGOTTEN);
            self.wait = match is_close {
                true => (self.wait * 2).clamp(AFTER_FALL, AFTER_FALLS),
                false if is_over => AFTER_FALL,
                false => self.wait.max(AFTER_FALL),
            };
            self.fell_at = Some(now);
            self.room_since = None;
            return given;
        }
        let since = *self.room_since.get_or_insert(now);
        let has_waited = after(self.fell_at).is_none_or(|passed| passed >= self.wait);
        if now.saturating_duration_since(since) < UP_AFTER || !has_waited {
            return current;
        }
        self.room_since = None;
        self.rose_at = Some(now);
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(spatial: u8, temporal: u8) -> Layer {
        Layer { spatial, temporal }
    }

    /// Three encodings of two temporal layers each, the second of which takes two thirds more.
    fn simulcast(kbits: [u32; 3]) -> LayerRates {
        let mut rates = LayerRates { active: 0b111, ..LayerRates::default() };
        for (bits, kbits) in rates.bits.iter_mut().zip(kbits) {
            (bits[0], bits[1]) = (kbits * 600, kbits * 400);
        }
        rates
    }

    fn demand(rates: &LayerRates, current: Layer) -> Demand {
        let steps = rates.steps(true, Layer::BEST);
        Demand { steps, current, cap: u64::MAX, step: 0 }
    }

    fn given(budget: u64, demands: &mut [Demand]) -> Vec<Layer> {
        allocate(budget, demands);
        demands.iter().map(|it| it.given().unwrap().layer).collect()
    }

    #[test]
    fn the_best_that_fits_is_given_and_the_least_whatever_it_takes() {
        let rates = simulcast([150, 500, 1_500]);
        for (budget, expected) in [
            (0, layer(0, 0)),
            (149_000, layer(0, 0)),
            (173_000, layer(0, 1)),
            (570_000, layer(0, 1)),
            (576_000, layer(1, 1)),
            (1_726_000, layer(2, 1)),
        ] {
            let got = given(budget, &mut [demand(&rates, layer(0, 0))]);
            assert_eq!(got, [expected], "{budget}");
        }
        // What is there already needs no room beside it.
        let got = |budget| given(budget, &mut [demand(&rates, layer(1, 1))]);
        assert_eq!((got(426_000), got(424_000)), (vec![layer(1, 1)], vec![layer(0, 1)]));
    }

    #[test]
    fn tracks_share_and_a_cap_leaves_more_for_others() {
        let rates = simulcast([150, 500, 1_500]);
        let fresh = demand(&rates, layer(0, 0));
        assert_eq!(given(1_200_000, &mut [fresh; 2]), [layer(1, 1); 2]);
        let capped = Demand { cap: 200_000, ..fresh };
        assert_eq!(given(2_000_000, &mut [capped, fresh]), [layer(0, 1), layer(2, 1)]);
        let small = Demand { steps: rates.steps(true, layer(1, 0)), ..fresh };
        assert_eq!(given(5_000_000, &mut [small, fresh]), [layer(1, 0), layer(2, 1)]);
    }

    #[test]
    fn an_encoding_that_does_not_come_is_no_step() {
        let mut rates = simulcast([150, 500, 1_500]);
        rates.active = 0b101;
        let layers: Vec<_> =
            rates.steps(true, Layer::BEST).as_slice().iter().map(|step| step.layer).collect();
        assert_eq!(layers, [layer(0, 0), layer(0, 1), layer(2, 1)]);
        rates.active = 0b100;
        let steps = rates.steps(true, layer(1, 1));
        assert_eq!(steps.as_slice().first().map(|step| step.layer), Some(layer(2, 0)));
        rates.active = 0;
        assert_eq!(rates.steps(true, Layer::BEST).as_slice(), []);
    }

    #[test]
    fn scalable_layers_add_up() {
        let rates = LayerRates { active: 1, ..simulcast([150, 350, 1_000]) };
        let steps = rates.steps(false, Layer::BEST);
        let bits: Vec<_> = steps.as_slice().iter().map(|step| (step.layer, step.bits)).collect();
        let expected = [
            (layer(0, 0), 90_000),
            (layer(0, 1), 150_000),
            (layer(1, 1), 500_000),
            (layer(2, 1), 1_500_000),
        ];
        assert_eq!(bits, expected);
        assert_eq!(steps.up_to(layer(1, 3)).map(|step| step.layer), Some(layer(1, 1)));
    }

    #[test]
    fn whatever_the_rates_no_more_is_given_than_there_is() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let mut demands: Vec<_> = (0..random.usize(1..6))
                .map(|_| {
                    let mut rates = LayerRates { active: random.u8(1..16), ..Default::default() };
                    rates.bits.iter_mut().flatten().for_each(|it| *it = random.u32(..2_000_000));
                    let current = layer(random.u8(..4), random.u8(..4));
                    let cap = random.u64(..4_000_000);
                    let steps = rates.steps(random.bool(), Layer::BEST);
                    Demand { steps, current, cap, step: 0 }
                })
                .collect();
            let budget = random.u64(..10_000_000);
            allocate(budget, &mut demands);
            let least = |it: &Demand| it.steps.as_slice().first().map_or(0, |step| step.bits);
            let floor: u64 = demands.iter().map(least).sum();
            let total: u64 = demands.iter().filter_map(Demand::given).map(|it| it.bits).sum();
            assert!((total as f64 * KEPT) as u64 <= budget.max(floor), "{total} of {budget}");
            let is_kept = |it: &Demand| it.step == 0 || it.given().unwrap().bits <= it.cap;
            assert!(demands.iter().all(is_kept));
        }
    }

    #[test]
    fn a_fall_is_at_once_and_a_rise_takes_a_while_longer_after_each_relapse() {
        let start = Instant::now();
        let (low, high) = (layer(0, 1), layer(1, 1));
        let mut hold = Hold::default();
        let mut current = low;
        let mut rises = Vec::new();
        // There is room for all, but each time that it is used it is gone after a second.
        let mut risen: Option<u64> = None;
        for ms in (0..60_000u64).step_by(100) {
            let now = start + Duration::from_millis(ms);
            let is_gone = risen.is_some_and(|at| ms >= at + 1_000);
            let next = hold.settle(now, current, if is_gone { low } else { high });
            if next > current {
                rises.push(ms);
                risen = Some(ms);
            } else if next < current {
                risen = None;
            }
            current = next;
        }
        let apart: Vec<_> = rises.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(rises[0], 1_000);
        assert_eq!(apart, [3_000, 5_000, 9_000, 17_000, 17_000]);
    }
}
