//! What readers may hold at once: those that stop reading pin memory and files, and must not pin all of them.

use crate::access::Account;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use thiserror::Error;

/// The part of everything that only root gets: one in so many.
const ROOTS: usize = 16;

/// A bound on what is held at once (bytes, files), by each account and in all.
///
/// Who comes late still gets something, however many have come before: an account may hold the square of the part that is
/// free. While half of all is free that is a quarter, while a tenth is free it is a hundredth.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Nobody who holds nothing stands in it.
    accounts: HashMap<Account, usize>,
}

/// Why nothing is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The account holds as much as it may, while others hold what they do.
    #[error("{0} holds too much")]
    Account(Account),
    /// Nothing is left.
    #[error("all accounts together hold too much")]
    All,
}

/// What was taken from a budget, which goes back to it when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    account: Account,
    amount: usize,
}

impl Budget {
    /// A budget of `most`, of which one account may hold `most_of_one`.
    pub fn new(most: usize, most_of_one: usize) -> Budget {
        Budget { most, most_of_one, taken: Mutex::default() }
    }

    /// Takes so much for `account`.
    ///
    /// # Errors
    /// [`Refusal`] where it may not hold that.
    pub fn take(self: &Arc<Self>, account: Account, amount: usize) -> Result<Share, Refusal> {
        let mut share = Share { budget: self.clone(), account, amount: 0 };
        share.resize(amount)?;
        Ok(share)
    }

    /// What is taken, by all accounts.
    pub fn taken(&self) -> usize {
        self.taken.lock().all
    }

    /// Whether `account` may hold `amount` more.
    fn allows(&self, taken: &Taken, account: Account, amount: usize) -> Result<(), Refusal> {
        let holds = taken.accounts.get(&account).copied().unwrap_or(0);
        let holds = holds.checked_add(amount).filter(|holds| *holds <= self.most_of_one);
        let holds = holds.ok_or(Refusal::Account(account))?;
        let roots = match account.is_root() {
            true => 0,
            false => (self.most / ROOTS)
                .saturating_sub(taken.accounts.get(&Account::User(0)).copied().unwrap_or(0)),
        };
        let free = taken.all.checked_add(amount).and_then(|all| (self.most - roots).checked_sub(all));
        let free = free.ok_or(Refusal::All)?;
        // So little that many may hold it until all is gone.
        let little = (self.most >> 14).max(4);
        let fair = (free as u128).pow(2) / self.most.max(1) as u128;
        match account.is_root() || holds <= little || holds as u128 <= fair {
            true => Ok(()),
            false => Err(Refusal::Account(account)),
        }
    }
}

impl Share {
    /// Makes it as large as what it stands for now is; a smaller one is always given.
    ///
    /// # Errors
    /// [`Refusal`] where the account may not hold so much more: then it stays as large as it was.
    pub fn resize(&mut self, amount: usize) -> Result<(), Refusal> {
        let mut taken = self.budget.taken.lock();
        if let Some(more) = amount.checked_sub(self.amount).filter(|more| *more > 0) {
            self.budget.allows(&taken, self.account, more)?;
            taken.all += more;
            *taken.accounts.entry(self.account).or_default() += more;
        } else if amount < self.amount {
            let less = self.amount - amount;
            taken.all -= less;
            if let Some(holds) = taken.accounts.get_mut(&self.account) {
                *holds -= less;
                if *holds == 0 {
                    taken.accounts.remove(&self.account);
                }
            }
        }
        drop(taken);
        self.amount = amount;
        Ok(())
    }
}

/// Gives up the room of a list that has become much shorter, so that it counts for no more than it is.
pub(super) fn shrink<T>(list: &mut VecDeque<T>) {
    if list.capacity() > 4 * list.len().max(256) {
        list.shrink_to(2 * list.len());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_each_account_and_all() {
        let budget = Arc::new(Budget::new(160, 50));
        let account = Account::User;
        let first = budget.take(account(1), 45).unwrap();
        assert_eq!(
            budget.take(account(1), 6).unwrap_err(),
            Refusal::Account(account(1)),
            "its part is used up"
        );
        assert_eq!(
            budget.take(account(2), 50).unwrap_err(),
            Refusal::Account(account(2)),
            "little would be left"
        );
        let second = budget.take(account(2), 20).unwrap();
        assert_eq!(budget.take(account(3), usize::MAX).unwrap_err(), Refusal::Account(account(3)));
        drop(first);
        assert_eq!(budget.taken(), 20);
        let mut again = budget.take(account(1), 45).unwrap();
        assert!(again.resize(51).is_err() && again.resize(40).is_ok());
        assert_eq!(budget.taken(), 60);
        drop((second, again));
        assert_eq!((budget.taken(), budget.taken.lock().accounts.len()), (0, 0));
        assert!(Arc::new(Budget::new(0, 0)).take(account(1), 0).is_ok());
    }

    /// One person with many user ids, each of which takes as much as it gets, one at a time.
    #[test]
    fn who_comes_late_gets_something() {
        let budget = Arc::new(Budget::new(1 << 16, 1 << 14));
        let mut held = Vec::new();
        for uid in 1..=100 {
            let before = held.len();
            held.extend(std::iter::from_fn(|| budget.take(Account::User(uid), 1).ok()));
            assert!(held.len() > before, "{uid} users leave nothing");
        }
        let late: Vec<Share> =
            std::iter::from_fn(|| budget.take(Account::User(4711), 1).ok()).take(100).collect();
        assert!(late.len() >= 4, "{}", late.len());
        let root = budget.take(Account::User(0), (1 << 16) / ROOTS).unwrap();
        assert!(budget.taken() <= 1 << 16);
        drop((held, late));
        // What root holds already is not kept back once more.
        assert!(budget.take(Account::User(1), 1 << 14).is_ok());
        drop(root);
    }
}
