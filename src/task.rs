//! The plain record of one task: what every source yields, and what the access rule and the packer consume.

use crate::protocol::{Base, Credentials, Stat, Statm};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// What the visibility rule needs to know of a task and of the reader's standing towards it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Facts: u32 {
        /// The task has memory of its own (`task->mm`, and it is no kernel thread).
        const HAS_MEMORY = 1 << 0;
        /// `DUMPABLE` is known; where it is not, the task counts as not dumpable.
        const DUMPABLE_KNOWN = 1 << 1;
        /// `get_dumpable(mm) == SUID_DUMP_USER`; without memory `task->user_dumpable`, or true on a kernel that lacks the field.
        /// With `EXEC_STATE`, `task->exec_state->dumpable == TASK_DUMPABLE_OWNER`.
        const DUMPABLE = 1 << 2;
        /// The reader's credentials and the task's belong to the same user namespace.
        const SAME_USER_NS = 1 << 3;
        /// The reader has CAP_SYS_PTRACE in the user namespace of the task's credentials.
        const PTRACE_OVER_TASK = 1 << 4;
        /// The reader has CAP_SYS_PTRACE in the user namespace that owns the task's memory
        /// (without memory: in the initial one; with `EXEC_STATE`: in `task->exec_state->user_ns`).
        const PTRACE_OVER_MEMORY = 1 << 5;
        /// The task is in the reader's thread group.
        const SAME_THREAD_GROUP = 1 << 6;
        /// A kernel thread (PF_KTHREAD).
        const KERNEL_THREAD = 1 << 7;
        /// The task ran one program after the other while it was looked at: the record says nothing of it.
        const UNSETTLED = 1 << 8;
        /// `DUMPABLE` and who owns it are those of `task->exec_state`, which tasks without memory have, too.
        const EXEC_STATE = 1 << 9;
        /// A security module refuses the task to this very process, which may look at all others.
        const REFUSED = 1 << 10;
    }
}

/// One task as a source found it, at one moment.
///
/// Ids of processes are those of the reader's pid namespace, 0 where the reader's namespace has none;
/// ids of users are those of the daemon's user namespace. Groups that were not asked for, and those that the task lacks, are zero.
/// The layout is shared with the BPF programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct TaskRecord {
    /// Nanoseconds since boot at which the task began (`task->start_boottime`); 0 where the source did not look.
    pub start_time: u64,
    /// What BASE says.
    pub base: Base,
    /// Bits of [`Facts`].
    pub facts: u32,
    /// What CRED says, before mapping to the reader's user namespace. Always filled: the access rule needs it.
    pub credentials: Credentials,
    /// What STAT says.
    pub stat: Stat,
    /// What STATM says, in pages (`ptes` in bytes).
    pub statm: Statm,
    /// `task->self_exec_id`, which every exec raises; 0 where the source did not look. With `start_time` it is what no other
    /// program that this task has run, or that ever bore its number, has.
    pub exec_id: u64,
    /// Id in the daemon's pid namespace: the name of the task's directory in /proc.
    pub daemons_pid: u32,
    /// Thread-group id in the daemon's pid namespace.
    pub daemons_tgid: u32,
}

impl TaskRecord {
    /// The facts as a set.
    pub fn facts(&self) -> Facts {
        Facts::from_bits_retain(self.facts)
    }

    /// The program instance that it is a record of, among all that bear its number: `start_time` and `exec_id`.
    pub fn instance(&self) -> (u64, u64) {
        (self.start_time, self.exec_id)
    }
}
