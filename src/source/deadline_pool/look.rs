//! What a thread of this process is doing: whether it waits in the kernel or wants a processor.

use crate::proc_files::decimal;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// One look at a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    at: Instant,
    /// It sleeps in the kernel (`S`, `D`), rather than running or waiting for a processor.
    pub asleep: bool,
    /// On a processor so far.
    cpu: Duration,
    /// Waiting for one so far.
    delay: Duration,
}

impl Look {
    /// Looks at a thread by its number. One that cannot be looked at counts as asleep.
    pub fn at(thread: Pid) -> Look {
        let read = |file: &str| std::fs::read(format!("/proc/self/task/{thread}/{file}")).unwrap_or_default();
        let (state, times) = (state(&read("stat")), times(&read("schedstat")));
        let [cpu, delay] = times.map(Duration::from_nanos);
        Look { at: Instant::now(), asleep: state != Some(b'R'), cpu, delay }
    }

    /// How long it has slept since an earlier look. (A wait for a processor counts once it is over: until then the thread is
    /// not asleep.)
    pub fn slept_since(&self, earlier: &Look) -> Duration {
        let awake = (self.cpu + self.delay).saturating_sub(earlier.cpu + earlier.delay);
        self.at.duration_since(earlier.at).saturating_sub(awake)
    }

    /// How long it was on a processor since an earlier look.
    pub fn ran_since(&self, earlier: &Look) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// The letter in `/proc/PID/stat`.
fn state(stat: &[u8]) -> Option<u8> {
    stat.get(memchr::memrchr(b')', stat)? + 2).copied()
}

/// The first two numbers of `/proc/PID/schedstat` (`proc_pid_schedstat`), in nanoseconds; 0 on a kernel without it.
fn times(schedstat: &[u8]) -> [u64; 2] {
    let mut words = schedstat.split(|c| *c == b' ').map(|word| decimal(word).unwrap_or(0));
    [words.next().unwrap_or(0), words.next().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

    #[test]
    fn sleep_is_told_from_work() {
        let (number, done) = (AtomicI32::new(0), AtomicBool::new(false));
        let run = |body: &(dyn Fn() + Sync)| {
            number.store(0, SeqCst);
            done.store(false, SeqCst);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    number.store(nix::unistd::gettid().as_raw(), SeqCst);
                    while !done.load(SeqCst) {
                        body();
                    }
                });
                while number.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                let thread = Pid::from_raw(number.load(SeqCst));
                let first = Look::at(thread);
                std::thread::sleep(Duration::from_millis(300));
                let second = Look::at(thread);
                done.store(true, SeqCst);
                (second.slept_since(&first), second.ran_since(&first), second.asleep)
            })
        };
        let (slept, ran, asleep) = run(&|| std::thread::sleep(Duration::from_millis(400)));
        assert!(asleep && slept > 5 * ran, "{slept:?} {ran:?}");
        // However busy the machine is, it never sleeps.
        let (slept, _, asleep) = run(&|| std::hint::spin_loop());
        assert!(!asleep || slept < Duration::from_millis(100), "{slept:?}");
        assert!(!asleep);
    }

    #[test]
    fn any_text_is_borne() {
        assert_eq!(state(b"7 (a) R) D 1 2"), Some(b'D'));
        assert_eq!((state(b""), state(b"7 (a)"), state(b"7 (a) ")), (None, None, None));
        assert_eq!((times(b"12 34 5\n"), times(b""), times(b"x")), ([12, 34], [0, 0], [0, 0]));
    }
}
