//! What half-read dumps may hold: readers that stop reading pin memory, and must not pin all of it.

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
    /// By user id; nobody who holds nothing stands in it.
    users: HashMap<u32, usize>,
}

/// Bytes taken from a budget, which go back to it when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    user: u32,
    bytes: usize,
}

impl Budget {
    /// A budget of `most` bytes, of which one user may hold `most_per_user`.
    pub fn new(most: usize, most_per_user: usize) -> Budget {
        Budget { most, most_per_user, taken: Mutex::default() }
    }

    /// Takes `bytes` for user `user` (a user id in the daemon's user namespace); `None` if they are not left.
    pub fn take(self: &Arc<Self>, user: u32, bytes: usize) -> Option<Share> {
        let mut taken = self.taken.lock();
        let all = taken.all.checked_add(bytes).filter(|all| *all <= self.most)?;
        let before = taken.users.get(&user).copied().unwrap_or(0);
        let users = before.checked_add(bytes).filter(|bytes| *bytes <= self.most_per_user)?;
        taken.all = all;
        taken.users.insert(user, users);
        Some(Share { budget: self.clone(), user, bytes })
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
        if let Some(bytes) = taken.users.get_mut(&self.user) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                taken.users.remove(&self.user);
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
        let first = budget.take(1, 60).unwrap();
        assert!(budget.take(1, 1).is_none(), "a user's part is used up");
        assert!(budget.take(2, 41).is_none(), "so is the whole");
        let second = budget.take(2, 40).unwrap();
        assert!(budget.take(3, 1).is_none() && budget.take(3, usize::MAX).is_none());
        drop(first);
        assert_eq!(budget.taken(), 40);
        let again = budget.take(1, 60).unwrap();
        drop((second, again));
        assert_eq!((budget.taken(), budget.taken.lock().users.len()), (0, 0));
    }
}
