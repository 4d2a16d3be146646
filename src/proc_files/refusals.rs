//! Tasks that a security module keeps from this very process, which has the right to look at all.
//!
//! The kernel's rule ends with a question to its security modules, which nobody can ask for another process. But where they
//! refuse a task even to CAP_SYS_PTRACE, nobody else is to see it by way of this process.

use super::Status;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Modules that have nothing to say when one process looks at another (`security_ptrace_access_check`), or only of the one that
/// looks. The module `bpf` is whatever was loaded into it.
const INDIFFERENT: [&str; 10] =
    ["capability", "lockdown", "yama", "landlock", "integrity", "ima", "evm", "safesetid", "loadpin", "ipe"];

/// `PROC_USER_INIT_INO`: the initial user namespace.
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;
const CAP_SYS_PTRACE: u32 = 19;

/// Tasks that are remembered: a place each, by their numbers.
const PLACES: usize = 1 << 17;
/// Seconds after which a task is asked for again: a policy or a label may have changed meanwhile.
const LASTS: u64 = 600;

/// What was found out so far.
#[derive(Debug)]
pub(super) struct Refusals {
    /// What tells the task from others, and in the lowest bit whether it is refused.
    known: Box<[AtomicU64]>,
    began: Instant,
}

/// Asks for tasks, those that were not asked for lately.
#[derive(Clone, Copy)]
pub(crate) struct Guard<'a> {
    refusals: &'a Refusals,
    proc: BorrowedFd<'a>,
    seconds: u64,
}

impl Refusals {
    /// `None` where nothing can be refused but for want of rights.
    pub fn of(own_user_ns: u64) -> Option<Refusals> {
        let status = std::fs::read("/proc/thread-self/status").ok()?;
        let effective: u64 = Status::parse(&status)?.credentials.effective.into();
        if own_user_ns != INITIAL_USER_NS || effective & 1 << CAP_SYS_PTRACE == 0 {
            return None;
        }
        // Where securityfs is not mounted, it is not known.
        let modules =
            std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "unknown".into());
        if modules.trim().split(',').all(|module| INDIFFERENT.contains(&module)) {
            return None;
        }
        let known = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Some(Refusals { known, began: Instant::now() })
    }

    /// For tasks of the proc filesystem at `proc`.
    pub fn guard<'a>(&'a self, proc: BorrowedFd<'a>) -> Guard<'a> {
        Guard { refusals: self, proc, seconds: self.began.elapsed().as_secs() }
    }
}

impl Guard<'_> {
    /// Whether the kernel refuses this process to look at the task `pid`; `instance` tells it from others that bear its
    /// number and from other programs that it runs. Of one that is gone it says nothing.
    pub fn refuses(&self, pid: u32, instance: u64) -> bool {
        // Not all are asked for again at once.
        let round = (self.seconds + u64::from(pid) * 7) / LASTS;
        let mixed = mix(mix(instance, u64::from(pid) << 32 | round), 1);
        // Never that of an empty place.
        let key = mixed & !1 | 2;
        let place = &self.refusals.known[pid as usize % PLACES];
        let known = place.load(Ordering::Relaxed);
        if known & !1 == key {
            return known & 1 == 1;
        }
        // `proc_fdinfo_permission` (since Linux 5.14) asks `ptrace_may_access` and waits for nothing. What else asks it, the
        // links of a task above all, waits for an exec of the task to end, which its memory can hold up for ever.
        let fdinfo = format!("{pid}/fdinfo");
        let outcome = faccessat(self.proc, fdinfo.as_str(), AccessFlags::X_OK, AtFlags::empty());
        let refused = matches!(outcome, Err(Errno::EACCES | Errno::EPERM));
        place.store(key | u64::from(refused), Ordering::Relaxed);
        refused
    }
}

/// One number for two, by the multiplication of xxHash.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ 0x9E37_79B1_85EB_CA87).wrapping_add(b).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    product ^ product >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn each_task_is_asked_for_once() {
        let known = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        let refusals = Refusals { known, began: Instant::now() };
        let (proc, nothing) = (File::open("/proc").unwrap(), tempfile::tempdir().unwrap());
        let own = std::process::id();
        assert!(!refusals.guard(proc.as_fd()).refuses(own, 7));
        // What is remembered is not looked up: one place says what it was told.
        let place = &refusals.known[own as usize % PLACES];
        place.fetch_or(1, Ordering::Relaxed);
        let nothing = File::open(nothing.path()).unwrap();
        assert!(refusals.guard(nothing.as_fd()).refuses(own, 7));
        assert!(!refusals.guard(nothing.as_fd()).refuses(own, 8), "another program is asked for anew");
        let mut later = refusals.guard(nothing.as_fd());
        later.seconds += 2 * LASTS;
        place.fetch_or(1, Ordering::Relaxed);
        assert!(refusals.guard(nothing.as_fd()).refuses(own, 8) && !later.refuses(own, 8));
    }
}
