//! The fast source: BPF programs that write records of tasks straight into memory this process maps.

mod cores;
mod cpu_times;
mod dump;
mod files;
mod mappings;
mod memory;
mod programs;
mod refusal;
mod slots;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod verifier;

use super::procfs::ProcfsSource;
use super::refused;
use super::{Budget, Limits, Selection, Source, SourceError, TaskstatsError, Walk};
use crate::access::{Account, CallerError, Reader, Sight, sight};
use crate::counters::Counters;
use crate::proc_files::{ProcRoot, mix};
use crate::protocol::{DumpStrategy, Groups};
use crate::task::{Facts, TaskRecord};
use cores::Cores;
use dump::prefetch::Workers;
use dump::walk::BpfWalk;
use programs::{Answer, Ask, Mode, Outcome, Programs, Reads};
use slots::Lease;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tasks::abi::{RECORDS, TaskSlot};

pub use refusal::LoadError;
pub use verifier::{Verified, verify};

/// Tasks from BPF programs; memory that they cannot read (unusual command lines, statistics of mappings) as the /proc
/// source reads it, under the same deadlines.
#[derive(Clone)]
pub struct BpfSource {
    programs: Arc<Programs>,
    procfs: ProcfsSource,
    workers: Workers,
    /// The programs find no word of what this kernel remembers of tasks without memory, and it does remember it.
    guesses_memoryless: bool,
    cores: Cores,
}

impl BpfSource {
    /// Loads the programs.
    ///
    /// # Errors
    /// [`LoadError`] where the kernel does not take them, or this process may not load any.
    pub fn load(proc_root: Arc<ProcRoot>, limits: Limits) -> Result<BpfSource, LoadError> {
        Ok(Self::new(Programs::load(Reads::Direct)?, proc_root, limits))
    }

    /// Loads them for kernels that lack functions which those call (before 6.4): they call one for each load from the
    /// kernel's memory, which takes longer.
    ///
    /// # Errors
    /// As of [`BpfSource::load`].
    pub fn load_probing(proc_root: Arc<ProcRoot>, limits: Limits) -> Result<BpfSource, LoadError> {
        Ok(Self::new(Programs::load(Reads::Probe)?, proc_root, limits))
    }

    fn new(programs: Programs, proc_root: Arc<ProcRoot>, limits: Limits) -> BpfSource {
        let guesses_memoryless =
            !remembers_memoryless() && proc_root.shows_undumpable_zombies() != Some(true);
        let (programs, procfs) = (Arc::new(programs), ProcfsSource::new(proc_root, limits));
        BpfSource {
            programs,
            procfs,
            workers: Workers::default(),
            guesses_memoryless,
            cores: Cores::default(),
        }
    }

    /// Command lines come with the records.
    fn reads_lines(&self, selection: Selection) -> bool {
        selection.groups.contains(Groups::CMDLINE) && self.programs.reads_lines()
    }

    /// Groups from 32 on come with the records, as far as the program can tell them.
    fn tells_sections(&self, selection: Selection) -> bool {
        selection.groups.intersects(Groups::OWN)
    }

    /// As [`Programs::ask`]; the records say of which tasks a security module keeps from this process.
    fn ask(&self, slot: &mut Lease<TaskSlot>, reader: &Reader, ask: Ask) -> Result<Answer, SourceError> {
        let answer = self.programs.ask(slot, reader, ask)?;
        if matches!(ask.mode, Mode::Processes | Mode::Tasks) {
            self.mark(reader, slot, answer.count);
        }
        Ok(answer)
    }

    /// As [`Programs::tasks`], in the same way.
    fn tasks(
        &self,
        slot: &mut Lease<TaskSlot>,
        reader: &Reader,
        ask: Ask,
        ids: &[u32],
    ) -> Result<Answer, SourceError> {
        let answer = self.programs.tasks(slot, reader, ask, ids)?;
        self.mark(reader, slot, answer.count);
        Ok(answer)
    }

    fn mark(&self, reader: &Reader, slot: &mut TaskSlot, count: u32) {
        let guard = self.procfs.root.guard();
        if guard.is_none() && !self.guesses_memoryless {
            return;
        }
        let records = &mut slot.records[..(count as usize).min(RECORDS)];
        for record in records.iter_mut().filter(|record| record.base.pid != 0) {
            if self.guesses_memoryless && !record.facts().contains(Facts::HAS_MEMORY) {
                record.facts &= !(Facts::DUMPABLE | Facts::DUMPABLE_KNOWN).bits();
            }
            if let Some(guard) = guard {
                let (started, executed) = record.instance();
                refused::mark(guard, reader, record, mix(started, executed));
            }
        }
    }

    /// The records of these tasks, those of them that are there.
    fn records(&self, reader: &Reader, ask: Ask, ids: &[u32]) -> Result<Vec<TaskRecord>, SourceError> {
        let mut slot = self.programs.slot();
        let answer = self.tasks(&mut slot, reader, ask, ids)?;
        Ok(slot.records(answer.count).iter().filter(|record| record.base.pid != 0).copied().collect())
    }

