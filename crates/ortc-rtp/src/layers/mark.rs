use super::dependency::Structure;
use super::{MAX_SPATIAL, MAX_TEMPORAL, vp8, vp9};
use crate::CodecName;
use crate::codec::begins_key_frame;

/// A quality of a track: of simulcast, one of its encodings, counted from the least to the best,
/// and else a spatial layer; and a temporal layer, which adds pictures. Lower layers of the same
/// spatial one are always part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layer {
    /// The encoding, or the spatial layer; 0 is the least.
    pub spatial: u8,
    /// The temporal layer; 0 is the least.
    pub temporal: u8,
}

impl Layer {
    /// Higher than any.
    pub const BEST: Self = Self { spatial: u8::MAX, temporal: u8::MAX };
}

/// What a received packet says of its layer, read once for all who are sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerMark {
    /// The encoding that it is of, from the least to the best.
    pub encoding: u8,
    /// The layer, of which the spatial one is within the encoding.
    pub(crate) layer: Layer,
    flags: u8,
}

/// It is of a track in several layers.
const LAYERED: u8 = 1;
/// A key frame begins: what comes can be decoded from here on.
const KEY: u8 = 2;
/// A frame begins, of whichever layer.
const BEGINS: u8 = 4;
/// The temporal layer can be entered with the frame.
const SYNC: u8 = 8;
/// It is the last packet of the frame of its spatial layer, as far as that is known.
const ENDS: u8 = 16;
/// With its frame a picture begins, of all spatial layers.
const PICTURE: u8 = 32;

/// Reads the marks of one encoding's packets.
#[derive(Debug, Clone, Default)]
pub struct LayerMarker {
    /// What the dependency descriptors of AV1 refer to.
    structure: Structure,
    /// The timestamp of the newest frame whose layer its descriptor says.
    newest: Option<u32>,
}

impl LayerMarker {
    /// Reads the mark of a packet with this payload, and timestamp, of an encoding; `dependency` is
    /// its dependency descriptor, if it has one, which says more of AV1 than the payload does.
    pub fn mark(
        &mut self,
        codec: CodecName,
        encoding: u8,
        (payload, timestamp): (&[u8], u32),
        dependency: Option<&[u8]>,
    ) -> LayerMark {
        let (mut layer, mut flags) = (Layer::default(), LAYERED);
        let mut set = |flag: u8, is_set: bool| flags |= if is_set { flag } else { 0 };
        let described = dependency.and_then(|data| self.structure.read(data));
        match (codec, described) {
            (CodecName::Vp8, _) => {
                if let Some(descriptor) = vp8::Descriptor::parse(payload) {
                    layer.temporal = descriptor.temporal;
                    set(BEGINS | PICTURE, descriptor.begins);
                    set(SYNC, descriptor.is_sync);
                    set(KEY, descriptor.begins_key(payload));
                }
            }
            (CodecName::Vp9, _) => {
                if let Some(descriptor) = vp9::Descriptor::parse(payload) {
                    layer = descriptor.layer;
                    let is_first = descriptor.begins && layer.spatial == 0;
                    set(BEGINS, descriptor.begins);
                    set(ENDS, descriptor.ends);
                    set(SYNC, descriptor.is_switching_point);
                    set(PICTURE, is_first || descriptor.begins && !descriptor.is_above);
                    set(KEY, is_first && !descriptor.is_inter);
                }
            }
            (_, Some(dependency)) => {
                layer = dependency.layer;
                let is_picture = dependency.begins && self.newest != Some(timestamp);
                self.newest = Some(timestamp);
                set(BEGINS, dependency.begins);
                set(ENDS, dependency.ends);
                set(SYNC, dependency.is_switch);
                set(PICTURE, is_picture);
                set(KEY, dependency.is_key && dependency.begins);
            }
            (codec, None) => {
                set(BEGINS | PICTURE, true);
                set(KEY, begins_key_frame(codec, payload));
            }
        }
        layer.spatial = layer.spatial.min(MAX_SPATIAL as u8 - 1);
        layer.temporal = layer.temporal.min(MAX_TEMPORAL as u8 - 1);
        LayerMark { encoding: encoding.min(MAX_SPATIAL as u8 - 1), layer, flags }
    }
}

impl LayerMark {
    /// Whether it is of a track in several layers; it says nothing else if not.
    pub fn is_layered(self) -> bool {
        self.flags & LAYERED != 0
    }

    /// The layer, of which the spatial one is within the encoding.
    pub fn layer(self) -> Layer {
        self.layer
    }

    /// Whether a key frame begins.
    pub fn is_key(self) -> bool {
        self.flags & KEY != 0
    }

    /// Whether a frame begins.
    pub(crate) fn begins(self) -> bool {
        self.flags & BEGINS != 0
    }

    /// Whether a picture begins, of all spatial layers.
    pub(crate) fn begins_picture(self) -> bool {
        self.flags & PICTURE != 0
    }

    /// Whether the frame of its spatial layer ends.
    pub(crate) fn ends(self) -> bool {
        self.flags & ENDS != 0
    }

    /// Whether the temporal layer can be entered here.
    pub(crate) fn is_sync(self) -> bool {
        self.flags & (SYNC | KEY) != 0
    }

    #[cfg(test)]
    pub(crate) fn of(codec: CodecName, encoding: u8, payload: &[u8]) -> Self {
        LayerMarker::default().mark(codec, encoding, (payload, 0), None)
    }
}
