//! One task out of its files: judged, gathered, and judged again.

use super::contents::{Contents, MemoryFiles};
use super::numbers::Numbers;
use super::process_sums::ProcessSums;
use super::program::{Programs, Watch, Whose};
use super::sections::{self, Question};
use crate::access::{IdMaps, Reader, Sight, sight, user_ns_below};
use crate::proc_files::{ProcRoot, StatLine, Status, TaskDir, mix};
use crate::protocol::{Groups, MAX_PAYLOAD};
use crate::source::{Anchor, Gathered, Rest, Sections, Selection, Share, refused};
use crate::task::{Facts, TaskRecord};
use nix::errno::Errno;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// A visible task with all that was asked for.
pub(in crate::source) struct Task {
    pub record: TaskRecord,
    /// The groups it has, among those asked for.
    pub has: Groups,
    pub mappings: Vec<u8>,
    /// Where the mappings go on.
    pub rest: Option<Rest>,
    pub command_line: Vec<u8>,
    pub sections: Vec<u8>,
    pub missing: Groups,
    pub anchor: Anchor,
    /// Still on, where something comes afterwards.
    pub(super) watch: Option<Watch>,
    /// What the lists count for.
    pub _share: Option<Share>,
}

impl Task {
    /// Bytes of its lists.
    pub fn lists_len(&self) -> usize {
        self.mappings.len() + self.command_line.len() + self.sections.len()
    }

    pub fn gathered(&self) -> Gathered<'_> {
        Gathered {
            record: &self.record,
            groups: self.has,
            mappings: &self.mappings,
            rest: self.rest.as_ref(),
            command_line: &self.command_line,
            sections: Sections::new(&self.sections),
            missing: self.missing,
            anchor: &self.anchor,
        }
    }
}

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the calling thread's buffer for the text of files; whoever has it asks for no other.
pub(in crate::source) fn with_text<T>(read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    TEXT.with_borrow_mut(|text| {
        let outcome = read(text);
        // A file that is out of the ordinary is not remembered by its size.
        if text.capacity() > 1 << 20 {
            *text = Vec::new();
        }
        outcome
    })
}

/// Takes one task from its directory; `room` is what the reader's buffer holds.
///
/// # Errors
/// `ESRCH` and its like where the task went, `EPERM` where the reader may not see it; what says that this process has no
/// descriptors left is for the caller to heed.
pub(super) fn gather(
    root: &ProcRoot,
    reader: &Reader,
    selection: Selection,
    dir: Arc<TaskDir>,
    (whose, sums): (Whose, Option<&ProcessSums>),
    room: usize,
) -> nix::Result<Task> {
    let began = Instant::now();
    with_text(|text| {
        for nth in 1.. {
            let patience = if knows_no_bounds(reader) { SHORT } else { LONG };
            let last = nth >= MOST_TRIES || began.elapsed() > patience;
            let attempt = Attempt { whose, sums, again: nth > 1, last };
            match gather_with(text, root, reader, selection, &dir, attempt, room) {
                Err(Errno::EAGAIN) => continue,
                task => return task,
            }
        }
        Err(Errno::EAGAIN)
    })
}

/// How often, and how long, a task is read again that may have run one program after the other meanwhile.
const MOST_TRIES: usize = 8;
const LONG: Duration = Duration::from_millis(50);
/// The same for a reader who is told of each program all the same.
const SHORT: Duration = Duration::from_millis(2);

/// Which try it is, and what it goes by.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    whose: Whose,
    sums: Option<&'a ProcessSums>,
    again: bool,
    last: bool,
}

/// A reader who sees everything loses no right meanwhile.
pub(super) fn knows_no_bounds(reader: &Reader) -> bool {
    reader.sees_everything() && reader.opens_any_file()
}

