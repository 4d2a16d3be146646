//! More readers at once than the daemon has threads or places to gather in: each gets its whole answer.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, request};
use common::needs;
use common::sources::sources;
use common::zoo::lives;
use task_diag::protocol::{DumpStrategy, Groups};

const READERS: usize = 24;

#[test]
fn readers_do_not_wait_for_each_other() {
    if !needs::root_and_fuse() {
        return;
    }
    let animal = lives::threads();
    for source in sources() {
        let daemon = Daemon::start(source);
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let (daemon, pid) = (&daemon, animal.pid);
                scope.spawn(move || {
                    let file = Handle::open(daemon.path());
                    let groups = Groups::BASE | Groups::CMDLINE | Groups::VMA;
                    let strategy = if reader % 2 == 0 { DumpStrategy::All } else { DumpStrategy::AllThreads };
                    for _ in 0..3 {
                        let tasks = file.dump(&request(strategy, 0, groups)).unwrap();
                        assert!(tasks.iter().any(|task| task.pid == pid));
                    }
                });
            }
        });
    }
}
