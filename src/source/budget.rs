//! What half-read dumps may hold: readers that stop reading pin memory, and must not pin all of it.

use crate::access::Account;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A bound on the bytes that are kept for dumps half read, per user and in all.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    most_per_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Nobody who holds nothing stands in it.
    accounts: HashMap<Account, usize>,
}

/// Bytes taken from a budget, which go back to it when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    account: Account,
    bytes: usize,
}

impl Budget {
    /// A budget of `most` bytes, of which one user may hold `most_per_user`.
    pub fn new(most: usize, most_per_user: usize) -> Budget {
        Budget { most, most_per_user, taken: Mutex::default() }
    }

    /// Takes `bytes` for `account`; `None` if they are not left.
    pub fn take(self: &Arc<Self>, account: Account, bytes: usize) -> Option<Share> {
        let mut taken = self.taken.lock();
        let all = taken.all.checked_add(bytes).filter(|all| *all <= self.most)?;
        let before = taken.accounts.get(&account).copied().unwrap_or(0);
        let users = before.checked_add(bytes).filter(|bytes| *bytes <= self.most_per_user)?;
        taken.all = all;
        taken.accounts.insert(account, users);
        Some(Share { budget: self.clone(), account, bytes })
    }

    /// Bytes that are taken, by all users.
    pub fn taken(&self) -> usize {
        self.taken.lock().all
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        taken.all -= self.bytes;
        if let Some(bytes) = taken.accounts.get_mut(&self.account) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                taken.accounts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_each_user_and_all() {
        let budget = Arc::new(Budget::new(100, 60));
        let first = budget.take(Account::User(1), 60).unwrap();
        assert!(budget.take(Account::User(1), 1).is_none(), "a user's part is used up");
        assert!(budget.take(Account::User(2), 41).is_none(), "so is the whole");
        let second = budget.take(Account::User(2), 40).unwrap();
        assert!(
            budget.take(Account::User(3), 1).is_none() && budget.take(Account::User(3), usize::MAX).is_none()
        );
        drop(first);
        assert_eq!(budget.taken(), 40);
        let again = budget.take(Account::User(1), 60).unwrap();
        drop((second, again));
        assert_eq!((budget.taken(), budget.taken.lock().accounts.len()), (0, 0));
    }
}
