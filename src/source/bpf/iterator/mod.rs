//! The driver of the BPF iterator over tasks.
//!
//! An iterator is a stream: reading a part of it makes the kernel fill records of the tasks that come next, at that
//! moment. It never goes back, so what comes before the first task in question costs a look at each.

use crate::access::{CAP_SYS_PTRACE, Reader};
use crate::proc_files::page_size;
use crate::protocol::Groups;
use crate::source::bpf::programs::skeleton::iterator::{IteratorSkel, IteratorSkelBuilder};
use crate::source::bpf::programs::{AT_ONCE, Answer, Ask, Mode, Outcome, forever};
use crate::source::bpf::refusal::{LoadError, explained};
use crate::source::bpf::tasks::abi::{RECORDS, TaskSlot};
use crate::task::TaskRecord;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, MapCore, MapFlags};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

const THREAD_STAT: u32 = 1 << 1;
const LEADERS: u32 = 1 << 8;
const BY_PROCESS: u32 = 1 << 9;
const PREPARE: u32 = 1 << 10;

/// `struct question` of iterator.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, KnownLayout, Immutable)]
struct Question {
    groups: u32,
    options: u32,
    first: u32,
    last: u32,
    reader_tgid: u32,
    reader_euid: u32,
    reader_may_ptrace: u32,
    unused: u32,
}

/// Walks that were left where a later read of the same dump goes on.
const PARKED: usize = 16;

/// The loaded program.
pub struct TaskIterator {
    skeleton: IteratorSkel<'static>,
    link: Link,
    /// Each with its dump and the number that comes next there. They hold a place in the order of tasks, which is
    /// that of the task found next: what was born before it since then is no part of this dump, but of later ones.
    parked: Mutex<VecDeque<((u64, u32), Iter)>>,
}

