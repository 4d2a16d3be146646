//! What bounds the reading of a task's files.

use std::fmt::Debug;

/// Asked between the steps of reading, for whoever waits may not wait any more, and memory is bounded.
pub(crate) trait Bounds: Debug + Send + Sync {
    /// Whether to go on with a buffer that is to grow by so many bytes.
    ///
    /// # Errors
    /// `ECANCELED` where nobody waits for it, `ENOMEM` where it would take too much.
    fn step(&self, growth: usize) -> nix::Result<()>;
}
