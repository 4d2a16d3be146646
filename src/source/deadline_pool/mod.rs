//! A bounded pool of threads for reads that may hang: of a target's memory, which a page fault can hold up for ever.
//!
//! The caller waits no longer than its deadlines. A thread that is stuck is left behind with its target, and another
//! takes its place, up to a bound; while a target holds a thread, it is not tried again. Stuck is a thread that *sleeps*: one
//! that wants a processor is waited for. Where no thread can be started, the caller does the work.

mod held;
mod look;

use held::{Chance, Held};
use look::Look;
use nix::unistd::{Pid, gettid};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a reader waits for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For one target: how long the thread that reads it may sleep.
    pub target: Duration,
    /// For all targets of one read together. What is under way then gets the deadline of a target.
    pub read: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { target: Duration::from_millis(200), read: Duration::from_secs(2) }
    }
}

/// How much one call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Nothing after so long.
    pub within: Duration,
    /// Nothing once what was gathered takes so many bytes.
    pub bytes: usize,
}

/// What became of one item of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// Its target was not read in time.
    Late,
    /// There was no time left to begin it, or no room.
    NotBegun,
}

/// Tells work under way that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it should end at its next step.
    pub fn is_set(&self) -> bool {
        self.0.load(SeqCst)
    }

    fn set(&self) {
        self.0.store(true, SeqCst);
    }
}

/// One item of work on one target.
pub trait Work: Send + Sync + 'static {
    /// What comes of it.
    type Output: Send + 'static;

    /// The process whose memory it touches; `None` if it cannot hang.
    fn target(&self) -> Option<u32>;

    /// The user whom that process counts for: only asked for when something hangs.
    fn owner(&self) -> u32;

    /// Does it.
    fn run(&self, stop: &Stop) -> Self::Output;

    /// Bytes that the outcome takes.
    fn weight(output: &Self::Output) -> usize;
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
    /// How many jobs wait for a thread.
    waiting: AtomicUsize,
    workers: usize,
    most_held: usize,
}

#[derive(Default)]
struct PoolState {
    queue: VecDeque<Arc<dyn Job>>,
    threads: usize,
    idle: usize,
    held: Held,
    closing: bool,
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolState").field("threads", &self.threads).field("held", &self.held).finish()
    }
}

trait Job: Send + Sync {
    /// Does one item; false when none is left to begin.
    fn step(&self, pool: &Shared) -> bool;
}

struct Batch<W: Work> {
    items: Vec<W>,
    /// Nothing but the first item is begun after this time, or once the results take so many bytes.
    until: Instant,
    bytes: usize,
    state: Mutex<BatchState<W::Output>>,
    finished: Condvar,
}

struct BatchState<T> {
    results: Vec<Option<T>>,
    /// The first item that nobody has taken.
    next: usize,
    /// From here on nothing is begun.
    end: usize,
    /// Items that were taken and wait until others of their owner's come back; and those that may be tried again.
    waiting: Vec<usize>,
    again: Vec<usize>,
    running: Vec<Running>,
    /// What the results take.
    bytes: usize,
}

/// An item under way.
struct Running {
    at: usize,
    began: Instant,
    thread: Pid,
    stop: Stop,
    look: Option<Look>,
    /// Its target holds the thread that does it.
    held: bool,
}

/// A thread is looked at when it has been at an item for so long, and then again and again.
const LOOK: Duration = Duration::from_millis(25);

