//! Work on all cores at once; in the thread at hand where no other can be started.

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::{Arc, OnceLock};

/// Threads that are started when they are first needed; cheap to clone.
#[derive(Clone)]
pub struct Cores {
    threads: usize,
    /// Bytes for the stack of each.
    stack: usize,
    pool: Arc<OnceLock<ThreadPool>>,
}

impl Default for Cores {
    /// As many threads as there are cores.
    fn default() -> Cores {
        Cores::new(0)
    }
}

impl Cores {
    /// `threads` of them, 0 for as many as there are cores.
    pub fn new(threads: usize) -> Cores {
        Cores { threads, stack: 2 << 20, pool: Arc::default() }
    }

    /// The threads, `None` where they cannot be started now.
    pub fn pool(&self) -> Option<&ThreadPool> {
        if let Some(pool) = self.pool.get() {
            return Some(pool);
        }
        let built = ThreadPoolBuilder::new().num_threads(self.threads).stack_size(self.stack).build();
        let pool = built.map_err(|e| log::debug!("cannot start threads: {e}")).ok()?;
        Some(self.pool.get_or_init(|| pool))
    }

    /// Both of these, at once if it can be.
    pub fn both<A: Send, B: Send>(
        &self,
        left: impl FnOnce() -> A + Send,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self.pool() {
            Some(pool) => pool.join(left, right),
            None => (left(), right()),
        }
    }

    /// What `find` makes of each, in order, several at once where there are twice `least`: below that, waking another core takes
    /// longer than the work.
    pub fn each<T: Send, U: Send>(
        &self,
        items: Vec<T>,
        least: usize,
        find: impl Fn(T) -> Option<U> + Send + Sync,
    ) -> Vec<U> {
        match if items.len() < 2 * least { None } else { self.pool() } {
            Some(pool) => {
                pool.install(|| items.into_par_iter().with_min_len(least).filter_map(find).collect())
            }
            None => items.into_iter().filter_map(find).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_with_and_without_threads() {
        // No address space holds such a stack.
        for stack in [1 << 20, 1 << 60] {
            let cores = Cores { stack, ..Cores::default() };
            assert_eq!(cores.pool().is_some(), stack == 1 << 20);
            assert_eq!(cores.both(|| 1, || 2), (1, 2));
            let odd = |n: u32| (n % 2 == 1).then_some(n * 10);
            for count in [3, 300] {
                let expected: Vec<u32> = (0..count).filter_map(odd).collect();
                assert_eq!(cores.each((0..count).collect(), 16, odd), expected);
            }
        }
    }
}
