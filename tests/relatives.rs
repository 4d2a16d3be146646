//! SET gives the tasks that are listed, SUBTREE a process and what comes from it, each to who may see them.

mod common;

use common::child::{Child, Inside};
use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one, request};
use common::identity::Identity;
use common::sources::sources;
use common::zoo::farm::Farm;
use common::zoo::lives;
use common::zoo::users::{ALICE, BOB};
use common::{needs, proc, wait};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, Request};

const LIGHT: Groups = Groups::BASE.union(Groups::CRED).union(Groups::STATM);

fn pids(tasks: &[OwnedTask]) -> Vec<u32> {
    tasks.iter().map(|task| task.pid).collect()
}

#[test]
fn a_set_is_what_is_listed() {
    if !needs::root_and_fuse() {
        return;
    }
    let farm = Farm::new(500, 3);
    let absent = u32::MAX;
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let (first, second) = (&farm.processes[0], &farm.processes[1]);
        let listed = [second[0], first[2], absent, first[0], second[0], 0, first[2]];
        let tasks = file.dump(&Request::set(listed, LIGHT)).unwrap();
        assert_eq!(pids(&tasks), [second[0], first[2], first[0]], "as listed, each once");
        for task in &tasks {
            let alone = file.dump(&one(task.pid, LIGHT)).unwrap();
            assert_eq!(std::slice::from_ref(task), &*alone, "as ONE shows it");
        }
        // More than any read holds, and then more than any request holds.
        let all: Vec<u32> = farm.processes.iter().flatten().copied().collect();
        for buffer in [4096, BUFFER] {
            let tasks = file.dump_with(&Request::set(all.clone(), LIGHT | Groups::VMA), buffer).unwrap();
            assert_eq!(pids(&tasks), all);
        }
        let absent: Vec<u32> = (0..15_000).map(|n| (1 << 30) + n).collect();
        assert_eq!(file.dump(&Request::set([absent, vec![all[0]]].concat(), LIGHT)).unwrap().len(), 1);
        assert_eq!(file.dump(&Request::set([], LIGHT)), Ok(vec![]));
        // The list is shorter than it says, or is not there at all.
        let mut short = Request::set([all[0], all[1]], LIGHT).to_bytes();
        for len in [48_u32, 40] {
            short.truncate(len as usize);
            short[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(file.write(&short), Ok(len as usize));
            assert_eq!(file.read(BUFFER), Err(Errno::EINVAL));
        }
        assert_eq!(file.dump(&one(all[0], LIGHT)).unwrap().len(), 1, "the file takes the next request");
        // Nobody is told of tasks that are not for them.
        let seen = Identity::user("Alice", ALICE)
            .run(|| Handle::open(daemon.path()).dump(&Request::set(all.clone(), LIGHT)).unwrap());
        assert_eq!(seen, []);
    }
}

#[test]
fn a_subtree_is_a_process_and_all_that_come_from_it() {
    if !needs::root_and_fuse() {
        return;
    }
    // Children of the leader and of a thread, one of which has ended.
    let parents = lives::parents();
    let board: Vec<u32> = (1..9).map(|slot| parents.child.board.get(slot) as u32).collect();
    let farm = Farm::new(300, 2);
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let subtree = |pid| file.dump(&Request::subtree(pid, LIGHT)).unwrap();
        let mut family = [vec![parents.pid], board.clone()].concat();
        family.sort_unstable();
        assert_eq!(pids(&subtree(parents.pid)), family);
        let thread = parents.child.board.get(0) as u32;
        assert_eq!(pids(&subtree(thread)), family, "by the id of a thread");
        assert_eq!(pids(&subtree(board[0])), [board[0]], "without children");

        let mut all = [vec![farm.parent.pid()], farm.leaders()].concat();
        all.sort_unstable();
        assert_eq!(pids(&subtree(farm.parent.pid())), all);
        // This test is the daemon's parent and that of all the others.
        let own = pids(&subtree(std::process::id()));
        assert!(own.is_sorted() && family.iter().chain(&all).all(|pid| own.contains(pid)));
        assert!(own.contains(&daemon.server()), "grandchildren, too");

        file.request(&Request::subtree(1 << 30, LIGHT));
        assert_eq!(file.read(BUFFER), Err(Errno::ESRCH));
    }
}

