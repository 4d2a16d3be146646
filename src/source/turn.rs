//! How long one read may gather before others have their turn.

use std::time::{Duration, Instant};

/// What a read is given at least where others wait.
const QUANTUM: Duration = Duration::from_millis(5);

/// What it takes at most, whoever waits: a reader cannot be killed until it is answered.
const LONGEST: Duration = Duration::from_millis(100);

/// The time of one read. Once it is over, the read ends with what it has, between two messages.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    began: Instant,
    others_wait: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Turn<'a> {
    /// A turn that begins now; `others_wait` says whether somebody else would make use of its end.
    pub fn begin(others_wait: &'a dyn Fn() -> bool) -> Turn<'a> {
        Turn { began: Instant::now(), others_wait: Some(others_wait) }
    }

    /// A turn without an end, for who has the engine to itself.
    pub fn endless() -> Turn<'static> {
        Turn { began: Instant::now(), others_wait: None }
    }

    /// How long it may still take at most.
    pub fn left(&self) -> Duration {
        self.others_wait.map_or(Duration::MAX, |_| LONGEST.saturating_sub(self.began.elapsed()))
    }

    /// Whether it is time to end.
    pub fn is_over(&self) -> bool {
        let Some(others_wait) = self.others_wait else { return false };
        let elapsed = self.began.elapsed();
        elapsed >= LONGEST || elapsed >= QUANTUM && others_wait()
    }
}
