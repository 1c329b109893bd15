//! What pairs and rooms ask of whoever joins: a name, and a pace.

use std::time::Instant;

/// Whether a pair or a room may be called so: 1 to 64 of the characters that a URL carries as
/// they are (RFC 3986 §2.3).
pub(crate) fn is_name(name: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_unreserved)
}

/// A token bucket: a burst at once, a pace in the long run.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    capacity: f64,
    filled: Instant,
}

impl Bucket {
    /// A bucket that has all of its burst.
    pub(crate) fn full(now: Instant, burst: u32) -> Self {
        let capacity = f64::from(burst);
        Self { tokens: capacity, capacity, filled: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, per_second: u32) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        let tokens = self.tokens + passed.as_secs_f64() * f64::from(per_second);
        self.tokens = tokens.min(self.capacity);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}