impl DeadlinePool {
    /// A pool of `workers` threads, and up to `most_held` more in place of those that hung targets hold.
    pub fn new(workers: usize, most_held: usize) -> DeadlinePool {
        DeadlinePool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                work_came: Condvar::new(),
                waiting: AtomicUsize::new(0),
                workers: workers.max(1),
                most_held,
            }),
        }
    }

    /// Does all items, in order, several at once: as many as may be begun, and at least one if any thread is to be had. Those
    /// not begun are the last ones.
    pub fn run<W: Work>(&self, items: Vec<W>, deadlines: Deadlines, begin: Begin) -> Vec<Outcome<W::Output>> {
        let start = Instant::now();
        let count = items.len();
        let batch = Arc::new(Batch {
            state: Mutex::new(BatchState {
                results: (0..count).map(|_| None).collect(),
                next: 0,
                end: count,
                waiting: Vec::new(),
                again: Vec::new(),
                running: Vec::new(),
                bytes: 0,
            }),
            finished: Condvar::new(),
            until: start + begin.within,
            bytes: begin.bytes,
            items,
        });
        let job = batch.clone() as Arc<dyn Job>;
        let can_hang = batch.items.iter().any(|item| item.target().is_some());
        if !can_hang {
            // Then the caller works too, and depends on no thread that others may hold up.
            self.shared.offer(&job, count.saturating_sub(1));
            while batch.step(&self.shared) {}
        } else {
            self.shared.offer(&job, count);
        }
        // No target may take more than the read.
        let target = deadlines.target.min(deadlines.read);
        let mut state = batch.state.lock();
        while !state.is_finished() {
            if !can_hang {
                batch.finished.wait(&mut state);
                continue;
            }
            let now = Instant::now();
            let over = now >= start + deadlines.read;
            if over {
                state.waiting.clear();
                state.again.clear();
            }
            batch.close(&mut state, over, now);
            let (held, wake) = state.watch(&self.shared, &batch.items, now, target, over);
            let ready = std::mem::take(&mut state.waiting);
            state.again.extend(ready);
            if state.is_finished() {
                break;
            }
            // Whoever is asleep is lost to this batch, for now at least: what is left is offered to others.
            let offers = if state.is_all_begun() { 0 } else { held + state.again.len() };
            let manned = self.shared.offer(&job, offers);
            if !manned && state.running.is_empty() {
                drop(state);
                // Nobody else will.
                batch.step(&self.shared);
                state = batch.state.lock();
                continue;
            }
            if over && state.next == 0 && !self.shared.is_at_work() {
                break;
            }
            batch.finished.wait_until(&mut state, wake.min(now + LOOK));
        }
        let begun = state.end.min(state.next);
        (state.next, state.end) = (count, count);
        let results = std::mem::take(&mut state.results).into_iter().enumerate();
        drop(state);
        self.shared.withdraw(&job);
        let outcome = |(at, result): (usize, Option<W::Output>)| match result {
            Some(output) => Outcome::Done(output),
            None if at < begun => Outcome::Late,
            None => Outcome::NotBegun,
        };
        results.map(outcome).collect()
    }
}

impl<W: Work> Batch<W> {
    /// Begins nothing more where time or room is used up. Something must come of every call, however busy the machine is.
    fn close(&self, state: &mut BatchState<W::Output>, over: bool, now: Instant) {
        let can_hang = || self.items.iter().any(|item| item.target().is_some());
        if state.next > 0 && (over || state.bytes >= self.bytes || now >= self.until && can_hang()) {
            state.end = state.end.min(state.next);
        }
    }
}

impl<T> BatchState<T> {
    fn is_all_begun(&self) -> bool {
        self.next >= self.end && self.waiting.is_empty() && self.again.is_empty()
    }

    fn is_finished(&self) -> bool {
        self.running.is_empty() && self.is_all_begun()
    }

    /// Looks at the threads that have been at their items for long, and gives up those that hang. Gives how many fell asleep
    /// since the last time, and when to look again.
    fn watch<W: Work>(
        &mut self,
        pool: &Shared,
        items: &[W],
        now: Instant,
        deadline: Duration,
        over: bool,
    ) -> (usize, Instant) {
        let step = LOOK.min(deadline / 8);
        // What went by before the first look counts as well.
        let deadline = deadline - step;
        let (mut held, mut wake) = (0, now + deadline);
        self.running.retain_mut(|running| {
            let Some(target) = items[running.at].target() else { return true };
            if now < running.began + step {
                wake = wake.min(running.began + step);
                return true;
            }
            let look = Look::at(running.thread);
            let first = *running.look.get_or_insert(look);
            let slept = look.slept_since(&first);
            // To want a processor is no fault of the target's; what takes one for too long is its fault.
            let lost =
                if look.asleep { slept >= deadline } else { over && look.ran_since(&first) >= deadline };
            if (look.asleep || lost) && !running.held {
                let owner = items[running.at].owner();
                running.held = true;
                pool.state.lock().held.hold(target, owner);
                held += 1;
            }
            if lost {
                pool.state.lock().held.lose(target);
                running.stop.set();
                return false;
            }
            let left = if look.asleep { deadline.saturating_sub(slept) } else { step };
            wake = wake.min(now + left.clamp(Duration::from_millis(1), step.max(Duration::from_millis(1))));
            true
        });
        (held, wake)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.state.get_mut().closing = true;
        self.work_came.notify_all();
    }
}

