//! As much of a VP8 encoder (RFC 6386) as pictures need that are made of flat squares: key
//! frames whose macroblocks have one colour each.
//!
//! A square of the colour of its neighbour is predicted from it and costs a fraction of a bit;
//! any other is coded by DC coefficients alone. At the finest quantizer these hit every colour
//! exactly.

/// Luma and both chromas of a square of 16 by 16 pixels.
pub(crate) type Yuv = [u8; 3];

/// The boolean entropy coder (RFC 6386 §7.3).
struct BoolWriter {
    out: Vec<u8>,
    /// Width of the interval.
    range: u32,
    bottom: u32,
    /// Shifts until the next byte is complete.
    left: u32,
}

impl BoolWriter {
    fn new() -> Self {
        Self { out: Vec::new(), range: 255, bottom: 0, left: 24 }
    }

    /// Writes a bit that is zero with a probability of `probability / 256`.
    fn put(&mut self, bit: bool, probability: u8) {
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        if bit {
            self.bottom += split;
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            self.shift();
        }
    }

    fn shift(&mut self) {
        if self.bottom >> 31 == 1 {
            // A carry goes into what was written already.
            for byte in self.out.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
        self.bottom <<= 1;
        self.left -= 1;
        if self.left == 0 {
            self.out.push((self.bottom >> 24) as u8);
            self.bottom &= 0x00ff_ffff;
            self.left = 8;
        }
    }

    /// Writes a number of `bits` bits, the highest first, as likely as any other.
    fn put_number(&mut self, value: u32, bits: u32) {
        for bit in (0..bits).rev() {
            self.put(value >> bit & 1 == 1, 128);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        // Pushes out all that the interval still holds back.
        self.put_number(0, 32);
        self.out
    }
}

/// How a plane of a macroblock is predicted (RFC 6386 §8.2, §12.2, §12.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Average,
    FromAbove,
    FromLeft,
}

impl Mode {
    /// The mode for `target`, and what remains to be coded.
    fn choose(target: u8, above: Option<u8>, left: Option<u8>) -> (Self, i32) {
        if above == Some(target) {
            return (Self::FromAbove, 0);
        }
        if left == Some(target) {
            return (Self::FromLeft, 0);
        }
        let average = match (above, left) {
            (None, None) => 128,
            (Some(one), None) | (None, Some(one)) => i32::from(one),
            (Some(above), Some(left)) => (i32::from(above) + i32::from(left) + 1) >> 1,
        };
        (Self::Average, i32::from(target) - average)
    }