/// Takes what one file tells a reader who sees everything, for less than opening the task's directory too would cost.
///
/// # Errors
/// As [`gather`]; `ENODATA` on a kernel whose `status` does not hold it all.
pub(super) fn gather_by_number(
    root: &ProcRoot,
    reader: &Reader,
    groups: Groups,
    pid: u32,
) -> nix::Result<Task> {
    with_text(|text| {
        let status = Status::parse(root.read_by_number(pid, "status", text)?).ok_or(Errno::ESRCH)?;
        if !status.has_sessions {
            return Err(Errno::ENODATA);
        }
        let record = record_of(&status);
        if root.guard().is_some_and(|guard| guard.refuses(pid, instance(&record))) && pid != reader.tgid {
            return Err(Errno::EPERM);
        }
        Ok(Task {
            record,
            has: groups & if status.has_memory { ONE_FILE } else { ONE_FILE - Groups::STATM },
            mappings: Vec::new(),
            rest: None,
            command_line: Vec::new(),
            sections: Vec::new(),
            missing: Groups::empty(),
            anchor: Anchor::Number,
            watch: None,
            _share: None,
        })
    })
}

/// Groups that `status` holds.
pub(super) const ONE_FILE: Groups =
    Groups::BASE.union(Groups::CRED).union(Groups::STATM).union(Groups::MISSING);

/// Room in which a task without mappings and command line fits for sure.
pub(super) const NEVER_SPLIT: usize = 512;

/// Groups whose files have to be of the program that the record is of.
const OF_PROGRAM: Groups = Groups::CMDLINE.union(Groups::VMA).union(Groups::OWN);

/// `EAGAIN` where the task may have run another program meanwhile.
fn gather_with(
    text: &mut Vec<u8>,
    root: &ProcRoot,
    reader: &Reader,
    selection: Selection,
    dir: &Arc<TaskDir>,
    attempt: Attempt<'_>,
    room: usize,
) -> nix::Result<Task> {
    let watched = selection.groups.intersects(OF_PROGRAM);
    let watch = watched.then(|| Watch::begin(text, dir, attempt.whose, attempt.again)).transpose()?;
    let (status, mut record) = judged(text, root, reader, dir)?;
    let seen = sight(reader, &record);
    let asked = seen.of(selection.groups);
    let sums = attempt.sums.map(|sums| sums.of(&record)).unwrap_or_default();
    let mut has = asked & (Groups::BASE | Groups::CRED | Groups::STAT);
    let mut other_files = false;
    if asked.contains(Groups::STAT) || (asked.contains(Groups::BASE) && !status.has_sessions) {
        other_files = true;
        let line = StatLine::parse(dir.read(sums.file_of_stat(), text)?).ok_or(Errno::ESRCH)?;
        record.stat = line.stat;
        sums.put_into_stat(&mut record.stat);
        if !status.has_sessions {
            (record.base.sid, record.base.pgid) = (line.sid, line.pgid);
        }
    }
    let own = selection.of_task(asked & Groups::OWN, record.base.pid, record.base.tgid);
    // That comes afterwards, for many tasks at once.
    has |= own & Groups::TASKSTATS;
    let mut read = own - Groups::TASKSTATS;
    if status.has_memory {
        has |= asked & Groups::STATM;
        read |= asked & Groups::CMDLINE;
        if selection.wants_mappings(record.base.pid, record.base.tgid) {
            read |= asked & (Groups::VMA | Groups::VMA_STAT);
        }
    }
    let mut contents = Contents::default();
    if !read.is_empty() {
        other_files = true;
        let question = Question { root, reader, seen, groups: read, known: None, sums: Some(&sums) };
        contents = read_of_one_program(text, dir, &question, watch.as_ref(), attempt.last)?;
        has |= own;
        has.set(Groups::VMA, !contents.mappings.is_empty());
        has.set(Groups::CMDLINE, contents.command_line.is_some());
    }
    if other_files && !knows_no_bounds(reader) {
        let (_, now) = judged(text, root, reader, dir)?;
        if sight(reader, &now) < seen {
            return Err(Errno::EPERM);
        }
    }
    if let Some(kept) = attempt.sums {
        kept.keep(dir, &sums, &record, has, &contents.sections);
    }
    // Descriptors are few: only a task that will be sent in pieces needs to be known again.
    let Contents { mappings, rest, command_line, sections, missing, .. } = contents;
    let command_line = command_line.unwrap_or_default();
    let lists = [mappings.len(), command_line.len(), sections.len()];
    let in_pieces = rest.is_some()
        || lists.iter().any(|len| *len > MAX_PAYLOAD)
        || lists.iter().sum::<usize>() + NEVER_SPLIT > room;
    let has_more = own.contains(Groups::TASKSTATS);
    let anchor = if in_pieces || has_more { Anchor::Directory(dir.clone()) } else { Anchor::Number };
    let watch = watch.filter(|_| has_more);
    has -= missing;
    Ok(Task { record, has, mappings, rest, command_line, sections, missing, anchor, watch, _share: None })
}