impl Shared {
    /// Whether a target is tried.
    fn chance(&self, item: &impl Work) -> Chance {
        let Some(target) = item.target() else { return Chance::Begin };
        let mut owner = None;
        loop {
            let mut unknown = false;
            let chance = self.state.lock().held.chance(self.most_held, target, || {
                unknown = owner.is_none();
                owner.unwrap_or_default()
            });
            if !unknown {
                return chance;
            }
            // Not to be found out with the lock held.
            owner = Some(item.owner());
        }
    }

    /// Whether any thread is not held by a target.
    fn is_at_work(&self) -> bool {
        let state = self.state.lock();
        state.threads > state.held.all()
    }

    /// Puts a job where up to `count` threads take it, starting threads as far as the bound allows. False where no thread
    /// is there to take it, as none could be started.
    fn offer(self: &Arc<Self>, job: &Arc<dyn Job>, count: usize) -> bool {
        let mut state = self.state.lock();
        for _ in 0..count.min(self.workers) {
            state.queue.push_back(job.clone());
        }
        self.waiting.store(state.queue.len(), SeqCst);
        let mut refused = false;
        while state.idle < state.queue.len()
            && state.threads < self.workers + state.held.all().min(self.most_held)
        {
            // The thread holds the pool weakly, so that the last handle's drop ends it.
            let weak = Arc::downgrade(self);
            let spawned = std::thread::Builder::new().name("task-memory".into()).spawn(move || work(weak));
            match spawned {
                Ok(_) => (state.threads, state.idle) = (state.threads + 1, state.idle + 1),
                Err(e) => {
                    log::debug!("cannot start a thread to read memory with: {e}");
                    refused = true;
                    break;
                }
            }
        }
        if count > 0 {
            self.work_came.notify_all();
        }
        !refused || state.threads > state.held.all()
    }

    /// Takes back what nobody took.
    fn withdraw(&self, job: &Arc<dyn Job>) {
        if self.waiting.load(SeqCst) > 0 {
            let mut state = self.state.lock();
            state.queue.retain(|other| !Arc::ptr_eq(other, job));
            self.waiting.store(state.queue.len(), SeqCst);
        }
    }
}

fn work(pool: std::sync::Weak<Shared>) {
    loop {
        let Some(shared) = pool.upgrade() else { return };
        let mut state = shared.state.lock();
        let mut job = loop {
            if let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                shared.waiting.store(state.queue.len(), SeqCst);
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
        };
        drop(state);
        while job.step(&shared) {
            // Those who wait for a thread have it in turn.
            if shared.waiting.load(SeqCst) > 0 {
                let mut state = shared.state.lock();
                state.queue.push_back(job);
                let Some(next) = state.queue.pop_front() else { break };
                job = next;
            }
        }
        shared.state.lock().idle += 1;
    }
}

