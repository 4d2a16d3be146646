//! Where tasks come from: one trait, and the ways to fill it that kernels offer.

#[cfg(feature = "bpf")]
mod bpf;
mod budget;
mod deadline_pool;
mod limits;
mod procfs;
mod reading;
mod refused;
mod rest;
mod sections;
mod taskstats;
mod turn;

#[cfg(all(test, feature = "bpf"))]
pub(crate) use bpf::testing::available;
#[cfg(feature = "bpf")]
pub use bpf::{BpfSource, LoadError, Verified, verify};
pub use budget::{Budget, Refusal, Share};
pub use deadline_pool::Deadlines;
pub use limits::Limits;
pub use procfs::{MappingFile, ProcfsSource};
pub(crate) use rest::PIECE;
pub use rest::{Piece, Rest};
pub use sections::{Sections, push_section};
pub use taskstats::{Answers, Taskstats, TaskstatsError};
pub use turn::Turn;

use crate::access::{Account, CallerError, Reader, Sight};
use crate::counters::Counters;
use crate::proc_files::{ProcRoot, TaskDir};
use crate::protocol::{DumpStrategy, Groups, MESSAGE_LEN};
use crate::task::TaskRecord;
use std::sync::Arc;
use thiserror::Error;

/// Gives the tasks of this machine.
pub trait Source: Send + Sync {
    /// Its name, as `info` and the log show it.
    fn name(&self) -> &'static str;

    /// Who answers for a group, as `info` and the log show it: this source, or what it leaves the group to.
    fn source_of(&self, group: Groups) -> &'static str {
        if group == Groups::TASKSTATS { "taskstats" } else { self.name() }
    }

    /// Who answers for which of the groups that it offers, each once.
    fn sources(&self) -> Vec<(Groups, &'static str)> {
        let mut sources: Vec<(Groups, &'static str)> = Vec::new();
        for group in (self.offers() - Groups::MISSING).iter() {
            let source = self.source_of(group);
            match sources.iter_mut().find(|(_, name)| *name == source) {
                Some((groups, _)) => *groups |= group,
                None => sources.push((group, source)),
            }
        }
        sources
    }

    /// What dumps half read may hold, of this source and of whoever hands its tasks on.
    fn budget(&self) -> &Arc<Budget>;

    /// What it has done, and whoever hands its tasks on.
    fn counters(&self) -> &Arc<Counters>;

    /// Whether it can give TASKSTATS, or why not.
    ///
    /// # Errors
    /// [`TaskstatsError`], for the log: requests for it are answered without.
    fn taskstats(&self) -> Result<(), TaskstatsError>;

    /// What can be asked for.
    fn offers(&self) -> Groups {
        Groups::all() - if self.taskstats().is_ok() { Groups::empty() } else { Groups::TASKSTATS }
    }

    /// Who the thread `tid` is, which now waits in a read with the filesystem ids `fsuid` and `fsgid`.
    ///
    /// # Errors
    /// [`CallerError`] where that cannot be established.
    fn reader(&self, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError>;

    /// Whom it is charged to what the thread `tid` asks for, which waits in a call with the filesystem user id `fsuid`.
    fn account(&self, _tid: u32, fsuid: u32) -> Account {
        Account::User(fsuid)
    }

    /// Begins a dump for `reader`; `set` are the tasks of SET.
    ///
    /// # Errors
    /// [`SourceError::NoSuchTask`] where the strategy names a task that is not there.
    fn start(&self, reader: &Reader, selection: Selection, set: &[u32])
    -> Result<Box<dyn Walk>, SourceError>;
}

/// Which tasks, and what of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Which tasks.
    pub strategy: DumpStrategy,
    /// The task that ONE, CHILDREN, THREAD and SUBTREE speak of.
    pub pid: u32,
    /// What of them.
    pub groups: Groups,
}

impl Selection {
    /// Whether each thread is shown for itself, rather than as its process.
    pub fn per_thread(&self) -> bool {
        matches!(self.strategy, DumpStrategy::AllThreads | DumpStrategy::Thread)
    }

    /// Whether a task's mappings were asked for and belong into the message of this task:
    /// in per-thread dumps only the leader has them.
    pub fn wants_mappings(&self, pid: u32, tgid: u32) -> bool {
        self.groups.contains(Groups::VMA) && (!self.per_thread() || pid == tgid)
    }

    /// What is asked for less what cannot be told to this reader: control groups are called what its cgroup namespace calls them.
    pub(crate) fn for_reader(self, root: &ProcRoot, reader: &Reader) -> Selection {
        let asked = self.groups.contains(Groups::CGROUP);
        let same = || {
            let inode = root.task(reader.tid).ok().and_then(|dir| dir.namespace("cgroup"));
            inode == Some(root.own_namespaces().cgroup)
        };
        let untold = if asked && !same() { Groups::CGROUP } else { Groups::empty() };
        Selection { groups: self.groups - untold, ..self }
    }

    /// Those of `groups` that belong into the message of this task: in per-thread dumps only the leader has all.
    pub(crate) fn of_task(&self, groups: Groups, pid: u32, tgid: u32) -> Groups {
        if self.per_thread() && pid != tgid { groups - Groups::LEADERS } else { groups }
    }
}

