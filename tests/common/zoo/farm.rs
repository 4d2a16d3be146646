//! Many processes of many threads, all alike.

use super::idle_thread;
use crate::common::child::{Child, Stacks, ThreadPlan};
use crate::common::identity::Identity;
use crate::common::{proc, wait};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Many processes, children of one.
pub struct Farm {
    /// Of each process, in order of birth, its threads in order of creation: the leader, which bears the process' id,
    /// first.
    pub processes: Vec<Vec<u32>>,
    /// Their parent.
    pub parent: Child,
    _room: RoomForIds,
}

impl Farm {
    /// Makes so many processes of so many threads each, and waits until they stand still.
    #[track_caller]
    pub fn new(count: usize, threads: usize) -> Farm {
        Self::of(None, count, threads)
    }

    /// As [`Farm::new`], of somebody else's processes.
    #[track_caller]
    pub fn of(whose: Option<Identity>, count: usize, threads: usize) -> Farm {
        let room = RoomForIds::of_at_least(count * threads);
        let stacks = Stacks::new(threads);
        let plans: Vec<ThreadPlan> =
            (1..threads).map(|n| idle_thread(format!("thread {n}").as_bytes())).collect();
        let parent = Child::start(count * threads, |inside| {
            if let Some(whose) = whose {
                inside.must(whose.assume());
                inside.set_dumpable(true);
            }
            for n in 0..count {
                let first = n * threads;
                let pid = inside.fork(|process| {
                    for (number, plan) in plans.iter().enumerate() {
                        let tid = process.thread(&stacks, number, plan);
                        process.tell(first + 1 + number, tid.into());
                    }
                });
                inside.tell(first, pid.into());
            }
            for n in 0..count * threads {
                inside.wait_for(n);
            }
        });
        let ids = |n: usize| (0..threads).map(|t| parent.board.get(n * threads + t) as u32).collect();
        let farm = Farm { processes: (0..count).map(ids).collect(), parent, _room: room };
        for process in &farm.processes {
            for tid in process {
                let path = format!("{}/task/{tid}", process[0]);
                wait::until("the farm stands still", || proc::Stat::of(&path).unwrap().state() == b'S');
            }
        }
        farm
    }

    /// Ids of the processes in order of birth.
    pub fn leaders(&self) -> Vec<u32> {
        self.processes.iter().map(|threads| threads[0]).collect()
    }

    /// Its process and thread ids in the order of a dump of everything.
    pub fn in_order(&self) -> Vec<Vec<u32>> {
        let mut processes = self.processes.clone();
        processes.sort_unstable_by_key(|threads| threads[0]);
        processes
    }
}

/// Raises the machine's bound for process ids where it is too narrow; when dropped, as it was. One at a time, so that
/// what is put back is what was there.
struct RoomForIds(Option<(Vec<u8>, MutexGuard<'static, ()>)>);

static RAISED: Mutex<()> = Mutex::new(());

const PID_MAX: &str = "/proc/sys/kernel/pid_max";

impl RoomForIds {
    fn of_at_least(count: usize) -> RoomForIds {
        let raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = fs::read(PID_MAX).unwrap();
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let tasks: usize = load.split(['/', ' ']).nth(4).unwrap().parse().unwrap();
        if proc::number(&bound).unwrap() as usize > 2 * (tasks + count) {
            return RoomForIds(None);
        }
        let written = fs::write(PID_MAX, (4 * (tasks + count)).to_string());
        RoomForIds(written.is_ok().then_some((bound, raised)))
    }
}

impl Drop for RoomForIds {
    fn drop(&mut self) {
        if let Some((bound, _)) = &self.0 {
            let _ = fs::write(PID_MAX, bound);
        }
    }
}
