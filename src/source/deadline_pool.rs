//! A bounded pool of threads for reads that may hang: of a target's memory, which a page fault can hold up for ever.
//!
//! The caller waits no longer than its deadlines. A thread that is stuck is left behind with its target, and another
//! takes its place, up to a bound; while a target holds a thread, it is not tried again.

use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a reader waits for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For one target.
    pub target: Duration,
    /// For all targets of one read together.
    pub read: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { target: Duration::from_millis(200), read: Duration::from_secs(2) }
    }
}

/// What became of one item of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// Its target was not read in time.
    Late,
    /// There was no time left to begin it.
    NotBegun,
}

/// Threads that one user's processes may hold.
const MOST_OF_ONE_OWNER: usize = 8;

/// One item of work on one target.
pub trait Work: Send + 'static {
    /// What comes of it.
    type Output: Send + 'static;

    /// The process whose memory it touches; `None` if it cannot hang.
    fn target(&self) -> Option<u32>;

    /// The real user id of that process: only asked for when something hangs.
    fn owner(&self) -> u32;

    /// Does it.
    fn run(&self) -> Self::Output;
}

/// The pool; cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadlinePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<PoolState>,
    work_came: Condvar,
    workers: usize,
    most_stuck: usize,
}

#[derive(Default)]
struct PoolState {
    queue: VecDeque<Arc<dyn Job>>,
    threads: usize,
    idle: usize,
    /// Targets that hold threads.
    stuck: HashMap<u32, Stuck>,
    closing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stuck {
    threads: usize,
    owner: u32,
}

impl PoolState {
    /// Threads that are held by targets that `of` says so of.
    fn held(&self, of: impl Fn(&Stuck) -> bool) -> usize {
        self.stuck.values().filter(|stuck| of(stuck)).map(|stuck| stuck.threads).sum()
    }
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolState").field("threads", &self.threads).field("stuck", &self.stuck).finish()
    }
}

trait Job: Send + Sync {
    /// Does one item; false when none is left to begin.
    fn step(&self, pool: &Shared) -> bool;
}

struct Batch<W: Work> {
    items: Vec<W>,
    state: Mutex<BatchState<W::Output>>,
    finished: Condvar,
}

struct BatchState<T> {
    results: Vec<Option<T>>,
    next: usize,
    open: usize,
    /// Items under way with the time they began.
    running: Vec<(usize, Instant)>,
}

impl DeadlinePool {
    /// A pool of `workers` threads, of which up to `most_stuck` more may be left behind with hung targets.
    pub fn new(workers: usize, most_stuck: usize) -> DeadlinePool {
        DeadlinePool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                work_came: Condvar::new(),
                workers: workers.max(1),
                most_stuck,
            }),
        }
    }

    /// Does all items, in order, several at once: as many as can be begun within `begin`, and at least one if the
    /// deadline of the read allows.
    pub fn run<W: Work + Sync>(
        &self,
        items: Vec<W>,
        deadlines: Deadlines,
        begin: Duration,
    ) -> Vec<Outcome<W::Output>> {
        let start = Instant::now();
        let count = items.len();
        let batch = Arc::new(Batch {
            state: Mutex::new(BatchState {
                results: (0..count).map(|_| None).collect(),
                next: 0,
                open: count,
                running: Vec::new(),
            }),
            finished: Condvar::new(),
            items,
        });
        self.shared.offer(&(batch.clone() as Arc<dyn Job>), count);
        let can_hang = batch.items.iter().any(|item| item.target().is_some());
        if !can_hang {
            // Then the caller works too, and depends on no thread that others may hold up.
            while batch.step(&self.shared) {}
        }
        let end = can_hang.then(|| start + deadlines.read);
        let mut state = batch.state.lock();
        let mut begun = count;
        while state.open > 0 {
            let now = Instant::now();
            // Something must come of every call, however busy the machine is.
            if can_hang && now >= start + begin && (1..count).contains(&state.next) {
                begun = state.next;
                state.open -= count - begun;
                state.next = count;
                continue;
            }
            let over = end.is_some_and(|end| now >= end);
            let given_up = state.give_up(&batch.items, |began| over || now >= began + deadlines.target);
            if over {
                self.shared.leave_behind(&given_up);
                break;
            }
            if !given_up.is_empty() {
                // Whoever was stuck is lost to this batch: offer what is left to others.
                self.shared.leave_behind(&given_up);
                self.shared.offer(&(batch.clone() as Arc<dyn Job>), given_up.len());
                continue;
            }
            let oldest = state.running.iter().map(|r| r.1).min().unwrap_or(now);
            let mut wake = oldest + deadlines.target;
            if state.next < count {
                wake = wake.min((start + begin).max(now + Duration::from_millis(5)));
            }
            match can_hang {
                true => drop(batch.finished.wait_until(&mut state, end.map_or(wake, |end| wake.min(end)))),
                false => batch.finished.wait(&mut state),
            }
        }
        begun = begun.min(state.next);
        state.next = count;
        let results = std::mem::take(&mut state.results).into_iter().enumerate();
        let outcome = |(at, result): (usize, Option<W::Output>)| match result {
            Some(output) => Outcome::Done(output),
            None if at < begun => Outcome::Late,
            None => Outcome::NotBegun,
        };
        results.map(outcome).collect()
    }
}

