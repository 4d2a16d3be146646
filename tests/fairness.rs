//! What one user asks for holds up nobody else, and whoever waits for a turn loses nothing by it.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::hung::Hung;
use common::identity::Identity;
use common::needs;
use common::sources::sources;
use common::zoo::{farm::Farm, users};
use nix::sys::stat::stat;
use std::time::{Duration, Instant};
use task_diag::protocol::{DumpStrategy, Groups};

/// More than the threads that gather (8 without an option).
const READERS: usize = 10;

/// Far less than the deadlines of a patient daemon.
const AT_ONCE: Duration = Duration::from_secs(60);

#[test]
fn one_user_does_not_hold_all_that_gather() {
    if !needs::root_and_fuse() {
        return;
    }
    let alice = users::alices();
    let memory = Groups::BASE | Groups::VMA | Groups::VMA_STAT;
    for source in sources() {
        let daemon = Daemon::start(source);
        let hung: Vec<Hung> = (0..READERS).map(|_| Hung::new()).collect();
        std::thread::scope(|scope| {
            let (daemon, alice) = (&daemon, &alice);
            let readers: Vec<_> = hung
                .iter()
                .map(|hung| {
                    let file = Handle::open(daemon.path());
                    file.request(&one(hung.pid(), memory));
                    scope.spawn(move || file.read(4096))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(500));
            let other = scope.spawn(move || {
                stat(&daemon.path()).unwrap();
                assert!(std::fs::read_to_string(daemon.dir().join("info")).unwrap().contains("groups"));
                let file = Handle::open(daemon.path());
                Identity::user("alice", users::ALICE).run(|| {
                    file.answers(alice.pid);
                    let all = file.dump(&request(DumpStrategy::All, 0, Groups::BASE)).unwrap();
                    assert!(all.iter().any(|task| task.pid == alice.pid));
                });
            });
            let began = Instant::now();
            while !other.is_finished() && began.elapsed() < AT_ONCE {
                std::thread::sleep(Duration::from_millis(2));
            }
            let answered = other.is_finished();
            let waiting = readers.iter().filter(|reader| !reader.is_finished()).count();
            hung.iter().for_each(Hung::let_go);
            other.join().unwrap();
            assert!(answered, "another user is answered while the others wait");
            assert!(waiting > 0, "{}: what others wait for hangs all the while", source.name);
            readers.into_iter().for_each(|reader| drop(reader.join().unwrap().unwrap()));
        });
    }
}

/// Who sees next to nothing of many tasks has its turn ended in the middle of them, with nothing to show for it.
#[test]
fn an_end_of_a_turn_is_no_end_of_a_dump() {
    if !needs::root_and_fuse() {
        return;
    }
    let _farm = Farm::new(1500, 1);
    let alice = users::alices();
    for source in sources() {
        let daemon = Daemon::start(source);
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let (daemon, pid) = (&daemon, alice.pid);
                scope.spawn(move || {
                    let identity = if reader == 0 { 4711 } else { users::ALICE };
                    let file = Handle::open(daemon.path());
                    Identity::user("reader", identity).run(|| {
                        for _ in 0..10 {
                            let asked = request(DumpStrategy::AllThreads, 0, Groups::BASE | Groups::CRED);
                            let seen = file.dump(&asked).unwrap();
                            assert_eq!(seen.iter().any(|task| task.pid == pid), identity == users::ALICE);
                        }
                    });
                });
            }
        });
    }
}
