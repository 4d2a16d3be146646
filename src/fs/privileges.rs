//! What each of the two processes may still do once it has made ready.

use caps::{CapSet, Capability, CapsHashSet};
use std::io;

/// What the process that answers readers keeps.
///
/// Loading BPF programs needs more (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN); running those that are loaded needs
/// nothing.
pub const SERVER: &[Capability] = &[
    // /proc/PID/{maps,smaps,ns/*} and what a /proc mounted with hidepid shows: of processes of other
    // users, that are not dumpable, or that have capabilities themselves.
    Capability::CAP_SYS_PTRACE,
    // /proc/PID/{io,environ,fd}, which only their owner may open, and that is the process' user.
    Capability::CAP_DAC_READ_SEARCH,
];

/// What it keeps besides, where it has sockets to ask for TASKSTATS: the kernel wants it of whoever asks, too.
pub const TASKSTATS: Capability = Capability::CAP_NET_ADMIN;

/// What its parent keeps.
pub const SUPERVISOR: &[Capability] = &[
    // To unmount.
    Capability::CAP_SYS_ADMIN,
    // To find the mount point below directories that are closed to root without it, a user's for example.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Whether the calling thread is the process' only one. Privileges are a thread's own, and forking leaves the others out.
pub fn alone() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => Err(io::Error::other(format!("{threads} threads run where there should be one"))),
    }
}

/// Gives up every capability but `kept`, in every set.
///
/// Where the process may not narrow its bounding set (that takes CAP_SETPCAP), the set stays as it is: it limits what
/// executing a program can give, which is nothing once there are no new privileges.
pub fn keep(kept: &[Capability]) -> io::Result<()> {
    let os = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    let permitted = caps::read(None, CapSet::Permitted).map_err(os)?;
    let kept: CapsHashSet = kept.iter().copied().filter(|cap| permitted.contains(cap)).collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(os)? {
        for cap in caps::read(None, CapSet::Bounding).map_err(os)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *cap).map_err(os)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(os)?;
    caps::set(None, CapSet::Effective, &kept).map_err(os)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(os)?;
    Ok(())
}
