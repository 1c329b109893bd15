//! The payload descriptor of VP8 (RFC 7741 §4.2), as far as layers are concerned.

/// Where things stand in a payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// The picture id, if there is one, and whether it has 15 bits.
    picture: Option<(usize, bool)>,
    /// TL0PICIDX, if there is one.
    tl0: Option<usize>,
    /// The temporal layer; 0 where it does not say.
    pub(crate) temporal: u8,
    /// Y: it depends on the base layer alone.
    pub(crate) is_sync: bool,
    /// Whether a frame begins.
    pub(crate) begins: bool,
    /// Where the frame's own bytes begin.
    pub(crate) len: usize,
}

/// Picture ids of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pictures {
    pub(crate) id: Option<u16>,
    pub(crate) tl0: Option<u8>,
}

/// What is added to picture ids, wrapping within the bits that they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PictureShift {
    pub(crate) id: u16,
    pub(crate) tl0: u8,
}

impl Descriptor {
    /// `None` where it is malformed, or nothing follows it.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut len = 1;
        let (mut picture, mut tl0, mut temporal, mut is_sync) = (None, None, 0, false);
        if first & 0x80 != 0 {
            let extension = *payload.get(1)?;
            len = 2;
            if extension & 0x80 != 0 {
                let is_long = payload.get(len)? & 0x80 != 0;
                picture = Some((len, is_long));
                len += if is_long { 2 } else { 1 };
            }
            if extension & 0x40 != 0 {
                tl0 = Some(len);
                len += 1;
            }
            if extension & 0x30 != 0 {
                if extension & 0x20 != 0 {
                    let byte = *payload.get(len)?;
                    (temporal, is_sync) = (byte >> 6, byte & 0x20 != 0);
                }
                len += 1;
            }
        }
        // S and partition 0.
        let begins = first & 0x17 == 0x10;
        (len < payload.len()).then_some(Self { picture, tl0, temporal, is_sync, begins, len })
    }

    /// Whether a key frame begins (RFC 6386 §9.1).
    pub(crate) fn begins_key(&self, payload: &[u8]) -> bool {
        self.begins && payload.get(self.len).is_some_and(|byte| byte & 1 == 0)
    }

    pub(crate) fn pictures(&self, payload: &[u8]) -> Pictures {
        let id = self.picture.map(|(at, is_long)| match is_long {
            true => u16::from_be_bytes([payload[at] & 0x7f, payload[at + 1]]),
            false => u16::from(payload[at]),
        });
        Pictures { id, tl0: self.tl0.map(|at| payload[at]) }
    }

    /// Changes the picture ids in the payload that it was read from, or in a copy.
    pub(crate) fn shift(&self, payload: &mut [u8], by: PictureShift) {
        let Pictures { id, tl0 } = self.pictures(payload);
        if let (Some((at, is_long)), Some(id)) = (self.picture, id) {
            let id = id.wrapping_add(by.id);
            if is_long {
                payload[at..at + 2].copy_from_slice(&(id | 0x8000).to_be_bytes());
            } else {
                payload[at] = id as u8 & 0x7f;
            }
        }
        if let (Some(at), Some(tl0)) = (self.tl0, tl0) {
            payload[at] = tl0.wrapping_add(by.tl0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_descriptor_is_read_and_its_ids_are_changed_in_place() {
        type Case = (&'static [u8], Option<u16>, Option<u8>, u8, bool, bool);
        let cases: [Case; 5] = [
            (&[0x10, 0xaa], None, None, 0, false, true),
            (&[0x90, 0x80, 0x7f, 0xaa], Some(0x7f), None, 0, false, true),
            (&[0x90, 0x80, 0xff, 0xfe, 0xaa], Some(0x7ffe), None, 0, false, true),
            (&[0x80, 0xe0, 0x81, 0x02, 0xff, 0x60, 0xaa], Some(0x102), Some(255), 1, true, false),
            (&[0x90, 0x20, 0x80, 0xaa], None, None, 2, false, true),
        ];
        for (payload, id, tl0, temporal, is_sync, begins) in cases {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!(descriptor.pictures(payload), Pictures { id, tl0 }, "{payload:x?}");
            let got = (descriptor.temporal, descriptor.is_sync, descriptor.begins);
            assert_eq!(got, (temporal, is_sync, begins), "{payload:x?}");
            assert_eq!(descriptor.len, payload.len() - 1);
            let mut changed = payload.to_vec();
            descriptor.shift(&mut changed, PictureShift { id: 3, tl0: 2 });
            assert_eq!(Descriptor::parse(&changed), Some(descriptor), "{changed:x?}");
            let mask =
                if payload.get(2).is_some_and(|byte| byte & 0x80 != 0) { 0x7fff } else { 0x7f };
            let expected = Pictures {
                id: id.map(|id| (id + 3) & mask),
                tl0: tl0.map(|tl0| tl0.wrapping_add(2)),
            };
            assert_eq!(descriptor.pictures(&changed), expected);
        }
    }

    #[test]
    fn a_descriptor_that_is_cut_off_is_none() {
        let whole = [0x90, 0xe0, 0x81, 0x02, 0xff, 0x60, 0xaa];
        for len in 0..whole.len() {
            assert_eq!(Descriptor::parse(&whole[..len]), None, "{len}");
        }
    }
}