/// What the question asks for, all of it of the program that the task ran when the watch began; what is not is missing.
fn read_of_one_program(
    text: &mut Vec<u8>,
    dir: &TaskDir,
    question: &Question<'_>,
    watch: Option<&Watch>,
    last: bool,
) -> nix::Result<Contents> {
    let programs = |text: &mut Vec<u8>| watch.map_or(Ok(Programs::One), |watch| watch.programs(text, dir));
    let memory = MemoryFiles::open(dir, question.groups);
    let of_memory = Groups::VMA | Groups::VMA_STAT | sections::OF_MEMORY;
    let mut contents = Contents::of_task(text, dir, question);
    let told = |programs| match programs {
        Programs::One => true,
        // It looks like one, and whoever sees both is told nothing that is kept from it.
        Programs::Unknown => last && knows_no_bounds(question.reader),
        Programs::Several => false,
    };
    if !told(programs(text)?) {
        return match last {
            true => Ok(Contents { missing: question.groups, ..Contents::default() }),
            false => Err(Errno::EAGAIN),
        };
    }
    contents.add_memory(text, dir, question, &memory);
    // Memory that is gone is empty from the middle of a list on.
    if memory.any() && programs(text)? != Programs::One {
        if memory.is_there(text) {
            if let Some(Rest::File(file)) = &contents.rest {
                file.lock().find_again(&contents.mappings)?;
            }
            return Ok(contents);
        }
        if !last {
            return Err(Errno::EAGAIN);
        }
        let lost = question.groups & of_memory;
        contents.mappings.clear();
        contents.rest = None;
        contents.sections = Sections::new(&contents.sections).without(lost);
        contents.missing |= lost;
    }
    Ok(contents)
}

/// The task's status and what it says for the record, if the reader may see the task now.
fn judged(
    text: &mut Vec<u8>,
    root: &ProcRoot,
    reader: &Reader,
    dir: &TaskDir,
) -> nix::Result<(Status, TaskRecord)> {
    let status = Status::parse(dir.read("status", text)?).ok_or(Errno::ESRCH)?;
    let mut record = record_of(&status);
    if let Some(namespace) = &reader.pid_ns {
        let numbers = Numbers::read(text, dir, namespace).ok_or(Errno::ESRCH)?;
        numbers.put_into(&mut record, root, namespace);
    }
    record.facts = facts(root, reader, dir, &status, &record).bits();
    if let Some(guard) = root.guard() {
        let instance = instance(&record);
        refused::mark(guard, reader, &mut record, instance);
    }
    (sight(reader, &record) != Sight::Nothing).then_some((status, record)).ok_or(Errno::EPERM)
}

/// What of `status` tells a task from another one of its number that a security module may judge otherwise.
fn instance(record: &TaskRecord) -> u64 {
    let words = [record.base.comm.as_slice(), record.credentials.as_bytes(), record.base.ppid.as_bytes()];
    let words = words.into_iter().flat_map(|bytes| bytes.chunks(8));
    words.fold(0, |all, bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        mix(all, u64::from_ne_bytes(word))
    })
}

