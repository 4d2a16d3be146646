//! Forked processes of a test, which die with it.
//!
//! A test program has several threads, so a child made by fork may only do what is async-signal-safe: plain system
//! calls, no allocation, no lock, no panic. What it needs is made before the fork; what it has to say it puts on a
//! [`Board`] of shared memory. Threads of a child share the memory that the C library keeps for the thread that forked,
//! which is well as long as all but one only wait.

use super::{proc, wait};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{c_int, c_long, c_void};
use std::panic::Location;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Shared memory of numbers, all 0 at first, through which a child and its own children report.
pub struct Board {
    slots: *const AtomicU64,
    len: usize,
}

// SAFETY: the slots are atomics in a mapping that lives as long as the board.
unsafe impl Sync for Board {}
// SAFETY: as above; nothing belongs to the thread that made it.
unsafe impl Send for Board {}

const READY: usize = 0;
const FAILED: usize = 1;
const OWN: usize = 2;

impl Board {
    fn new(slots: usize) -> Board {
        let len = slots + OWN;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, which overlaps nothing.
        let at = unsafe { libc::mmap(null_mut(), len * 8, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", Errno::last());
        Board { slots: at.cast(), len }
    }

    fn slot(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.len);
        // SAFETY: within the mapping, which is page-aligned and zeroed.
        unsafe { &*self.slots.add(at) }
    }

    /// What a child reported.
    pub fn get(&self, at: usize) -> u64 {
        self.slot(at + OWN).load(SeqCst)
    }

    /// Tells a child.
    pub fn set(&self, at: usize, value: u64) {
        self.slot(at + OWN).store(value, SeqCst);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; no reference into it outlives the board.
        unsafe { libc::munmap(self.slots as *mut c_void, self.len * 8) };
    }
}

/// What a child can do. All of it is async-signal-safe.
pub struct Inside<'b> {
    board: &'b Board,
}

/// A thread that a child starts: what it does before it waits for its end.
#[derive(Clone, Copy)]
pub struct ThreadPlan {
    pub name: [u8; 16],
    pub run: fn(&Inside, usize),
    /// Given to `run`.
    pub number: usize,
}

/// Memory for the stacks of a child's threads, made before the fork.
pub struct Stacks(*mut c_void, usize);

const STACK: usize = 64 * 1024;

impl Stacks {
    pub fn new(count: usize) -> Stacks {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping, which overlaps nothing.
        let at = unsafe { libc::mmap(null_mut(), count * STACK, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", Errno::last());
        Stacks(at, count)
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which only children of this process ever ran on.
        unsafe { libc::munmap(self.0, self.1 * STACK) };
    }
}

/// Ends the child if it unwinds: it must never go on as a copy of the test.
struct NoUnwinding;

impl Drop for NoUnwinding {
    fn drop(&mut self) {
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(70) };
    }
}

impl Inside<'_> {
    /// Reports a number.
    pub fn tell(&self, at: usize, value: u64) {
        self.board.set(at, value);
    }

    /// Waits until somebody reports a number.
    pub fn wait_for(&self, at: usize) -> u64 {
        loop {
            match self.board.get(at) {
                0 => self.nap(),
                value => return value,
            }
        }
    }

    fn nap(&self) {
        let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the time is only read.
        unsafe { libc::nanosleep(&moment, null_mut()) };
    }

    /// All is as it shall be. Told by itself when the body of the outermost child returns.
    pub fn ready(&self) {
        self.board.slot(READY).store(1, SeqCst);
    }

    /// Gives the result of a system call; where it is an error, the child ends and the test fails, naming the line.
    #[track_caller]
    pub fn must<T>(&self, result: Result<T, Errno>) -> T {
        match result {
            Ok(value) => value,
            Err(e) => {
                let line = u64::from(Location::caller().line());
                self.board.slot(FAILED).store(line << 32 | e as u64, SeqCst);
                self.exit(71)
            }
        }
    }

