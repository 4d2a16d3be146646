//! Waiting for what another process does. Every wait is a poll with a bound so generous that only a hang meets it.

use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(120);

/// Waits until `happened`.
#[track_caller]
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    until_some(what, || happened().then_some(()));
}

/// Waits until `look` gives something.
#[track_caller]
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < BOUND, "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
