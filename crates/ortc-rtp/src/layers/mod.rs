//! Tracks in several qualities: simulcast encodings (RFC 8853) and scalable layers. Whoever is
//! sent one gets the layer that it has room for, as one stream without a seam.
//!
//! | file | is |
//! |---|---|
//! | `mark` | what a packet says of its layer, by `vp8`, `vp9` or `dependency` |
//! | `meter` | what each layer takes, and whether it comes at all |
//! | `allocation` | which layer each track gets of what may be sent |
//! | `selector` | which packets of a track one peer is sent |
//! | `rewrite` | their numbers, timestamps and picture ids |

mod allocation;
mod dependency;
mod mark;
mod meter;
mod rewrite;
mod selector;
pub(crate) mod vp8;
mod vp9;

#[cfg(test)]
mod tests;

pub(crate) use allocation::{Demand, Hold, allocate};
pub use mark::{Layer, LayerMark, LayerMarker};
pub(crate) use meter::LayerMeter;
pub use meter::LayerRates;
pub(crate) use rewrite::{Alignment, Sent};
pub(crate) use selector::{LayerSelector, Spot};

/// Most encodings of one track. Browsers send three at most.
pub const MAX_ENCODINGS: usize = 4;

/// Most spatial and temporal layers that are told apart: VP9 has eight of each, and no encoder
/// makes more than three. What is higher counts with the highest.
pub(crate) const MAX_SPATIAL: usize = MAX_ENCODINGS;
pub(crate) const MAX_TEMPORAL: usize = 4;