impl TaskIterator {
    /// Loads the program, for at most `threads` threads at once; gives what libbpf said of it, too.
    pub fn open(threads: u32, log_level: u32) -> Result<(IteratorSkel<'static>, String), LoadError> {
        explained("iterator", || {
            let mut open = IteratorSkelBuilder::default().open(forever())?;
            if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
                constants.cpus = libbpf_rs::num_possible_cpus()? as u32;
                constants.page_shift = page_size().trailing_zeros();
            }
            open.progs.each_task.set_log_level(log_level);
            open.maps.works.set_max_entries(threads)?;
            open.load()
        })
    }

    /// Loads the program, for at most `threads` threads at once.
    pub fn load(threads: u32) -> Result<TaskIterator, LoadError> {
        let (skeleton, _) = TaskIterator::open(threads, 0)?;
        let (link, _) = explained("iterator", || skeleton.progs.each_task.attach())?;
        let iterator = TaskIterator { skeleton, link, parked: Mutex::default() };
        let prepare = Question { options: PREPARE, ..Question::default() };
        match iterator.walk(&prepare, 1)?.is_empty() {
            true => Ok(iterator),
            false => Err(io::Error::other("it cannot tell where percpu objects are").into()),
        }
    }

    /// Answers as the tasks program does; lists are left to others.
    pub fn ask(&self, slot: &mut TaskSlot, reader: &Reader, ask: Ask) -> io::Result<Answer> {
        let question = Question {
            groups: ask.groups.bits() as u32,
            options: if ask.per_thread { THREAD_STAT } else { 0 },
            first: ask.first,
            last: u32::MAX,
            reader_tgid: reader.tgid,
            reader_euid: reader.euid,
            reader_may_ptrace: (reader.effective >> CAP_SYS_PTRACE & 1) as u32,
            unused: 0,
        };
        let (outcome, next, records) = match ask.mode {
            Mode::Tasks => (Outcome::Finished, 0, self.tasks(&slot.ids[..ask.limit], question)?),
            Mode::Processes if ask.per_thread => self.threads(question, ask.limit, ask.dump)?,
            Mode::Processes => self.leaders(question, ask.limit, ask.dump)?,
            Mode::Threads | Mode::Children => (Outcome::Unstable, 0, Vec::new()),
        };
        slot.records[..records.len()].copy_from_slice(&records);
        Ok(Answer { outcome, count: records.len() as u32, next })
    }

    /// Gives up the place of a dump that is over.
    pub fn forget(&self, dump: u64) {
        self.parked.lock().retain(|((of, _), _)| *of != dump);
    }

    /// The records of these tasks, in that order.
    fn tasks(&self, ids: &[u32], question: Question) -> io::Result<Vec<TaskRecord>> {
        let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
        let found = self.walk(&Question { first: *first, last: *last, ..question }, usize::MAX)?;
        let found: HashMap<u32, TaskRecord> =
            found.into_iter().map(|record| (record.base.pid, record)).collect();
        Ok(ids.iter().map(|id| found.get(id).copied().unwrap_or_default()).collect())
    }

    /// The leaders from `question.first` on.
    fn leaders(
        &self,
        question: Question,
        limit: usize,
        dump: u64,
    ) -> io::Result<(Outcome, u32, Vec<TaskRecord>)> {
        let question = Question { options: question.options | LEADERS, ..question };
        let parked = {
            let mut parked = self.parked.lock();
            let at = parked.iter().position(|(place, _)| *place == (dump, question.first));
            at.and_then(|at| parked.remove(at))
        };
        let mut stream = match parked {
            Some((_, stream)) => stream,
            None => self.begin()?,
        };
        let mut records = Vec::new();
        self.read(&mut stream, &question, limit, &mut records)?;
        let next = records.last().and_then(|last| last.base.pid.checked_add(1));
        match next {
            Some(next) if records.len() == limit => {
                if dump != 0 {
                    let mut parked = self.parked.lock();
                    parked.truncate(PARKED - 1);
                    parked.push_front(((dump, next), stream));
                }
                Ok((Outcome::More, next, records))
            }
            _ => Ok((Outcome::Finished, 0, records)),
        }
    }

    /// The threads of the processes from `question.first` on, as many whole processes as `limit` allows.
    fn threads(
        &self,
        question: Question,
        limit: usize,
        dump: u64,
    ) -> io::Result<(Outcome, u32, Vec<TaskRecord>)> {
        let counted = Question { groups: Groups::STAT.bits() as u32, ..question };
        let (outcome, next, leaders) = self.leaders(counted, limit, dump)?;
        let Some(first) = leaders.first().map(|first| first.base.pid) else {
            return Ok((outcome, next, leaders));
        };
        let mut threads = 0;
        let fits = |leader: &&TaskRecord| {
            threads += leader.stat.threads as usize;
            threads <= limit
        };
        let fitting = leaders.iter().take_while(fits).count();
        let Some(last) = fitting.checked_sub(1).map(|last| leaders[last].base.pid) else {
            return Ok((Outcome::TooLarge, first, Vec::new()));
        };
        let question = Question { options: question.options | BY_PROCESS, last, ..question };
        // The kernel walks by the numbers of threads, which say nothing of their processes.
        let mut records = self.walk(&question, RECORDS + 1)?;
        if records.len() > RECORDS {
            return Ok((Outcome::TooLarge, first, Vec::new()));
        }
        records.sort_unstable_by_key(|record| {
            let base = &record.base;
            (base.tgid, base.pid != base.tgid, record.start_time, base.pid)
        });
        match fitting == leaders.len() {
            true => Ok((outcome, next, records)),
            false => Ok((Outcome::More, last + 1, records)),
        }
    }

    fn begin(&self) -> io::Result<Iter> {
        Iter::new(&self.link).map_err(io::Error::other)
    }

    /// The answer to a question of a new walk, at most `limit` records.
    fn walk(&self, question: &Question, limit: usize) -> io::Result<Vec<TaskRecord>> {
        let mut records = Vec::new();
        self.read(&mut self.begin()?, question, limit, &mut records)?;
        Ok(records)
    }

    /// Takes at most `limit` records from where the walk stands.
    fn read(
        &self,
        stream: &mut Iter,
        question: &Question,
        limit: usize,
        records: &mut Vec<TaskRecord>,
    ) -> io::Result<()> {
        // The program knows us by our number in our own pid namespace.
        let key = nix::unistd::gettid().as_raw().to_ne_bytes();
        let works = &self.skeleton.maps.works;
        let mut work = vec![0; works.value_size() as usize];
        work[..size_of::<Question>()].copy_from_slice(question.as_bytes());
        works.update(&key, &work, MapFlags::ANY).map_err(io::Error::other)?;
        let outcome = read_records(stream, limit, records);
        let _ = works.delete(&key);
        outcome
    }
}

fn read_records(stream: &mut Iter, limit: usize, records: &mut Vec<TaskRecord>) -> io::Result<()> {
    let mut taken = 0;
    while taken < limit {
        records.resize(limit.min(taken + AT_ONCE), TaskRecord::new_zeroed());
        // The kernel stops at the record with which our buffer is full, or before the one that its own (32 KiB) does
        // not hold: it never keeps one for the next read, which may be for other eyes.
        match stream.read(records[taken..].as_mut_bytes()) {
            Ok(0) => break,
            Ok(bytes) => taken += bytes / size_of::<TaskRecord>(),
            // It looked at a million tasks without finding one.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(e) => return Err(e),
        }
        // Nothing but empty records follows an empty one.
        if records[..taken].last().is_some_and(|last| last.base.pid == 0) {
            break;
        }
    }
    records.truncate(taken);
    records.retain(|record| record.base.pid != 0);
    Ok(())
}