/// One dump under way: a place in the order of tasks.
pub trait Walk: Send {
    /// Hands the tasks that come next to `visit`: those that `reader` may see, each judged, gathered, and judged
    /// again. Ends when the visitor is full (that task comes again next time) or no task is left. Of a task that
    /// vanishes nothing is shown.
    ///
    /// `room` is what the reader's buffer holds, so that no more is gathered than can be shown. Once `turn` is over it returns
    /// with some of it done, though nothing may have been shown: it has come to the end only where
    /// [`Walk::is_finished`] says so.
    ///
    /// # Errors
    /// Only what makes the whole dump impossible; [`SourceError::NoSuchTask`] at the first call for a single task that is
    /// not there.
    fn next(
        &mut self,
        reader: &Reader,
        room: usize,
        turn: &Turn<'_>,
        visit: &mut dyn FnMut(&Gathered) -> Visit,
    ) -> Result<(), SourceError>;

    /// Whether no task is left, as far as is known without looking.
    fn is_finished(&self) -> bool;

    /// Gathers the next piece of the mappings of a task that was visited before. The caller judges it before and after.
    ///
    /// # Errors
    /// As [`Walk::next`].
    fn go_on(&self, reader: &Reader, task: &TaskRecord, rest: &Rest) -> Result<Piece, SourceError>;

    /// How much `reader` is now shown of a task that was visited before; nothing if it is not that very task any more.
    fn sight(&self, reader: &Reader, task: &TaskRecord, anchor: &Anchor) -> Sight;
}

/// What a visitor says of the task it was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Taken; on to the next one.
    Taken,
    /// Taken, and there is room for no other.
    Last,
    /// Not taken for want of room.
    Full,
}

/// A visible task with all that was asked for.
#[derive(Debug)]
pub struct Gathered<'a> {
    /// The light groups. Which of them the task has is for `groups` to say.
    pub record: &'a TaskRecord,
    /// The groups that this task has, among those asked for.
    pub groups: Groups,
    /// The mappings, a list of records in the protocol's form.
    pub mappings: &'a [u8],
    /// Where the mappings go on, if those are not all.
    pub rest: Option<&'a Rest>,
    /// The command line.
    pub command_line: &'a [u8],
    /// The groups from 32 on; those that are not in `groups` are not shown.
    pub sections: Sections<'a>,
    /// The groups that were left out because they could not be read in time.
    pub missing: Groups,
    /// What names this very task, whoever has its number later.
    pub anchor: &'a Anchor,
}

impl Gathered<'_> {
    /// Bytes that it takes in a reader's buffer, about.
    fn len(&self) -> usize {
        let lists = Groups::VMA | Groups::VMA_STAT | Groups::CMDLINE | Groups::OWN;
        let lists_len = self.mappings.len() + self.command_line.len() + self.sections.len();
        typical_len(self.groups - lists) + lists_len + 8
    }
}

/// The groups out of a task's memory.
const MEMORY: Groups =
    Groups::VMA.union(Groups::VMA_STAT).union(Groups::CMDLINE).union(Groups::ROLLUP).union(Groups::ENVIRON);

/// The groups that may hang: a task's memory, files of other file systems, and what waits for an exec to end (`stat`, `io`); the
/// first of these is read besides for whatever has to be of one program.
const HANGING: Groups = MEMORY.union(Groups::STAT).union(Groups::OWN);

/// Bytes that the message of a typical task with these groups takes.
fn typical_len(groups: Groups) -> usize {
    let each = [
        (Groups::BASE, 48),
        (Groups::CRED, 68),
        (Groups::VMA, 2_500),
        (Groups::VMA_STAT, 2_000),
        (Groups::STAT, 76),
        (Groups::STATM, 124),
        (Groups::CMDLINE, 64),
        (Groups::TASKSTATS, 500),
        (Groups::GROUPS, 32),
        (Groups::SCHED, 92),
        (Groups::IO, 60),
        (Groups::CGROUP, 100),
        (Groups::NS, 56),
        (Groups::FILES, 80),
        (Groups::FD_COUNT, 28),
        (Groups::FD, 1_000),
        (Groups::ROLLUP, 180),
        (Groups::ENVIRON, 1_500),
        (Groups::MISC, 50),
    ];
    MESSAGE_LEN + each.iter().filter(|(group, _)| groups.contains(*group)).map(|(_, len)| len).sum::<usize>()
}

/// What names one task for good.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// Its directory below /proc.
    Directory(Arc<TaskDir>),
    /// Nothing: the task is so small that it is never half sent.
    Number,
    /// Its number together with the program instance, which the record has.
    Instance,
}

/// Why a source could not begin or go on.
#[derive(Debug, Error)]
pub enum SourceError {
    /// There is no task of that id in the reader's pid namespace.
    #[error("there is no task of that id")]
    NoSuchTask,
    /// The proc filesystem cannot be read at all.
    #[error(
        "cannot read the processes: {0}; is /proc mounted, and are there descriptors enough (ulimit -n)?"
    )]
    Unreadable(#[source] nix::Error),
    /// What is still to be sent cannot be kept between reads.
    #[error(
        "{0} holds too much of dumps half read; end some, read with larger buffers, or raise --parked and --parked-per-user"
    )]
    OverBudget(Account),
    /// The reading thread is gone, or not where the source can see it.
    #[error("the reading thread is not to be found")]
    ReaderGone,
    /// A BPF program could not be run.
    #[error("{0}")]
    Program(#[source] std::io::Error),
}

impl SourceError {
    /// The errno a reader gets.
    pub fn to_errno(&self) -> i32 {
        match self {
            SourceError::NoSuchTask => libc::ESRCH,
            SourceError::ReaderGone => libc::EACCES,
            SourceError::OverBudget(_) => libc::ENOMEM,
            SourceError::Unreadable(_) | SourceError::Program(_) => libc::EIO,
        }
    }
}