    /// The process that `pid` is a thread of and all that come from it, as far as only processes that the reader may see lie
    /// between, ascending.
    fn subtree(&self, reader: &Reader, pid: u32) -> Result<VecDeque<u32>, SourceError> {
        let found = self.records(reader, Ask::default(), &[pid])?;
        let target = found.first().ok_or(SourceError::NoSuchTask)?;
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut next = Some(1);
        while let Some(first) = next {
            let mut slot = self.programs.slot();
            let ask = Ask { mode: Mode::Processes, first, limit: usize::MAX, ..Ask::default() };
            let answer = self.ask(&mut slot, reader, ask)?;
            let visible = |record: &&TaskRecord| sight(reader, record) != Sight::Nothing;
            for record in slot.records(answer.count).iter().filter(visible) {
                children.entry(record.base.ppid).or_default().push(record.base.pid);
            }
            next = (answer.outcome == Outcome::More).then_some(answer.next);
        }
        let mut open = vec![target.base.tgid];
        let mut found = BTreeSet::new();
        if sight(reader, target) == Sight::Nothing {
            open.clear();
        }
        while let Some(tgid) = open.pop() {
            if found.insert(tgid) {
                open.extend(children.remove(&tgid).unwrap_or_default());
            }
        }
        Ok(found.into_iter().collect())
    }

    fn list(&self, reader: &Reader, mode: Mode, target: u32) -> Result<VecDeque<u32>, SourceError> {
        let mut slot = self.programs.slot();
        let answer = self.ask(&mut slot, reader, Ask { mode, target, ..Ask::default() })?;
        match answer.outcome {
            Outcome::Finished => Ok(slot.list(answer.count).iter().copied().collect()),
            Outcome::NoTarget => Err(SourceError::NoSuchTask),
            _ => self.procfs.list(reader, target, mode == Mode::Children),
        }
    }
}

/// Whether the kernel's type information has a field for what the kernel remembers of tasks without memory.
fn remembers_memoryless() -> bool {
    let types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    let has = |name: &[u8]| memchr::memmem::find(&types, name).is_some();
    has(b"\0user_dumpable\0") || has(b"\0exec_state\0")
}

impl Source for BpfSource {
    fn name(&self) -> &'static str {
        match self.programs.reads() {
            Reads::Direct => "bpf",
            Reads::Probe => "bpf-iter",
        }
    }

    fn source_of(&self, group: Groups) -> &'static str {
        if self.programs.told().contains(group) { self.name() } else { self.procfs.source_of(group) }
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.procfs.budget
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.procfs.counters
    }

    fn taskstats(&self) -> Result<(), TaskstatsError> {
        self.procfs.taskstats()
    }

    fn reader(&self, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError> {
        let mut slot = self.programs.slot();
        let asking = Reader { tid, ..Reader::default() };
        self.programs.tasks(&mut slot, &asking, Ask::default(), &[]).map_err(|_| CallerError::Invisible)?;
        let own = self.procfs.root.own_namespaces();
        let (record, user_ns, pid_ns) = slot.reader();
        let inodes = (u64::from(user_ns), u64::from(pid_ns));
        let ids = &record.credentials;
        let reader = Reader {
            tid,
            tgid: record.daemons_tgid,
            euid: ids.euid,
            fsuid: ids.fsuid,
            fsgid: ids.fsgid,
            effective: ids.effective.into(),
            user_ns: inodes.0,
            ..Reader::default()
        }
        .with_ids(fsuid, fsgid);
        if inodes == (own.user, own.pid) {
            return Ok(reader);
        }
        // The thread waits for our answer, and its namespaces with it.
        let dir = self.procfs.root.task(tid).map_err(|_| CallerError::Invisible)?;
        reader.in_namespaces(&dir, inodes, (own.user, own.pid))
    }

    fn account(&self, tid: u32, fsuid: u32) -> Account {
        self.procfs.account(tid, fsuid)
    }

    fn start(
        &self,
        reader: &Reader,
        selection: Selection,
        set: &[u32],
    ) -> Result<Box<dyn Walk>, SourceError> {
        let pid = selection.pid;
        let mut listed = VecDeque::new();
        let mut numbers = None;
        let mut members_of = None;
        match selection.strategy {
            DumpStrategy::All | DumpStrategy::AllThreads => numbers = Some(1),
            DumpStrategy::One => listed.push_back(pid),
            DumpStrategy::Set => {
                let mut seen = HashSet::new();
                listed.extend(set.iter().copied().filter(|pid| seen.insert(*pid)));
            }
            DumpStrategy::Subtree => listed = self.subtree(reader, pid)?,
            strategy => {
                let found = self.records(reader, Ask::default(), &[pid])?;
                let target = found.first().ok_or(SourceError::NoSuchTask)?;
                // Nothing of a task that the reader may not see tells it that the task has children or threads.
                let mode = if strategy == DumpStrategy::Children { Mode::Children } else { Mode::Threads };
                if sight(reader, target) != Sight::Nothing {
                    listed = self.list(reader, mode, pid)?;
                    members_of = (mode == Mode::Threads).then_some(target.base.tgid);
                }
            }
        }
        let bytes = listed.len() * size_of::<u32>();
        let share =
            self.budget().take(reader.account, bytes).map_err(|_| SourceError::OverBudget(reader.account))?;
        Ok(Box::new(BpfWalk::new(self, selection, listed, numbers, members_of, share)))
    }
}
