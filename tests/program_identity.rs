//! What is shown of a task is of one program that it runs, also where it runs another in between and the same again.

mod common;

use common::child::Child;
use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::identity::Identity;
use common::place::place_for_set_user_id;
use common::sources::sources;
use common::zoo::users::ALICE;
use common::{needs, tools};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use task_diag::protocol::{DumpStrategy, Groups, Request};

/// What only root's program has.
const SECRETS: [&[u8]; 2] = [b"SECRET-OF-ROOT", b"/wolf"];

/// Each of these is gathered in another way.
const GROUPS: [Groups; 9] = [
    Groups::FD.union(Groups::VMA),
    Groups::FD,
    Groups::FILES.union(Groups::CMDLINE),
    Groups::VMA.union(Groups::VMA_STAT),
    Groups::ENVIRON.union(Groups::CMDLINE),
    Groups::TASKSTATS.union(Groups::MISC),
    Groups::ROLLUP.union(Groups::FD).union(Groups::FILES),
    Groups::NATIVE,
    Groups::all(),
];

#[test]
fn a_program_of_roots_between_two_of_the_users() {
    if !needs::root_and_fuse() || !tools::are_there(&["gcc"]) {
        return;
    }
    let Some(dir) = place_for_set_user_id() else {
        needs::missing("a place for a set-user-id program");
        return;
    };
    let path = |name: &str| dir.path().join(name);
    let source = "tests/common/lamb_and_wolf.c";
    tools::succeeds(
        tools::command("gcc").args(["-O1", "-w", "-pthread", "-o"]).arg(path("lamb")).arg(source),
    );
    std::fs::copy(path("lamb"), path("wolf")).unwrap();
    std::fs::set_permissions(path("wolf"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::create_dir(path("den")).unwrap();
    std::fs::set_permissions(path("den"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(path("den/SECRET-OF-ROOTS"), [0; 4096]).unwrap();
    let string = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let (lamb, place, room) =
        (string(&path("lamb")), string(dir.path()), CString::new("-".repeat(40)).unwrap());
    let arguments = [c"lamb".as_ptr(), place.as_ptr(), room.as_ptr(), null()];
    let alice = Identity::user("Alice", ALICE);
    for source in sources() {
        // Of what hangs elsewhere on the machine nothing shall come here.
        let daemon = Daemon::start_with(source, &[]);
        let born = || {
            Child::start(0, |inside| {
                inside.must(alice.assume());
                inside.set_dumpable(true);
                inside.ready();
                inside.exec(&lamb, &arguments);
            })
        };
        let flock: Vec<Child> = (0..4).map(|_| born()).collect();
        let pids: Vec<u32> = flock.iter().map(Child::pid).collect();
        let (until, most) =
            (Instant::now() + Duration::from_secs(6), Instant::now() + Duration::from_secs(60));
        let [lambs, wolves] = [const { AtomicUsize::new(0) }; 2];
        let met = || lambs.load(Relaxed) > 100 && wolves.load(Relaxed) > 100;
        let goes_on = || Instant::now() < until || !met() && Instant::now() < most;
        let look = |number: usize| {
            let file = Handle::open(daemon.path());
            for nth in number.. {
                if !goes_on() {
                    break;
                }
                let (groups, pid) = (GROUPS[nth % GROUPS.len()] | Groups::BASE, pids[nth % pids.len()]);
                let request = match nth / GROUPS.len() % 5 {
                    0 => one(pid, groups),
                    1 => Request { pids: pids.clone(), ..request(DumpStrategy::Set, 0, groups) },
                    2 => request(DumpStrategy::Thread, pid, groups),
                    3 => request(DumpStrategy::AllThreads, 0, groups),
                    _ => request(DumpStrategy::All, 0, groups),
                };
                file.request(&request);
                // One that ended an exec a moment ago is there all the same.
                let reads = match file.read_to_end([2 << 10, 8 << 10, 160 << 10][nth % 3]) {
                    Ok(reads) => reads,
                    Err(Errno::ESRCH) => continue,
                    Err(e) => panic!("{}: {e}", source.name),
                };
                for read in reads {
                    for secret in SECRETS {
                        let leak = read.windows(secret.len()).position(|window| window == secret);
                        let around = leak.map(|at| read[at.saturating_sub(40)..at + 30].escape_ascii());
                        assert!(leak.is_none(), "{}: {request:?}: {}", source.name, around.unwrap());
                    }
                    lambs.fetch_add(usize::from(!read.is_empty()), Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for number in 0..3 {
                let look = &look;
                scope.spawn(move || alice.run(|| look(number)));
            }
            let file = Handle::open(daemon.path());
            while goes_on() {
                let all = Request { pids: pids.clone(), ..request(DumpStrategy::Set, 0, Groups::CRED) };
                let tasks = file.dump(&all).unwrap();
                let roots = tasks.iter().filter(|task| task.credentials.unwrap().euid == 0);
                wolves.fetch_add(roots.count(), Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(met(), "{}: {lambs:?} answers, {wolves:?} times root's", source.name);
    }
}
