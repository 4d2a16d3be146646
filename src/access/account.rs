//! Whom it is charged to what a reader takes: processor time, open files, bytes kept between reads.

use super::namespaces::maker_below;
use crate::proc_files::ProcRoot;
use std::fmt;

/// One person, as far as the kernel tells. A range of subordinate user ids belongs to whoever made the user namespace
/// that it is mapped into: those ids are one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// A user id of the daemon's user namespace.
    User(u32),
    /// All users of a user namespace that root made, a container's say, by its inode number.
    Namespace(u64),
}

impl Account {
    /// The account of thread `tid`, which now waits in a system call with the filesystem user id `fsuid`.
    ///
    /// Where the thread's namespace cannot be looked at, that user id counts for itself.
    pub fn of(proc_root: &ProcRoot, tid: u32, fsuid: u32) -> Account {
        let own = proc_root.own_namespaces().user;
        let namespace = |dir| (fsuid != 0).then(|| maker_below(own, &dir)).flatten();
        match proc_root.task(tid).ok().and_then(namespace) {
            Some((namespace, 0)) => Account::Namespace(namespace),
            Some((_, maker)) => Account::User(maker),
            None => Account::User(fsuid),
        }
    }

    /// Whether it is root's of the daemon's user namespace, for whom a part of everything is kept back.
    pub fn is_root(self) -> bool {
        self == Account::User(0)
    }
}

impl Default for Account {
    fn default() -> Account {
        Account::User(0)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::User(uid) => write!(f, "user {uid}"),
            Account::Namespace(inode) => write!(f, "user namespace {inode}"),
        }
    }
}
