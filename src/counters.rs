//! What a server has done since it began, for whoever runs it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),* $(,)?) => {
        /// Sums since the server began. Some of them tell of tasks that a reader may not see: they are for root's eyes.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)*
        }

        impl Counters {
            /// All of them in the text format of Prometheus.
            pub fn exposition(&self) -> String {
                let mut text = String::new();
                $(
                    let name = concat!("task_diag_", stringify!($name), "_total");
                    let help = concat!($($doc),+).trim();
                    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", self.$name.get());
                )*
                text
            }
        }
    };
}

counters! {
    /// Requests that were written.
    requests,
    /// Reads that were answered, with bytes, the end of a dump or an error.
    reads,
    /// Bytes that reads have given.
    bytes,
    /// Nanoseconds spent on reads.
    nanoseconds,
    /// Tasks that were shown; one that takes several messages counts once.
    tasks_shown,
    /// Tasks that were left out because the reader may not see them, or because they changed their rights or ended.
    tasks_hidden,
    /// Tasks whose memory could not be read in time.
    deadlines_missed,
    /// Requests that made no sense, by a read that answered EINVAL.
    invalid,
    /// Writes refused with EBUSY: an earlier request was not read to its end.
    busy,
    /// Reads refused with EACCES: the reader's identity could not be established.
    unknown_readers,
    /// Reads refused with ESRCH: there was no such task.
    no_such_task,
    /// Reads refused with EMSGSIZE: the buffer was too small.
    too_small_buffers,
    /// Reads refused with ENOMEM: the user holds too much of dumps half read.
    over_budget,
    /// Opens refused with EMFILE or ENFILE: too many files are open.
    too_many_files,
    /// Reads that failed for a reason of the server's own, EIO.
    failures,
}

/// One sum.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let counters = Counters::default();
        counters.tasks_shown.add(3);
        counters.tasks_shown.count();
        let text = counters.exposition();
        assert!(text.starts_with("# HELP task_diag_requests_total Requests that were written.\n"));
        assert!(
            text.contains("\n# TYPE task_diag_tasks_shown_total counter\ntask_diag_tasks_shown_total 4\n")
        );
    }
}
