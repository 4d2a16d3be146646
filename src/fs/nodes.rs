//! The numbers of the interface's nodes.
//!
//! Every lookup gets one of its own, so that no two open files share an inode: neither its page cache, in which one would
//! find what another read, nor its lock, which a write holds while it waits for the memory that it is to take, and whoever
//! else writes waits for it. But a name that changes its node loses what is mounted upon it, in every mount namespace. So
//! the node that an administrator mounts upon stays the one of that name until the kernel forgets it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first number that is one of the interface's.
pub(super) const FIRST: u64 = 16;

/// Gives out numbers.
pub(super) struct Nodes {
    next: AtomicU64,
    /// The nodes that stay, by the names they are known by.
    held: Mutex<HashMap<&'static str, Held>>,
}

#[derive(Clone, Copy)]
struct Held {
    node: u64,
    /// How often the kernel has been told of it, less what it has forgotten.
    lookups: u64,
}

impl Nodes {
    /// None given out yet.
    pub fn new() -> Nodes {
        Nodes { next: AtomicU64::new(FIRST), held: Mutex::default() }
    }

    /// The node that `name` has for this lookup; `mounts` tells whether whoever asks is about to mount upon it.
    pub fn look_up(&self, name: &'static str, mounts: impl FnOnce() -> bool) -> u64 {
        if let Some(held) = self.held.lock().get_mut(name) {
            held.lookups += 1;
            return held.node;
        }
        let stays = mounts();
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        if !stays {
            return node;
        }
        let mut all = self.held.lock();
        let held = all.entry(name).or_insert(Held { node, lookups: 0 });
        held.lookups += 1;
        held.node
    }

    /// The kernel forgets that it was told of `node` so many times.
    pub fn forget(&self, node: u64, lookups: u64) {
        self.held.lock().retain(|_, held| {
            if held.node == node {
                held.lookups = held.lookups.saturating_sub(lookups);
            }
            held.lookups > 0
        });
    }
}

/// Whether the thread, which waits for a lookup, does so in a call that mounts (`/proc/TID/syscall`). Where that cannot be
/// known it counts as one: a mount that is lost does more harm.
pub(super) fn is_mounting(tid: u32) -> bool {
    let path = format!("/proc/{tid}/syscall");
    // It may be on its way to sleep still.
    for _ in 0..50 {
        let Ok(text) = std::fs::read_to_string(&path) else { return true };
        match text.split_ascii_whitespace().next() {
            Some("running") => std::thread::sleep(Duration::from_micros(100)),
            number => {
                let number = number.and_then(|number| number.parse().ok());
                return number.is_none_or(|number| [libc::SYS_mount, libc::SYS_move_mount].contains(&number));
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_from_a_mount_until_it_is_forgotten() {
        let nodes = Nodes::new();
        let plain = |name| nodes.look_up(name, || false);
        assert_ne!(plain("a"), plain("a"));
        let held = nodes.look_up("a", || true);
        assert_eq!((plain("a"), plain("a")), (held, held));
        let other = plain("b");
        assert!(other != held && plain("b") != other);
        nodes.forget(other, 1);
        nodes.forget(held, 2);
        assert_eq!(plain("a"), held);
        nodes.forget(held, 2);
        assert_ne!(plain("a"), plain("a"));
    }

    #[test]
    fn who_does_not_mount() {
        let (sender, tid) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            std::thread::park();
        });
        let tid = tid.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!is_mounting(tid as u32));
        waiting.thread().unpark();
        waiting.join().unwrap();
        assert!(is_mounting(u32::MAX >> 1), "what cannot be known");
    }
}
