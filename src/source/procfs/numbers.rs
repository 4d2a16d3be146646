//! The numbers of a task in a pid namespace below the daemon's.

use crate::access::PidNamespace;
use crate::proc_files::{NsNumbers, ProcRoot, TaskDir};
use crate::task::TaskRecord;

/// What a task is called in a namespace; 0 for what is outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub pid: u32,
    tgid: u32,
    pgid: u32,
    sid: u32,
}

impl Numbers {
    /// `None` where the task is not in that namespace, nor below it.
    pub fn of(dir: &TaskDir, namespace: &PidNamespace) -> Option<Numbers> {
        let mut text = Vec::new();
        Self::read(dir.read("status", &mut text).ok()?, dir, namespace)
    }

    /// The same from the text of `status`.
    pub fn read(status: &[u8], dir: &TaskDir, namespace: &PidNamespace) -> Option<Numbers> {
        let NsNumbers { pid, tgid, pgid, sid, levels } = NsNumbers::parse(status, namespace.depth())?;
        namespace.holds(dir, levels).then_some(Numbers { pid, tgid, pgid, sid })
    }

    /// Gives a record these numbers in place of the daemon's.
    pub fn put_into(self, record: &mut TaskRecord, root: &ProcRoot, namespace: &PidNamespace) {
        let number = |pid: u32| {
            let other = (pid != 0).then(|| root.task(pid).ok()).flatten();
            other.and_then(|dir| Numbers::of(&dir, namespace)).map_or(0, |numbers| numbers.pid)
        };
        let base = &mut record.base;
        (base.pid, base.tgid, base.pgid, base.sid) = (self.pid, self.tgid, self.pgid, self.sid);
        (base.ppid, base.tpid) = (number(base.ppid), number(base.tpid));
    }
}
