//! Reads that gather: each waits for its turn, and is done by the thread that took it or by one that has just done another.

use super::buffers::Buffers;
use super::fair_queue::{FairQueue, Length, Turned};
use super::handles::{Handle, WaitingRead};
use super::seldom::Seldom;
use super::trim::{self, Activity};
use crate::access::{Account, Reader, Visibility};
use crate::engine::EngineError;
use crate::source::{Source, Turn};
use fuser::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// All reads under way.
pub(super) struct Reads {
    source: Arc<dyn Source>,
    visibility: Visibility,
    queue: FairQueue<Job>,
    buffers: Buffers,
    seldom_kept: Seldom,
    activity: Arc<Activity>,
}

/// A read whose file no other thread serves.
struct Job {
    handle: Arc<Handle>,
    read: WaitingRead,
}

impl Reads {
    /// None yet; `gatherers` of them are done at once.
    pub fn new(source: Arc<dyn Source>, visibility: Visibility, gatherers: usize) -> Reads {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Reads {
            source,
            visibility,
            queue: FairQueue::new(gatherers, processors),
            buffers: Buffers::default(),
            seldom_kept: Seldom::default(),
            activity: Arc::default(),
        }
    }

    /// How many are done at once.
    pub fn gatherers(&self) -> usize {
        self.queue.workers()
    }

    /// From now on memory is given back to the system where nothing is read any more.
    pub fn give_memory_back(self: &Arc<Self>) {
        let reads = self.clone();
        trim::start(self.activity.clone(), move || reads.buffers.release());
    }

    /// A file was closed, which may have held much.
    pub fn closed(&self) {
        self.activity.count();
    }

    /// Answers a read: at once if nothing has to be gathered for it; else when it is its turn, and then maybe others that
    /// wait.
    pub fn take(&self, handle: Arc<Handle>, read: WaitingRead) {
        let Some(read) = handle.queue(read) else { return };
        let Some(job) = self.to_gather(Job { handle, read }) else { return };
        let (account, length) = job.charged();
        let mut turned = self.queue.enter(account, length, job);
        while let Some(Turned { account, length, job }) = turned {
            let began = Instant::now();
            let (handle, unfinished) = (job.handle.clone(), self.gather(job));
            // The next read of the same file waits like all others.
            let next = match unfinished {
                Some(job) => Some(job),
                None => handle.next().and_then(|read| self.to_gather(Job { handle, read })),
            };
            turned = self.queue.go_on(account, length, began.elapsed(), next.map(|job| (job.charged(), job)));
        }
    }

    /// Answers the reads of a file for which nothing has to be gathered; gives the first that is none of those.
    fn to_gather(&self, mut job: Job) -> Option<Job> {
        while job.handle.transaction.is_at_end() {
            // There is nothing to be judged, and no reader is asked for.
            let outcome = job.handle.transaction.read(|| Ok(Reader::default()), &mut []);
            match outcome {
                Ok(_) => job.read.reply.data(&[]),
                Err(e) => self.refuse(job.read, &e),
            }
            job.read = job.handle.next()?;
        }
        Some(job)
    }

    /// Gathers and answers; gives the job back if it was not finished within its turn.
    fn gather(&self, job: Job) -> Option<Job> {
        self.activity.count();
        let Job { handle, read } = job;
        let WaitingRead { tid, fsuid, fsgid, size, account, .. } = read;
        let visibility = self.visibility;
        let reader = || Ok(Reader { visibility, account, ..self.source.reader(tid, fsuid, fsgid)? });
        let others_wait = || self.queue.is_waited_for(account);
        let turn = Turn::begin(&others_wait);
        self.buffers.with(size, |buffer| {
            // A fault of ours costs this reader an error, not everyone the thread that answers.
            let outcome =
                catch_unwind(AssertUnwindSafe(|| handle.transaction.read_in_turn(reader, &turn, buffer)));
            match outcome {
                Ok(Ok(Some(n))) => read.reply.data(&buffer[..n]),
                Ok(Ok(None)) => return Some(Job { handle, read }),
                Ok(Err(e)) => self.refuse(read, &e),
                Err(_) => {
                    log::error!("answering thread {tid} failed; this is a bug");
                    self.source.counters().failures.count();
                    handle.transaction.give_up();
                    read.reply.error(Errno::EIO);
                }
            }
            None
        })
    }

    fn refuse(&self, read: WaitingRead, error: &EngineError) {
        match error.to_errno() {
            libc::ENOMEM => self.seldom_kept.warn(error),
            _ => log::debug!("thread {}: {error}", read.tid),
        }
        read.reply.error(Errno::from_i32(error.to_errno()));
    }
}

impl Job {
    fn charged(&self) -> (Account, Length) {
        let short = self.handle.transaction.is_short();
        (self.read.account, if short { Length::Short } else { Length::Long })
    }
}
