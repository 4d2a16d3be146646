//! How a process may stand in life: asleep, dead, stopped, traced, with threads, with children.

use super::{Animal, comm, idle_thread};
use crate::common::child::{Child, Inside, Stacks, ThreadPlan};
use std::ffi::c_long;

pub fn all() -> Vec<Animal> {
    vec![
        sleeper(),
        threads(),
        zombie(),
        dead_leader(),
        stopped(),
        traced(),
        uninterruptible(),
        session_leader(),
        group_leader(),
        experienced(),
    ]
}

/// Nothing odd at all.
pub fn sleeper() -> Animal {
    Animal::new("sleeper", b'S', Child::start(0, |_| {}))
}

/// Ten threads with names of their own.
pub fn threads() -> Animal {
    let stacks = Stacks::new(9);
    let plans: Vec<ThreadPlan> = (1..10).map(|n| idle_thread(format!("thread {n}").as_bytes())).collect();
    let child = Child::start(10, |inside| {
        for (number, plan) in plans.iter().enumerate() {
            inside.tell(number, inside.thread(&stacks, number, plan).into());
        }
    });
    Animal::new("ten threads", b'S', child)
}

/// Ended, and nobody has asked for its end.
pub fn zombie() -> Animal {
    let child = Child::start_not_waiting(0, |inside| inside.exit(3));
    Animal::new("zombie", b'Z', child)
}

/// The leader has ended, and its two threads have not.
pub fn dead_leader() -> Animal {
    let stacks = Stacks::new(2);
    let plans = [idle_thread(b"orphan 1"), idle_thread(b"orphan 2")];
    let child = Child::start(2, |inside| {
        inside.tell(0, inside.thread(&stacks, 0, &plans[0]).into());
        inside.tell(1, inside.thread(&stacks, 1, &plans[1]).into());
        inside.ready();
        inside.exit_thread();
    });
    Animal::new("dead leader", b'Z', child)
}

fn stop_self(inside: &Inside) {
    let pid = inside.call(libc::SYS_getpid, [0; 3]);
    inside.call(libc::SYS_kill, [pid, libc::SIGSTOP.into(), 0]);
}

/// Stopped by a signal.
pub fn stopped() -> Animal {
    let child = Child::start(0, |inside| {
        inside.ready();
        stop_self(inside);
    });
    Animal::new("stopped", b'T', child)
}

/// Stopped by its tracer, which is its parent.
pub fn traced() -> Animal {
    let child = Child::start(1, |inside| {
        let pid = inside.fork(|tracee| {
            tracee.call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as c_long, 0, 0]);
            stop_self(tracee);
        });
        inside.tell(0, pid.into());
    });
    let pid = child.board.get(0) as u32;
    Animal::of("traced", pid, b't', child)
}

/// In a wait that no signal ends but a deadly one: for its child, as after vfork.
pub fn uninterruptible() -> Animal {
    let child = Child::start(0, |inside| {
        inside.vfork(|child| child.ready());
    });
    Animal::new("uninterruptible", b'D', child)
}

/// Its own session.
pub fn session_leader() -> Animal {
    let child = Child::start(0, |inside| {
        inside.call(libc::SYS_setsid, [0; 3]);
    });
    Animal::new("session leader", b'S', child)
}

/// Its own process group within a session that is another's.
pub fn group_leader() -> Animal {
    let child = Child::start(1, |inside| {
        inside.call(libc::SYS_setsid, [0; 3]);
        let pid = inside.fork(|member| {
            member.call(libc::SYS_setpgid, [0; 3]);
            member.tell(0, 1);
        });
        inside.wait_for(0);
        inside.tell(0, pid.into());
    });
    let pid = child.board.get(0) as u32;
    Animal::of("group leader", pid, b'S', child)
}

/// Has used time and memory, in two threads and in a child that it waited for.
pub fn experienced() -> Animal {
    let stacks = Stacks::new(1);
    let plan = ThreadPlan { name: comm(b"worker"), run: |thread, slot| work(thread, slot), number: 1 };
    let child = Child::start(3, |inside| {
        let pid = inside.fork(|child| {
            work(child, 0);
            child.exit(0);
        });
        let mut status = 0;
        // SAFETY: waits for the child just made; the status is a local.
        inside.check(unsafe { libc::waitpid(pid as i32, &raw mut status, 0) });
        inside.thread(&stacks, 0, &plan);
        work(inside, 2);
        inside.wait_for(1);
    });
    Animal::new("experienced", b'S', child)
}

/// Uses at least five clock ticks of this thread's time, part of it in the kernel for pages that it touches.
fn work(inside: &Inside, slot: usize) {
    const PAGES: usize = 16;
    loop {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, written within its bounds and taken away again.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), PAGES * 4096, prot, flags, -1, 0);
            if at != libc::MAP_FAILED {
                for page in 0..PAGES {
                    at.cast::<u8>().add(page * 4096).write_volatile(1);
                }
                libc::munmap(at, PAGES * 4096);
            }
        }
        let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is a local.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
        if used.tv_sec > 0 || used.tv_nsec > 50_000_000 {
            return inside.tell(slot, 1);
        }
    }
}

/// A process whose leader and whose one thread have made children, in turns; one child of each has ended.
/// Slots of its board: 0 the thread's id, then the ids of the children in order of birth, leader's and thread's in turns.
pub fn parents() -> Animal {
    const EACH: usize = 4;
    fn bear(inside: &Inside, first: usize) {
        for n in 0..EACH {
            let slot = first + 2 * n;
            // One after the other, whoever's turn it is.
            inside.wait_for(slot - 1);
            let pid = inside.fork(|child| {
                if n == 1 {
                    child.exit(0);
                }
            });
            inside.tell(slot, pid.into());
        }
    }
    let stacks = Stacks::new(1);
    let plan = ThreadPlan { name: comm(b"other parent"), run: bear, number: 2 };
    let child = Child::start(2 * EACH + 2, |inside| {
        inside.tell(0, inside.thread(&stacks, 0, &plan).into());
        bear(inside, 1);
        inside.wait_for(2 * EACH);
    });
    Animal::new("parents", b'S', child)
}