    /// As [`Inside::must`], for what a C function returned.
    #[track_caller]
    pub fn check(&self, result: impl Into<i64>) -> i64 {
        let result = result.into();
        self.must(if result == -1 { Err(Errno::last()) } else { Ok(result) })
    }

    /// A system call that has to succeed.
    #[track_caller]
    pub fn call(&self, number: c_long, arguments: [c_long; 3]) -> c_long {
        self.must(super::identity::syscall(number, arguments))
    }

    /// Ends the whole process.
    pub fn exit(&self, code: c_int) -> ! {
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(code) }
    }

    /// Ends this thread alone.
    pub fn exit_thread(&self) -> ! {
        let _ = super::identity::syscall(libc::SYS_exit, [0, 0, 0]);
        self.exit(72)
    }

    /// Waits for the end that comes from outside.
    pub fn sleep(&self) -> ! {
        loop {
            // SAFETY: waits for a signal, nothing else.
            unsafe { libc::pause() };
        }
    }

    /// Forks a child of the calling thread. It runs `body` and then waits for its end.
    #[track_caller]
    pub fn fork(&self, body: impl FnOnce(&Inside)) -> u32 {
        self.must(fork_with(self.board, 0, body)) as u32
    }

    /// As [`Inside::fork`], but both have one table of descriptors.
    #[track_caller]
    pub fn fork_sharing_files(&self, body: impl FnOnce(&Inside)) -> u32 {
        self.must(fork_with(self.board, libc::CLONE_FILES, body)) as u32
    }

    /// As [`Inside::fork`], but the calling thread waits, uninterruptibly, for the end of the child.
    #[track_caller]
    pub fn vfork(&self, body: impl FnOnce(&Inside)) -> u32 {
        self.must(fork_with(self.board, libc::CLONE_VFORK, body)) as u32
    }

    /// Starts a thread on the `number`th of `stacks`; gives its id.
    #[track_caller]
    pub fn thread(&self, stacks: &Stacks, number: usize, plan: &ThreadPlan) -> u32 {
        extern "C" fn run(argument: *mut c_void) -> c_int {
            let _guard = NoUnwinding;
            // SAFETY: what `thread` passed; it waits until this has been read.
            let start = unsafe { &*argument.cast::<Start>() };
            let (inside, plan) = (Inside { board: start.board }, *start.plan);
            start.taken.store(1, SeqCst);
            let _ = inside.set_name(&plan.name);
            (plan.run)(&inside, plan.number);
            inside.sleep()
        }
        struct Start<'a> {
            board: &'a Board,
            plan: &'a ThreadPlan,
            taken: AtomicU64,
        }
        assert!(number < stacks.1);
        let start = Start { board: self.board, plan, taken: AtomicU64::new(0) };
        let flags =
            libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        let top = stacks.0.wrapping_byte_add((number + 1) * STACK);
        // SAFETY: the stack is memory of this thread's own; `start` and the plan stay until they were read.
        let tid = unsafe { libc::clone(run, top, flags, (&raw const start).cast_mut().cast()) };
        self.check(tid);
        while start.taken.load(SeqCst) == 0 {
            std::hint::spin_loop();
            // SAFETY: gives the processor away.
            unsafe { libc::sched_yield() };
        }
        tid as u32
    }

    /// Names the calling thread.
    pub fn set_name(&self, name: &[u8; 16]) -> Result<c_long, Errno> {
        super::identity::syscall(libc::SYS_prctl, [libc::PR_SET_NAME as c_long, name.as_ptr() as c_long, 0])
    }

    /// Says whether others may look at this process' memory (`PR_SET_DUMPABLE`).
    #[track_caller]
    pub fn set_dumpable(&self, dumpable: bool) {
        self.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as c_long, dumpable.into(), 0]);
    }

    /// Replaces the process by the program at `arguments[0]`. Both lists end with a null pointer.
    #[track_caller]
    pub fn exec(&self, program: &std::ffi::CStr, arguments: &[*const libc::c_char]) -> ! {
        let environment = [std::ptr::null()];
        // SAFETY: lists of C strings, ended by null pointers, that outlive the call.
        let result = unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        self.check(result);
        self.exit(73)
    }

    /// The process shall be killed when the thread that made it ends. A change of credentials forgets that.
    fn die_with_parent(&self) {
        let kill = libc::SIGKILL as c_long;
        let _ = super::identity::syscall(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as c_long, kill, 0]);
    }
}

