use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock::NtpTime;

/// How long the first frames of a track wait for what tells when they were captured: the first
/// report of a track is sent within 0.6 s (RFC 3550 §6.3.1, at a mean of a second).
const PATIENCE: Duration = Duration::from_millis(700);

/// What a position may be away from where a frame's timestamp has it, in microseconds, before it is
/// set anew: nobody notices less (ITU-R BT.1359: 45 ms), and reports have some jitter.
const TOLERANCE: u64 = 15_000;

/// What a position may be away from when a frame came, in microseconds: no network and no jitter
/// buffer holds one up for longer, so that what is further off is another clock.
const MAX_SKEW: i64 = 5_000_000;

/// Frames that wait of a track, whatever their times.
const MAX_HELD: usize = 1_024;

/// What is known of the time of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTime {
    /// Its timestamp, unwrapped.
    pub timestamp: u64,
    /// Units of that in a second; 0 is taken for 1.
    pub clock_rate: u32,
    /// When it was captured, by the clock that all tracks of the stream share.
    pub capture_time: Option<NtpTime>,
    /// When it came.
    pub received_at: Instant,
}

/// A frame that has its place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aligned<T> {
    /// Its track, as [`StreamAligner::add_track`] has named it.
    pub track: u64,
    /// Its time since the stream began. It grows with every frame of a track.
    pub position: Duration,
    /// The frame.
    pub item: T,
}

/// Puts the frames of several tracks on one axis of time, by when they were captured.
///
/// Every track counts from a number of its own, and sound and pictures of one moment come at
/// different times. What they have in common is the clock of their sender: by
/// [`capture_time`](FrameTime::capture_time), a frame of one track stands where it did when it was
/// captured beside those of the others. The first frames of a track wait until that is known, 0.7 s
/// at most; where nothing tells, they stand where they came. Afterwards nothing waits.
///
/// Push frames track by track, in order, then poll until there is no more; poll again at
/// [`poll_timeout`](Self::poll_timeout). It holds 1,024 frames a track at most. Tracks may come and
/// go: whatever pauses or changes its source goes on at the place that its times give it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use ortc_rtp::{FrameTime, NtpTime, StreamAligner};
///
/// let now = Instant::now();
/// let mut stream = StreamAligner::new();
/// let (sound, pictures) = (stream.add_track(), stream.add_track());
/// let time = |timestamp, clock_rate, seconds: u64, ms| FrameTime {
///     timestamp,
///     clock_rate,
///     capture_time: Some(NtpTime(seconds << 32)),
///     received_at: now + Duration::from_millis(ms),
/// };
/// // The picture of a second later comes another 200 ms later.
/// stream.push(sound, time(960, 48_000, 5, 0), "sound");
/// stream.push(pictures, time(70_000, 90_000, 6, 1_200), "picture");
/// let first = stream.poll(now).unwrap();
/// assert_eq!((first.item, first.position), ("sound", Duration::ZERO));
/// let second = stream.poll(now).unwrap();
/// assert_eq!((second.item, second.position), ("picture", Duration::from_secs(1)));
/// ```
#[derive(Debug)]
pub struct StreamAligner<T> {
    patience: Duration,
    tracks: Vec<Track<T>>,
    next_track: u64,
    /// When the stream began; `None` as long as its first frames wait.
    began: Option<Instant>,
    origin: Option<Origin>,
}

/// A moment of the sender's clock, where it is in the stream in microseconds, and the track by which
/// that is known.
#[derive(Debug, Clone, Copy)]
struct Origin {
    time: NtpTime,
    position: i64,
    track: u64,
}

/// A timestamp and where it is in the stream, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    timestamp: u64,
    clock_rate: u32,
    position: i64,
}

#[derive(Debug)]
struct Track<T> {
    key: u64,
    held: VecDeque<(FrameTime, T)>,
    /// When the first frame came.
    since: Option<Instant>,
    /// Whether nothing has to wait any more.
    is_settled: bool,
    /// The newest frame of which it was known when it was captured.
    captured: Option<(u64, u32, NtpTime)>,
    anchor: Option<Anchor>,
    last: Option<i64>,
    has_ended: bool,
}

impl<T> Track<T> {
    /// When a frame was captured, if it tells or another one does.
    fn capture_time(&self, time: &FrameTime) -> Option<NtpTime> {
        time.capture_time.or_else(|| {
            let (timestamp, clock_rate, captured) = self.captured?;
            let units = time.timestamp.wrapping_sub(timestamp) as i64;
            (clock_rate == time.clock_rate).then(|| captured.plus_units(units, clock_rate))
        })
    }

