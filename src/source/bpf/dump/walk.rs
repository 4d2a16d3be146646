//! One dump from the BPF programs: a place in the order of tasks, and what was gathered ahead of it.

use crate::access::{Reader, Sight, sight};
use crate::protocol::{DumpStrategy, Groups};
use crate::source::bpf::BpfSource;
use crate::source::bpf::dump::gather::{self, Memory, Verdict, same_program};
use crate::source::bpf::dump::prefetch::{Ahead, Coming, REACH};
use crate::source::bpf::mappings::list::piece_from;
use crate::source::bpf::programs::{Ask, Mode, Outcome};
use crate::source::bpf::tasks::abi::Batch;
use crate::source::budget::shrink;
use crate::source::procfs::Place;
use crate::source::{
    Anchor, Gathered, Piece, Rest, Selection, Share, SourceError, Turn, Visit, Walk, typical_len,
};
use crate::task::{Facts, TaskRecord};
use std::collections::VecDeque;

/// Groups of which each task takes so long that many are gathered at once; what is quickly told is best shown from where
/// the program left it.
const SLOW: Groups = Groups::VMA.union(Groups::FD).union(Groups::ROLLUP).union(Groups::MISC);

pub struct BpfWalk {
    source: BpfSource,
    selection: Selection,
    /// As it was asked for; what cannot be told to the reader at hand is no part of `selection`.
    asked: Selection,
    /// Tasks that come next, by number.
    listed: VecDeque<u32>,
    /// After those, the processes from this number on.
    numbers: Option<u32>,
    average: usize,
    /// The process whose threads the listed tasks are, where they are such.
    members_of: Option<u32>,
    /// What the list counts for.
    share: Share,
    /// The visitor had no room in the read under way.
    full: bool,
    /// Bytes that are gathered at once; 0 once nothing may be kept for the next read.
    reach: usize,
    /// What comes before all these, gathered already.
    ahead: Option<Ahead>,
    /// What comes after that, from `numbers` on, under way.
    coming: Option<Coming>,
}

impl BpfWalk {
    /// A walk over the tasks of `listed`, then the processes from `numbers` on.
    pub fn new(
        source: &BpfSource,
        selection: Selection,
        listed: VecDeque<u32>,
        numbers: Option<u32>,
        members_of: Option<u32>,
        share: Share,
    ) -> BpfWalk {
        BpfWalk {
            source: source.clone(),
            selection,
            asked: selection,
            listed,
            numbers,
            average: typical_len(selection.groups),
            members_of,
            share,
            full: false,
            reach: if selection.groups.intersects(SLOW) { 1 } else { 0 },
            ahead: None,
            coming: None,
        }
    }
}

impl Walk for BpfWalk {
    fn next(
        &mut self,
        reader: &Reader,
        room: usize,
        turn: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        self.selection = self.asked.for_reader(&self.source.procfs.root, reader);
        let shown = self.fill(reader, room, turn, visit);
        self.keep(reader);
        self.look_ahead(reader);
        shown?;
        shrink(&mut self.listed);
        let bytes = self.listed.capacity() * size_of::<u32>();
        self.share.resize(bytes).map_err(|_| SourceError::OverBudget(reader.account))
    }

    fn is_finished(&self) -> bool {
        self.ahead.is_none() && self.listed.is_empty() && self.numbers.is_none()
    }

    fn go_on(&self, reader: &Reader, task: &TaskRecord, rest: &Rest) -> Result<Piece, SourceError> {
        let place = match rest {
            Rest::File(file) => Place::Open(file.clone()),
            Rest::Address(from) => match piece_from(&self.source, reader, task, *from) {
                Some((mappings, next)) => {
                    let rest = (next != 0).then_some(Rest::Address(next));
                    return Ok(Piece { mappings, rest, ..Piece::default() });
                }
                None => Place::Address(*from),
            },
        };
        self.source.procfs.piece(reader, task, place)
    }

    fn sight(&self, reader: &Reader, task: &TaskRecord, anchor: &Anchor) -> Sight {
        if matches!(anchor, Anchor::Directory(_)) {
            return self.source.procfs.sight(reader, (self.asked, self.selection), task, anchor);
        }
        if self.asked.for_reader(&self.source.procfs.root, reader) != self.selection {
            return Sight::Nothing;
        }
        let now = self.source.records(reader, Ask::default(), &[task.base.pid]);
        let same = |now: &&TaskRecord| same_program(task, now);
        let now = now.unwrap_or_default();
        now.iter().find(same).map_or(Sight::Nothing, |now| sight(reader, now))
    }
}