/// Forks by a raw system call: the C library's own fork would take locks that another thread may hold.
fn fork_with(board: &Board, flags: c_int, body: impl FnOnce(&Inside)) -> Result<i32, Errno> {
    let (flags, zero) = (c_long::from(flags | libc::SIGCHLD), 0 as c_long);
    // SAFETY: a fork; the child goes on below, with async-signal-safe calls alone.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, zero, zero, zero, zero) };
    if pid != 0 {
        return if pid == -1 { Err(Errno::last()) } else { Ok(pid as i32) };
    }
    let _guard = NoUnwinding;
    let inside = Inside { board };
    inside.die_with_parent();
    body(&inside);
    inside.die_with_parent();
    inside.sleep()
}

/// Closes all descriptors from `first` on, so that a child keeps nothing of other tests open.
pub fn close_from(first: u32) {
    let flags = (0 as c_long, 0);
    let rest = [first.into(), u32::MAX.into(), flags.0];
    if super::identity::syscall(libc::SYS_close_range, rest).is_err() {
        for fd in first..4096 {
            let _ = super::identity::syscall(libc::SYS_close, [fd.into(), 0, 0]);
        }
    }
}

/// A child of a test; it and what it made are killed when it is dropped.
pub struct Child {
    pid: Pid,
    pub board: Board,
}

impl Child {
    /// Forks a child that runs `body` and then waits for its end. Returns when it is ready. The child keeps the
    /// standard descriptors only.
    #[track_caller]
    pub fn start(slots: usize, body: impl FnOnce(&Inside)) -> Child {
        Self::start_keeping_files(slots, |inside| {
            close_from(3);
            body(inside);
        })
    }

    /// As [`Child::start`], with every descriptor that the test has open.
    #[track_caller]
    pub fn start_keeping_files(slots: usize, body: impl FnOnce(&Inside)) -> Child {
        let child = Self::start_not_waiting(slots, body);
        child.wait_until_ready();
        child
    }

    /// As [`Child::start_keeping_files`], but does not wait until the child is ready.
    #[track_caller]
    pub fn start_not_waiting(slots: usize, body: impl FnOnce(&Inside)) -> Child {
        let board = Board::new(slots);
        let pid = fork_with(&board, 0, |inside| {
            // A test with readers of other credentials is not dumpable, and its children would not be either.
            inside.set_dumpable(true);
            body(inside);
            inside.ready();
        });
        let pid = Pid::from_raw(pid.unwrap_or_else(|e| panic!("fork: {e}")));
        Child { pid, board }
    }

    /// Waits until it has told that it is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait::until("a child gets ready", || {
            self.check();
            if self.board.slot(READY).load(SeqCst) != 0 {
                return true;
            }
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
            let ended = nix::sys::wait::waitid(nix::sys::wait::Id::Pid(self.pid), flags);
            self.check();
            assert!(matches!(ended, Ok(WaitStatus::StillAlive)), "a child ended: {ended:?}");
            false
        });
    }

    #[track_caller]
    fn check(&self) {
        let failed = self.board.slot(FAILED).load(SeqCst);
        assert_eq!(failed, 0, "a child failed at line {}: {}", failed >> 32, Errno::from_raw(failed as i32));
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Waits until it has ended, but leaves it a zombie.
    #[track_caller]
    pub fn wait_until_ended(&self) {
        wait::until("a child ends", || proc::state(self.pid()) == Some(b'Z'));
        self.check();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}
