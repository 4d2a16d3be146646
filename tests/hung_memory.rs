//! A process whose memory cannot be read holds nobody up: it is shown without its memory, everyone else with theirs.

mod common;

use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one, request};
use common::hung::Hung;
use common::more::More;
use common::sources::sources;
use common::zoo::{Animal, lives, names};
use common::{needs, tools, wait};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, attribute_id};

const MEMORY: Groups = Groups::VMA.union(Groups::CMDLINE);
const ASKED: Groups =
    Groups::BASE.union(Groups::STAT).union(Groups::STATM).union(MEMORY).union(Groups::MISSING);

/// A short wait for one target; for all together as long as it takes, so that a slow machine loses nothing.
const IMPATIENT: &[&str] = &["--target-deadline", "50", "--read-deadline", "100000"];

#[track_caller]
fn find(tasks: &[OwnedTask], pid: u32) -> &OwnedTask {
    tasks.iter().find(|task| task.pid == pid).unwrap_or_else(|| panic!("task {pid} is not shown"))
}

/// That everything of the hung process is there but what is missing, and that it says so.
#[track_caller]
fn lacks_memory(task: &OwnedTask) {
    assert!(task.base.is_some() && task.stat.is_some() && task.statm.is_some(), "{task:?}");
    // Not every source needs the lock, and newer kernels list mappings without it.
    assert!(task.missing.contains(Groups::CMDLINE) == task.command_line.is_none(), "{task:?}");
    assert!(task.missing.contains(Groups::VMA) == task.mappings.is_empty(), "{task:?}");
    assert!(MEMORY.contains(task.missing), "{task:?}");
}

/// That it has everything; or, on a machine that was too slow just now, that it says what it lacks.
#[track_caller]
fn is_whole(task: &OwnedTask) -> bool {
    let (line, mappings) = (task.command_line.is_some(), !task.mappings.is_empty());
    assert!(task.base.is_some() && task.stat.is_some() && task.statm.is_some(), "{task:?}");
    assert_eq!(task.missing.contains(Groups::CMDLINE), !line, "{task:?}");
    assert_eq!(task.missing.contains(Groups::VMA), !mappings, "{task:?}");
    line && mappings
}

#[test]
fn others_are_whole() {
    if !needs::root_and_fuse() {
        return;
    }
    let animals: Vec<Animal> = vec![lives::sleeper(), lives::threads(), names::long_command_line()];
    for source in sources() {
        let daemon = Daemon::start_with(source, IMPATIENT);
        let file = Handle::open(daemon.path());
        let hung = Hung::new();
        let mut late: Vec<u32> = animals.iter().map(|animal| animal.pid).collect();
        wait::until("everyone else is whole", || {
            let tasks = file.dump(&request(DumpStrategy::All, 0, ASKED)).unwrap();
            lacks_memory(find(&tasks, hung.pid()));
            late.retain(|pid| !is_whole(find(&tasks, *pid)));
            late.is_empty()
        });
        // Whoever does not ask what is missing is not told, and whoever does not ask for memory misses nothing.
        let [quiet] = &file.dump(&one(hung.pid(), ASKED - Groups::MISSING)).unwrap()[..] else { panic!() };
        assert!(quiet.statm.is_some() && quiet.missing.is_empty());
        let [light] = &file.dump(&one(hung.pid(), ASKED - MEMORY)).unwrap()[..] else { panic!() };
        assert!(light.statm.is_some() && light.missing.is_empty());

        hung.let_go();
        wait::until("the process is whole again", || {
            is_whole(find(&file.dump(&one(hung.pid(), ASKED)).unwrap(), hung.pid()))
        });
    }
}

