//! What is left of a list of mappings that is longer than one read should hold: it is gathered piece by piece.

use super::procfs::MappingFile;
use crate::protocol::Groups;
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of a list that are gathered at once, about.
pub(crate) const PIECE: usize = 256 << 10;

/// Where a list goes on.
#[derive(Clone, Debug)]
pub enum Rest {
    /// In a file of /proc that is open: it stays that of one memory, whatever its task executes.
    File(Arc<Mutex<MappingFile>>),
    /// At this address, as the BPF program tells it.
    #[cfg(feature = "bpf")]
    Address(u64),
}

impl Rest {
    /// Bytes that keeping it costs, those of the kernel's buffer for a file too.
    pub(crate) const COST: usize = 16 << 10;
}

/// The next piece of a list.
#[derive(Debug, Default)]
pub struct Piece {
    /// Records; none only at the end of the list.
    pub mappings: Vec<u8>,
    /// What comes after them.
    pub rest: Option<Rest>,
    /// The groups that were lost, where the list cannot be read any further.
    pub missing: Groups,
    /// The memory is gone: the task ended, or runs another program.
    pub gone: bool,
}
