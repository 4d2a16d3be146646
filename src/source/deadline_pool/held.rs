//! Who holds threads of the pool, and who may hold more.

use std::collections::HashMap;

/// Threads that one user's processes may hold while there are plenty.
pub(super) const MOST_OF_ONE_OWNER: usize = 8;

/// Threads that are asleep in the memory of their targets.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Each with whom it counts for.
    targets: HashMap<u32, (u32, Threads)>,
    owners: HashMap<u32, Threads>,
    all: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Threads {
    asleep: usize,
    /// Those of them for whose result nobody waits any more.
    lost: usize,
}

impl Threads {
    /// True where none is left.
    fn come_back(&mut self, lost: bool) -> bool {
        self.asleep -= 1;
        self.lost -= usize::from(lost);
        self.asleep == 0
    }
}

/// Whether a target is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chance {
    Begin,
    /// It holds a thread for good, or others of its owner's do as many as they may.
    Hopeless,
    /// It holds a thread, or others of its owner's as many as they may, for the moment.
    Wait,
}

impl Held {
    /// Threads that are held in all.
    pub fn all(&self) -> usize {
        self.all
    }

    /// A thread fell asleep in the memory of that target.
    pub fn hold(&mut self, target: u32, owner: u32) {
        let (owner, threads) = self.targets.entry(target).or_insert((owner, Threads::default()));
        threads.asleep += 1;
        self.owners.entry(*owner).or_default().asleep += 1;
        self.all += 1;
    }

    /// One of those was given up.
    pub fn lose(&mut self, target: u32) {
        let Some((owner, threads)) = self.targets.get_mut(&target) else { return };
        threads.lost += 1;
        self.owners.entry(*owner).or_default().lost += 1;
    }

    /// One of those came back, which was given up or not.
    pub fn come_back(&mut self, target: u32, lost: bool) {
        let Some((owner, threads)) = self.targets.get_mut(&target) else { return };
        let owner = *owner;
        let gone = threads.come_back(lost);
        if gone {
            self.targets.remove(&target);
        }
        if self.owners.get_mut(&owner).is_some_and(|threads| threads.come_back(lost)) {
            self.owners.remove(&owner);
        }
        self.all -= 1;
    }

    /// Whether a target is tried where `most` threads may be held in all. The owner is only asked for where it matters.
    ///
    /// The more are held, the less one owner may: what is left is for those who hold little, and in the end for root.
    pub fn chance(&self, most: usize, target: u32, owner: impl FnOnce() -> u32) -> Chance {
        if self.all == 0 {
            return Chance::Begin;
        }
        match self.targets.get(&target) {
            Some((_, threads)) if threads.lost > 0 => return Chance::Hopeless,
            Some(_) => return Chance::Wait,
            None => {}
        }
        let (scarce, last) = (self.all >= most / 2, self.all >= most - most / 8);
        if !scarce && self.all < MOST_OF_ONE_OWNER {
            return Chance::Begin;
        }
        let owner = owner();
        let limit = match owner {
            _ if self.all >= most => 0,
            0 => MOST_OF_ONE_OWNER,
            _ if last => 0,
            _ if scarce => 2,
            _ => MOST_OF_ONE_OWNER,
        };
        let its = self.owners.get(&owner).copied().unwrap_or_default();
        match its {
            Threads { asleep, .. } if asleep < limit => Chance::Begin,
            Threads { lost, .. } if lost >= limit => Chance::Hopeless,
            _ => Chance::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owners `1..` each hold as many threads as they are let, for good; gives how many that are.
    fn filled(held: &mut Held, most: usize, owners: u32) -> Vec<usize> {
        let mut got = Vec::new();
        for owner in 1..=owners {
            let mut count = 0;
            while held.chance(most, owner * 1000 + count, || owner) == Chance::Begin {
                held.hold(owner * 1000 + count, owner);
                held.lose(owner * 1000 + count);
                count += 1;
            }
            got.push(count as usize);
        }
        got
    }

    #[test]
    fn a_share_is_kept_back() {
        let mut held = Held::default();
        let got = filled(&mut held, 64, 60);
        assert_eq!(got[..5], [8, 8, 8, 8, 2]);
        // However many they are, they do not get all.
        assert_eq!(held.all(), 56);
        assert_eq!(held.chance(64, 7, || 77), Chance::Hopeless);
        assert_eq!(held.chance(64, 7, || 0), Chance::Begin);
        assert_eq!(filled(&mut held, 64, 1), [0]);
        held.come_back(5000, true);
        assert_eq!(held.chance(64, 7, || 77), Chance::Begin);
        assert_eq!(held.chance(64, 7, || 1), Chance::Hopeless);
    }

    #[test]
    fn who_only_sleeps_is_waited_for() {
        let mut held = Held::default();
        for target in 0..8 {
            held.hold(target, 5);
        }
        assert_eq!(held.chance(64, 9, || 5), Chance::Wait);
        assert_eq!(held.chance(64, 7, || 6), Chance::Wait);
        assert_eq!(held.chance(64, 9, || 6), Chance::Begin);
        held.lose(3);
        assert_eq!(held.chance(64, 3, || 5), Chance::Hopeless);
        assert_eq!(held.chance(64, 9, || 5), Chance::Wait);
        held.come_back(3, true);
        assert_eq!(held.chance(64, 9, || 5), Chance::Begin);
        (0..8).filter(|target| *target != 3).for_each(|target| held.come_back(target, false));
        assert!(held.all() == 0 && held.targets.is_empty() && held.owners.is_empty());
    }
}