impl BpfWalk {
    fn fill(
        &mut self,
        reader: &Reader,
        room: usize,
        turn: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let least = self.average / 2;
        let mut left = room;
        let mut reach = None;
        self.full = false;
        // Where nothing was shown, that is no end: what comes next may be smaller, or not be gathered yet.
        while left > 0 && !self.full && (left == room || left >= least) {
            if let Some(ahead) = self.ahead.take().or_else(|| self.come()) {
                self.show_ahead(ahead, reader, room, &mut left, visit)?;
            } else if self.is_finished() {
                break;
            } else {
                // What was gathered ahead and given up has a say in it.
                let asked = if self.reach > 0 { self.reach.clamp(room, REACH.max(room)) } else { 0 };
                self.go_on(reader, *reach.get_or_insert(asked), room, &mut left, visit)?;
            }
            if turn.is_over() {
                break;
            }
        }
        Ok(())
    }

    /// Asks the program for the next records, at least as many as there is room for, and shows them.
    fn go_on(
        &mut self,
        reader: &Reader,
        reach: usize,
        room: usize,
        left: &mut usize,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let source = self.source.clone();
        let with_lines = source.reads_lines(self.selection);
        let with_sections = source.tells_sections(self.selection);
        let at_once = if reach > 0 { reach } else { *left };
        self.reach = 2 * reach;
        let ask = Ask {
            limit: at_once.div_ceil(self.average).max(1),
            per_thread: self.selection.per_thread(),
            lines: with_lines,
            ..Ask::records(self.selection.groups)
        };
        let from_list = !self.listed.is_empty();
        let mut slot = source.programs.slot();
        let answer = if from_list {
            let ids: Vec<u32> = self.listed.iter().take(ask.limit).copied().collect();
            source.tasks(&mut slot, reader, ask, &ids)?
        } else {
            let Some(first) = self.numbers else { return Ok(()) };
            source.ask(&mut slot, reader, Ask { mode: Mode::Processes, first, ..ask })?
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
            return Ok(());
        }
        if !from_list {
            self.numbers = match answer.outcome {
                Outcome::Finished => None,
                _ => Some(answer.next),
            };
        }
        let batch = slot.batch(answer.count, with_lines, with_sections);
        let nobody = batch.records.iter().all(|record| record.base.pid == 0);
        if self.selection.strategy == DumpStrategy::One && nobody {
            return Err(SourceError::NoSuchTask);
        }
        if !self.is_incomplete(reader, batch) {
            let shown = self.show(reader, batch, None, 0, from_list, left, visit);
            self.leave(&batch.records[shown..], shown, from_list);
            return Ok(());
        }
        let batch = batch.to_owned();
        drop(slot);
        let memory = Memory::gather(&source, reader, self.selection, batch.batch(), at_once);
        if memory.is_refused {
            return Err(SourceError::OverBudget(reader.account));
        }
        self.show_ahead(Ahead::new(batch, memory, from_list, reader, None), reader, room, left, visit)
    }

    /// More is asked for than these records tell. Of a task in the middle of an exec /proc is asked, which may take its time.
    fn is_incomplete(&self, reader: &Reader, batch: Batch<'_>) -> bool {
        let groups = self.selection.groups;
        let (lines, own) = (groups.contains(Groups::CMDLINE), groups.intersects(Groups::OWN));
        let lacks = |at: usize| {
            batch.records[at].facts().contains(Facts::UNSETTLED)
                || lines && batch.lacks_line(at)
                || own && !gather::untold(reader, self.selection, batch, at).is_empty()
        };
        groups.contains(Groups::VMA) || (0..batch.records.len()).any(lacks)
    }

