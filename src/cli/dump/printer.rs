//! What every form of output does.

use std::io::{self, Write};
use task_diag::client::OwnedTask;

/// A form of output.
pub trait Printer {
    /// Shows one task.
    fn task(&mut self, out: &mut dyn Write, task: &OwnedTask) -> io::Result<()>;
    /// Shows that there is no other.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}
