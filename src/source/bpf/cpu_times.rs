//! CPU times that have been shown are not taken back.
//!
//! The kernel counts in ticks which part of a task's run time was the user's, and /proc scales both parts to the precise
//! sum: so either may come out as less than before. `cputime_adjust` remembers for each task what it said last, but only
//! where /proc was asked; what the programs read comes past it, and is remembered here.

use crate::task::TaskRecord;
use parking_lot::Mutex;

/// Tasks that are remembered: those whose numbers are the same modulo this take each other's place.
const PLACES: usize = 1 << 17;

/// What was said last of each of many tasks, in a memory that does not grow.
#[derive(Default)]
pub struct CpuTimes {
    of_processes: Mutex<Vec<Said>>,
    of_threads: Mutex<Vec<Said>>,
}

/// Clock ticks, of the task that began then.
#[derive(Clone, Copy, Default)]
struct Said {
    pid: u32,
    start_time: u64,
    utime: u64,
    stime: u64,
}

impl CpuTimes {
    /// Makes the times of these records no less than what was said of the same tasks before; `per_thread` where they are
    /// each thread's own.
    pub fn keep<'a>(&self, records: impl Iterator<Item = &'a mut TaskRecord>, per_thread: bool) {
        let mut places = if per_thread { self.of_threads.lock() } else { self.of_processes.lock() };
        if places.is_empty() {
            places.resize(PLACES, Said::default());
        }
        for record in records.filter(|record| record.base.pid != 0) {
            let place = &mut places[record.daemons_pid as usize % PLACES];
            if (place.pid, place.start_time) == (record.daemons_pid, record.start_time) {
                let stat = &mut record.stat;
                (stat.utime, stat.stime) = adjusted((stat.utime, stat.stime), (place.utime, place.stime));
            }
            *place = Said {
                pid: record.daemons_pid,
                start_time: record.start_time,
                utime: record.stat.utime,
                stime: record.stat.stime,
            };
        }
    }
}

/// As `cputime_adjust` after its scaling: the sum stays what it is, unless both parts would fall.
fn adjusted((user, system): (u64, u64), said: (u64, u64)) -> (u64, u64) {
    let sum = (user + system).max(said.0 + said.1);
    let system = system.max(said.1);
    let user = sum.saturating_sub(system);
    if user < said.0 { (said.0, sum - said.0) } else { (user, system) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Base, Stat};

    #[test]
    fn neither_part_falls_and_the_sum_stays() {
        for (now, said, shown) in [
            ((5, 7), (4, 7), (5, 7)),
            ((0, 28), (27, 0), (27, 1)),
            ((28, 0), (0, 27), (1, 27)),
            ((3, 3), (4, 4), (4, 4)),
            ((10, 0), (4, 4), (6, 4)),
        ] {
            assert_eq!(adjusted(now, said), shown);
        }
    }

    #[test]
    fn of_each_task_by_itself() {
        let times = CpuTimes::default();
        let record = |pid, start_time, utime| TaskRecord {
            start_time,
            base: Base { pid, ..Base::default() },
            stat: Stat { utime, ..Stat::default() },
            daemons_pid: pid,
            ..TaskRecord::default()
        };
        let keep = |mut record, per_thread| {
            times.keep(std::iter::once(&mut record), per_thread);
            record.stat.utime
        };
        assert_eq!(keep(record(7, 1, 9), false), 9);
        assert_eq!(keep(record(7, 1, 8), false), 9);
        assert_eq!(keep(record(7, 1, 3), true), 3, "the thread's own");
        assert_eq!(keep(record(7, 2, 1), false), 1, "another task of that number");
        assert_eq!(keep(record(7, 1, 8), false), 8, "it was forgotten");
    }
}
