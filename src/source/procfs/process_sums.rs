//! The sums over a process' threads, made once for those of them that are asked for together.
//!
//! For each look at `stat` and `io` of a task in the root of /proc the kernel adds up all threads of its process
//! (`do_task_stat`, `do_io_accounting`); below `task` it tells the thread's own, at once.

use crate::proc_files::TaskDir;
use crate::protocol::{Groups, Io, Sched, Stat, attribute_id};
use crate::source::Sections;
use crate::task::TaskRecord;
use parking_lot::Mutex;
use std::sync::Arc;
use zerocopy::FromBytes;

/// Those of the process that was summed last, for the tasks of one batch.
#[derive(Debug, Default)]
pub(super) struct ProcessSums(Mutex<Option<Arc<Kept>>>);

#[derive(Debug)]
struct Kept {
    tgid: u32,
    /// The directory of the process: while it answers, the number is that of no other.
    leader: TaskDir,
    sums: Sums,
}

/// Sums, and where the rest of the same files stands without them.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Sums {
    own_stat: String,
    stat: Option<Stat>,
    guest_time: Option<u64>,
    pub io: Option<Io>,
}

/// Groups that hold sums.
const SUMMED: Groups = Groups::STAT.union(Groups::SCHED).union(Groups::IO);

impl ProcessSums {
    /// What is known of the process of a task that has just been there.
    pub fn of(&self, task: &TaskRecord) -> Sums {
        let kept = self.0.lock().clone().filter(|kept| kept.tgid == task.daemons_tgid);
        let kept = kept.filter(|kept| kept.leader.owner_of_files().is_ok());
        let sums = kept.map(|kept| kept.sums.clone()).unwrap_or_default();
        Sums { own_stat: format!("task/{}/stat", task.daemons_pid), ..sums }
    }

    /// Keeps what was told of a task, in the place of another process' sums; `known` is what was known of it before.
    pub fn keep(&self, dir: &TaskDir, known: &Sums, task: &TaskRecord, has: Groups, sections: &[u8]) {
        let sections = Sections::new(sections);
        let sched = sections.get(attribute_id::SCHED).and_then(|bytes| Sched::read_from_bytes(bytes).ok());
        let io = sections.get(attribute_id::IO).and_then(|bytes| Io::read_from_bytes(bytes).ok());
        let sums = Sums {
            own_stat: String::new(),
            stat: known.stat.or(has.contains(Groups::STAT).then_some(task.stat)),
            guest_time: known.guest_time.or(sched.map(|sched| sched.guest_time)),
            io: known.io.or(io),
        };
        if sums.groups() == known.groups() {
            return;
        }
        // Below `task` of a task that is there, the number is one of its own process.
        if let Ok(leader) = dir.below(&format!("task/{}", task.daemons_tgid)) {
            *self.0.lock() = Some(Arc::new(Kept { tgid: task.daemons_tgid, leader, sums }));
        }
    }

    /// Whether these groups are worth it.
    pub fn in_any(groups: Groups) -> bool {
        groups.intersects(SUMMED)
    }
}

impl Sums {
    fn groups(&self) -> [bool; 3] {
        [self.stat.is_some(), self.guest_time.is_some(), self.io.is_some()]
    }

    /// The file for STAT, whose sums [`Sums::put_into_stat`] corrects.
    pub fn file_of_stat(&self) -> &str {
        if self.stat.is_some() { &self.own_stat } else { "stat" }
    }

    /// The file for SCHED, whose sum [`Sums::put_into_sched`] corrects.
    pub fn file_of_sched(&self) -> &str {
        if self.guest_time.is_some() { &self.own_stat } else { "stat" }
    }

    /// Gives what the thread's own file said the process' sums.
    pub fn put_into_stat(&self, stat: &mut Stat) {
        if let Some(Stat { minflt, majflt, utime, stime, .. }) = self.stat {
            *stat = Stat { minflt, majflt, utime, stime, ..*stat };
        }
    }

    /// The same of SCHED.
    pub fn put_into_sched(&self, sched: &mut Sched) {
        sched.guest_time = self.guest_time.unwrap_or(sched.guest_time);
    }
}
