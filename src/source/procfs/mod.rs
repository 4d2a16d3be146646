//! The source that works on every kernel: files of /proc, read by several threads.

mod contents;
mod gather;
mod item;
mod mapping_file;
mod numbers;
mod process_sums;
mod program;
mod relatives;
mod rest_of_list;
mod sections;

use super::budget::shrink;
use super::deadline_pool::{Begin, DeadlinePool, Outcome, Stop, Work};
use super::{
    Anchor, Budget, Deadlines, Gathered, HANGING, Limits, MEMORY, Piece, Rest, Sections, Selection, Share,
    Source, SourceError, Taskstats, TaskstatsError, Turn, Visit, Walk, typical_len,
};
use crate::access::{Account, CallerError, Reader, Sight, sight};
use crate::counters::Counters;
use crate::proc_files::{ProcRoot, Status, TaskDir, decimal, is_absent};
use crate::protocol::{DumpStrategy, Groups};
use crate::task::{Facts, TaskRecord};
#[cfg(feature = "bpf")]
pub(super) use contents::Contents;
#[cfg(feature = "bpf")]
pub(super) use gather::with_text;
use gather::{NEVER_SPLIT, ONE_FILE, Task, gather};
use item::{Item, TaskId};
pub use mapping_file::MappingFile;
use nix::errno::Errno;
use numbers::Numbers;
use process_sums::ProcessSums;
use program::{Programs, Whose};
pub(super) use rest_of_list::Place;
#[cfg(feature = "bpf")]
pub(super) use sections::{KnownMisc, LONGEST_LIST, Question};
use std::collections::VecDeque;
use std::sync::Arc;

/// Tasks from the files of /proc.
///
/// It cannot know a mapping's inode generation, nor flags beyond read, write, execute and shared unless VMA_STAT is
/// asked for too, nor whether a task without memory was dumpable.
#[derive(Clone, Debug)]
pub struct ProcfsSource {
    pub(super) root: Arc<ProcRoot>,
    pub(super) pool: DeadlinePool,
    pub(super) deadlines: Deadlines,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
    pub(super) taskstats: Result<Arc<Taskstats>, TaskstatsError>,
}

impl ProcfsSource {
    /// Tasks below `root`; readers may cost as much as `limits` say.
    pub fn new(root: Arc<ProcRoot>, limits: Limits) -> ProcfsSource {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        ProcfsSource {
            root,
            pool: DeadlinePool::new(cores, MOST_HELD_THREADS),
            deadlines: limits.deadlines,
            budget: Arc::new(Budget::new(limits.parked, limits.parked_per_user)),
            counters: Arc::default(),
            taskstats: Taskstats::open().map(Arc::new),
        }
    }

    /// The thread-group id of task `pid`.
    fn thread_group(dir: &TaskDir) -> nix::Result<u32> {
        let mut text = Vec::new();
        Status::parse(dir.read("status", &mut text)?).map(|status| status.base.tgid).ok_or(Errno::ESRCH)
    }

    /// Children of the very thread `pid`, in order of birth. The list can skip some while others of them end, so it
    /// is read until two readings agree.
    fn children(dir: &TaskDir, pid: u32) -> nix::Result<Vec<u32>> {
        let path = format!("task/{pid}/children");
        let mut before: Option<Vec<u32>> = None;
        let mut text = Vec::new();
        for _ in 0..8 {
            let pids = dir
                .read_whole(&path, &mut text)?
                .split(|c| *c == b' ')
                .filter_map(decimal)
                .map(|n| n as u32)
                .collect();
            if before.as_ref() == Some(&pids) {
                break;
            }
            before = Some(pids);
        }
        Ok(before.unwrap_or_default())
    }

