//! Names of files that the programs write: names.h.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct names` of names.h.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Names([u8; 256 * 1024]);

impl Names {
    /// The name at that place, empty for none.
    pub fn at(&self, place: u32) -> &[u8] {
        let place = place as usize;
        match self.0.get(place..).and_then(|names| names.split_first_chunk()) {
            Some((length, rest)) if place > 0 => {
                rest.get(..u32::from_ne_bytes(*length) as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }
}
