//! Gives memory back to the system that a burst of reads took. The C library keeps what was freed, for good.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// As long as nothing may happen for memory to be given back,
const QUIET: Duration = Duration::from_secs(3);
/// or so long after it began, whatever goes on.
const LONGEST: Duration = Duration::from_secs(10);

/// Reads that were gathered and files that were closed, for a thread that waits until there are no more.
#[derive(Default)]
pub(super) struct Activity {
    count: AtomicU64,
    wanted: Mutex<bool>,
    began: Condvar,
}

impl Activity {
    /// One more; after a time without any the thread is woken.
    pub fn count(&self) {
        // While the thread is awake it looks at the count alone.
        if self.count.fetch_add(1, Relaxed) & ASLEEP != 0 {
            self.count.fetch_and(!ASLEEP, Relaxed);
            *self.wanted.lock() = true;
            self.began.notify_one();
        }
    }
}

/// The thread waits for the first one.
const ASLEEP: u64 = 1 << 63;

/// Starts the thread, which sleeps while nothing is read; `release` gives up what is kept for later reads. Where no thread
/// is to be had memory is kept.
pub(super) fn start(activity: Arc<Activity>, release: impl Fn() + Send + 'static) {
    let run = move || {
        let mut before = None;
        loop {
            // What came while memory was given back is none that wakes.
            if before == Some(activity.count.fetch_or(ASLEEP, Relaxed)) {
                let mut wanted = activity.wanted.lock();
                while !*wanted {
                    activity.began.wait(&mut wanted);
                }
            }
            activity.count.fetch_and(!ASLEEP, Relaxed);
            *activity.wanted.lock() = false;
            let began = Instant::now();
            while began.elapsed() < LONGEST && before.replace(activity.count.load(Relaxed)) != before {
                std::thread::sleep(QUIET);
            }
            release();
            give_back();
        }
    };
    if let Err(e) = std::thread::Builder::new().name("trim".into()).spawn(run) {
        log::warn!("cannot start the thread that gives memory back: {e}");
    }
}

fn give_back() {
    // SAFETY: takes no pointer, and locks what it looks at.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
