//! The fast source: BPF programs that write records of tasks straight into memory this process maps.

mod abi;
mod direct_map;
mod gather;
mod iterator;
mod programs;
mod slots;

use super::procfs::ProcfsSource;
use super::{Anchor, Deadlines, Gathered, Selection, Source, SourceError, Visit, Walk};
use crate::access::{CallerError, Reader, may_see};
use crate::proc_files::ProcRoot;
use crate::protocol::{DumpStrategy, Groups};
use crate::task::{Facts, TaskRecord};
use abi::Batch;
use gather::{LineFrom, Memory, Verdict, same_program};
use programs::{Ask, Mode, Outcome, Programs};
use std::collections::VecDeque;
use std::sync::Arc;

pub use programs::LoadError;

/// Tasks from BPF programs; memory that they cannot read (unusual command lines, statistics of mappings) as the /proc
/// source reads it, under the same deadlines.
#[derive(Clone)]
pub struct BpfSource {
    programs: Arc<Programs>,
    procfs: ProcfsSource,
}

impl BpfSource {
    /// Loads the programs.
    ///
    /// # Errors
    /// [`LoadError`] where the kernel does not take them, or this process may not load any.
    pub fn load(proc_root: Arc<ProcRoot>, deadlines: Deadlines) -> Result<BpfSource, LoadError> {
        let programs = Arc::new(Programs::load()?);
        Ok(BpfSource { programs, procfs: ProcfsSource::new(proc_root, deadlines) })
    }

    /// Loads the iterator instead, for kernels that lack functions which the other programs call: records as from
    /// those, and all that is in memory from /proc.
    ///
    /// # Errors
    /// As of [`BpfSource::load`].
    pub fn load_iterator(proc_root: Arc<ProcRoot>, deadlines: Deadlines) -> Result<BpfSource, LoadError> {
        let programs = Arc::new(Programs::load_iterator()?);
        Ok(BpfSource { programs, procfs: ProcfsSource::new(proc_root, deadlines) })
    }

    /// The records of these tasks, those of them that are there.
    fn records(&self, reader: &Reader, ask: Ask, ids: &[u32]) -> Result<Vec<TaskRecord>, SourceError> {
        let mut slot = self.programs.slot();
        let answer = self.programs.tasks(&mut slot, reader, ask, ids)?;
        Ok(slot.records(answer.count).iter().filter(|record| record.base.pid != 0).copied().collect())
    }

    fn list(&self, reader: &Reader, mode: Mode, target: u32) -> Result<VecDeque<u32>, SourceError> {
        let mut slot = self.programs.slot();
        let answer = self.programs.ask(&mut slot, reader, Ask { mode, target, ..Ask::default() })?;
        match answer.outcome {
            Outcome::Finished => Ok(slot.list(answer.count).iter().copied().collect()),
            Outcome::NoTarget => Err(SourceError::NoSuchTask),
            _ => self.procfs.list(target, mode == Mode::Children),
        }
    }
}