impl<T> BatchState<T> {
    /// Closes the items under way that `late` says so of; gives their targets, and whose those are.
    fn give_up<W: Work>(&mut self, items: &[W], late: impl Fn(Instant) -> bool) -> Vec<(u32, u32)> {
        let mut targets = Vec::new();
        self.running.retain(|(at, began)| match items[*at].target() {
            Some(target) if late(*began) => {
                targets.push((target, items[*at].owner()));
                false
            }
            _ => true,
        });
        self.open -= targets.len();
        targets
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.state.get_mut().closing = true;
        self.work_came.notify_all();
    }
}

impl Shared {
    /// Counts the threads that these targets hold from now on.
    fn leave_behind(&self, targets: &[(u32, u32)]) {
        let mut state = self.state.lock();
        for (pid, owner) in targets {
            state.stuck.entry(*pid).or_insert(Stuck { threads: 0, owner: *owner }).threads += 1;
        }
    }

    /// Whether a target is better not tried: it holds a thread already, or others of its user's hold as many as they may.
    fn is_hopeless(&self, item: &impl Work) -> bool {
        let Some(pid) = item.target() else { return false };
        let state = self.state.lock();
        if state.stuck.is_empty() || state.stuck.contains_key(&pid) {
            return !state.stuck.is_empty();
        }
        if state.held(|_| true) >= self.most_stuck.max(1) {
            return true;
        }
        drop(state);
        let owner = item.owner();
        self.state.lock().held(|stuck| stuck.owner == owner) >= MOST_OF_ONE_OWNER
    }

    /// One of them came back after all.
    fn come_back(&self, pid: u32) {
        let mut state = self.state.lock();
        if let Some(stuck) = state.stuck.get_mut(&pid) {
            stuck.threads -= 1;
            if stuck.threads == 0 {
                state.stuck.remove(&pid);
            }
        }
    }

    /// Puts a job where up to `count` threads take it, starting threads as far as the bound allows.
    fn offer(self: &Arc<Self>, job: &Arc<dyn Job>, count: usize) {
        let mut state = self.state.lock();
        for _ in 0..count.min(self.workers) {
            state.queue.push_back(job.clone());
        }
        while state.idle < state.queue.len()
            && state.threads < self.workers + state.held(|_| true).min(self.most_stuck)
        {
            // The thread holds the pool weakly, so that the last handle's drop ends it.
            let weak = Arc::downgrade(self);
            let spawned = std::thread::Builder::new().name("task-memory".into()).spawn(move || work(weak));
            match spawned {
                Ok(_) => (state.threads, state.idle) = (state.threads + 1, state.idle + 1),
                Err(e) => {
                    log::warn!("cannot start a thread to read memory with: {e}");
                    break;
                }
            }
        }
        self.work_came.notify_all();
    }
}

fn work(pool: std::sync::Weak<Shared>) {
    loop {
        let Some(shared) = pool.upgrade() else { return };
        let job = {
            let mut state = shared.state.lock();
            loop {
                if let Some(job) = state.queue.pop_front() {
                    state.idle -= 1;
                    break job;
                }
                if state.closing {
                    return;
                }
                let waited = shared.work_came.wait_for(&mut state, Duration::from_secs(10));
                if waited.timed_out() && state.queue.is_empty() {
                    // Nothing to do: a thread less, and nothing that keeps the pool alive.
                    state.threads -= 1;
                    state.idle -= 1;
                    return;
                }
            }
        };
        while job.step(&shared) {}
        shared.state.lock().idle += 1;
    }
}

