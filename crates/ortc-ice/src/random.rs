use crate::engine::sha1_hmac;
use crate::transactions::TransactionId;

/// Makes seeds from which nobody can tell the next one (HMAC-SHA1 in counter mode).
#[derive(Debug, Clone)]
pub(crate) struct Seeds {
    key: [u8; 8],
    counter: u64,
}

impl Seeds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { key: seed.to_be_bytes(), counter: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.tag().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }

    /// A transaction identifier that nobody can guess (RFC 8489 §5).
    pub(crate) fn transaction_id(&mut self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.tag()[..12]);
        id
    }

    fn tag(&mut self) -> [u8; 20] {
        self.counter += 1;
        sha1_hmac(&self.key, &[b"transaction", &self.counter.to_be_bytes()])
    }
}

/// A small generator for what need not be secret (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
