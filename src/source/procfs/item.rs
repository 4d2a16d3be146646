//! One task to be gathered, as work for the pool.

use super::gather::{Task, gather, gather_by_number};
use super::process_sums::ProcessSums;
use super::program::Whose;
use crate::access::{Reader, person};
use crate::proc_files::{ProcRoot, Status, TaskDir};
use crate::protocol::{DumpStrategy, Groups};
use crate::source::deadline_pool::{Stop, Work};
use crate::source::reading::Reading;
use crate::source::{Budget, HANGING, MEMORY, Selection};
use nix::errno::Errno;
use std::sync::Arc;

/// A task by the daemon's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskId {
    pub tgid: u32,
    pub tid: u32,
}

/// What is to be gathered of it, and for whom.
pub(super) struct Item {
    pub root: Arc<ProcRoot>,
    pub budget: Arc<Budget>,
    pub reader: Arc<Reader>,
    pub selection: Selection,
    pub id: TaskId,
    /// Its directory, where that is open already.
    pub dir: Option<Arc<TaskDir>>,
    /// Whether the reader sees it takes a look at its namespaces, for which the kernel waits until an exec is over.
    pub may_hang: bool,
    pub by_number: bool,
    /// For those of one process that are listed together.
    pub sums: Option<Arc<ProcessSums>>,
    pub room: usize,
}

impl Work for Item {
    type Output = nix::Result<Task>;

    fn target(&self) -> Option<u32> {
        // Whose memory hangs may well tell the rest.
        const WITHOUT_MEMORY: u32 = 1 << 31;
        let groups = self.selection.groups - Groups::VMA_STAT;
        let number = if groups.intersects(MEMORY) { self.id.tgid } else { self.id.tgid | WITHOUT_MEMORY };
        (self.may_hang || groups.intersects(HANGING)).then_some(number)
    }

    fn owner(&self) -> u32 {
        // No lock of the process is needed for this one.
        let mut text = Vec::new();
        let status = self.root.read_by_number(self.id.tgid, "status", &mut text).ok().and_then(Status::parse);
        let uid = status.map_or(u32::MAX, |status| status.credentials.uid);
        person(&self.root, self.id.tgid, uid)
    }

    fn run(&self, stop: &Stop) -> nix::Result<Task> {
        let TaskId { tgid, tid } = self.id;
        let per_thread = self.selection.per_thread();
        if self.by_number && !per_thread {
            let task = gather_by_number(&self.root, &self.reader, self.selection.groups, tid);
            if !matches!(task, Err(Errno::ENODATA)) {
                return task;
            }
        }
        if let Some(dir) = &self.dir {
            let how = (Whose::Process, None);
            return gather(&self.root, &self.reader, self.selection, dir.clone(), how, self.room);
        }
        let dir = if per_thread { self.root.thread(tgid, tid) } else { self.root.task(tid) };
        let whose = match self.selection.strategy {
            _ if per_thread && tid == tgid => Whose::Leader,
            _ if per_thread => Whose::Thread,
            // Any thread may be named.
            DumpStrategy::Set => Whose::of(&self.root, tid),
            _ => Whose::Process,
        };
        let mut dir = dir?;
        let how = (whose, self.sums.as_deref());
        if !self.selection.groups.intersects(HANGING) {
            return gather(&self.root, &self.reader, self.selection, Arc::new(dir), how, self.room);
        }
        let reading = Reading::new(stop, &self.budget, self.reader.account);
        dir = dir.within(reading.clone());
        let task = gather(&self.root, &self.reader, self.selection, Arc::new(dir), how, self.room);
        let share = reading.end(task.as_ref().map_or(0, Task::lists_len))?;
        Ok(Task { _share: share, ..task? })
    }

    fn weight(task: &nix::Result<Task>) -> usize {
        task.as_ref().map_or(0, Task::lists_len)
    }
}
