//! What readers may cost.

use super::Deadlines;

/// Bounds that an administrator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a reader waits for memory that cannot be read.
    pub deadlines: Deadlines,
    /// Bytes kept for dumps half read, of all users.
    pub parked: usize,
    /// The same, of one user.
    pub parked_per_user: usize,
    /// Files that may be open at once, of all users.
    pub files: usize,
    /// The same, of one user.
    pub files_per_user: usize,
}

impl Default for Limits {
    /// 256 MiB parked and 65,536 files, of which one user may hold a quarter.
    fn default() -> Self {
        Limits {
            deadlines: Deadlines::default(),
            parked: 256 << 20,
            parked_per_user: 64 << 20,
            files: 1 << 16,
            files_per_user: 1 << 14,
        }
    }
}
