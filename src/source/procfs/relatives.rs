//! Tasks by name: the list of SET, and the descendants of SUBTREE.

use super::ProcfsSource;
use super::numbers::Numbers;
use crate::access::Reader;
use crate::protocol::{DumpStrategy, Groups};
use crate::source::{Selection, SourceError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

impl ProcfsSource {
    /// The daemon's numbers of the tasks that the reader's pid namespace calls so, each once, in that order.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    pub(super) fn numbers_of(&self, reader: &Reader, set: &[u32]) -> Result<Vec<u32>, SourceError> {
        let mut seen = HashSet::new();
        let set = set.iter().copied().filter(|pid| seen.insert(*pid));
        let Some(namespace) = &reader.pid_ns else { return Ok(set.collect()) };
        let mut numbers = HashMap::new();
        for tgid in self.root.processes().map_err(SourceError::Unreadable)? {
            for tid in self.root.task(tgid).and_then(|dir| dir.threads()).unwrap_or_default() {
                let dir = self.root.task(tid).ok();
                if let Some(inside) = dir.and_then(|dir| Numbers::of(&dir, namespace)) {
                    numbers.insert(inside.pid, tid);
                }
            }
        }
        Ok(set.filter_map(|pid| numbers.get(&pid).copied()).collect())
    }

    /// The process `tgid` and all that come from it, as far as only processes that the reader may see lie between; by the
    /// daemon's numbers, in the order of the reader's.
    pub(super) fn subtree(&self, reader: &Reader, selection: Selection, tgid: u32) -> Vec<u32> {
        let light = Selection { groups: Groups::BASE, strategy: DumpStrategy::One, ..selection };
        let (mut found, mut seen, mut open) = (BTreeSet::new(), HashSet::new(), vec![tgid]);
        while let Some(tgid) = open.pop() {
            let Some(dir) = self.root.task(tgid).ok().filter(|_| seen.insert(tgid)).map(Arc::new) else {
                continue;
            };
            let Ok(task) = self.light(reader, light, tgid, dir.clone()) else { continue };
            found.insert((task.record.base.pid, tgid));
            for tid in dir.threads().unwrap_or_default() {
                open.extend(Self::children(&dir, tid).unwrap_or_default());
            }
        }
        found.into_iter().map(|(_, tgid)| tgid).collect()
    }
}