#[test]
fn a_subtree_ends_at_what_may_not_be_seen() {
    if !needs::root_and_fuse() {
        return;
    }
    let become_ = |inside: &Inside, id: u32| {
        inside.must(Identity::user("", id).assume());
        inside.set_dumpable(true);
    };
    // Alice's, from which root's comes, from which Alice's comes: as by way of a set-user-id program.
    let child = Child::start(3, |inside| {
        let middle = inside.fork(|inside| {
            let last = inside.fork(|inside| become_(inside, ALICE));
            inside.tell(1, last.into());
        });
        inside.tell(0, middle.into());
        inside.wait_for(1);
        let other = inside.fork(|inside| become_(inside, ALICE));
        inside.tell(2, other.into());
        become_(inside, ALICE);
    });
    /// The end of a user's process kills no child of root's.
    struct Killed(u32);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
        }
    }
    let [middle, last, other] = [0, 1, 2].map(|slot| child.board.get(slot) as u32);
    let _middle = Killed(middle);
    wait::until("all have become who they shall be", || {
        let uid = |pid: u32| proc::Status::of(&pid.to_string()).unwrap().ids("Uid")[0];
        [child.pid(), last, other].into_iter().all(|pid| uid(pid) == ALICE)
    });
    let sorted = |mut pids: Vec<u32>| {
        pids.sort_unstable();
        pids
    };
    for source in sources() {
        let daemon = Daemon::start(source);
        let of = |id, pid: u32| {
            Identity::user("reader", id)
                .run(|| Handle::open(daemon.path()).dump(&Request::subtree(pid, Groups::BASE)).unwrap())
        };
        assert_eq!(pids(&of(ALICE, child.pid())), sorted(vec![child.pid(), other]));
        assert_eq!(pids(&of(ALICE, last)), [last]);
        assert_eq!(of(ALICE, middle), [], "root's is there, and hidden");
        assert_eq!(of(BOB, child.pid()), []);
        let file = Handle::open(daemon.path());
        let everything = file.dump(&request(DumpStrategy::Subtree, child.pid(), Groups::BASE)).unwrap();
        assert_eq!(pids(&everything), sorted(vec![child.pid(), middle, last, other]));
    }
}

#[test]
fn lists_that_wait_are_bounded() {
    if !needs::root_and_fuse() {
        return;
    }
    let own = lives::sleeper();
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--parked-per-user", "1"]);
        let far: Vec<u32> = (0..15_000).map(|n| (1 << 30) + n).collect();
        let long = Request::set(far, Groups::BASE).to_bytes();
        Identity::user("Alice", ALICE).run(|| {
            let files: Vec<Handle> = (0..40).map(|_| Handle::open(daemon.path())).collect();
            let written: Vec<_> = files.iter().map(|file| file.write(&long)).collect();
            let taken = written.iter().take_while(|outcome| **outcome == Ok(long.len())).count();
            assert_eq!(taken, (1 << 20) / 60_000, "lists of 60,000 bytes in one MiB");
            assert!(written[taken..].iter().all(|outcome| *outcome == Err(Errno::ENOMEM)));
            // Others are not concerned, nor are requests without a list.
            assert_eq!(files[39].read(BUFFER), Ok(vec![]), "nothing was asked for");
            assert_eq!(files[39].write(&one(own.pid, Groups::BASE).to_bytes()), Ok(40));
            assert_eq!(files[0].read(BUFFER), Ok(vec![]), "none of them is there");
            assert_eq!(files[38].write(&long), Ok(long.len()), "what was read to its end is kept no more");
        });
        let file = Handle::open(daemon.path());
        assert_eq!(file.write(&long), Ok(long.len()), "another user");
    }
}