    /// Visits the records of a batch from `from` on; gives the first that was not dealt with.
    #[allow(clippy::too_many_arguments)]
    fn show(
        &mut self,
        reader: &Reader,
        batch: Batch<'_>,
        memory: Option<&Memory>,
        from: usize,
        from_list: bool,
        left: &mut usize,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> usize {
        let groups = self.selection.groups;
        let records = batch.records;
        for (at, record) in records.iter().enumerate().skip(from) {
            // A number of the list may be another process' by now.
            let member = !from_list || self.members_of.is_none_or(|tgid| record.base.tgid == tgid);
            if record.base.pid == 0 || !member {
                continue;
            }
            let unsettled = record.facts().contains(Facts::UNSETTLED);
            let verdict = match memory {
                _ if unsettled => Verdict::Changed,
                Some(memory) => memory.verdict(at),
                None if sight(reader, record) != Sight::Nothing => Verdict::Show,
                None => Verdict::Hide,
            };
            let from_files = match verdict {
                Verdict::Hide => {
                    self.source.procfs.counters.tasks_hidden.count();
                    continue;
                }
                Verdict::Later => return at,
                Verdict::Show => None,
                Verdict::Changed => match self.source.procfs.one(reader, self.selection, record, *left) {
                    None => continue,
                    Some(mut task) => {
                        self.keep_cpu_times(&mut task.record, record.start_time);
                        Some(task)
                    }
                },
            };
            let task = match &from_files {
                Some(task) => task.gathered(),
                None => gather::task(batch, at, sight(reader, record).of(groups), memory),
            };
            let outcome = visit(&task);
            self.average = ((self.average * 63 + task.len()) / 64).max(typical_len(groups) / 2);
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

    /// Of a task that began then and that /proc was asked for.
    fn keep_cpu_times(&self, record: &mut TaskRecord, start_time: u64) {
        if self.selection.groups.contains(Groups::STAT) {
            record.start_time = start_time;
            self.source.programs.cpu_times.keep(std::iter::once(record), self.selection.per_thread());
        }
    }

    /// Shows what was gathered of tasks that are judged again, and leaves the rest of it to be shown next; gives it up if it
    /// is old or was judged for others.
    fn show_ahead(
        &mut self,
        mut ahead: Ahead,
        reader: &Reader,
        room: usize,
        left: &mut usize,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let serves = ahead.serves(reader);
        let Ahead { batch, memory, at: from, from_list, share, .. } = &mut ahead;
        let (from, from_list, batch) = (*from, *from_list, batch.batch());
        if !serves {
            // A reader that takes its time is better off with less at once.
            self.reach = self.reach.min(1);
            self.leave(&batch.records[from..], 0, from_list);
            return Ok(());
        }
        let mut bytes = 0;
        let fits = |at: &usize| {
            let fits = bytes <= *left;
            bytes += gather::task(batch, *at, self.selection.groups, Some(memory)).len();
            fits
        };
        let until = (from..batch.records.len()).take_while(fits).count() + from;
        memory.judge(&self.source, reader, batch.records, from..until, share.is_none())?;
        let shown = self.show(reader, batch.first(until), Some(memory), from, from_list, left, visit);
        if from_list {
            self.listed.drain(..shown - from);
        }
        if memory.is_later(shown) {
            // What could not be begun in time is for the next read.
            self.full |= *left < room;
            self.leave(&batch.records[shown..], 0, from_list);
        } else if shown < batch.records.len() {
            ahead.at = shown;
            self.ahead = Some(ahead);
        }
        Ok(())
    }

    /// Keeps what was gathered beyond what could be shown, if the reader's user may have it kept.
    fn keep(&mut self, reader: &Reader) {
        let Some(mut ahead) = self.ahead.take_if(|ahead| ahead.share.is_none()) else { return };
        ahead.share = match self.reach {
            0 => None,
            _ => self.source.procfs.budget.take(reader.account, ahead.batch.len() + ahead.memory.len()).ok(),
        };
        if ahead.share.is_some() {
            self.ahead = Some(ahead);
        } else {
            self.reach = 0;
            self.leave(&ahead.batch.batch().records[ahead.at..], 0, ahead.from_list);
        }
    }

    /// Has what comes next gathered while the reader works on what it has got.
    fn look_ahead(&mut self, reader: &Reader) {
        if self.reach < REACH || self.coming.is_some() || self.ahead.is_none() || !self.listed.is_empty() {
            return;
        }
        let Some(first) = self.numbers else { return };
        self.coming = Coming::begin(&self.source, reader, self.selection, first, self.average, REACH);
    }

    /// What was gathered meanwhile.
    fn come(&mut self) -> Option<Ahead> {
        let (ahead, next) = self.coming.take()?.wait()?;
        self.numbers = next;
        Some(ahead)
    }

    /// Leaves a batch of which `shown` records were dealt with: the others come again.
    fn leave(&mut self, rest: &[TaskRecord], shown: usize, from_list: bool) {
        match from_list {
            true => drop(self.listed.drain(..shown)),
            false => self.turn_back(rest),
        }
    }

    /// Makes these records, which were not shown, come again.
    fn turn_back(&mut self, rest: &[TaskRecord]) {
        let Some(first) = rest.first() else { return };
        self.coming = None;
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

#[cfg(test)]
#[path = "walk_test.rs"]
mod tests;
