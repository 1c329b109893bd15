use std::fmt;

/// One of the sixteen tones of a telephone's keypad.
///
/// Its order is that of the event codes: 0 to 9, `*`, `#`, A to D (RFC 4733 §3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digit(u8);

const CHARS: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

/// The keypad by rows and columns, as event codes (ITU-T Q.23).
const KEYPAD: [[u8; 4]; 4] = [[1, 2, 3, 12], [4, 5, 6, 13], [7, 8, 9, 14], [10, 0, 11, 15]];

/// Hz of the rows of the keypad (ITU-T Q.23).
pub(crate) const LOW_GROUP: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
/// Hz of its columns.
pub(crate) const HIGH_GROUP: [f64; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];

impl Digit {
    /// All sixteen, in the order of their event codes.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16).map(Self)
    }

    /// The digit of a character: `0` to `9`, `*`, `#`, `A` to `D`, and `a` to `d` for the same.
    pub fn from_char(c: char) -> Option<Self> {
        let c = c.to_ascii_uppercase();
        CHARS.iter().position(|other| *other == c).map(|code| Self(code as u8))
    }

    /// Its character; letters are capitals.
    pub fn to_char(self) -> char {
        CHARS[usize::from(self.0)]
    }

    /// The digit of an event code of RFC 4733; `None` above 15, which are other events.
    pub fn from_event(code: u8) -> Option<Self> {
        (code < 16).then_some(Self(code))
    }

    /// Its event code (RFC 4733 §3.2).
    pub fn event(self) -> u8 {
        self.0
    }

    /// Hz of its two tones, the lower first (ITU-T Q.23).
    pub fn frequencies(self) -> (f64, f64) {
        let (row, column) = self.position();
        (LOW_GROUP[row], HIGH_GROUP[column])
    }

    pub(crate) fn at(row: usize, column: usize) -> Self {
        Self(KEYPAD[row][column])
    }

    fn position(self) -> (usize, usize) {
        let place = KEYPAD.iter().flatten().position(|code| *code == self.0);
        let place = place.expect("the keypad has every code below 16");
        (place / 4, place % 4)
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_char())
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digit({})", self.to_char())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_its_character_its_event_and_its_key() {
        let all: String = Digit::all().map(Digit::to_char).collect();
        assert_eq!(all, "0123456789*#ABCD");
        for digit in Digit::all() {
            assert_eq!(Digit::from_char(digit.to_char()), Some(digit));
            assert_eq!(Digit::from_event(digit.event()), Some(digit));
            let (row, column) = digit.position();
            assert_eq!(Digit::at(row, column), digit);
        }
        assert_eq!(Digit::from_char('b'), Digit::from_char('B'));
        assert_eq!([' ', 'e', 'E', ',', 'é'].map(Digit::from_char), [None; 5]);
        assert_eq!(Digit::from_event(16), None);
    }

    #[test]
    fn frequencies_are_those_of_the_keypad() {
        let of = |c| Digit::from_char(c).map(Digit::frequencies);
        assert_eq!(of('1'), Some((697.0, 1_209.0)));
        assert_eq!(of('5'), Some((770.0, 1_336.0)));
        assert_eq!(of('0'), Some((941.0, 1_336.0)));
        assert_eq!(of('#'), Some((941.0, 1_477.0)));
        assert_eq!(of('D'), Some((941.0, 1_633.0)));
    }
}
