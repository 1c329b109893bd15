//! The payload descriptor of VP9 (RFC 9628 §4.2), as far as layers are concerned.

use super::Layer;

/// What a payload descriptor says of its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Descriptor {
    pub(crate) layer: Layer,
    /// P: it depends on pictures before.
    pub(crate) is_inter: bool,
    /// B and E: a frame of a layer begins, and ends.
    pub(crate) begins: bool,
    pub(crate) ends: bool,
    /// U: the temporal layer can be entered here.
    pub(crate) is_switching_point: bool,
    /// D: it depends on the spatial layer below in the same picture.
    pub(crate) is_above: bool,
}

impl Descriptor {
    /// `None` where it is cut off.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let flags = *payload.first()?;
        let mut at = 1;
        if flags & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        let indices = if flags & 0x20 != 0 { *payload.get(at)? } else { 0 };
        Some(Self {
            layer: Layer { spatial: indices >> 1 & 7, temporal: indices >> 5 },
            is_inter: flags & 0x40 != 0,
            begins: flags & 0x08 != 0,
            ends: flags & 0x04 != 0,
            is_switching_point: indices & 0x10 != 0,
            is_above: indices & 0x01 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_with_and_without_a_picture_id() {
        let expected = Descriptor {
            layer: Layer { spatial: 2, temporal: 1 },
            is_inter: true,
            begins: true,
            ends: false,
            is_switching_point: true,
            is_above: true,
        };
        let indices = 1 << 5 | 0x10 | 2 << 1 | 1;
        for payload in [
            &[0x68, indices, 7][..],
            &[0xe8, 0x05, indices, 7][..],
            &[0xe8, 0x85, 0x01, indices, 7][..],
        ] {
            assert_eq!(Descriptor::parse(payload), Some(expected), "{payload:x?}");
            assert_eq!(Descriptor::parse(&payload[..payload.len() - 2]), None);
        }
        let plain = Descriptor { begins: true, ends: true, ..Descriptor::default() };
        assert_eq!(Descriptor::parse(&[0x0c]), Some(plain));
    }
}
