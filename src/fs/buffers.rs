//! Buffers for answers: the one that was last in use goes first, as it is still in the cache.

use parking_lot::Mutex;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The kernel takes answers page by page.
#[derive(Clone, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Buffers that nobody fills at the moment: as many as were in use at once.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<Page>>>);

impl Buffers {
    /// Lends `size` bytes, of any content.
    pub fn with<T>(&self, size: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut pages = self.0.lock().pop().unwrap_or_default();
        let needed = size.div_ceil(size_of::<Page>());
        if pages.len() < needed {
            pages.resize(needed, Page::new_zeroed());
        }
        let filled = fill(&mut pages.as_mut_slice().as_mut_bytes()[..size]);
        self.0.lock().push(pages);
        filled
    }

    /// Gives up all that nobody fills.
    pub fn release(&self) {
        *self.0.lock() = Vec::new();
    }
}