impl<W: Work + Sync> Job for Batch<W> {
    fn step(&self, pool: &Shared) -> bool {
        let at = {
            let mut state = self.state.lock();
            if state.next >= self.items.len() {
                return false;
            }
            let at = state.next;
            state.next += 1;
            state.running.push((at, Instant::now()));
            at
        };
        let item = &self.items[at];
        let skip = pool.is_hopeless(item);
        let output = (!skip).then(|| item.run());
        let mut state = self.state.lock();
        if let Some(place) = state.running.iter().position(|r| r.0 == at) {
            state.running.swap_remove(place);
            state.open -= 1;
            state.results[at] = output;
            if state.open == 0 {
                self.finished.notify_all();
            }
        } else if let Some(pid) = item.target() {
            // Given up meanwhile, and now back after all.
            pool.come_back(pid);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    struct Item {
        pid: u32,
        hang_until: Option<Arc<AtomicBool>>,
    }

    impl Work for Item {
        type Output = u32;
        fn target(&self) -> Option<u32> {
            Some(self.pid)
        }
        fn owner(&self) -> u32 {
            self.pid % 7
        }
        fn run(&self) -> u32 {
            while self.hang_until.as_ref().is_some_and(|released| !released.load(SeqCst)) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.pid
        }
    }

    const SHORT: Deadlines = Deadlines { target: Duration::from_millis(300), read: Duration::from_secs(100) };

    #[test]
    fn hung_targets_are_left_out_and_come_back() {
        let pool = DeadlinePool::new(2, 8);
        let released = Arc::new(AtomicBool::new(false));
        let items = |hung: &[u32]| -> Vec<Item> {
            (1..=20)
                .map(|pid| Item { pid, hang_until: hung.contains(&pid).then(|| released.clone()) })
                .collect()
        };
        let expect = |hung: &[u32]| -> Vec<Outcome<u32>> {
            (1..=20).map(|pid| if hung.contains(&pid) { Outcome::Late } else { Outcome::Done(pid) }).collect()
        };
        let run = |hung: &[u32], deadlines| pool.run(items(hung), deadlines, SHORT.read);
        assert_eq!(run(&[], SHORT), expect(&[]));
        let hung = [1, 2, 3, 20];
        assert_eq!(run(&hung, SHORT), expect(&hung));
        // Those that still hold a thread are not tried again, so this takes no deadline.
        let began = Instant::now();
        let patient = Deadlines { target: Duration::from_secs(60), ..SHORT };
        assert_eq!(run(&hung, patient), expect(&hung));
        assert!(began.elapsed() < patient.target);
        released.store(true, SeqCst);
        while run(&[], patient) != expect(&[]) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_whole_read_has_its_own_deadline() {
        let pool = DeadlinePool::new(1, 0);
        let released = Arc::new(AtomicBool::new(false));
        let items = (1..=3).map(|pid| Item { pid, hang_until: Some(released.clone()) }).collect();
        let deadlines = Deadlines { target: Duration::from_secs(60), read: Duration::from_secs(1) };
        let expected = [Outcome::Late, Outcome::NotBegun, Outcome::NotBegun];
        assert_eq!(pool.run(items, deadlines, deadlines.read), expected);
        released.store(true, SeqCst);
    }

    #[test]
    fn one_owner_holds_a_few_threads() {
        let pool = DeadlinePool::new(2, 64);
        let released = Arc::new(AtomicBool::new(false));
        // All of the first owner's hang.
        let hangs = |pid: u32| pid % 7 == 1;
        let items =
            || (1..=140).map(|pid| Item { pid, hang_until: hangs(pid).then(|| released.clone()) }).collect();
        for _ in 0..3 {
            for (pid, outcome) in (1..).zip(pool.run(items(), SHORT, SHORT.read)) {
                assert_eq!(outcome, if hangs(pid) { Outcome::Late } else { Outcome::Done(pid) });
            }
            let state = pool.shared.state.lock();
            assert!((1..=MOST_OF_ONE_OWNER + 2).contains(&state.held(|_| true)));
        }
        released.store(true, SeqCst);
        while !pool.shared.state.lock().stuck.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn nothing_begins_late() {
        let pool = DeadlinePool::new(1, 0);
        let released = Arc::new(AtomicBool::new(false));
        let hang_until = |pid| (pid == 2).then(|| released.clone());
        let items = (1..=4).map(|pid| Item { pid, hang_until: hang_until(pid) }).collect();
        let releasing = released.clone();
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2500));
            releasing.store(true, SeqCst);
        });
        let patient = Deadlines { target: Duration::from_secs(60), read: Duration::from_secs(60) };
        // Long enough for a thread to begin, beside others.
        let outcomes = pool.run(items, patient, Duration::from_secs(1));
        let expected = [Outcome::Done(1), Outcome::Done(2), Outcome::NotBegun, Outcome::NotBegun];
        assert_eq!(outcomes, expected);
        later.join().unwrap();
    }
}
