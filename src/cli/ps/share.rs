//! What share of a processor a task used: since its start, and between two looks.

use super::row::Row;
use nix::unistd::{SysconfVar, sysconf};
use std::collections::HashMap;

const NANOSECONDS: f64 = 1e9;

/// Says of each what it has used since its start, as `ps` does: in tenths of a percent, what is less is left out.
pub fn since_start(rows: &mut [Row]) {
    for row in rows {
        let Some((ticks, sched)) = row.ticks().zip(row.sched) else { continue };
        let age = row.now.elapsed_ticks(sched.start_time, row.ticks_per_second);
        let permille = if age == 0 { 0 } else { u128::from(ticks) * 1000 / u128::from(age) };
        row.pcpu = Some(if permille > 999 { (permille / 10) as f64 } else { permille as f64 / 10.0 });
    }
}

/// What a look showed of the processor time of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    ticks: u64,
    /// Nanoseconds since boot; with the id it names a task for good.
    start: Option<u64>,
    threads: u32,
    /// The times between which the server read it: when it was asked for, and when it had come.
    asked: u64,
    came: u64,
}

impl Used {
    fn of(row: &Row) -> Option<Used> {
        Some(Used {
            ticks: row.ticks()?,
            start: row.sched.map(|sched| sched.start_time),
            threads: row.stat?.threads,
            asked: row.now.since_boot,
            came: row.came,
        })
    }

    fn middle(&self) -> u64 {
        self.asked.midpoint(self.came)
    }
}

/// A look that later ones are held against.
#[derive(Debug)]
pub struct Look {
    tasks: HashMap<u32, Used>,
    /// When it was asked for, and when the last task had come.
    asked: u64,
    came: u64,
}

/// The machine's measures, and what a row is.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub ticks_per_second: u64,
    pub processors: u64,
    /// Each row is a single thread.
    pub of_threads: bool,
}

impl Measure {
    pub fn of_this_machine(of_threads: bool) -> Measure {
        let value = |variable| sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
        Measure {
            ticks_per_second: value(SysconfVar::CLK_TCK).unwrap_or(100).max(1),
            processors: value(SysconfVar::_NPROCESSORS_CONF).unwrap_or(1).max(1),
            of_threads,
        }
    }

    /// The share between two readings of one task, in percent of one processor; `None` where they cannot be of one task.
    ///
    /// Neither was taken at a known moment, but each between two known ones. What was used is held against the time between
    /// the middles; where that gives more than the task's threads can use, against the longest time that it can have been.
    fn share(&self, before: &Used, now: &Used) -> Option<f64> {
        let tick = 1.0 / self.ticks_per_second as f64;
        let used = match now.ticks.checked_sub(before.ticks) {
            Some(ticks) => ticks as f64 * tick,
            // The same task, and a clock that two sources read a little differently.
            None if before.start.is_some() => 0.0,
            None => return None,
        };
        let longest = now.came.checked_sub(before.asked).filter(|time| *time > 0)? as f64 / NANOSECONDS;
        let likely = now.middle().saturating_sub(before.middle()) as f64 / NANOSECONDS;
        let threads = if self.of_threads { 1 } else { before.threads.max(now.threads).max(1) };
        let most = if self.of_threads { 1 } else { self.processors };
        let least = (used - tick).max(0.0) / longest;
        if least > most as f64 + tick / longest {
            // No task can: an exec by another thread has given it that thread's time.
            return None;
        }
        let likely = if likely > 0.0 { used / likely } else { f64::INFINITY };
        let possible = f64::from(threads);
        Some(100.0 * if likely > possible { least.max(possible) } else { likely })
    }
}

impl Look {
    /// Keeps the times of these, to be held against later ones.
    pub fn of(rows: &[Row]) -> Look {
        Look {
            tasks: rows.iter().filter_map(|row| Some((row.pid, Used::of(row)?))).collect(),
            asked: rows.iter().map(|row| row.now.since_boot).min().unwrap_or(u64::MAX),
            came: rows.iter().map(|row| row.came).max().unwrap_or(u64::MAX),
        }
    }

