//! By what this kernel guards tasks without memory, found out by asking it.
//!
//! `__ptrace_may_access` wants a task to be dumpable. That stands in its memory, which a zombie has given back: kernels let
//! every such task pass, or remember what it was (`task_struct.user_dumpable`, `exec_state`). Distributions carry that
//! back, and live patches add it to a kernel whose type information does not know of it.

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::signal::{SigSet, SigmaskHow};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Whether an unprivileged process may look at a zombie of its own user that was not dumpable while it lived; `None` where
/// trying does not tell.
///
/// A child without any capability makes two children and asks for them. It is no thread's business to notice: no signal
/// comes of it, and nothing of the process is shared.
pub(super) fn shows_undumpable_zombies(proc: &impl AsFd) -> Option<bool> {
    // The numbers of processes must be those of that proc filesystem.
    let own = readlinkat(proc, "self").ok()?;
    if own.as_encoded_bytes() != std::process::id().to_string().as_bytes() {
        return None;
    }
    // The children run none of this program's handlers.
    let signals = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok()?;
    let asking = Fork::of(|| match ask(proc.as_fd()) {
        Some(true) => SHOWN,
        Some(false) => HIDDEN,
        None => UNTOLD,
    });
    let _ = signals.thread_set_mask();
    match asking?.status()? {
        SHOWN => Some(true),
        HIDDEN => Some(false),
        _ => None,
    }
}

const SHOWN: u8 = 10;
const HIDDEN: u8 = 11;
const UNTOLD: u8 = 12;

/// In a child of its own, which may be that of a process with threads: system calls alone, no memory is allocated.
fn ask(proc: BorrowedFd<'_>) -> Option<bool> {
    die_with_parent()?;
    set_dumpable(true)?;
    drop_capabilities()?;
    let dumpable = Fork::of(|| u8::from(die_with_parent().and(set_dumpable(true)).is_none()))?;
    if dumpable.peek(libc::WEXITED)? != 0 || !may_look(proc, dumpable.0)? {
        return None;
    }
    let hidden = Fork::of(|| {
        if die_with_parent().and(set_dumpable(false)).is_some() {
            // SAFETY: the process stops itself; both calls take numbers alone.
            unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        }
        0
    })?;
    // While it lives every kernel hides it: else the question is none.
    if hidden.peek(libc::WSTOPPED | libc::WEXITED)? != libc::SIGSTOP || may_look(proc, hidden.0)? {
        return None;
    }
    // SAFETY: a child of this process that nobody has waited for.
    unsafe { libc::kill(hidden.0, libc::SIGKILL) };
    if hidden.peek(libc::WEXITED)? != libc::SIGKILL {
        return None;
    }
    may_look(proc, hidden.0)
}

/// Whether `ptrace_may_access` lets this process read what the link says.
fn may_look(proc: BorrowedFd<'_>, pid: libc::pid_t) -> Option<bool> {
    let mut path = [0; 32];
    let end = write_path(&mut path, pid);
    let mut link = [0_u8; 64];
    // SAFETY: the path ends with a NUL, and the kernel writes no more than the buffer holds.
    let outcome = Errno::result(unsafe {
        libc::readlinkat(proc.as_raw_fd(), path[..end].as_ptr().cast(), link.as_mut_ptr().cast(), link.len())
    });
    match outcome {
        Ok(_) => Some(true),
        Err(Errno::EACCES | Errno::EPERM) => Some(false),
        Err(_) => None,
    }
}

/// `PID/ns/user` and a NUL; gives their length.
fn write_path(path: &mut [u8; 32], pid: libc::pid_t) -> usize {
    let mut digits = [0; 10];
    let (mut rest, mut count) = (pid.unsigned_abs(), 0);
    while rest > 0 || count == 0 {
        digits[count] = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
    }
    let tail = digits[..count].iter().rev().chain(b"/ns/user\0");
    path.iter_mut().zip(tail).map(|(slot, byte)| *slot = *byte).count()
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> Option<()> {
    // SAFETY: options that take a number.
    (unsafe { libc::prctl(option, value, 0, 0, 0) } == 0).then_some(())
}

fn set_dumpable(dumpable: bool) -> Option<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

fn die_with_parent() -> Option<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

fn drop_capabilities() -> Option<()> {
    // `_LINUX_CAPABILITY_VERSION_3`, for the calling thread.
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: the kernel reads a header of two words and two sets of three.
    (unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) } == 0).then_some(())
}

/// A child whose end no signal tells. When dropped it is killed and gone.
struct Fork(libc::pid_t);

impl Fork {
    /// Runs `body` in a child, which ends with the status that it gives.
    fn of(body: impl FnOnce() -> u8) -> Option<Fork> {
        let zero = 0 as libc::c_long;
        // SAFETY: a fork, without the C library's, which would run others' handlers and take their locks. The child goes on
        // below, by system calls alone, and ends.
        let pid = unsafe { libc::syscall(libc::SYS_clone, zero, zero, zero, zero, zero) };
        match pid {
            0 => {
                let status = body();
                // SAFETY: ends the process.
                unsafe { libc::_exit(status.into()) }
            }
            1.. => Some(Fork(pid as libc::pid_t)),
            _ => None,
        }
    }

    /// Waits for what `what` names, and leaves it to be waited for again; gives the status or the signal.
    fn peek(&self, what: libc::c_int) -> Option<libc::c_int> {
        loop {
            // SAFETY: a struct of numbers, which the kernel fills.
            let (outcome, status) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let options = what | libc::WNOWAIT | libc::__WALL;
                let outcome = libc::waitid(libc::P_PID, self.0 as libc::id_t, &mut info, options);
                (outcome, info.si_status())
            };
            match outcome {
                0 => return Some(status),
                _ if Errno::last() == Errno::EINTR => continue,
                _ => return None,
            }
        }
    }

    /// Waits for its end; gives the status it ended with.
    fn status(&self) -> Option<u8> {
        self.peek(libc::WEXITED).and_then(|status| u8::try_from(status).ok())
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        // SAFETY: a child that has not been waited for, so the number is still its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            while libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) == -1
                && Errno::last() == Errno::EINTR
            {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_path_of_a_process() {
        let mut path = [0; 32];
        for (pid, expected) in
            [(7, &b"7/ns/user\0"[..]), (4_194_303, b"4194303/ns/user\0"), (0, b"0/ns/user\0")]
        {
            let end = write_path(&mut path, pid);
            assert_eq!(&path[..end], expected);
        }
    }

    /// It leaves no child behind, and is not asked of a proc filesystem that is another's or none.
    #[test]
    fn trying_tells_the_same_each_time() {
        let proc = File::open("/proc").unwrap();
        let first = shows_undumpable_zombies(&proc);
        assert!(first.is_some());
        for _ in 0..20 {
            assert_eq!(shows_undumpable_zombies(&proc), first);
        }
        assert_eq!(shows_undumpable_zombies(&File::open("/").unwrap()), None);
    }
}
