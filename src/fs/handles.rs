//! Open files. Each has its own transaction; reads of one file are served one after the other, by one thread.

use crate::engine::Transaction;
use crate::source::Source;
use fuser::ReplyData;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A read that waits for its answer.
#[derive(Debug)]
pub(super) struct WaitingRead {
    pub tid: u32,
    pub fsuid: u32,
    pub fsgid: u32,
    pub size: usize,
    pub reply: ReplyData,
}

/// One open file.
pub(super) struct Handle {
    pub transaction: Transaction,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<WaitingRead>,
    served: bool,
}

impl Handle {
    /// Answers this read, and those that come meanwhile; at once if another thread already does, which then
    /// answers this one too. So no thread ever waits for another's read of the same file.
    pub fn read(&self, read: WaitingRead, mut answer: impl FnMut(WaitingRead)) {
        let mut queue = self.queue.lock();
        queue.waiting.push_back(read);
        if queue.served {
            return;
        }
        queue.served = true;
        while let Some(next) = queue.waiting.pop_front() {
            drop(queue);
            answer(next);
            queue = self.queue.lock();
        }
        queue.served = false;
    }
}

/// All open files.
#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
}

impl Handles {
    /// A new file, answered from `source`; gives its number.
    pub fn open(&self, source: Arc<dyn Source>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let handle = Handle { transaction: Transaction::new(source), queue: Mutex::default() };
        self.open.write().insert(number, Arc::new(handle));
        number
    }

    /// The file of that number.
    pub fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&number).cloned()
    }

    /// Forgets a file.
    pub fn close(&self, number: u64) {
        self.open.write().remove(&number);
    }
}