    /// Where a frame is by its timestamp, after those before it.
    fn expected(&self, time: &FrameTime) -> Option<i64> {
        let anchor = self.anchor.filter(|anchor| anchor.clock_rate == time.clock_rate)?;
        let units = i128::from(time.timestamp.wrapping_sub(anchor.timestamp) as i64);
        let distance = units * 1_000_000 / i128::from(time.clock_rate.max(1));
        Some(anchor.position.saturating_add(i64::try_from(distance).ok()?))
    }
}

impl<T> Default for StreamAligner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> StreamAligner<T> {
    /// A stream without tracks.
    pub fn new() -> Self {
        Self { patience: PATIENCE, tracks: Vec::new(), next_track: 0, began: None, origin: None }
    }

    /// Has the first frames of a track wait for `patience` at most, in place of 0.7 s.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Adds a track and names it. The stream begins once all tracks that it has by then have a
    /// frame, or the first one has waited for long enough.
    pub fn add_track(&mut self) -> u64 {
        let key = self.next_track;
        self.next_track += 1;
        self.tracks.push(Track {
            key,
            held: VecDeque::new(),
            since: None,
            is_settled: false,
            captured: None,
            anchor: None,
            last: None,
            has_ended: false,
        });
        key
    }

    /// Ends a track: its frames that wait are handed out, and then it is forgotten.
    pub fn end_track(&mut self, track: u64) {
        if let Some(track) = self.tracks.iter_mut().find(|it| it.key == track) {
            track.has_ended = true;
            track.is_settled = true;
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.tracks.retain(|track| !track.has_ended || !track.held.is_empty());
    }

    /// Takes the next frame of a track. One of a track that is not there is dropped.
    pub fn push(&mut self, track: u64, time: FrameTime, item: T) {
        let Some(track) = self.tracks.iter_mut().find(|it| it.key == track) else { return };
        if let Some(captured) = time.capture_time {
            track.captured = Some((time.timestamp, time.clock_rate, captured));
        }
        track.since.get_or_insert(time.received_at);
        track.held.push_back((time, item));
        track.is_settled |= track.captured.is_some() || track.held.len() > MAX_HELD;
    }

    /// Hands out the next frame, as of `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Aligned<T>> {
        let patience = self.patience;
        let is_over = |since: Option<Instant>| since.is_some_and(|since| since + patience <= now);
        for track in &mut self.tracks {
            track.is_settled |= is_over(track.since);
        }
        if self.began.is_none() {
            let first = self.tracks.iter().filter_map(|track| track.since).min();
            let is_ready = |track: &Track<T>| track.is_settled && track.since.is_some();
            let is_full = self.tracks.iter().any(|track| track.held.len() > MAX_HELD);
            if !is_over(first) && !is_full && !self.tracks.iter().all(is_ready) {
                return None;
            }
            self.begin()?;
        }
        // The one that comes first in the stream, of those that wait.
        let ready = self.tracks.iter().filter(|track| track.is_settled);
        let located = ready.filter_map(|track| {
            let (time, _) = track.held.front()?;
            Some((track.key, self.locate(track, time)?))
        });
        let (key, (position, anchor, origin)) =
            located.min_by_key(|(_, (position, ..))| *position)?;
        self.origin = origin;
        let track = self.tracks.iter_mut().find(|track| track.key == key)?;
        track.anchor = Some(anchor);
        track.last = Some(position);
        let (_, item) = track.held.pop_front()?;
        if track.has_ended {
            self.forget();
        }
        let position = Duration::from_micros(position.unsigned_abs());
        Some(Aligned { track: key, position, item })
    }

    /// Whether frames of a track wait.
    pub fn is_waiting(&self, track: u64) -> bool {
        self.tracks.iter().any(|it| it.key == track && !it.held.is_empty())
    }

