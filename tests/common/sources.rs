//! The sources that the tests are run with: an entry each.

use super::{daemon, needs};
use std::sync::OnceLock;

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

/// The one that works everywhere.
pub const PROCFS: Source = Source {
    name: "procfs",
    ticks: 0,
    knows_dumpable: false,
    knows_all_flags: false,
    knows_generation: false,
};

/// All that the program was built with.
const BUILT: &[Source] = &[
    PROCFS,
    #[cfg(feature = "bpf")]
    Source { name: "bpf", ticks: 2, knows_dumpable: true, knows_all_flags: true, knows_generation: true },
    #[cfg(feature = "bpf")]
    Source {
        name: "bpf-iter",
        ticks: 2,
        knows_dumpable: true,
        knows_all_flags: true,
        knows_generation: true,
    },
];

/// Those that work on this machine. `TASK_DIAG_TEST_SOURCES=procfs` leaves out the others on purpose.
pub fn sources() -> &'static [Source] {
    static FOUND: OnceLock<Vec<Source>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let wanted = std::env::var("TASK_DIAG_TEST_SOURCES").ok();
        let is_wanted = |name| wanted.as_ref().is_none_or(|list| list.split(',').any(|word| word == name));
        BUILT.iter().filter(|source| is_wanted(source.name) && works(source)).copied().collect()
    })
}

fn works(source: &Source) -> bool {
    let mut probe = daemon::program();
    let own = std::process::id().to_string();
    let output = probe.args(["one", "--direct", "--source", source.name, &own]).output().unwrap();
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success() || needs::missing(&format!("the source {}: {}", source.name, reason.trim()))
}