    /// The threads of the process that `pid` is of, or the children of the very thread `pid`, all by the numbers of the
    /// reader's pid namespace.
    ///
    /// # Errors
    /// [`SourceError::NoSuchTask`].
    #[cfg(feature = "bpf")]
    pub(super) fn list(
        &self,
        reader: &Reader,
        pid: u32,
        children: bool,
    ) -> Result<VecDeque<u32>, SourceError> {
        let pid = self.number_of(reader, pid)?;
        let dir = self.root.task(pid).map_err(unfound)?;
        let ids = if children { Self::children(&dir, pid) } else { dir.threads() }.map_err(unfound)?;
        let Some(namespace) = &reader.pid_ns else { return Ok(ids.into()) };
        let number = |pid: u32| Some(Numbers::of(&self.root.task(pid).ok()?, namespace)?.pid);
        Ok(ids.into_iter().filter_map(number).collect())
    }

    /// The daemon's number of the task that the reader's pid namespace calls `pid`.
    ///
    /// # Errors
    /// [`SourceError::NoSuchTask`].
    fn number_of(&self, reader: &Reader, pid: u32) -> Result<u32, SourceError> {
        let Some(namespace) = &reader.pid_ns else { return Ok(pid) };
        let is_it = |number: &u32| {
            let numbers = self.root.task(*number).ok().and_then(|dir| Numbers::of(&dir, namespace));
            numbers.is_some_and(|numbers| numbers.pid == pid)
        };
        let processes = self.root.processes().map_err(SourceError::Unreadable)?;
        let threads = |tgid: &u32| self.root.task(*tgid).and_then(|dir| dir.threads()).unwrap_or_default();
        let leader = processes.iter().copied().find(is_it);
        let found = leader.or_else(|| processes.iter().flat_map(threads).find(is_it));
        found.ok_or(SourceError::NoSuchTask)
    }

    /// The processes of the reader's pid namespace, by the daemon's numbers, in the order of the namespace's own.
    fn processes(&self, reader: &Reader) -> Result<Vec<u32>, SourceError> {
        let mut all = self.root.processes().map_err(SourceError::Unreadable)?;
        if let Some(namespace) = &reader.pid_ns {
            let number = |pid: u32| Some((Numbers::of(&self.root.task(pid).ok()?, namespace)?.pid, pid));
            let mut inside: Vec<(u32, u32)> = all.into_iter().filter_map(number).collect();
            inside.sort_unstable();
            all = inside.into_iter().map(|(_, pid)| pid).collect();
        }
        Ok(all)
    }

    /// As [`Walk::sight`]; also what was asked for, and what of that was to be told.
    pub(super) fn sight(
        &self,
        reader: &Reader,
        (asked, told): (Selection, Selection),
        task: &TaskRecord,
        anchor: &Anchor,
    ) -> Sight {
        let Anchor::Directory(dir) = anchor else { return Sight::Nothing };
        // Whom it was gathered for was told of control groups by names that are none of this reader's.
        if asked.for_reader(&self.root, reader) != told {
            return Sight::Nothing;
        }
        let light = Selection { groups: Groups::empty(), ..asked };
        // With other rights it may be running another program, whose readers are others.
        match self.light(reader, light, task.daemons_tgid, dir.clone()) {
            Ok(now)
                if now.record.daemons_pid == task.daemons_pid
                    && now.record.credentials == task.credentials =>
            {
                sight(reader, &now.record)
            }
            _ => Sight::Nothing,
        }
    }

