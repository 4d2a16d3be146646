//! Who is served next: start-time fair queueing between accounts, by the time that each has used.
//!
//! The thread that brings a job does it itself if it is that job's turn, and goes on with what waits when it is done. So
//! nothing is handed from thread to thread while nobody waits.

use crate::access::Account;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Idle accounts that are remembered: those that have used more than their share.
const REMEMBERED: usize = 1024;

/// How long a job is expected to take. Short ones pass long ones of the same account, and a worker is kept for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Long,
}

/// A job whose turn it is, on the thread that was given it.
#[derive(Debug)]
pub(super) struct Turned<J> {
    pub account: Account,
    pub length: Length,
    pub job: J,
}

/// Jobs that wait, and how many are being done.
pub(super) struct FairQueue<J> {
    state: Mutex<State<J>>,
    waiting: AtomicUsize,
    /// Jobs that are done at once.
    workers: usize,
    /// The same, of one account.
    workers_of_one: usize,
}

struct State<J> {
    flows: HashMap<Account, Flow<J>>,
    /// Virtual time: what the account last served had used when its turn began. Whoever comes anew begins there, and has
    /// no claim for the time in which it asked for nothing.
    clock: Duration,
    running: usize,
    running_long: usize,
}

/// The jobs of one account.
struct Flow<J> {
    used: Duration,
    running: usize,
    short: VecDeque<J>,
    long: VecDeque<J>,
}

impl<J> Flow<J> {
    fn queue(&mut self, length: Length) -> &mut VecDeque<J> {
        match length {
            Length::Short => &mut self.short,
            Length::Long => &mut self.long,
        }
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.short.is_empty() && self.long.is_empty()
    }
}

impl<J> FairQueue<J> {
    /// A queue whose jobs are done by `workers` threads at once. One account has as many of them as there are `processors`,
    /// and leaves some for others.
    pub fn new(workers: usize, processors: usize) -> FairQueue<J> {
        FairQueue {
            state: Mutex::new(State {
                flows: HashMap::new(),
                clock: Duration::ZERO,
                running: 0,
                running_long: 0,
            }),
            waiting: AtomicUsize::new(0),
            workers: workers.max(1),
            workers_of_one: processors.min(workers.saturating_sub(2)).max(1),
        }
    }

    /// Jobs that are done at once.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Adds a job; gives the job that the calling thread has to do now, this or another, if there is a worker to spare.
    pub fn enter(&self, account: Account, length: Length, job: J) -> Option<Turned<J>> {
        let mut state = self.state.lock();
        self.add(&mut state, account, length, job);
        self.pick(&mut state)
    }

    /// Counts a job as done, which took `used`, and adds what comes of it; gives the next one.
    pub fn go_on(
        &self,
        account: Account,
        length: Length,
        used: Duration,
        more: Option<((Account, Length), J)>,
    ) -> Option<Turned<J>> {
        let mut state = self.state.lock();
        state.running -= 1;
        state.running_long -= usize::from(length == Length::Long);
        if let Some(flow) = state.flows.get_mut(&account) {
            flow.running -= 1;
            flow.used += used;
        }
        if let Some(((account, length), job)) = more {
            self.add(&mut state, account, length, job);
        }
        let next = self.pick(&mut state);
        if state.flows.len() > REMEMBERED {
            let clock = state.clock;
            state.flows.retain(|_, flow| !flow.is_idle() || flow.used > clock);
            if state.flows.len() > 2 * REMEMBERED {
                state.flows.retain(|_, flow| !flow.is_idle());
            }
        }
        next
    }

    /// Whether a job waits that would be done if a job of `account` ended: of others, or a shorter one.
    pub fn is_waited_for(&self, account: Account) -> bool {
        self.waiting.load(Relaxed) > 0
            && self.state.lock().flows.iter().any(|(of, flow)| {
                let waits = !flow.short.is_empty() || !flow.long.is_empty() && *of != account;
                waits && (*of == account || flow.running < self.workers_of_one)
            })
    }

    fn add(&self, state: &mut State<J>, account: Account, length: Length, job: J) {
        let clock = state.clock;
        let flow = state.flows.entry(account).or_insert_with(|| Flow {
            used: Duration::ZERO,
            running: 0,
            short: VecDeque::new(),
            long: VecDeque::new(),
        });
        if flow.is_idle() {
            flow.used = flow.used.max(clock);
        }
        flow.queue(length).push_back(job);
        self.waiting.fetch_add(1, Relaxed);
    }

