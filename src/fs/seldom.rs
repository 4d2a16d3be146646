//! Log lines that readers can cause at will, and must not fill the disk with.

use parking_lot::Mutex;
use std::fmt::Display;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// One kind of warning, written every ten seconds at most.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

impl Seldom {
    /// Writes the warning, or counts it for the next time.
    pub fn warn(&self, warning: impl Display) {
        if let Some(left_out) = self.turn(Instant::now()) {
            match left_out {
                0 => log::warn!("{warning}"),
                more => log::warn!("{warning} (and {more} times before this)"),
            }
        }
    }

    /// Whether it is time again; then how many were left out before.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if let Some(said) = said.as_mut().filter(|said| now < said.at + PAUSE) {
            said.left_out += 1;
            return None;
        }
        let before = said.replace(Said { at: now, left_out: 0 });
        Some(before.map_or(0, |said| said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_leaves_out() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.turn(now), Some(0));
        assert_eq!((seldom.turn(now), seldom.turn(now + PAUSE / 2)), (None, None));
        assert_eq!(seldom.turn(now + PAUSE), Some(2));
        assert_eq!(seldom.turn(now + PAUSE * 2), Some(0));
    }
}
