//! What stands in tasks' memory and mapping trees, for a batch of records.

use crate::access::{Reader, Sight, sight};
use crate::protocol::Groups;
use crate::source::bpf::BpfSource;
use crate::source::bpf::dump::cgroups::Cgroups;
use crate::source::bpf::dump::files_of_task::{Item, known_misc};
use crate::source::bpf::files::open_files;
use crate::source::bpf::mappings::list::{in_halves, list_mappings};
use crate::source::bpf::programs::Ask;
use crate::source::bpf::tasks::abi::Batch;
use crate::source::deadline_pool::{Begin, Outcome};
use crate::source::{Anchor, Gathered, Rest, Sections, Selection, Share, SourceError};
use crate::task::{Facts, TaskRecord};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long tasks of a batch may be begun; what is left over is for the next read.
const BEGIN: Duration = Duration::from_millis(50);

/// The memory groups of a batch, by the places of its records.
pub struct Memory {
    entries: Vec<Entry>,
    /// Mapping records in the protocol's form, of many tasks.
    lists: [Vec<u8>; 2],
    /// Sections that the files program told, of many tasks.
    files: [Vec<u8>; 2],
    /// The reader's user may not have so much gathered: nothing of it counts.
    pub is_refused: bool,
}

#[derive(Default)]
struct Entry {
    verdict: Verdict,
    mappings: Mappings,
    /// Where the mappings go on.
    rest: Option<Rest>,
    command_line: Option<Vec<u8>>,
    /// In one of the lists of `files`, where no other sections are.
    files: Option<(usize, Range<usize>)>,
    /// All of the groups from 32 on, where the program could not tell them all.
    sections: Vec<u8>,
    missing: Groups,
    /// There is more than came with the record.
    is_more: bool,
    /// What long lists count for.
    _share: Option<Share>,
}

/// What is to be done with a record's task after all was gathered and judged again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Hide,
    Show,
    /// It ran another program or changed its rights meanwhile: what was gathered is of neither.
    Changed,
    /// Not gathered for want of room in the answer, or because it was hidden then.
    Later,
}

#[derive(Default)]
enum Mappings {
    #[default]
    None,
    /// In one of the lists.
    Listed(usize, Range<usize>),
    Own(Vec<u8>),
    /// The program could not tell: to be asked of /proc.
    AskProc,
}

/// The task of one record.
pub fn task<'a>(batch: Batch<'a>, at: usize, asked: Groups, memory: Option<&'a Memory>) -> Gathered<'a> {
    let record = &batch.records[at];
    let mut groups = asked & (Groups::BASE | Groups::CRED | Groups::STAT | Groups::OWN);
    if record.facts().contains(Facts::HAS_MEMORY) {
        groups |= asked & Groups::STATM;
    }
    let mut task = Gathered {
        record,
        groups,
        mappings: &[],
        rest: None,
        command_line: &[],
        sections: batch.sections(at).map_or(Sections::default(), Sections::new),
        missing: Groups::empty(),
        anchor: &Anchor::Instance,
    };
    if let Some(memory) = memory {
        let entry = &memory.entries[at];
        task.mappings = match &entry.mappings {
            Mappings::Listed(list, range) => &memory.lists[*list][range.clone()],
            Mappings::Own(list) => list,
            Mappings::None | Mappings::AskProc => &[],
        };
        task.rest = entry.rest.as_ref();
        task.groups.set(Groups::VMA, !task.mappings.is_empty());
        task.missing = entry.missing;
        task.groups.remove(entry.missing);
        match &entry.files {
            Some((list, range)) => task.sections = Sections::new(&memory.files[*list][range.clone()]),
            None if !entry.sections.is_empty() => task.sections = Sections::new(&entry.sections),
            None => {}
        }
    }
    let own = || memory.and_then(|memory| memory.entries[at].command_line.as_deref());
    if let Some(line) = batch.line(at).or_else(own) {
        task.groups |= Groups::CMDLINE;
        task.command_line = line;
    }
    task
}

