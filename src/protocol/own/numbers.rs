//! Groups that are nothing but numbers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SCHED: how a task is scheduled, and what else `/proc/PID/stat` says. 88 bytes.
///
/// Mirrors `do_task_stat` and `task_context_switch_counts`; units are those of each field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Sched {
    /// Nanoseconds since boot (`task->start_boottime`): with the pid it names a task for good. From `/proc` it is known to a
    /// clock tick only.
    pub start_time: u64,
    /// Voluntary context switches of the very thread.
    pub voluntary_switches: u64,
    /// Involuntary ones.
    pub involuntary_switches: u64,
    /// Clock ticks of running a guest; like STAT of the process or of the thread.
    pub guest_time: u64,
    /// The same of children that were waited for.
    pub children_guest_time: u64,
    /// Clock ticks that the very thread waited for block I/O; 0 unless delay accounting is on.
    pub blkio_delay: u64,
    /// The kernel's `PF_*`.
    pub flags: u32,
    /// -20 to 19.
    pub nice: i32,
    /// As in `/proc/PID/stat`: 20 + nice, or below 0 for real time.
    pub priority: i32,
    /// 1 to 99, 0 for none.
    pub rt_priority: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// That it ran on last.
    pub processor: i32,
    /// Device of the controlling terminal, as in `/proc/PID/stat`; 0 for none.
    pub tty_nr: i32,
    /// Process group in the terminal's foreground; -1 without a terminal.
    pub tpgid: i32,
    /// The signal that its parent gets; -1 for none.
    pub exit_signal: i32,
    /// 0.
    pub pad: u32,
}

/// IO: the lines of `/proc/PID/io` (`do_io_accounting`). 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Io {
    /// Bytes read by calls such as `read`.
    pub rchar: u64,
    /// Bytes written by calls such as `write`.
    pub wchar: u64,
    /// Calls that read.
    pub syscr: u64,
    /// Calls that write.
    pub syscw: u64,
    /// Bytes that had to come from storage.
    pub read_bytes: u64,
    /// Bytes that have to go to storage.
    pub write_bytes: u64,
    /// Bytes that need not go there after all.
    pub cancelled_write_bytes: u64,
}

/// FD_COUNT: open descriptors and how many there may be (RLIMIT_NOFILE). 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FdCount {
    /// Open descriptors.
    pub open: u32,
    /// 0.
    pub pad: u32,
    /// All ones for no limit.
    pub soft_limit: u64,
    /// All ones for no limit.
    pub hard_limit: u64,
}

/// ROLLUP: the lines of `/proc/PID/smaps_rollup`, in bytes (`show_smaps_rollup`). 176 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Rollup {
    /// Resident.
    pub rss: u64,
    /// The proportional share of it.
    pub pss: u64,
    /// Of that: written.
    pub pss_dirty: u64,
    /// Of that: of no file.
    pub pss_anon: u64,
    /// Of that: of files.
    pub pss_file: u64,
    /// Of that: shared memory.
    pub pss_shmem: u64,
    /// Mapped elsewhere too, not written.
    pub shared_clean: u64,
    /// Mapped elsewhere too, written.
    pub shared_dirty: u64,
    /// Mapped only here, not written.
    pub private_clean: u64,
    /// Mapped only here, written.
    pub private_dirty: u64,
    /// Lately used.
    pub referenced: u64,
    /// Of no file.
    pub anonymous: u64,
    /// Merged with equal pages.
    pub ksm: u64,
    /// Given up by MADV_FREE.
    pub lazy_free: u64,
    /// Anonymous, in huge pages.
    pub anon_huge_pages: u64,
    /// Locked in memory.
    pub locked: u64,
    /// Shared memory in huge pages.
    pub shmem_pmd_mapped: u64,
    /// Of files, in huge pages.
    pub file_pmd_mapped: u64,
    /// hugetlbfs, shared.
    pub shared_hugetlb: u64,
    /// hugetlbfs, private.
    pub private_hugetlb: u64,
    /// Swapped out.
    pub swap: u64,
    /// The proportional share of it.
    pub swap_pss: u64,
}

const _: () = assert!(size_of::<Sched>() == 88 && size_of::<Io>() == 56);
const _: () = assert!(size_of::<FdCount>() == 24 && size_of::<Rollup>() == 176);