fn record_of(status: &Status) -> TaskRecord {
    TaskRecord {
        base: status.base,
        credentials: status.credentials,
        statm: status.statm,
        daemons_pid: status.base.pid,
        daemons_tgid: status.base.tgid,
        ..TaskRecord::default()
    }
}

/// What can be known of the reader's standing towards the task; questions that cannot change the answer are not asked.
fn facts(root: &ProcRoot, reader: &Reader, dir: &TaskDir, status: &Status, record: &TaskRecord) -> Facts {
    let mut facts = Facts::empty();
    facts.set(Facts::HAS_MEMORY, status.has_memory);
    facts.set(Facts::KERNEL_THREAD, status.kernel_thread);
    if reader.sees_everything() {
        facts |= Facts::PTRACE_OVER_TASK | Facts::PTRACE_OVER_MEMORY;
        // Whose files they are is all the same to who opens any.
        return if reader.opens_any_file() { facts } else { facts | standing(root, reader, dir, record) };
    }
    if reader.tgid == record.daemons_tgid {
        return facts | Facts::SAME_THREAD_GROUP | standing(root, reader, dir, record);
    }
    let same = dir.namespace("user") == Some(reader.user_ns);
    // As the kernel's cap_capable: by a capability in the same namespace or one above, or by having made it.
    let over_task = match same {
        true => reader.may_ptrace(),
        false => user_ns_below(reader.user_ns, dir, reader.euid)
            .is_some_and(|(_, made)| made || reader.may_ptrace()),
    };
    if !over_task && !crate::access::ids_match(reader, record) {
        return facts;
    }
    facts.set(Facts::SAME_USER_NS, same);
    facts.set(Facts::PTRACE_OVER_TASK, over_task);
    let by_memory_alone = !status.has_memory && root.shows_undumpable_zombies() == Some(true);
    facts
        | if by_memory_alone { Facts::DUMPABLE | Facts::DUMPABLE_KNOWN } else { dumpable(root, dir, record) }
}

/// Whether the task is dumpable, and in the reader's own user namespace.
fn standing(root: &ProcRoot, reader: &Reader, dir: &TaskDir, record: &TaskRecord) -> Facts {
    let mut facts = dumpable(root, dir, record);
    facts.set(Facts::SAME_USER_NS, dir.namespace("user") == Some(reader.user_ns));
    facts
}

/// /proc gives the files of a task that is not dumpable to the root of the user namespace that owns its memory, which
/// is the task's own or one above: told apart by any task that is none of those roots' own.
fn dumpable(root: &ProcRoot, dir: &TaskDir, record: &TaskRecord) -> Facts {
    let ids = (record.credentials.euid, record.credentials.egid);
    let roots = match user_ns_below(root.own_namespaces().user, dir, 0) {
        Some((0, _)) => [Some(0), Some(0)],
        Some((1, _)) => [Some(0), IdMaps::of(dir).root()],
        _ => return Facts::empty(),
    };
    match dir.owner_of_files() {
        _ if roots.contains(&Some(ids.0)) && (ids.0 != 0 || ids == (0, 0)) => Facts::empty(),
        // Of a task without memory it tells only where its owner is remembered.
        Ok(owner) if owner == ids => Facts::DUMPABLE | Facts::DUMPABLE_KNOWN | Facts::EXEC_STATE,
        Ok(_) => Facts::DUMPABLE_KNOWN,
        Err(_) => Facts::empty(),
    }
}

/// Whether it takes a look at a task's namespaces to know whether that reader sees it.
pub(super) fn waits_for_exec(reader: &Reader) -> bool {
    !(reader.sees_everything() && reader.opens_any_file() && reader.pid_ns.is_none())
}

/// Whether one file tells all that there is to know for that reader.
pub(super) fn knows_all(reader: &Reader) -> bool {
    reader.sees_everything() && reader.pid_ns.is_none()
}