impl Source for BpfSource {
    fn name(&self) -> &'static str {
        if self.programs.iterates() { "bpf-iter" } else { "bpf" }
    }

    fn reader(&self, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError> {
        if self.programs.iterates() {
            return self.procfs.reader(tid, fsuid, fsgid);
        }
        let mut slot = self.programs.slot();
        let asking = Reader { tid, ..Reader::default() };
        self.programs.tasks(&mut slot, &asking, Ask::default(), &[]).map_err(|_| CallerError::Invisible)?;
        let own = self.procfs.root.own_namespaces();
        let (record, user_ns, pid_ns) = slot.reader();
        if u64::from(user_ns) != own.user || u64::from(pid_ns) != own.pid {
            return Err(CallerError::ForeignNamespace(tid));
        }
        let ids = &record.credentials;
        Ok(Reader {
            tid: record.base.pid,
            tgid: record.base.tgid,
            euid: ids.euid,
            fsuid: ids.fsuid,
            fsgid: ids.fsgid,
            effective: ids.effective.into(),
            user_ns: user_ns.into(),
            borrowed_ids: false,
        }
        .with_ids(fsuid, fsgid))
    }

    fn start(&self, reader: &Reader, selection: Selection) -> Result<Box<dyn Walk>, SourceError> {
        let pid = selection.pid;
        let few = !matches!(selection.strategy, DumpStrategy::All | DumpStrategy::AllThreads);
        if few && self.programs.iterates() && reader.sees_everything() {
            // The kernel would walk by all other tasks. (Of others' eyes /proc does not know all that they may see.)
            return self.procfs.start(reader, selection);
        }
        let mut listed = VecDeque::new();
        let mut numbers = None;
        let mut members_of = None;
        match selection.strategy {
            DumpStrategy::All | DumpStrategy::AllThreads => numbers = Some(1),
            DumpStrategy::One => listed.push_back(pid),
            strategy => {
                let found = self.records(reader, Ask::default(), &[pid])?;
                let target = found.first().ok_or(SourceError::NoSuchTask)?;
                // Nothing of a task that the reader may not see tells it that the task has children or threads.
                let mode = if strategy == DumpStrategy::Children { Mode::Children } else { Mode::Threads };
                if may_see(reader, target) {
                    listed = self.list(reader, mode, pid)?;
                    members_of = (mode == Mode::Threads).then_some(target.base.tgid);
                }
            }
        }
        Ok(Box::new(BpfWalk {
            source: self.clone(),
            selection,
            listed,
            numbers,
            average: super::typical_len(selection.groups),
            members_of,
            full: false,
        }))
    }
}

struct BpfWalk {
    source: BpfSource,
    selection: Selection,
    /// Tasks that come next, by number.
    listed: VecDeque<u32>,
    /// After those, the processes from this number on.
    numbers: Option<u32>,
    average: usize,
    /// The process whose threads the listed tasks are, where they are such.
    members_of: Option<u32>,
    /// The visitor had no room in the read under way.
    full: bool,
}