impl<W: Work> Job for Batch<W> {
    fn step(&self, pool: &Shared) -> bool {
        let stop = Stop::default();
        let at = {
            let mut state = self.state.lock();
            let now = Instant::now();
            self.close(&mut state, false, now);
            let at = if state.next < state.end {
                state.next += 1;
                state.next - 1
            } else {
                let Some(at) = state.again.pop() else { return false };
                at
            };
            state.running.push(Running {
                at,
                began: now,
                thread: gettid(),
                stop: stop.clone(),
                look: None,
                held: false,
            });
            at
        };
        let item = &self.items[at];
        let chance = pool.chance(item);
        let output = (chance == Chance::Begin).then(|| item.run(&stop));
        let mut state = self.state.lock();
        let running = state.running.iter().position(|running| running.at == at && !running.stop.is_set());
        let (held, lost) = match running.map(|place| state.running.swap_remove(place)) {
            Some(running) => {
                if chance == Chance::Wait {
                    state.waiting.push(at);
                }
                state.bytes += output.as_ref().map_or(0, W::weight);
                state.results[at] = output;
                (running.held, false)
            }
            // Given up meanwhile, and now back after all.
            None => (true, true),
        };
        if state.is_finished() {
            self.finished.notify_all();
        }
        drop(state);
        if held && let Some(target) = item.target() {
            pool.state.lock().held.come_back(target, lost);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::held::MOST_OF_ONE_OWNER;
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
        fn run(&self, _: &Stop) -> u32 {
            while self.hang_until.as_ref().is_some_and(|released| !released.load(SeqCst)) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.pid
        }
        fn weight(_: &u32) -> usize {
            1
        }
    }

    fn within(within: Duration) -> Begin {
        Begin { within, bytes: usize::MAX }
    }

    const SHORT: Deadlines = Deadlines { target: Duration::from_millis(300), read: Duration::from_secs(100) };

    #[test]
    fn hung_targets_are_left_out_and_come_back() {
        let pool = DeadlinePool::new(2, 16);
        let released = Arc::new(AtomicBool::new(false));
        let items = |hung: &[u32]| -> Vec<Item> {
            (1..=20)
                .map(|pid| Item { pid, hang_until: hung.contains(&pid).then(|| released.clone()) })
                .collect()
        };
        let expect = |hung: &[u32]| -> Vec<Outcome<u32>> {
            (1..=20).map(|pid| if hung.contains(&pid) { Outcome::Late } else { Outcome::Done(pid) }).collect()
        };
        let run = |hung: &[u32], deadlines| pool.run(items(hung), deadlines, within(SHORT.read));
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
        assert_eq!(pool.run(items, deadlines, within(deadlines.read)), expected);
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
            for (pid, outcome) in (1..).zip(pool.run(items(), SHORT, within(SHORT.read))) {
                assert_eq!(outcome, if hangs(pid) { Outcome::Late } else { Outcome::Done(pid) });
            }
            let state = pool.shared.state.lock();
            assert!((1..=MOST_OF_ONE_OWNER + 2).contains(&state.held.all()));
        }
        released.store(true, SeqCst);
        while pool.shared.state.lock().held.all() > 0 {
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
        let outcomes = pool.run(items, patient, within(Duration::from_secs(1)));
        let expected = [Outcome::Done(1), Outcome::Done(2), Outcome::NotBegun, Outcome::NotBegun];
        assert_eq!(outcomes, expected);
        later.join().unwrap();
    }

    /// What keeps a thread at work, or asleep, until it is told to end.
    struct Long {
        pid: u32,
        busy: Duration,
        stopped: Arc<AtomicBool>,
    }

    impl Work for Long {
        type Output = u32;
        fn target(&self) -> Option<u32> {
            Some(self.pid)
        }
        fn owner(&self) -> u32 {
            self.pid
        }
        fn run(&self, stop: &Stop) -> u32 {
            let begin = Instant::now();
            while begin.elapsed() < self.busy {
                std::hint::spin_loop();
            }
            while self.busy.is_zero() && !stop.is_set() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.stopped.fetch_or(stop.is_set(), SeqCst);
            self.pid
        }
        fn weight(_: &u32) -> usize {
            100
        }
    }

    fn long(pid: u32, busy: u64) -> Long {
        Long { pid, busy: Duration::from_millis(busy), stopped: Arc::default() }
    }

    #[test]
    fn who_is_busy_is_not_taken_for_hung() {
        let pool = DeadlinePool::new(2, 8);
        let deadlines = Deadlines { target: Duration::from_millis(100), read: Duration::from_secs(100) };
        let items = (1..=3).map(|pid| long(pid, 700)).collect();
        let expected = [Outcome::Done(1), Outcome::Done(2), Outcome::Done(3)];
        assert_eq!(pool.run(items, deadlines, within(deadlines.read)), expected);
    }

    #[test]
    fn what_nobody_waits_for_is_told() {
        let pool = DeadlinePool::new(2, 8);
        let item = long(1, 0);
        let stopped = item.stopped.clone();
        assert_eq!(pool.run(vec![item], SHORT, within(SHORT.read)), [Outcome::Late]);
        while !stopped.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn nothing_begins_without_room() {
        let pool = DeadlinePool::new(1, 0);
        let begin = Begin { bytes: 250, ..within(SHORT.read) };
        let outcomes = pool.run((1..=5).map(|pid| long(pid, 1)).collect(), SHORT, begin);
        let done = outcomes.iter().take_while(|outcome| matches!(outcome, Outcome::Done(_))).count();
        assert_eq!((done, &outcomes[done..]), (3, &[Outcome::NotBegun; 2][..]));
    }
}