/// Those of the groups from 32 on that are to be shown of the task at that place and that the program did not tell.
pub fn untold(reader: &Reader, selection: Selection, batch: Batch<'_>, at: usize) -> Groups {
    let record = &batch.records[at];
    let seen = sight(reader, record);
    let asked = seen.of(selection.groups) & Groups::OWN;
    let told = batch.sections(at).map_or(Groups::empty(), |bytes| Sections::new(bytes).groups());
    let mut rest = selection.of_task(asked, record.base.pid, record.base.tgid) - told;
    // No file of /proc says securebits: they are for who may look.
    if seen < Sight::Looking {
        rest |= asked & Groups::GROUPS;
    }
    if !record.facts().contains(Facts::HAS_MEMORY) {
        rest -= Groups::ENVIRON;
    }
    rest
}

impl Memory {
    /// What to do with the record at that place.
    pub fn verdict(&self, at: usize) -> Verdict {
        self.entries[at].verdict
    }

    /// Whether that record, if there is one, was left for later.
    pub fn is_later(&self, at: usize) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.verdict == Verdict::Later)
    }

    /// Gathers for those of a batch's records that `reader` may see, about as much as `room` holds. What of it is shown has
    /// to be judged again.
    pub fn gather(
        source: &BpfSource,
        reader: &Reader,
        selection: Selection,
        batch: Batch<'_>,
        room: usize,
    ) -> Memory {
        let records = batch.records;
        let asks_line = |at: &usize| selection.groups.contains(Groups::CMDLINE) && batch.lacks_line(*at);
        let shown: Vec<usize> = (0..records.len())
            .filter(|at| records[*at].base.pid != 0 && sight(reader, &records[*at]) != Sight::Nothing)
            .collect();
        let mut memory = Memory {
            entries: records.iter().map(|_| Entry::default()).collect(),
            lists: Default::default(),
            files: Default::default(),
            is_refused: false,
        };
        shown.iter().for_each(|at| memory.entries[*at].verdict = Verdict::Show);
        let cgroups = match selection.groups.contains(Groups::CGROUP) {
            true => Cgroups::learn(source, reader, batch, &shown),
            false => Cgroups::default(),
        };
        let mut rest = vec![Groups::empty(); records.len()];
        for at in &shown {
            rest[*at] = untold(reader, selection, batch, *at);
            if let Some(section) = cgroups.section(batch, *at).filter(|_| rest[*at].contains(Groups::CGROUP))
            {
                memory.entries[*at].sections = section.to_vec();
                rest[*at] -= Groups::CGROUP;
            }
        }
        let own = |at: &usize| rest[*at];
        let has_memory = |at: &usize| records[*at].facts().contains(Facts::HAS_MEMORY);
        let owners: Vec<usize> =
            shown.iter().copied().filter(|at| has_memory(at) || !own(at).is_empty()).collect();
        if selection.groups.contains(Groups::VMA) {
            let base = |at: &usize| records[*at].base;
            let mapped: Vec<usize> = owners
                .iter()
                .copied()
                .filter(has_memory)
                .filter(|at| selection.wants_mappings(base(at).pid, base(at).tgid))
                .filter(|at| sight(reader, &records[*at]) >= Sight::Looking)
                .collect();
            if selection.groups.contains(Groups::VMA_STAT) {
                mapped.iter().for_each(|at| memory.entries[*at].mappings = Mappings::AskProc);
            } else {
                memory.map(source, reader, records, &mapped, room);
            }
        }
        let open: Vec<(usize, Groups)> = owners
            .iter()
            .filter(|at| memory.entries[**at].verdict == Verdict::Show)
            .map(|at| (*at, own(at) & open_files::GROUPS))
            .filter(|(_, groups)| !groups.is_empty())
            .collect();
        memory.open(source, reader, records, &open, room);
        // What came with the record is of the very moment of its judgement.
        let owners: Vec<usize> = owners
            .into_iter()
            .filter(|at| memory.entries[*at].verdict == Verdict::Show)
            .filter(|at| {
                asks_line(at)
                    || !own(at).is_empty()
                    || !matches!(memory.entries[*at].mappings, Mappings::None)
            })
            .collect();
        let asked = |at: &usize, entry: &Entry| {
            let lists = Groups::VMA | Groups::VMA_STAT;
            let lists = if matches!(entry.mappings, Mappings::AskProc) { lists } else { Groups::empty() };
            let line = if asks_line(at) { Groups::CMDLINE } else { Groups::empty() };
            let told = if entry.files.is_some() { open_files::GROUPS } else { Groups::empty() };
            // TASKSTATS comes afterwards, for all at once.
            ((lists | line) & selection.groups) | (own(at) - told - Groups::TASKSTATS)
        };
        memory.read(source, reader, selection, batch, &owners, room, &asked);
        if let Ok(taskstats) = &source.procfs.taskstats {
            let wanted = |at: usize| {
                memory.entries[at].verdict == Verdict::Show && own(&at).contains(Groups::TASKSTATS)
            };
            let wanted: Vec<bool> = (0..records.len()).map(wanted).collect();
            let places = records.iter().zip(&mut memory.entries).zip(wanted).filter(|(_, wanted)| *wanted);
            let places = places.map(|((record, entry), _)| (record, &mut entry.sections)).collect();
            taskstats.put_before(reader, !selection.per_thread(), places);
        }
        shown.iter().for_each(|at| memory.merge(batch, *at));
        owners.iter().for_each(|at| memory.entries[*at].is_more = true);
        memory
    }

    /// Mappings from the program, on two cores.
    fn map(
        &mut self,
        source: &BpfSource,
        reader: &Reader,
        records: &[TaskRecord],
        mapped: &[usize],
        room: usize,
    ) {
        let halves =
            in_halves(&source.cores, mapped, |part| list_mappings(source, reader, records, part, room));
        for (half, listed) in halves.into_iter().enumerate() {
            self.lists[half] = listed.bytes;
            for (at, range) in listed.ranges {
                self.entries[at].mappings =
                    range.map_or(Mappings::AskProc, |range| Mappings::Listed(half, range));
            }
            for (at, address) in listed.rests {
                self.entries[at].rest = Some(Rest::Address(address));
            }
            self.leave(listed.not_reached);
        }
    }

    /// What tasks have open from the program, on two cores.
    fn open(
        &mut self,
        source: &BpfSource,
        reader: &Reader,
        records: &[TaskRecord],
        wanted: &[(usize, Groups)],
        room: usize,
    ) {
        let halves =
            in_halves(&source.cores, wanted, |part| open_files::list(source, reader, records, part, room));
        for (half, listed) in halves.into_iter().enumerate() {
            self.files[half] = listed.bytes;
            for (at, range) in listed.ranges {
                self.entries[at].files = range.map(|range| (half, range));
            }
            self.leave(listed.not_reached);
        }
    }

    /// What comes after a list that was not made comes later, too.
    fn leave(&mut self, not_reached: Option<usize>) {
        if let Some(first) = not_reached {
            self.entries[first..].iter_mut().for_each(|entry| entry.verdict = Verdict::Later);
        }
    }

    /// Puts the sections of one task together, where they are not all in one place.
    fn merge(&mut self, batch: Batch<'_>, at: usize) {
        let entry = &mut self.entries[at];
        let told = batch.sections(at).map(Sections::new).filter(Sections::has_groups).unwrap_or_default();
        let places = [!told.is_empty(), entry.files.is_some(), !entry.sections.is_empty()];
        if places.into_iter().filter(|some| *some).count() < 2 {
            return;
        }
        let files = entry.files.take().map_or(&[][..], |(list, range)| &self.files[list][range]);
        let told = told.merged(Sections::new(files));
        entry.sections = Sections::new(&told).merged(Sections::new(&entry.sections));
    }

    /// Bytes that it takes, about.
    pub fn len(&self) -> usize {
        let own = |entry: &Entry| match &entry.mappings {
            Mappings::Own(list) => list.capacity(),
            _ => 0,
        };
        let entries = self.entries.iter().map(|entry| {
            size_of::<Entry>()
                + own(entry)
                + entry.sections.capacity()
                + entry.command_line.as_ref().map_or(0, Vec::capacity)
        });
        entries.chain(self.lists.iter().chain(&self.files).map(Vec::capacity)).sum()
    }

    /// What only reading can tell, under deadlines: of each place what `asked` says.
    #[allow(clippy::too_many_arguments)]
    fn read(
        &mut self,
        source: &BpfSource,
        reader: &Reader,
        selection: Selection,
        batch: Batch<'_>,
        owners: &[usize],
        room: usize,
        asked: &impl Fn(&usize, &Entry) -> Groups,
    ) {
        let asked = |at: &usize| asked(at, &self.entries[*at]);
        let places: Vec<(usize, Groups)> =
            owners.iter().map(|at| (*at, asked(at))).filter(|(_, groups)| !groups.is_empty()).collect();
        if places.is_empty() {
            return;
        }
        let reader = Arc::new(reader.clone());
        let item = |(at, groups): &(usize, Groups)| Item {
            root: source.procfs.root.clone(),
            budget: source.procfs.budget.clone(),
            reader: reader.clone(),
            pid: batch.records[*at].daemons_pid,
            tgid: batch.records[*at].daemons_tgid,
            per_thread: selection.per_thread(),
            owner: batch.records[*at].credentials.uid,
            seen: sight(&reader, &batch.records[*at]),
            groups: *groups,
            known: known_misc(batch, *at),
        };
        let items: Vec<Item> = places.iter().map(item).collect();
        let begin = Begin { within: BEGIN, bytes: 2 * room };
        let results = source.procfs.pool.run(items, source.procfs.deadlines, begin);
        let progress = results.iter().any(|result| !matches!(result, Outcome::NotBegun));
        for ((at, groups), result) in places.into_iter().zip(results) {
            if progress && matches!(result, Outcome::NotBegun) {
                self.entries[at..].iter_mut().for_each(|entry| entry.verdict = Verdict::Later);
                break;
            }
            let entry = &mut self.entries[at];
            match result {
                Outcome::Done(contents) => {
                    if groups.contains(Groups::VMA) {
                        entry.mappings = Mappings::Own(contents.mappings);
                        entry.rest = contents.rest;
                    }
                    entry.command_line = contents.command_line;
                    entry.sections = Sections::new(&entry.sections).merged(Sections::new(&contents.sections));
                    entry.missing = contents.missing;
                    entry._share = contents.share;
                    self.is_refused |= contents.refused;
                }
                Outcome::Late | Outcome::NotBegun => entry.missing = groups,
            }
        }
    }

    /// What was gathered counts only if the task is still the one that was judged, with the same program and rights.
    /// So these places are judged again, but for what came with records of this very read. What was hidden when it was
    /// gathered for an earlier one may be seen by now.
    ///
    /// # Errors
    /// Where they cannot be judged, and so nothing be shown.
    pub fn judge(
        &mut self,
        source: &BpfSource,
        reader: &Reader,
        records: &[TaskRecord],
        places: Range<usize>,
        at_once: bool,
    ) -> Result<(), SourceError> {
        let judged = |at: &usize| match self.entries[*at].verdict {
            Verdict::Show => self.entries[*at].is_more || !at_once,
            Verdict::Hide => records[*at].base.pid != 0 && !at_once,
            Verdict::Changed | Verdict::Later => false,
        };
        let owners: Vec<usize> = places.filter(judged).collect();
        let ids: Vec<u32> = owners.iter().map(|at| records[*at].base.pid).collect();
        let mut slot = source.programs.slot();
        let mut done = 0;
        while done < ids.len() {
            let answer = source.tasks(&mut slot, reader, Ask::default(), &ids[done..])?;
            let count = answer.count as usize;
            if count == 0 {
                return Err(SourceError::Program(io::Error::other("the tasks program has judged none")));
            }
            for (now, at) in slot.records(count as u32).iter().zip(&owners[done..]) {
                let before = &records[*at];
                let is_there = now.base.pid != 0 && now.start_time == before.start_time;
                let (was, seen) = (sight(reader, before), sight(reader, now));
                self.entries[*at].verdict = match is_there {
                    true if now.facts().contains(Facts::UNSETTLED) => Verdict::Changed,
                    true if seen == Sight::Nothing => Verdict::Hide,
                    true if was == Sight::Nothing => Verdict::Later,
                    true if same_program(before, now) && seen == was => Verdict::Show,
                    true => Verdict::Changed,
                    false => Verdict::Hide,
                };
            }
            done += count;
        }
        Ok(())
    }
}

/// Whether it is the same task, which has executed no other program since, and whose rights are the same.
pub fn same_program(before: &TaskRecord, now: &TaskRecord) -> bool {
    before.instance() == now.instance() && before.credentials == now.credentials
}
