//! STAT: page faults, time and threads.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct task_diag_stat` of the kernel patch, with the fields of `/proc/PID/stat`.
///
/// Of the whole process in dumps of processes, of the single thread in dumps of threads. `threads` and the four fields
/// of the children are the process's in both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Stat {
    /// Page faults that needed no I/O.
    pub minflt: u64,
    /// The same of waited-for children.
    pub cminflt: u64,
    /// Page faults that needed I/O.
    pub majflt: u64,
    /// The same of waited-for children.
    pub cmajflt: u64,
    /// Time in user mode, in clock ticks (100 a second).
    pub utime: u64,
    /// Time in kernel mode, in clock ticks.
    pub stime: u64,
    /// User time of waited-for children, in clock ticks.
    pub cutime: u64,
    /// Kernel time of waited-for children, in clock ticks.
    pub cstime: u64,
    /// Threads of the process.
    pub threads: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Stat>() == 72);
