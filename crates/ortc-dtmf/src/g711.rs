//! G.711 by formula (ITU-T G.711 tables 1a to 2b).

/// One of the two laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// A-law: Europe and most of the world.
    Alaw,
    /// µ-law: North America and Japan.
    Ulaw,
}

/// µ-law is a logarithm of the magnitude plus this.
const BIAS: i32 = 132;
/// The largest magnitude of µ-law.
const MAX_ULAW: i32 = 32_635;

impl Law {
    /// The sample of 16 bits that a code stands for.
    pub fn decode(self, code: u8) -> i16 {
        let (positive, magnitude) = match self {
            Self::Alaw => {
                let code = code ^ 0x55;
                let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 15));
                // Half a step in, and from the second segment on one bit is implied.
                let magnitude = 2 * step + 1 + if segment > 0 { 32 } else { 0 };
                (code & 0x80 != 0, magnitude << segment.saturating_sub(1) << 3)
            }
            Self::Ulaw => {
                let code = !code;
                let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 15));
                (code & 0x80 == 0, ((8 * step + BIAS) << segment) - BIAS)
            }
        };
        // At most 32,256.
        (if positive { magnitude } else { -magnitude }) as i16
    }

    /// The code of a sample of 16 bits.
    pub fn encode(self, sample: i16) -> u8 {
        let sample = i32::from(sample);
        match self {
            Self::Alaw => {
                let (sign, magnitude) =
                    if sample < 0 { (0, !sample >> 3) } else { (0x80, sample >> 3) };
                let segment = (magnitude >> 4).checked_ilog2().unwrap_or(0);
                let step = magnitude >> segment.max(1) & 15;
                (sign | (segment as u8) << 4 | step as u8) ^ 0x55
            }
            Self::Ulaw => {
                let sign = if sample < 0 { 0x80 } else { 0 };
                let magnitude = sample.abs().min(MAX_ULAW) + BIAS;
                let segment = (magnitude >> 7).ilog2();
                let step = magnitude >> (segment + 3) & 15;
                !(sign | (segment as u8) << 4 | step as u8)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_are_those_of_the_tables() {
        let alaw = [0xd5, 0x55, 0xaa, 0x2a, 0xc5, 0xa5].map(|code| Law::Alaw.decode(code));
        assert_eq!(alaw, [8, -8, 32_256, -32_256, 264, 16_896]);
        let ulaw = [0xff, 0x7f, 0x80, 0x00, 0xf0, 0x8f].map(|code| Law::Ulaw.decode(code));
        assert_eq!(ulaw, [0, 0, 32_124, -32_124, 120, 16_764]);
    }

    #[test]
    fn a_code_stands_for_itself_and_a_sample_for_the_nearest() {
        for law in [Law::Alaw, Law::Ulaw] {
            for code in 0..=255 {
                let again = law.encode(law.decode(code));
                assert!(again == code || (law, code) == (Law::Ulaw, 0x7f), "{law:?} {code}");
            }
            for sample in i16::MIN..=i16::MAX {
                let (sample, near) = (i32::from(sample), i32::from(law.decode(law.encode(sample))));
                let allowed = if sample.abs() > 32_000 { 700 } else { sample.abs() / 32 + 8 };
                assert!((sample - near).abs() <= allowed, "{law:?} {sample} {near}");
            }
        }
    }
}
