//! The dependency descriptor (the RTP payload format of AV1, appendix A): a header extension that
//! says which layer a frame is of, whatever its codec.

use super::Layer;

/// Most templates that a structure has: they are named by six bits.
const MAX_TEMPLATES: usize = 64;

/// What the descriptor of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) layer: Layer,
    /// Whether the frame, of its spatial layer, begins and ends with the packet.
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    /// Whether it brings a structure: it is of a key frame then.
    pub(crate) is_key: bool,
    /// Whether a decode target can be entered here.
    pub(crate) is_switch: bool,
}

/// The structure of a stream, as its newest key frame has told it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Structure {
    offset: u8,
    /// The layer of each template, and whether frames of it are switching points.
    templates: Vec<(Layer, bool)>,
}

/// Reads a descriptor bit by bit, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn read(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.read(1)? == 1)
    }
}

impl Structure {
    /// Reads a descriptor, and the structure that comes with it; `None` where it is malformed, or
    /// names a template that is not known.
    pub(crate) fn read(&mut self, data: &[u8]) -> Option<Dependency> {
        let mut bits = Bits { bytes: data, at: 0 };
        let (begins, ends) = (bits.flag()?, bits.flag()?);
        let id = bits.read(6)? as u8;
        // The number of the frame.
        bits.read(16)?;
        let mut is_key = false;
        if data.len() > 3 {
            is_key = bits.flag()?;
            // What of it is overridden follows the structure, and says nothing of the layer.
            bits.read(4)?;
            if is_key {
                *self = Self::parse(&mut bits)?;
            }
        }
        let at = usize::from(id.wrapping_sub(self.offset) & 0x3f);
        let (layer, is_switch) = *self.templates.get(at)?;
        Some(Dependency { layer, begins, ends, is_key, is_switch })
    }

    fn parse(bits: &mut Bits<'_>) -> Option<Self> {
        let offset = bits.read(6)? as u8;
        let targets = bits.read(5)? as usize + 1;
        let mut templates = Vec::with_capacity(8);
        let mut layer = Layer::default();
        loop {
            templates.push((layer, false));
            match bits.read(2)? {
                0 => {}
                1 => layer.temporal = (layer.temporal + 1).min(7),
                2 => layer = Layer { spatial: (layer.spatial + 1).min(7), temporal: 0 },
                _ => break,
            }
            if templates.len() == MAX_TEMPLATES {
                return None;
            }
        }
        for (_, is_switch) in &mut templates {
            for _ in 0..targets {
                // Not present, discardable, switch, required.
                *is_switch |= bits.read(2)? == 2;
            }
        }
        Some(Self { offset, templates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes numbers of so many bits.
    fn bits(fields: &[(u32, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = 0;
        for (value, count) in fields {
            for n in (0..*count).rev() {
                if at % 8 == 0 {
                    bytes.push(0);
                }
                *bytes.last_mut().unwrap() |= ((value >> n & 1) as u8) << (7 - at % 8);
                at += 1;
            }
        }
        bytes
    }

    /// Of L2T2, with a key frame and its template id offset.
    fn key(offset: u32) -> Vec<u8> {
        let mut fields =
            vec![(1, 1), (0, 1), (offset, 6), (7, 16), (1, 1), (0, 4), (offset, 6), (3, 5)];
        // Two templates of S0T0, one of S0T1, one of S1T0 and one of S1T1.
        fields.extend([(0, 2), (1, 2), (2, 2), (1, 2), (3, 2)]);
        // Four targets of each: the first switches, the others do not.
        for template in 0..5 {
            fields.extend([(if template == 0 { 2 } else { 3 }, 2), (3, 2), (0, 2), (1, 2)]);
        }
        bits(&fields)
    }

    #[test]
    fn layers_are_those_of_the_templates_of_the_newest_structure() {
        let mut structure = Structure::default();
        let frame = |id: u32| bits(&[(1, 1), (1, 1), (id, 6), (8, 16)]);
        assert_eq!(structure.read(&frame(60)), None, "nothing is known yet");
        let first = structure.read(&key(62)).unwrap();
        let base = Layer::default();
        assert_eq!((first.layer, first.begins, first.ends), (base, true, false));
        assert!(first.is_key && first.is_switch);
        let layers: Vec<_> = [62, 63, 0, 1, 2]
            .map(|id| structure.read(&frame(id)).unwrap())
            .map(|it| (it.layer.spatial, it.layer.temporal, it.is_key))
            .into();
        let expected = [(0, 0, false), (0, 0, false), (0, 1, false), (1, 0, false), (1, 1, false)];
        assert_eq!(layers, expected);
        assert_eq!(structure.read(&frame(3)), None, "there is no such template");
    }

    #[test]
    fn what_is_cut_off_changes_nothing() {
        let mut structure = Structure::default();
        let whole = key(62);
        for len in 0..whole.len() - 1 {
            assert_eq!(structure.read(&whole[..len]), None, "{len}");
        }
        assert!(structure.templates.is_empty());
        assert!(structure.read(&whole).is_some());
        let endless = [&[0x80, 0, 1, 0x80, 0, 0][..], &[0; 40][..]].concat();
        assert_eq!(structure.read(&endless), None);
    }
}