    /// Adds what is not in files, to tasks that are judged again afterwards.
    fn add_taskstats(&self, reader: &Reader, selection: Selection, tasks: &mut [nix::Result<Task>]) {
        let Ok(taskstats) = &self.taskstats else { return };
        let wanted = tasks.iter_mut().flatten().filter(|task| task.has.contains(Groups::TASKSTATS));
        let mut wanted: Vec<&mut Task> = wanted.collect();
        let places = wanted.iter_mut().map(|task| (&task.record, &mut task.sections)).collect();
        taskstats.put_before(reader, !selection.per_thread(), places);
        let alone = Selection { groups: Groups::TASKSTATS, ..selection };
        for task in wanted {
            // Of many at once some may have run another program meanwhile; one alone is done in no time.
            let mut tries = 4;
            while !self.is_same_program(reader, selection, task) {
                let again = match (&task.anchor, &task.watch) {
                    (Anchor::Directory(dir), Some(watch)) if tries > 0 => {
                        gather(&self.root, reader, alone, dir.clone(), (watch.whose(), None), usize::MAX)
                    }
                    _ => Err(Errno::EAGAIN),
                };
                tries -= 1;
                task.sections = Sections::new(&task.sections).without(Groups::TASKSTATS);
                match again {
                    Ok(again) if again.record.credentials == task.record.credentials => {
                        task.watch = again.watch;
                        let place = vec![(&task.record, &mut task.sections)];
                        taskstats.put_before(reader, !selection.per_thread(), place);
                    }
                    again => {
                        task.has -= Groups::TASKSTATS;
                        // Of one that is gone or hidden by now nothing is missing.
                        if !again.is_err_and(|e| is_absent(e) || e == Errno::EPERM) {
                            task.missing |= Groups::TASKSTATS;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Whether what was asked for besides the task's files is of the program that those are of, and may still be shown.
    fn is_same_program(&self, reader: &Reader, selection: Selection, task: &Task) -> bool {
        let (Anchor::Directory(dir), Some(watch)) = (&task.anchor, &task.watch) else { return false };
        match watch.programs(&mut Vec::new(), dir) {
            // To who sees everything it is enough that it looks the same.
            Ok(Programs::One | Programs::Unknown) if gather::knows_no_bounds(reader) => true,
            Ok(Programs::One) => {
                self.sight(reader, (selection, selection), &task.record, &task.anchor) == Sight::Full
            }
            _ => false,
        }
    }

    /// One task with all that was asked for, if the reader may see it.
    #[cfg(feature = "bpf")]
    pub(super) fn one(
        &self,
        reader: &Reader,
        selection: Selection,
        task: &TaskRecord,
        room: usize,
    ) -> Option<Task> {
        let id = TaskId { tgid: task.daemons_tgid, tid: task.daemons_pid };
        let upcoming = VecDeque::from([id]);
        let walk = ProcfsWalk {
            source: self.clone(),
            selection,
            told: selection,
            leaders: Vec::new().into_iter(),
            kept: 0,
            share: None,
            upcoming,
            average: typical_len(selection.groups),
        };
        walk.gather_all(&Arc::new(reader.clone()), selection, room, &[id], &Turn::endless()).pop()?.ok()
    }

    /// Nothing of a task that the reader may not see tells it that the task has children or threads.
    fn target(
        &self,
        reader: &Reader,
        selection: Selection,
        pid: u32,
    ) -> Result<Option<Arc<TaskDir>>, SourceError> {
        let dir = Arc::new(self.root.task(pid).map_err(unfound)?);
        let light = Selection { groups: Groups::empty(), strategy: DumpStrategy::One, ..selection };
        Ok(self.light(reader, light, pid, dir.clone()).is_ok().then_some(dir))
    }

    /// As [`gather`], of a task that is named by its directory, within the deadlines: `ETIMEDOUT` where it hangs.
    fn light(
        &self,
        reader: &Reader,
        selection: Selection,
        tgid: u32,
        dir: Arc<TaskDir>,
    ) -> nix::Result<Task> {
        if !gather::waits_for_exec(reader) {
            return gather(&self.root, reader, selection, dir, (Whose::Process, None), usize::MAX);
        }
        let item = Item {
            root: self.root.clone(),
            budget: self.budget.clone(),
            reader: Arc::new(reader.clone()),
            selection,
            id: TaskId { tgid, tid: tgid },
            dir: Some(dir),
            may_hang: true,
            by_number: false,
            sums: None,
            room: usize::MAX,
        };
        let begin = Begin { within: self.deadlines.read, bytes: usize::MAX };
        match self.pool.run(vec![item], self.deadlines, begin).pop() {
            Some(Outcome::Done(task)) => task,
            _ => Err(Errno::ETIMEDOUT),
        }
    }
}

impl Source for ProcfsSource {
    fn name(&self) -> &'static str {
        "procfs"
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn taskstats(&self) -> Result<(), TaskstatsError> {
        self.taskstats.as_ref().map(drop).map_err(|why| *why)
    }

    fn reader(&self, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError> {
        Reader::snapshot(&self.root, tid, fsuid, fsgid)
    }

    fn account(&self, tid: u32, fsuid: u32) -> Account {
        Account::of(&self.root, tid, fsuid)
    }

    fn start(
        &self,
        reader: &Reader,
        selection: Selection,
        set: &[u32],
    ) -> Result<Box<dyn Walk>, SourceError> {
        let mut leaders = Vec::new();
        let mut upcoming = VecDeque::new();
        let pid = match selection.strategy {
            DumpStrategy::All | DumpStrategy::AllThreads | DumpStrategy::Set => 0,
            _ => self.number_of(reader, selection.pid)?,
        };
        match selection.strategy {
            DumpStrategy::All | DumpStrategy::AllThreads => {
                leaders = self.processes(reader)?;
            }
            DumpStrategy::One => {
                self.root.task(pid).map_err(unfound)?;
                upcoming.push_back(TaskId { tgid: pid, tid: pid });
            }
            DumpStrategy::Children => {
                let children = self.target(reader, selection, pid)?.map(|dir| Self::children(&dir, pid));
                let ids = children.transpose().unwrap_or_default().unwrap_or_default();
                upcoming.extend(ids.into_iter().map(|pid| TaskId { tgid: pid, tid: pid }));
            }
            DumpStrategy::Thread => {
                if let Some(dir) = self.target(reader, selection, pid)? {
                    let tgid = Self::thread_group(&dir).map_err(unfound)?;
                    let tids = dir.threads().unwrap_or_default();
                    upcoming.extend(tids.into_iter().map(|tid| TaskId { tgid, tid }));
                }
            }
            // A thread may be named as well as a process; either has a directory of its number.
            DumpStrategy::Set => leaders = self.numbers_of(reader, set)?,
            DumpStrategy::Subtree => {
                if let Some(dir) = self.target(reader, selection, pid)? {
                    leaders = self.subtree(reader, selection, Self::thread_group(&dir).map_err(unfound)?);
                }
            }
        }
        let kept = size_of_val(&*leaders);
        let bytes = kept + upcoming.len() * size_of::<TaskId>();
        let share =
            self.budget.take(reader.account, bytes).map_err(|_| SourceError::OverBudget(reader.account))?;
        Ok(Box::new(ProcfsWalk {
            source: self.clone(),
            selection,
            told: selection,
            leaders: leaders.into_iter(),
            kept,
            share: Some(share),
            upcoming,
            average: typical_len(selection.groups),
        }))
    }
}

/// What it means that a task named by a request cannot be looked at.
fn unfound(error: Errno) -> SourceError {
    if is_absent(error) { SourceError::NoSuchTask } else { SourceError::Unreadable(error) }
}

struct ProcfsWalk {
    source: ProcfsSource,
    selection: Selection,
    /// What of it could be told to whom was read for last.
    told: Selection,
    leaders: std::vec::IntoIter<u32>,
    /// Bytes of that list, which are kept until its end.
    kept: usize,
    /// What both lists count for.
    share: Option<Share>,
    upcoming: VecDeque<TaskId>,
    /// Bytes that a task has taken on average, so that no more is gathered than a read can hold.
    average: usize,
}

/// Threads that hung memory may hold, of all users.
const MOST_HELD_THREADS: usize = 256;
/// Tasks that one round gathers at most: what is not shown in this read is gathered again in the next one.
const MOST_AT_ONCE: usize = 512;
/// The same where each is held by a descriptor until it is judged again.
const MOST_HELD: usize = 512;

impl Walk for ProcfsWalk {
    fn next(
        &mut self,
        reader: &Reader,
        room: usize,
        turn: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError> {
        let reader_of_all = Arc::new(reader.clone());
        let selection = self.selection.for_reader(&self.source.root, reader);
        self.told = selection;
        let mut left = room;
        loop {
            let most = if selection.groups.contains(Groups::TASKSTATS) { MOST_HELD } else { MOST_AT_ONCE };
            let count = (left / self.average).clamp(1, most);
            self.look_ahead(count);
            self.count_lists(reader)?;
            if self.upcoming.is_empty() {
                return Ok(());
            }
            let ids: Vec<TaskId> = self.upcoming.iter().take(count).copied().collect();
            let mut shown = 0;
            let tasks = self.gather_all(&reader_of_all, selection, room, &ids, turn);
            let out_of_time = tasks.len() < ids.len();
            for task in tasks {
                match task {
                    Err(Errno::ENOMEM) => return Err(SourceError::OverBudget(reader.account)),
                    Err(e @ (Errno::EMFILE | Errno::ENFILE)) => return Err(SourceError::Unreadable(e)),
                    _ => {}
                }
                if matches!(task, Err(Errno::EPERM)) {
                    self.source.counters.tasks_hidden.count();
                }
                if let Ok(task) = task {
                    let task = task.gathered();
                    let visit = visit(&task);
                    self.learn(task.len());
                    if visit == Visit::Full {
                        return Ok(());
                    }
                    shown += 1;
                    left = left.saturating_sub(task.len());
                    if visit == Visit::Last {
                        left = 0;
                    }
                }
                self.upcoming.pop_front();
                if left == 0 {
                    return Ok(());
                }
            }
            if turn.is_over() || shown > 0 && (left < self.average || out_of_time) {
                return Ok(());
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.upcoming.is_empty() && self.leaders.len() == 0
    }

    fn go_on(&self, reader: &Reader, task: &TaskRecord, rest: &Rest) -> Result<Piece, SourceError> {
        match rest {
            Rest::File(file) => self.source.piece(reader, task, Place::Open(file.clone())),
            #[cfg(feature = "bpf")]
            Rest::Address(from) => self.source.piece(reader, task, Place::Address(*from)),
        }
    }

    fn sight(&self, reader: &Reader, task: &TaskRecord, anchor: &Anchor) -> Sight {
        self.source.sight(reader, (self.selection, self.told), task, anchor)
    }
}

impl ProcfsWalk {
    /// Follows the size of tasks, slowly: kernel threads have no memory, and come in a row.
    fn learn(&mut self, len: usize) {
        self.average = ((self.average * 63 + len) / 64).max(typical_len(self.selection.groups) / 2);
    }

    /// Makes `upcoming` hold `count` tasks, or all that are left.
    fn look_ahead(&mut self, count: usize) {
        while self.upcoming.len() < count {
            let Some(tgid) = self.leaders.next() else { return };
            if self.selection.strategy == DumpStrategy::AllThreads {
                let threads = self.source.root.task(tgid).and_then(|dir| dir.threads()).unwrap_or_default();
                self.upcoming.extend(threads.into_iter().map(|tid| TaskId { tgid, tid }));
            } else {
                self.upcoming.push_back(TaskId { tgid, tid: tgid });
            }
        }
    }

    /// Has the lists count for what they are now.
    fn count_lists(&mut self, reader: &Reader) -> Result<(), SourceError> {
        shrink(&mut self.upcoming);
        let bytes = self.kept + self.upcoming.capacity() * size_of::<TaskId>();
        let resized = self.share.as_mut().map_or(Ok(()), |share| share.resize(bytes));
        resized.map_err(|_| SourceError::OverBudget(reader.account))
    }

    /// Gathers these tasks, in order. Memory that cannot be read in time is left out of its task.
    fn gather_all(
        &self,
        reader: &Arc<Reader>,
        selection: Selection,
        room: usize,
        ids: &[TaskId],
        turn: &Turn<'_>,
    ) -> Vec<nix::Result<Task>> {
        let mut tasks = self.read_all(reader, selection, room, ids, turn);
        if selection.groups.contains(Groups::TASKSTATS) {
            self.source.add_taskstats(reader, selection, &mut tasks);
        }
        tasks
    }

    /// What stands in files.
    fn read_all(
        &self,
        reader: &Arc<Reader>,
        selection: Selection,
        room: usize,
        ids: &[TaskId],
        turn: &Turn<'_>,
    ) -> Vec<nix::Result<Task>> {
        let hanging = selection.groups & HANGING;
        let may_hang = gather::waits_for_exec(reader);
        let by_number =
            room >= NEVER_SPLIT && gather::knows_all(reader) && ONE_FILE.contains(selection.groups);
        // In the other lists a process is named once, or its threads are told of each by itself.
        let summed = selection.strategy == DumpStrategy::Set && ProcessSums::in_any(selection.groups);
        let sums = (summed && ids.len() > 1).then(Arc::<ProcessSums>::default);
        let item = |id: &TaskId| Item {
            root: self.source.root.clone(),
            budget: self.source.budget.clone(),
            reader: reader.clone(),
            selection,
            id: *id,
            dir: None,
            may_hang,
            by_number,
            sums: sums.clone(),
            room,
        };
        if hanging.is_empty() && !may_hang && ids.len() < 4 {
            return ids.iter().map(|id| item(id).run(&Stop::default())).collect();
        }
        let deadlines = self.source.deadlines;
        // What has no room in this read, or no time, is for the next one.
        let begin = Begin { within: deadlines.read, bytes: 2 * room };
        let in_turn = Begin { within: turn.left().min(deadlines.read), ..begin };
        let results = self.source.pool.run(ids.iter().map(item).collect(), deadlines, in_turn);
        let light = Selection { groups: selection.groups - hanging, ..selection };
        let less = Selection { groups: selection.groups - MEMORY, ..selection };
        // First without its memory, which is what hangs most; then with nothing that may hang.
        let late = |id: &TaskId| {
            let item = |selection| Item { selection, ..item(id) };
            let again = (may_hang || less.groups.intersects(HANGING)) && selection.groups.intersects(MEMORY);
            let again = again.then(|| self.source.pool.run(vec![item(less)], deadlines, begin).pop());
            let (task, lost) = match again.flatten() {
                Some(Outcome::Done(task)) => (task, hanging & MEMORY),
                _ if !may_hang => (item(light).run(&Stop::default()), hanging),
                _ => match self.source.pool.run(vec![item(light)], deadlines, begin).pop() {
                    Some(Outcome::Done(task)) => (task, hanging),
                    // Nobody can say whether this reader sees it.
                    _ => (Err(Errno::EPERM), hanging),
                },
            };
            task.map(|task| {
                let base = &task.record.base;
                let mut missing = sight(reader, &task.record).of(lost);
                if !task.record.facts().contains(Facts::HAS_MEMORY) {
                    missing -= MEMORY;
                }
                if !selection.wants_mappings(base.pid, base.tgid) {
                    missing -= Groups::VMA | Groups::VMA_STAT;
                }
                missing = selection.of_task(missing, base.pid, base.tgid);
                Task { missing, ..task }
            })
        };
        // What there was no time for is for the next read, if this one has anything.
        let begun = results.iter().take_while(|result| !matches!(result, Outcome::NotBegun)).count();
        let dealt_with = if begun == 0 { ids.len() } else { begun };
        let task = |(result, id)| match result {
            Outcome::Done(task) => task,
            Outcome::Late | Outcome::NotBegun => late(id),
        };
        results.into_iter().zip(ids).take(dealt_with).map(task).collect()
    }
}
