//! Open files. Each has its own transaction; reads of one file are served one after the other.

use crate::access::Account;
use crate::engine::Transaction;
use crate::source::{Budget, Refusal, Share, Source};
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
    pub account: Account,
    pub reply: ReplyData,
}

/// One open file.
pub(super) struct Handle {
    /// Who opened it.
    user: u32,
    account: Account,
    pub transaction: Transaction,
    queue: Mutex<Queue>,
    _place: Share,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<WaitingRead>,
    served: bool,
}

impl Handle {
    /// Whom it is charged to what a thread with the filesystem user id `uid` asks for by this file.
    pub fn account(&self, uid: u32, look: impl FnOnce() -> Account) -> Account {
        if uid == self.user { self.account } else { look() }
    }

    /// Gives the read back if it is to be answered now. Else another one of this file is being answered, and this one comes
    /// after it: no thread ever waits for another's read of the same file.
    pub fn queue(&self, read: WaitingRead) -> Option<WaitingRead> {
        let mut queue = self.queue.lock();
        if queue.served {
            queue.waiting.push_back(read);
            return None;
        }
        queue.served = true;
        Some(read)
    }

    /// The read that is to be answered after the one that just was.
    pub fn next(&self) -> Option<WaitingRead> {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        queue.served = next.is_some();
        next
    }
}

/// All open files.
pub(super) struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
    places: Arc<Budget>,
}

/// Why no file can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many files open: {0}; close some, or raise --files and --files-per-user")]
pub(super) struct OpenError(#[from] Refusal);

impl OpenError {
    /// The errno that `open` gives.
    pub fn to_errno(self) -> i32 {
        match self.0 {
            Refusal::Account(_) => libc::EMFILE,
            Refusal::All => libc::ENFILE,
        }
    }
}

impl Handles {
    /// No file yet, and bounds on how many there will be.
    pub fn new(most: usize, most_per_user: usize) -> Handles {
        let places = Arc::new(Budget::new(most, most_per_user));
        Handles { open: RwLock::default(), next: AtomicU64::new(0), places }
    }

    /// A new file of `user`, charged to `account` and answered from `source`; gives its number.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn open(&self, user: u32, account: Account, source: Arc<dyn Source>) -> Result<u64, OpenError> {
        let place = self.places.take(account, 1)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let transaction = Transaction::new(source);
        let handle = Handle { user, account, transaction, queue: Mutex::default(), _place: place };
        self.open.write().insert(number, Arc::new(handle));
        Ok(number)
    }

    /// How many files are open.
    pub fn count(&self) -> usize {
        self.open.read().len()
    }

    /// The file of that number.
    pub fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&number).cloned()
    }

    /// Forgets a file. What it holds is given up without the lock.
    pub fn close(&self, number: u64) {
        let handle = self.open.write().remove(&number);
        drop(handle);
    }
}