    /// Says of each what it has used since. Of a task that was not there to be seen nothing is known, unless it was started
    /// since.
    pub fn compare(&self, rows: &mut [Row], measure: Measure) {
        for row in rows {
            row.pcpu = Used::of(row).and_then(|now| {
                let before = self.tasks.get(&row.pid).filter(|before| before.start == now.start).copied();
                let is_new = now.start.is_some_and(|start| start >= self.asked);
                let born =
                    Used { ticks: 0, start: now.start, threads: 0, asked: self.asked, came: self.came };
                measure.share(&before.or(is_new.then_some(born))?, &now)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Units;
    use super::*;
    use task_diag::client::TaskRef;
    use task_diag::protocol::{Groups, MessageWriter, Sched, Stat};

    const MEASURE: Measure = Measure { ticks_per_second: 100, processors: 4, of_threads: false };

    /// A task read between two moments, in milliseconds since boot.
    fn row(pid: u32, start: Option<u64>, ticks: u64, threads: u32, asked: u64, came: u64) -> Row {
        let mut bytes = [0; 28];
        MessageWriter::begin(&mut bytes, 0, pid, pid).unwrap().finish(false);
        let task = TaskRef::parse(&bytes).unwrap();
        let mut row = Units::of_this_machine().row(&task, Groups::BASE).unwrap();
        row.stat = Some(Stat { utime: ticks, threads, ..Stat::default() });
        row.sched = start.map(|start| Sched { start_time: start * 1_000_000, ..Sched::default() });
        (row.now.since_boot, row.came, row.ticks_per_second) = (asked * 1_000_000, came * 1_000_000, 100);
        row
    }

    fn shares(before: &[Row], now: &[Row], measure: Measure) -> Vec<Option<i64>> {
        let mut rows = now.to_vec();
        Look::of(before).compare(&mut rows, measure);
        rows.iter().map(|row| row.pcpu.map(|percent| percent.round() as i64)).collect()
    }

    #[test]
    fn time_is_held_against_that_between_the_looks() {
        let before = [row(1, Some(0), 1000, 1, 10_000, 10_002), row(2, Some(5), 40, 9, 10_000, 10_002)];
        let now = [row(1, Some(0), 1200, 1, 12_000, 12_002), row(2, Some(5), 640, 9, 12_000, 12_002)];
        assert_eq!(shares(&before, &now, MEASURE), [Some(100), Some(300)]);
    }

    #[test]
    fn what_was_not_seen_before_has_no_share_unless_it_is_new() {
        let mut hung = row(3, Some(9000), 0, 1, 10_000, 10_002);
        hung.stat = None;
        let before = [row(1, Some(8000), 150, 1, 10_000, 10_002), hung];
        let now = [
            // Another task has the number now, which was there before.
            row(1, Some(9500), 180, 1, 12_000, 12_002),
            // It only came into view.
            row(2, Some(9000), 200, 1, 12_000, 12_002),
            row(3, Some(9000), 200, 1, 12_000, 12_002),
            row(4, Some(11_000), 100, 1, 12_000, 12_002),
            row(5, None, 100, 1, 12_000, 12_002),
        ];
        assert_eq!(shares(&before, &now, MEASURE), [None, None, None, Some(50), None]);
        // Numbers that are given again at once.
        let again = [row(1, Some(11_000), 100, 1, 12_000, 12_002)];
        assert_eq!(shares(&before, &again, MEASURE), [Some(50)]);
    }

    #[test]
    fn a_slow_look_makes_nobody_faster_than_a_processor() {
        // It was read at the end of the second look, or at its beginning; the first took long, or both.
        for (first, second, ticks) in [
            ((10_000, 10_002), (12_000, 15_000), 500),
            ((10_000, 10_002), (12_000, 15_000), 200),
            ((8000, 10_000), (10_001, 10_003), 200),
            ((8000, 10_000), (10_001, 12_000), 399),
            ((10_000, 10_002), (10_052, 10_054), 6),
        ] {
            let before = [row(1, Some(0), 1000, 1, first.0, first.1)];
            let now = [row(1, Some(0), 1000 + ticks, 1, second.0, second.1)];
            let share = shares(&before, &now, MEASURE)[0].unwrap();
            assert!((1..=100).contains(&share), "{share} of {first:?} {second:?} {ticks}");
        }
    }

    #[test]
    fn threads_that_came_and_went_count() {
        let before = [row(1, Some(0), 0, 1, 10_000, 10_000)];
        let now = [row(1, Some(0), 401, 1, 11_000, 11_000)];
        assert_eq!(shares(&before, &now, MEASURE), [Some(400)]);
        // One thread cannot: an exec by another has given it that one's time. Nor can a process on four processors.
        assert_eq!(shares(&before, &now, Measure { of_threads: true, ..MEASURE }), [None]);
        let now = [row(1, Some(0), 500, 1, 11_000, 11_000)];
        assert_eq!(shares(&before, &now, MEASURE), [None]);
    }

    #[test]
    fn time_that_falls_is_none() {
        let before = [row(1, Some(0), 100, 1, 10_000, 10_002), row(2, None, 100, 1, 10_000, 10_002)];
        let now = [row(1, Some(0), 98, 1, 12_000, 12_002), row(2, None, 98, 1, 12_000, 12_002)];
        assert_eq!(shares(&before, &now, MEASURE), [Some(0), None]);
    }

    #[test]
    fn a_share_since_the_start_is_that_of_ps() {
        let mut rows = [
            row(1, Some(0), 1234, 1, 100_000, 100_000),
            row(2, Some(0), 25_999, 1, 100_000, 100_000),
            row(3, Some(100_000), 1, 1, 100_000, 100_000),
        ];
        since_start(&mut rows);
        assert_eq!(rows.map(|row| row.pcpu), [Some(12.3), Some(259.0), Some(0.0)]);
    }
}