    /// When to poll again although nothing came; `None` when nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.tracks.iter().filter(|track| !track.held.is_empty());
        waiting.filter_map(|track| Some(track.since? + self.patience)).min()
    }

    /// Decides where the stream begins: with the frame that was captured first.
    fn begin(&mut self) -> Option<()> {
        let firsts = || {
            self.tracks.iter().filter_map(|track| track.held.front().map(|(time, _)| (track, time)))
        };
        let mut began = firsts().map(|(_, time)| time.received_at).min()?;
        let arrival = |began: Instant, time: &FrameTime| signed_micros(began, time.received_at);
        let captured = firsts()
            .filter_map(|(track, time)| Some((track.key, *time, track.capture_time(time)?)));
        let mut origin =
            captured.min_by_key(|(_, time, _)| time.received_at).map(|(track, time, captured)| {
                Origin { time: captured, position: arrival(began, &time), track }
            });
        let position = |(track, time): (&Track<T>, &FrameTime)| {
            let arrival = arrival(began, time);
            let captured = origin.zip(track.capture_time(time)).map(|(origin, captured)| {
                origin.position.saturating_add(captured.micros_since(origin.time))
            });
            captured.filter(|captured| is_near(*captured, arrival)).unwrap_or(arrival)
        };
        let earliest = firsts().map(position).min().unwrap_or(0).min(0);
        if let Some(origin) = &mut origin {
            origin.position -= earliest;
        }
        let shift = Duration::from_micros(earliest.unsigned_abs());
        began = began.checked_sub(shift).unwrap_or(began);
        (self.began, self.origin) = (Some(began), origin);
        Some(())
    }

    /// Where a frame is in the stream, where its track is reckoned from then, and by what times of
    /// capture are.
    fn locate(&self, track: &Track<T>, time: &FrameTime) -> Option<(i64, Anchor, Option<Origin>)> {
        let arrival = signed_micros(self.began?, time.received_at);
        let expected = track.expected(time);
        let captured = track.capture_time(time);
        let on_axis = self.origin.zip(captured).map(|(origin, captured)| {
            origin.position.saturating_add(captured.micros_since(origin.time))
        });
        let on_axis = on_axis.filter(|position| is_near(*position, arrival));
        let found = match (on_axis, expected) {
            (Some(captured), Some(expected)) if captured.abs_diff(expected) <= TOLERANCE => {
                expected
            }
            (Some(captured), _) => captured,
            (None, Some(expected)) if is_near(expected, arrival) => expected,
            (None, _) => arrival,
        };
        // The clock is known by this track, or by none that is still there, and was set.
        let is_ours = self.origin.is_none_or(|origin| {
            origin.track == track.key || !self.tracks.iter().any(|it| it.key == origin.track)
        });
        let origin = match captured {
            Some(captured) if on_axis.is_none() && is_ours => {
                Some(Origin { time: captured, position: found, track: track.key })
            }
            _ => self.origin,
        };
        let anchor = match track.anchor {
            Some(anchor) if expected == Some(found) => anchor,
            _ => Anchor { timestamp: time.timestamp, clock_rate: time.clock_rate, position: found },
        };
        let position = found.max(track.last.map_or(0, |last| last + 1));
        Some((position, anchor, origin))
    }
}

fn is_near(position: i64, arrival: i64) -> bool {
    position.abs_diff(arrival) <= MAX_SKEW as u64
}