impl Walk for BpfWalk {
    fn next(
        &mut self,
        reader: &Reader,
        room: usize,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let source = self.source.clone();
        let groups = self.selection.groups;
        let with_lines = groups.contains(Groups::CMDLINE) && source.programs.reads_lines();
        let iterates = source.programs.iterates();
        let mut left = room;
        self.full = false;
        while left > 0 {
            // The kernel's walk does not go back to what was not shown.
            let limit = if iterates { left / self.average } else { left.div_ceil(self.average) }.max(1);
            let ask = Ask {
                groups: groups | Ask::program(groups).groups,
                limit,
                per_thread: self.selection.per_thread(),
                lines: with_lines,
                ..Ask::default()
            };
            let from_list = !self.listed.is_empty();
            let mut slot = source.programs.slot();
            let answer = if from_list {
                let ids: Vec<u32> = self.listed.iter().take(limit).copied().collect();
                source.programs.tasks(&mut slot, reader, ask, &ids)?
            } else {
                let Some(first) = self.numbers else { return Ok(()) };
                let ask = Ask { mode: Mode::Processes, first, ..ask };
                source.programs.ask(&mut slot, reader, ask)?
            };
            if answer.outcome == Outcome::TooLarge {
                // Whoever holds a slot asks for no other.
                drop(slot);
                self.listed = match source.list(reader, Mode::Threads, answer.next) {
                    Err(SourceError::NoSuchTask) => VecDeque::new(),
                    listed => listed?,
                };
                self.members_of = Some(answer.next);
                self.numbers = answer.next.checked_add(1);
                continue;
            }
            let (lent, copied);
            let batch = slot.batch(answer.count, with_lines);
            let batch = if self.is_incomplete(batch) {
                copied = batch.to_owned();
                drop(slot);
                copied.batch()
            } else {
                lent = slot;
                lent.batch(answer.count, with_lines)
            };
            let records = batch.records;
            if self.selection.strategy == DumpStrategy::One
                && records.iter().all(|record| record.base.pid == 0)
            {
                return Err(SourceError::NoSuchTask);
            }
            let shown = self.show(&source, reader, batch, from_list, &mut left, visit);
            if from_list {
                self.listed.drain(..shown);
            } else {
                self.numbers = match answer.outcome {
                    Outcome::Finished => None,
                    _ => Some(answer.next),
                };
            }
            if shown < records.len() {
                if !from_list {
                    self.turn_back(&records[shown..]);
                }
                // Where nothing was shown, that is no end: what comes next may be smaller, or not be gathered yet.
                if left < room || self.full {
                    return Ok(());
                }
            }
            if left < room && left < if iterates { self.average } else { self.average / 2 } {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.listed.is_empty() && self.numbers.is_none()
    }

    fn still_visible(&self, reader: &Reader, task: &TaskRecord, anchor: &Anchor) -> bool {
        if matches!(anchor, Anchor::Directory(_)) {
            return self.source.procfs.still_visible(reader, self.selection, task, anchor);
        }
        let now = self.source.records(reader, Ask::program(self.selection.groups), &[task.base.pid]);
        now.is_ok_and(|now| {
            now.iter().any(|now| {
                now.start_time == task.start_time && same_program(task, now) && may_see(reader, now)
            })
        })
    }
}

impl BpfWalk {
    /// More is asked for than these records tell.
    fn is_incomplete(&self, batch: Batch<'_>) -> bool {
        let groups = self.selection.groups;
        let lines = groups.contains(Groups::CMDLINE);
        groups.contains(Groups::VMA)
            || lines && (0..batch.records.len()).any(|at| LineFrom::of(batch, at) != LineFrom::Record)
    }

    /// Visits these records; gives how many were dealt with.
    fn show(
        &mut self,
        source: &BpfSource,
        reader: &Reader,
        batch: Batch<'_>,
        from_list: bool,
        left: &mut usize,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> usize {
        let groups = self.selection.groups;
        let records = batch.records;
        let memory =
            self.is_incomplete(batch).then(|| Memory::gather(source, reader, self.selection, batch, *left));
        for (at, record) in records.iter().enumerate() {
            // A number of the list may be another process' by now.
            let member = !from_list || self.members_of.is_none_or(|tgid| record.base.tgid == tgid);
            if record.base.pid == 0 || !member {
                continue;
            }
            let unsettled = record.facts().contains(Facts::UNSETTLED);
            let verdict = match &memory {
                _ if unsettled => Verdict::Changed,
                Some(memory) => memory.verdict(at),
                None if may_see(reader, record) => Verdict::Show,
                None => Verdict::Hide,
            };
            let from_files = match verdict {
                Verdict::Hide => continue,
                Verdict::Later => return at,
                Verdict::Show => None,
                Verdict::Changed => match source.procfs.one(reader, self.selection, record, *left) {
                    None => continue,
                    task => task,
                },
            };
            let task = match &from_files {
                Some(task) => task.gathered(),
                None => gather::task(record, groups, batch.line(at), memory.as_ref(), at),
            };
            let outcome = visit(&task);
            self.average = ((self.average * 63 + task.len()) / 64).max(super::typical_len(groups) / 2);
            if outcome == Visit::Full {
                self.full = true;
                return at;
            }
            *left = left.saturating_sub(task.len());
            if outcome == Visit::Last {
                *left = 0;
                return at + 1;
            }
        }
        records.len()
    }

    /// Makes these records, which were not shown, come again.
    fn turn_back(&mut self, rest: &[TaskRecord]) {
        let Some(first) = rest.first() else { return };
        let (pid, tgid) = (first.base.pid, first.base.tgid);
        if pid == tgid {
            self.numbers = Some(pid);
        } else {
            // In the middle of a process: its other threads first, as they were listed.
            let threads = rest.iter().map(|record| record.base);
            self.listed = threads.take_while(|base| base.tgid == tgid).map(|base| base.pid).collect();
            self.members_of = Some(tgid);
            self.numbers = tgid.checked_add(1);
        }
    }
}
