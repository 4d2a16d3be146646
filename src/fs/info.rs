//! The text file beside the interface, which tells a client what this server offers.

use crate::access::Visibility;
use crate::proc_files::{clock_ticks, page_size};
use crate::protocol::{DumpStrategy, Groups};
use crate::source::Limits;
use std::fmt::Write;

/// What `info` says.
#[derive(Clone, Debug)]
pub struct Info {
    /// Name of the source in use.
    pub source: &'static str,
    /// What can be asked for.
    pub groups: Groups,
    /// Who answers for each of them (see [`Source::source_of`](crate::source::Source::source_of)).
    pub sources: Vec<(Groups, &'static str)>,
    /// What readers may cost.
    pub limits: Limits,
    /// What is shown of tasks that a reader may not look at.
    pub visibility: Visibility,
}

impl Info {
    /// The text: a `key: value` a line.
    pub fn text(&self) -> String {
        let groups: Vec<String> = self
            .groups
            .iter_names()
            .map(|(name, bit)| format!("{name}={}", bit.bits().trailing_zeros()))
            .collect();
        let strategies =
            DumpStrategy::EVERY.map(|strategy| format!("{}={}", strategy.name(), strategy as u64));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let sources: Vec<String> = self
            .sources
            .iter()
            .flat_map(|(groups, source)| groups.iter_names().map(move |(name, _)| format!("{name}={source}")))
            .collect();
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key}: {value}");
        };
        line("version", &env!("CARGO_PKG_VERSION"));
        line("protocol", &1);
        line("source", &self.source);
        line("groups", &groups.join(" "));
        line("strategies", &strategies.join(" "));
        line("page_size", &page_size());
        line("clock_ticks", &clock_ticks());
        line("visibility", &self.visibility.name());
        line("deadline_target_ms", &self.limits.deadlines.target.as_millis());
        line("deadline_read_ms", &self.limits.deadlines.read.as_millis());
        line("parked_bytes_max", &self.limits.parked);
        line("parked_bytes_max_per_user", &self.limits.parked_per_user);
        line("files_max", &self.limits.files);
        line("files_max_per_user", &self.limits.files_per_user);
        line("kernel", &kernel.trim());
        line("sources", &sources.join(" "));
        text
    }
}