    /// For both chromas, which share a mode.
    fn choose_two(
        target: [u8; 2],
        above: Option<[u8; 2]>,
        left: Option<[u8; 2]>,
    ) -> (Self, [i32; 2]) {
        if above == Some(target) {
            return (Self::FromAbove, [0; 2]);
        }
        if left == Some(target) {
            return (Self::FromLeft, [0; 2]);
        }
        let remainder = |plane: usize| {
            let target = i32::from(target[plane]);
            let average = match (above, left) {
                (None, None) => 128,
                (Some(one), None) | (None, Some(one)) => i32::from(one[plane]),
                (Some(above), Some(left)) => {
                    (i32::from(above[plane]) + i32::from(left[plane]) + 1) >> 1
                }
            };
            target - average
        };
        (Self::Average, [remainder(0), remainder(1)])
    }
}

/// Encodes a key frame of `width` by `height` pixels, each at most 16,383; `squares` are the
/// colours of its macroblocks, row by row.
pub(crate) fn encode_key_frame(width: u16, height: u16, squares: &[Yuv]) -> Vec<u8> {
    let columns = usize::from(width.div_ceil(16));
    debug_assert_eq!(squares.len(), columns * usize::from(height.div_ceil(16)));
    let coded: Vec<_> = (0..squares.len())
        .map(|at| {
            let [luma, chroma @ ..] = squares[at];
            let above = at.checked_sub(columns).map(|at| squares[at]);
            let left = (at % columns != 0).then(|| squares[at - 1]);
            let luma = Mode::choose(luma, above.map(|yuv| yuv[0]), left.map(|yuv| yuv[0]));
            let two = |yuv: Yuv| [yuv[1], yuv[2]];
            let chroma = Mode::choose_two(chroma, above.map(two), left.map(two));
            let skipped = luma.1 == 0 && chroma.1 == [0; 2];
            (luma, chroma, skipped)
        })
        .collect();

    let skipped = coded.iter().filter(|(_, _, skipped)| *skipped).count();
    let not_skipped = ((coded.len() - skipped) * 256 / coded.len().max(1)).clamp(1, 255) as u8;
    let mut modes = BoolWriter::new();
    write_header(&mut modes, not_skipped);
    let mut tokens = BoolWriter::new();
    let mut above = vec![Nonzero::default(); columns];
    let mut left = Nonzero::default();
    for (at, &((luma, y), (chroma, uv), skipped)) in coded.iter().enumerate() {
        modes.put(skipped, not_skipped);
        // kf_ymode_tree: not B_PRED, then DC and V, or H and TM.
        modes.put(true, 145);
        modes.put(luma == Mode::FromLeft, 156);
        match luma {
            Mode::Average => modes.put(false, 163),
            Mode::FromAbove => modes.put(true, 163),
            Mode::FromLeft => modes.put(false, 128),
        }
        // uv_mode_tree: DC, V, H, TM, with the probabilities of key frames.
        modes.put(chroma != Mode::Average, 142);
        if chroma != Mode::Average {
            modes.put(chroma != Mode::FromAbove, 114);
        }
        if chroma == Mode::FromLeft {
            modes.put(false, 183);
        }
        if at % columns == 0 {
            left = Nonzero::default();
        }
        let above = &mut above[at % columns];
        if skipped {
            (left, *above) = (Nonzero::default(), Nonzero::default());
        } else {
            write_tokens(&mut tokens, y, uv, &mut left, above);
        }
    }

    let (modes, tokens) = (modes.finish(), tokens.finish());
    // §9.1: key frame, version 0, shown, and the length of the first partition.
    let tag = 1 << 4 | (modes.len() as u32) << 5;
    let mut frame = tag.to_le_bytes()[..3].to_vec();
    frame.extend_from_slice(&[0x9d, 0x01, 0x2a]);
    frame.extend_from_slice(&(width & 0x3fff).to_le_bytes());
    frame.extend_from_slice(&(height & 0x3fff).to_le_bytes());
    frame.extend_from_slice(&modes);
    frame.extend_from_slice(&tokens);
    frame
}

/// Writes the frame header (RFC 6386 §9.2 to §9.11, §19.2).
fn write_header(modes: &mut BoolWriter, not_skipped: u8) {
    // Color space and clamping, no segments, the filter and its level (off) and sharpness, no
    // adjustments, one partition of tokens.
    modes.put_number(0, 1 + 1 + 1 + 1 + 6 + 3 + 1 + 2);
    // The finest quantizer, for all planes.
    modes.put_number(0, 7 + 5);
    // Keep the probabilities of this frame.
    modes.put_number(1, 1);
    // None of them changes.
    let mut likely = UPDATE_PROBABILITIES.iter().peekable();
    for at in 0..4 * 8 * 3 * 11 {
        let probability = likely.next_if(|(index, _)| *index == at).map_or(255, |&(_, p)| p);
        modes.put(false, probability);
    }
    // Macroblocks without coefficients are skipped.
    modes.put_number(1, 1);
    modes.put_number(u32::from(not_skipped), 8);
}

/// Whether the blocks beside or above have coefficients: of Y2, U and V. Those of Y never do.
#[derive(Debug, Clone, Copy, Default)]
struct Nonzero {
    y2: bool,
    uv: [bool; 2],
}

/// Writes the coefficients of a macroblock (RFC 6386 §13): all that is not DC is zero.
fn write_tokens(
    tokens: &mut BoolWriter,
    y: i32,
    uv: [i32; 2],
    left: &mut Nonzero,
    above: &mut Nonzero,
) {
    // At the finest quantizer a step of Y2 is 8 and its inverse transform divides by 8 twice
    // (§14.3, §14.4): 8 levels are one in every pixel.
    let context = usize::from(left.y2) + usize::from(above.y2);
    put_dc(tokens, 8 * y, &Y2_PROBABILITIES[context], Y2_END);
    (left.y2, above.y2) = (y != 0, y != 0);
    for _ in 0..16 {
        tokens.put(false, Y_END);
    }
    for (plane, delta) in uv.into_iter().enumerate() {
        let nonzero = delta != 0;
        let (outer_left, outer_above) = (left.uv[plane], above.uv[plane]);
        for block in 0..4 {
            let left = if block % 2 == 0 { outer_left } else { nonzero };
            let above = if block < 2 { outer_above } else { nonzero };
            let context = usize::from(left) + usize::from(above);
            // A step of chroma is 4: two levels are one in every pixel.
            put_dc(tokens, 2 * delta, &UV_PROBABILITIES[context], UV_END);
        }
        (left.uv[plane], above.uv[plane]) = (nonzero, nonzero);
    }
}

/// Writes a block that has a DC coefficient, or none at all (§13.2). The level is even: ±1
/// does not occur. `end` is the probability that more follows.
fn put_dc(tokens: &mut BoolWriter, level: i32, probabilities: &[u8; 11], end: u8) {
    let p = probabilities;
    if level == 0 {
        return tokens.put(false, p[0]);
    }
    let magnitude = level.unsigned_abs();
    // Something, not zero, not one.
    tokens.put(true, p[0]);
    tokens.put(true, p[1]);
    tokens.put(true, p[2]);
    match magnitude {
        0..=4 => {
            tokens.put(false, p[3]);
            tokens.put(magnitude != 2, p[4]);
            if magnitude != 2 {
                tokens.put(magnitude == 4, p[5]);
            }
        }
        5..=10 => {
            tokens.put(true, p[3]);
            tokens.put(false, p[6]);
            tokens.put(magnitude > 6, p[7]);
        }
        _ => {
            tokens.put(true, p[3]);
            tokens.put(true, p[6]);
            tokens.put(magnitude > 34, p[8]);
            match magnitude {
                0..=34 => tokens.put(magnitude > 18, p[9]),
                _ => tokens.put(magnitude > 66, p[10]),
            }
        }
    }
    let category = CATEGORIES.iter().rev().find(|(base, _)| magnitude >= *base);
    if let Some((base, bits)) = category {
        for (at, &probability) in bits.iter().enumerate() {
            tokens.put((magnitude - base) >> (bits.len() - 1 - at) & 1 == 1, probability);
        }
    }
    tokens.put(level < 0, 128);
    tokens.put(false, end);
}

/// The least magnitude of a category, and the probabilities of its extra bits (§13.2).
const CATEGORIES: [(u32, &[u8]); 6] = [
    (5, &[159]),
    (7, &[165, 145]),
    (11, &[173, 148, 140]),
    (19, &[176, 155, 140, 135]),
    (35, &[180, 157, 141, 134, 130]),
    (67, &[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129]),
];

// Of the default probabilities (§13.5) only those that occur: of the first coefficient of Y2
// and of chroma by context, and of the end after it, or at once.
const Y2_PROBABILITIES: [[u8; 11]; 3] = [
    [198, 35, 237, 223, 193, 187, 162, 160, 145, 155, 62],
    [131, 45, 198, 221, 172, 176, 220, 157, 252, 221, 1],
    [68, 47, 146, 208, 149, 167, 221, 162, 255, 223, 128],
];
const UV_PROBABILITIES: [[u8; 11]; 3] = [
    [253, 9, 248, 251, 207, 208, 255, 192, 128, 128, 128],
    [175, 13, 224, 243, 193, 185, 249, 198, 255, 255, 128],
    [73, 17, 171, 221, 161, 179, 236, 167, 255, 234, 128],
];
const Y2_END: u8 = 81;
const UV_END: u8 = 155;
const Y_END: u8 = 253;

/// How likely each probability is to stay as it is (§13.4), by its place in the table; those
/// that are not here have 255.
#[rustfmt::skip]
const UPDATE_PROBABILITIES: [(u16, u8); 158] = [
    (33, 176), (34, 246), (44, 223), (45, 241), (46, 252), (55, 249), (56, 253), (57, 253),
    (67, 244), (68, 252), (77, 234), (78, 254), (79, 254), (88, 253), (100, 246), (101, 254),
    (110, 239), (111, 253), (112, 254), (121, 254), (123, 254), (133, 248), (134, 254),
    (143, 251), (145, 254), (166, 253), (167, 254), (176, 251), (177, 254), (178, 254),
    (187, 254), (189, 254), (199, 254), (200, 253), (202, 254), (209, 250), (211, 254),
    (213, 254), (220, 254), (264, 217), (275, 225), (276, 252), (277, 241), (278, 253),
    (281, 254), (286, 234), (287, 250), (288, 241), (289, 250), (290, 253), (292, 253),
    (293, 254), (298, 254), (308, 223), (309, 254), (310, 254), (319, 238), (320, 253),
    (321, 254), (322, 254), (331, 248), (332, 254), (341, 249), (342, 254), (364, 253),
    (374, 247), (375, 254), (397, 253), (398, 254), (407, 252), (430, 254), (431, 254),
    (440, 253), (463, 254), (464, 253), (473, 250), (484, 254), (528, 186), (529, 251),
    (530, 250), (539, 234), (540, 251), (541, 244), (542, 254), (550, 251), (551, 251),
    (552, 243), (553, 253), (554, 254), (556, 254), (562, 253), (563, 254), (572, 236),
    (573, 253), (574, 254), (583, 251), (584, 253), (585, 253), (586, 254), (587, 254),
    (595, 254), (596, 254), (605, 254), (606, 254), (607, 254), (628, 254), (638, 254),
    (639, 254), (649, 254), (671, 254), (792, 248), (803, 250), (804, 254), (805, 252),
    (806, 254), (814, 248), (815, 254), (816, 249), (817, 253), (826, 253), (827, 253),
    (836, 246), (837, 253), (838, 253), (847, 252), (848, 254), (849, 251), (850, 254),
    (851, 254), (859, 254), (860, 252), (869, 248), (870, 254), (871, 253), (880, 253),
    (882, 254), (883, 254), (892, 251), (893, 254), (902, 245), (903, 251), (904, 254),
    (913, 253), (914, 253), (915, 254), (925, 251), (926, 253), (935, 252), (936, 253),
    (937, 254), (947, 254), (958, 252), (968, 249), (970, 254), (981, 254), (992, 253),
    (1001, 250), (1034, 254),
];