/// From `start` to `end` in microseconds; negative if that is earlier.
fn signed_micros(start: Instant, end: Instant) -> i64 {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match end.checked_duration_since(start) {
        Some(after) => micros(after),
        None => -micros(start.saturating_duration_since(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Fixture {
        start: Instant,
        stream: StreamAligner<&'static str>,
        sound: u64,
        pictures: u64,
    }

    impl Fixture {
        fn new() -> Self {
            let mut stream = StreamAligner::new();
            let (sound, pictures) = (stream.add_track(), stream.add_track());
            Self { start: Instant::now(), stream, sound, pictures }
        }

        /// Sound that was captured at a time in ms, and comes at another.
        fn sound(&mut self, captured: u64, at: u64, is_known: bool) {
            let time = self.time(7_000_000 + captured * 48, 48_000, captured, at, is_known);
            self.stream.push(self.sound, time, "sound");
        }

        fn picture(&mut self, captured: u64, at: u64, is_known: bool) {
            let time = self.time(400 + captured * 90, 90_000, captured, at, is_known);
            self.stream.push(self.pictures, time, "picture");
        }

        fn time(
            &self,
            timestamp: u64,
            clock_rate: u32,
            captured: u64,
            at: u64,
            is_known: bool,
        ) -> FrameTime {
            // Half a second before the end of an era.
            let ntp = NtpTime(u64::MAX << 31).plus_units(captured as i64, 1_000);
            let capture_time = is_known.then_some(ntp);
            let received_at = self.start + at as u32 * MS;
            FrameTime { timestamp, clock_rate, capture_time, received_at }
        }

        /// What is handed out at a time: tracks, and positions in ms.
        fn poll(&mut self, at: u32) -> Vec<(&'static str, u64)> {
            let now = self.start + at * MS;
            let poll = std::iter::from_fn(|| self.stream.poll(now));
            poll.map(|it| (it.item, (it.position.as_micros() as u64 + 500) / 1_000)).collect()
        }
    }

    #[test]
    fn tracks_stand_to_each_other_as_they_were_captured() {
        let mut f = Fixture::new();
        // Pictures are 150 ms longer on their way, and the first one was captured first.
        f.sound(1_000, 0, false);
        f.sound(1_020, 20, false);
        f.picture(970, 120, false);
        assert_eq!(f.poll(200), []);
        assert_eq!(f.stream.poll_timeout(), Some(f.start + 700 * MS));
        f.picture(1_003, 153, true);
        assert_eq!(f.poll(200), []);
        f.sound(1_040, 40, true);
        let expected =
            [("picture", 0), ("sound", 30), ("picture", 33), ("sound", 50), ("sound", 70)];
        assert_eq!(f.poll(200), expected);
        f.sound(1_060, 60, false);
        f.picture(1_036, 400, true);
        assert_eq!(f.poll(400), [("picture", 66), ("sound", 90)]);
        assert_eq!(f.stream.poll_timeout(), None);
    }

    #[test]
    fn where_nothing_tells_frames_stand_where_they_came_until_something_does() {
        let mut f = Fixture::new();
        for n in 0..100 {
            f.sound(1_000 + 20 * n, 20 * n, n > 80);
            f.picture(1_000 + 20 * n, 20 * n + 100, n > 80);
        }
        let got = f.poll(699);
        assert_eq!(got.len(), 200, "a time of capture tells of those before it");
        let mut f = Fixture::new();
        for n in 0..50 {
            f.sound(1_000 + 20 * n, 20 * n, false);
            f.picture(1_000 + 20 * n, 20 * n + 100, false);
            let got = f.poll(20 * n as u32);
            // Pictures have waited for long enough as well.
            if n > 40 {
                assert_eq!(got, [("sound", 20 * n), ("picture", 20 * n + 100)], "{n}");
            }
        }
        // Now it is known: pictures are 100 ms too late, and go on in their place.
        for n in 50..100 {
            f.sound(1_000 + 20 * n, 20 * n, true);
            f.picture(1_000 + 20 * n, 20 * n + 100, true);
            let got = f.poll(20 * n as u32);
            if n > 56 {
                assert_eq!(got, [("sound", 20 * n), ("picture", 20 * n)], "{n}");
            }
        }
    }

    #[test]
    fn one_track_alone_waits_for_the_other_only_so_long() {
        let mut f = Fixture::new();
        f.sound(0, 0, true);
        assert_eq!(f.poll(699), []);
        assert_eq!(f.poll(700), [("sound", 0)]);
        // One that comes later has its place.
        f.picture(5_000, 5_300, true);
        assert_eq!(f.poll(5_300), [("picture", 5_000)]);
        f.stream.end_track(f.pictures);
        f.picture(5_033, 5_333, true);
        assert_eq!(f.poll(6_000), []);
        // And so has what takes its place, that counts from elsewhere.
        f.pictures = f.stream.add_track();
        let mut time = f.time(123_456_789, 90_000, 7_000, 7_100, true);
        f.stream.push(f.pictures, time, "another");
        (time.timestamp, time.capture_time) = (time.timestamp + 3_000, None);
        f.stream.push(f.pictures, time, "another");
        assert_eq!(f.poll(7_100), [("another", 7_000), ("another", 7_033)]);
    }

    #[test]
    fn pauses_are_kept_and_clocks_that_jump_are_not_followed() {
        let mut f = Fixture::new();
        f.sound(0, 0, true);
        f.picture(0, 0, true);
        assert_eq!(f.poll(0).len(), 2);
        f.sound(60_000, 60_000, false);
        assert_eq!(f.poll(60_000), [("sound", 60_000)]);
        // The sender's clock is set: by an hour, and its sound goes on as before.
        for n in 0..3 {
            let captured = 60_020 + 20 * n;
            let mut time = f.time(7_000_000 + captured * 48, 48_000, captured, captured, true);
            time.capture_time = time.capture_time.map(|it| it.plus_units(3_600, 1));
            f.stream.push(f.sound, time, "sound");
            assert_eq!(f.poll(captured as u32), [("sound", captured)]);
        }
        let mut time = f.time(99, 90_000, 60_100, 60_150, true);
        time.capture_time = time.capture_time.map(|it| it.plus_units(3_600, 1));
        f.stream.push(f.pictures, time, "picture");
        assert_eq!(f.poll(60_150), [("picture", 60_100)]);
        // Its timestamps jump, and nothing else tells.
        f.stream.end_track(f.sound);
        let time = f.time(1 << 60, 90_000, 0, 61_000, false);
        f.pictures = f.stream.add_track();
        f.stream.push(f.pictures, time, "picture");
        let time = f.time(5, 90_000, 0, 61_033, false);
        f.stream.push(f.pictures, time, "picture");
        assert_eq!(f.poll(62_000), [("picture", 61_000), ("picture", 61_033)]);
    }

    #[test]
    fn positions_grow_whatever_the_times_say_and_memory_is_bounded() {
        let mut f = Fixture::new();
        for n in 0..2_000 {
            f.sound(1_000 - n % 50, 0, false);
        }
        let got = std::iter::from_fn(|| f.stream.poll(f.start));
        let positions: Vec<_> = got.map(|it| it.position).collect();
        assert!(positions.len() == 2_000 && positions.windows(2).all(|two| two[0] < two[1]));
    }
}
