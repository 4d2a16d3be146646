//! Open files. Each has its own transaction; reads of one file are served one after the other, by one thread.

use crate::engine::Transaction;
use crate::source::Source;
use fuser::ReplyData;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

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
    /// Who opened it.
    user: u32,
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
pub(super) struct Handles {
    open: RwLock<Open>,
    next: AtomicU64,
    most: usize,
    most_per_user: usize,
}

#[derive(Default)]
struct Open {
    files: HashMap<u64, Arc<Handle>>,
    /// How many each user has; nobody who has none stands in it.
    users: HashMap<u32, usize>,
}

/// Why no file can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum OpenError {
    #[error("user {0} has too many files open; close some, or raise --files-per-user")]
    User(u32),
    #[error("all users together have too many files open; close some, or raise --files")]
    All,
}

impl OpenError {
    /// The errno that `open` gives.
    pub fn to_errno(self) -> i32 {
        match self {
            OpenError::User(_) => libc::EMFILE,
            OpenError::All => libc::ENFILE,
        }
    }
}

impl Handles {
    /// No file yet, and bounds on how many there will be.
    pub fn new(most: usize, most_per_user: usize) -> Handles {
        Handles { open: RwLock::default(), next: AtomicU64::new(0), most, most_per_user }
    }

    /// A new file of `user`, answered from `source`; gives its number.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn open(&self, user: u32, source: Arc<dyn Source>) -> Result<u64, OpenError> {
        let mut open = self.open.write();
        if open.files.len() >= self.most {
            return Err(OpenError::All);
        }
        let count = open.users.get(&user).copied().unwrap_or(0);
        if count >= self.most_per_user {
            return Err(OpenError::User(user));
        }
        open.users.insert(user, count + 1);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let handle = Handle { user, transaction: Transaction::new(source), queue: Mutex::default() };
        open.files.insert(number, Arc::new(handle));
        Ok(number)
    }

    /// How many files are open.
    pub fn count(&self) -> usize {
        self.open.read().files.len()
    }

    /// The file of that number.
    pub fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.read().files.get(&number).cloned()
    }

    /// Forgets a file.
    pub fn close(&self, number: u64) {
        let mut open = self.open.write();
        let Some(handle) = open.files.remove(&number) else { return };
        if let Some(count) = open.users.get_mut(&handle.user) {
            *count -= 1;
            if *count == 0 {
                open.users.remove(&handle.user);
            }
        }
        // What it holds is given up without the lock.
        drop(open);
    }
}