#[test]
fn other_readers_are_not_held_up() {
    if !needs::root_and_fuse() {
        return;
    }
    let other = lives::threads();
    for source in sources() {
        // One reader waits for the hung process for as long as the test takes.
        let daemon =
            Daemon::start_with(source, &["--target-deadline", "100000", "--read-deadline", "100000"]);
        let hung = Hung::new();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let file = Handle::open(daemon.path());
                // Statistics are what no source tells without the lock.
                let tasks = file.dump(&one(hung.pid(), ASKED | Groups::VMA_STAT)).unwrap();
                done.store(true, SeqCst);
                tasks
            });
            let held_up = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..20 {
                    let file = Handle::open(daemon.path());
                    for groups in [Groups::BASE, ASKED] {
                        let tasks = file.dump(&one(other.pid, groups)).unwrap();
                        assert!(groups == Groups::BASE || is_whole(&tasks[0]));
                    }
                    let threads = file.dump(&request(DumpStrategy::Thread, other.pid, ASKED)).unwrap();
                    assert_eq!(threads.len(), 10);
                    let all = file.dump(&request(DumpStrategy::All, 0, ASKED - MEMORY)).unwrap();
                    assert!(find(&all, hung.pid()).base.is_some());
                }
                assert!(!done.load(SeqCst), "the other reader still waits");
            }));
            // Whatever came of it, that reader has to end.
            hung.let_go();
            let tasks = waiting.join().unwrap();
            assert!(is_whole(&tasks[0]));
            held_up.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

/// Many hung processes, one after the other, cost a reader no more than their own memory.
#[test]
fn several_hung_processes() {
    if !needs::root_and_fuse() {
        return;
    }
    let other = lives::sleeper();
    for source in sources() {
        let daemon = Daemon::start_with(source, IMPATIENT);
        let file = Handle::open(daemon.path());
        let hung: Vec<Hung> = (0..6).map(|_| Hung::new()).collect();
        wait::until("the other one is whole", || {
            let asked = request(DumpStrategy::Children, nix::unistd::gettid().as_raw() as u32, ASKED);
            let tasks = file.dump(&asked).unwrap();
            for hung in &hung {
                lacks_memory(find(&tasks, hung.pid()));
            }
            is_whole(find(&tasks, other.pid))
        });
        for hung in &hung {
            hung.let_go();
        }
        wait::until("all are whole again", || {
            hung.iter().all(|hung| is_whole(&file.dump(&one(hung.pid(), ASKED)).unwrap()[0]))
        });
    }
}

/// The client in Python says what is missing by the value that stands for it.
#[test]
fn python_is_told() {
    if !tools::are_there(&["python3"]) || !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start_with(source, IMPATIENT);
        let hung = Hung::new();
        let mut check = tools::python_check("python3", "hung");
        let (said, _) = tools::succeeds(check.arg(daemon.path()).arg(hung.pid().to_string()));
        // Not every source needs the lock.
        assert!(said == "late\n" || source.name != "procfs", "{said}");
    }
}

#[test]
fn a_process_that_hangs_in_exec_holds_nobody_up() {
    if !needs::root_and_fuse() {
        return;
    }
    let other = lives::sleeper();
    let asked = Groups::BASE | Groups::STAT | Groups::SCHED | Groups::IO | Groups::FD | Groups::MISSING;
    for source in sources() {
        let daemon = Daemon::start_with(source, IMPATIENT);
        let file = Handle::open(daemon.path());
        let hung = Hung::in_exec();
        for _ in 0..10 {
            let (mut found, mut whole) = (false, false);
            file.request(&request(DumpStrategy::All, 0, asked));
            for task in More::of(&file.read_to_end(BUFFER).unwrap()) {
                found |= task.pid == hung.pid();
                let all = [attribute_id::SCHED, attribute_id::IO, attribute_id::FD];
                whole |= task.pid == other.pid && all.iter().all(|id| task.payloads.contains_key(id));
            }
            assert!(found, "{}: the hung process is shown", source.name);
            if whole {
                break;
            }
        }
        file.answers(other.pid);
        hung.let_go();
        wait::until("the process tells everything again", || {
            file.request(&one(hung.pid(), asked));
            let tasks = More::of(&file.read_to_end(BUFFER).unwrap());
            tasks.iter().any(|task| task.payloads.contains_key(&attribute_id::IO))
        });
    }
}
