//! The reading of one task's files: it ends when nobody waits for it, and what it holds is charged to the reader's account.

use super::deadline_pool::Stop;
use super::{Budget, Share};
use crate::access::Account;
use crate::proc_files::Bounds;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::sync::Arc;

/// The bounds of one item of work.
#[derive(Debug)]
pub(super) struct Reading {
    stop: Stop,
    budget: Arc<Budget>,
    account: Account,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    shares: Vec<Share>,
    refused: bool,
}

/// Bytes of lists that count for nobody: most tasks have fewer.
const FREE: usize = 64 << 10;

impl Reading {
    /// For `account`, until `stop`.
    pub fn new(stop: &Stop, budget: &Arc<Budget>, account: Account) -> Arc<Reading> {
        let (stop, budget) = (stop.clone(), budget.clone());
        Arc::new(Reading { stop, budget, account, taken: Mutex::default() })
    }

    /// At its end: what it took while it grew is given back, and lists of so many bytes count from now on.
    ///
    /// # Errors
    /// `ENOMEM` where the account may not have so much, now or before.
    pub fn end(&self, bytes: usize) -> nix::Result<Option<Share>> {
        let taken = std::mem::take(&mut *self.taken.lock());
        drop(taken.shares);
        match bytes {
            _ if taken.refused => Err(Errno::ENOMEM),
            ..FREE => Ok(None),
            _ => self.budget.take(self.account, bytes).map(Some).map_err(|_| Errno::ENOMEM),
        }
    }
}

impl Bounds for Reading {
    fn step(&self, growth: usize) -> nix::Result<()> {
        if self.stop.is_set() {
            return Err(Errno::ECANCELED);
        }
        if growth > 0 {
            let mut taken = self.taken.lock();
            match self.budget.take(self.account, growth) {
                Ok(share) => taken.shares.push(share),
                Err(_) => {
                    taken.refused = true;
                    return Err(Errno::ENOMEM);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_counts() {
        let budget = Arc::new(Budget::new(64 << 20, 4 << 20));
        let reading = || Reading::new(&Stop::default(), &budget, Account::User(7));
        let small = reading();
        assert_eq!((small.step(0), small.end(100).map(|share| share.is_none())), (Ok(()), Ok(true)));
        let first = reading();
        assert_eq!((first.step(1 << 20), first.step(2 << 20)), (Ok(()), Ok(())));
        assert_eq!(budget.taken(), 3 << 20);
        let second = reading();
        assert_eq!((second.step(2 << 20), second.end(0).err()), (Err(Errno::ENOMEM), Some(Errno::ENOMEM)));
        let share = first.end(1 << 20).unwrap();
        assert_eq!((budget.taken(), share.is_some()), (1 << 20, true));
        drop(share);
        assert_eq!(budget.taken(), 0);
        assert!(reading().end(5 << 20).is_err());
    }
}
