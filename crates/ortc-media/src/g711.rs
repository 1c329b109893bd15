//! G.711, companded by formula (ITU-T G.711 tables 1a to 2b).

/// One of the two laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// A-law: Europe and most of the world.
    Alaw,
    /// µ-law: North America and Japan.
    Ulaw,
}

/// Makes all segments of µ-law begin at a power of two, in 16 bits.
const BIAS: i32 = 0x84;
/// The largest magnitude that µ-law can tell.
const CLIP: i32 = 0x7fff - BIAS;

impl Law {
    /// The code of silence.
    pub fn silence(self) -> u8 {
        self.encode(0)
    }

    /// The code of a sample of 16 bits.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Ulaw => {
                let sign = if sample < 0 { 0x80 } else { 0 };
                let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
                // The segment is where the first one stands, from bit 7 on.
                let segment = magnitude.ilog2() - 7;
                let step = magnitude >> (segment + 3) & 0x0f;
                !(sign | (segment as u8) << 4 | step as u8)
            }
            Self::Alaw => {
                // 13 bits, negative numbers as their complement.
                let scaled = i32::from(sample) >> 3;
                let (sign, magnitude) = if scaled < 0 { (0, !scaled) } else { (0x80, scaled) };
                let code = match magnitude {
                    0..32 => magnitude >> 1,
                    _ => {
                        let segment = magnitude.ilog2() - 4;
                        (segment << 4) as i32 | magnitude >> segment & 0x0f
                    }
                };
                (sign | code as u8) ^ 0x55
            }
        }
    }

    /// The sample of 16 bits that a code stands for: the middle of its interval.
    pub fn decode(self, code: u8) -> i16 {
        let (negative, magnitude) = match self {
            Self::Ulaw => {
                let code = !code;
                let (segment, step) = (code >> 4 & 7, i32::from(code & 0x0f));
                (code & 0x80 != 0, (((step << 3) + BIAS) << segment) - BIAS)
            }
            Self::Alaw => {
                let code = code ^ 0x55;
                let (segment, step) = (code >> 4 & 7, i32::from(code & 0x0f));
                let magnitude = match segment {
                    0 => (step << 4) + 8,
                    _ => ((step << 4) + 0x108) << (segment - 1),
                };
                (code & 0x80 == 0, magnitude)
            }
        };
        // At most 32,256.
        (if negative { -magnitude } else { magnitude }) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_tables_are_those_of_g711() {
        let (ulaw, alaw) = (Law::Ulaw, Law::Alaw);
        assert_eq!((ulaw.silence(), alaw.silence()), (0xff, 0xd5));
        let codes = [0x00, 0x80, 0x7f, 0xff, 0x8f, 0xf0];
        assert_eq!(codes.map(|code| ulaw.decode(code)), [-32_124, 32_124, 0, 0, 16_764, 120]);
        let codes = [0x2a, 0xaa, 0x55, 0xd5, 0xa5, 0xc5];
        assert_eq!(codes.map(|code| alaw.decode(code)), [-32_256, 32_256, -8, 8, 16_896, 264]);
        assert_eq!([i16::MIN, i16::MAX].map(|sample| ulaw.encode(sample)), [0x00, 0x80]);
        assert_eq!([i16::MIN, i16::MAX].map(|sample| alaw.encode(sample)), [0x2a, 0xaa]);
    }

    #[test]
    fn every_code_stands_for_itself() {
        for code in 0..=255 {
            assert_eq!(Law::Alaw.encode(Law::Alaw.decode(code)), code);
            // Minus zero is plus zero.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(Law::Ulaw.encode(Law::Ulaw.decode(code)), expected);
        }
    }

    #[test]
    fn no_sample_is_off_by_more_than_half_a_step() {
        for law in [Law::Alaw, Law::Ulaw] {
            for sample in i16::MIN..=i16::MAX {
                let error = i32::from(law.decode(law.encode(sample))) - i32::from(sample);
                // 16 steps to a doubling: a 33rd, and the smallest step.
                let allowed = i32::from(sample).abs() / 32 + 10;
                let clipped = i32::from(sample).abs() > 32_000;
                assert!(clipped || error.abs() <= allowed, "{law:?} {sample}: {error}");
            }
        }
    }
}
