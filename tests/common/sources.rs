//! The sources that the tests are run with: a line each.

/// A source, and what it can know.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// What `--source` calls it.
    pub name: &'static str,
    /// By how many clock ticks its times may differ from those of /proc.
    pub ticks: u64,
    /// It knows of every task whether its memory is dumpable, so that it hides nothing for want of knowing.
    pub knows_dumpable: bool,
    /// It knows a mapping's flags beyond read, write, execute and shared without VMA_STAT, too.
    pub knows_all_flags: bool,
    /// It knows the generation of a mapped file's inode; others say 0.
    pub knows_generation: bool,
}

/// All of them.
pub const SOURCES: &[Source] = &[Source {
    name: "procfs",
    ticks: 0,
    knows_dumpable: false,
    knows_all_flags: false,
    knows_generation: false,
}];