    fn pick(&self, state: &mut State<J>) -> Option<Turned<J>> {
        if state.running >= self.workers {
            return None;
        }
        let room_for_long = state.running_long < (self.workers - 1).max(1);
        let (account, flow) = state
            .flows
            .iter_mut()
            .filter(|(_, flow)| flow.running < self.workers_of_one)
            .filter(|(_, flow)| !flow.short.is_empty() || room_for_long && !flow.long.is_empty())
            .min_by_key(|(_, flow)| flow.used)?;
        let length = if flow.short.is_empty() { Length::Long } else { Length::Short };
        let job = flow.queue(length).pop_front()?;
        flow.running += 1;
        let (account, used) = (*account, flow.used);
        state.clock = state.clock.max(used);
        state.running += 1;
        state.running_long += usize::from(length == Length::Long);
        self.waiting.fetch_sub(1, Relaxed);
        Some(Turned { account, length, job })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Length::{Long, Short};

    const A: Account = Account::User(1);
    const B: Account = Account::User(2);
    const MS: Duration = Duration::from_millis(1);

    fn name(turned: Option<Turned<&'static str>>) -> Option<&'static str> {
        turned.map(|turned| turned.job)
    }

    #[test]
    fn one_account_leaves_workers_for_others() {
        let queue = FairQueue::new(8, 2);
        assert_eq!(name(queue.enter(A, Long, "a1")), Some("a1"));
        assert_eq!(name(queue.enter(A, Long, "a2")), Some("a2"));
        assert_eq!(name(queue.enter(A, Long, "a3")), None, "there are two processors");
        assert!(!queue.is_waited_for(A), "it would only be its own");
        assert_eq!(name(queue.enter(B, Short, "b1")), Some("b1"));
        assert_eq!(name(queue.go_on(B, Short, MS, None)), None, "still two");
        assert_eq!(name(queue.go_on(A, Long, MS, None)), Some("a3"));
        assert_eq!(
            (name(queue.go_on(A, Long, MS, None)), name(queue.go_on(A, Long, MS, None))),
            (None, None)
        );
        assert_eq!(queue.state.lock().running, 0);
    }

    #[test]
    fn who_has_used_less_comes_first() {
        let queue = FairQueue::new(1, 1);
        assert_eq!(name(queue.enter(A, Long, "a1")), Some("a1"));
        for job in ["a2", "a3"] {
            assert!(queue.enter(A, Long, job).is_none());
        }
        assert!(!queue.is_waited_for(A));
        assert!(queue.enter(B, Long, "b1").is_none());
        assert!(queue.is_waited_for(A));
        assert_eq!(name(queue.go_on(A, Long, 10 * MS, None)), Some("b1"));
        // B has used less, but what it has not asked for is no claim.
        assert_eq!(name(queue.go_on(B, Long, MS, Some(((B, Long), "b2")))), Some("b2"));
        assert_eq!(name(queue.go_on(B, Long, 20 * MS, Some(((B, Long), "b3")))), Some("a2"));
        assert_eq!(name(queue.go_on(A, Long, 2 * MS, None)), Some("a3"));
        assert_eq!(name(queue.go_on(A, Long, 100 * MS, None)), Some("b3"));
        // What was used is remembered while its account is away.
        assert!(queue.enter(A, Long, "a4").is_none() && queue.enter(B, Long, "b4").is_none());
        assert_eq!(name(queue.go_on(B, Long, 10 * MS, None)), Some("b4"));
        assert_eq!(name(queue.go_on(B, Long, 200 * MS, None)), Some("a4"));
    }

    #[test]
    fn short_ones_pass_long_ones() {
        let queue = FairQueue::new(4, 4);
        let others = [3, 4, 5].map(Account::User);
        for account in others {
            assert!(queue.enter(account, Long, "long").is_some());
        }
        assert!(queue.enter(A, Long, "a1").is_none(), "the last worker is for short ones");
        assert!(!queue.is_waited_for(B) || !queue.state.lock().flows.is_empty());
        assert_eq!(name(queue.enter(A, Short, "a2")), Some("a2"));
        assert!(queue.enter(B, Long, "b1").is_none() && queue.enter(B, Short, "b2").is_none());
        assert!(queue.is_waited_for(B), "its own short one waits");
        assert_eq!(name(queue.go_on(A, Short, 5 * MS, None)), Some("b2"));
        assert_eq!(name(queue.go_on(others[0], Long, MS, None)), Some("b1"));
        assert_eq!(name(queue.go_on(others[1], Long, MS, None)), Some("a1"));
    }

    #[test]
    fn accounts_that_are_done_are_forgotten() {
        let queue = FairQueue::new(1, 1);
        for uid in 0..10_000 {
            assert!(queue.enter(Account::User(uid), Short, "one").is_some());
            assert!(queue.go_on(Account::User(uid), Short, MS, None).is_none());
        }
        assert!(queue.state.lock().flows.len() <= 2 * REMEMBERED);
    }
}
