//! Who sees what is the kernel's own rule: compared, reader by reader and task by task, with what the kernel says to
//! the same reader when it asks for a thing in /proc that the same rule guards.

mod common;

use common::child::Child;
use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::identity::Identity;
use common::place::place_for_set_user_id;
use common::readers::{READERS, cannot_be_known};
use common::sources::sources;
use common::zoo::{self, Animal, users};
use common::{needs, proc};
use nix::errno::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::ptr::null;
use task_diag::protocol::{DumpStrategy, Groups};
use users::ALICE;

/// What the kernel lets the calling thread see.
fn allowed(pid: u32) -> Option<bool> {
    match nix::fcntl::readlink(format!("/proc/{pid}/ns/pid").as_str()) {
        Ok(_) => Some(true),
        Err(Errno::EACCES) => Some(false),
        // It went.
        Err(_) => None,
    }
}

/// The tasks of the machine, each with when it began and whose it is: one that became somebody else's and then shut
/// itself off may be seen in between.
fn tasks(threads: bool) -> BTreeMap<u32, (u64, [[u32; 4]; 2])> {
    let mut tids = proc::processes();
    if threads {
        tids = tids.into_iter().flat_map(proc::threads).collect();
    }
    let look = |tid: u32| {
        let path = tid.to_string();
        let status = proc::Status::of(&path)?;
        Some((tid, (proc::Stat::of(&path)?.start(), ["Uid", "Gid"].map(|key| status.ids(key)))))
    };
    tids.into_iter().filter_map(look).collect()
}

/// What a reader may see and does see, of the tasks that are there all the time and on which the kernel says the same
/// before and after.
struct Sight {
    may: HashMap<u32, bool>,
    sees: HashMap<u32, bool>,
}

fn look(reader: &Identity, daemon: &Daemon, strategy: DumpStrategy) -> Sight {
    let threads = strategy == DumpStrategy::AllThreads;
    let mut present = tasks(threads);
    // What not even this thread may see, a security module guards: another test's matter.
    present.retain(|pid, _| allowed(*pid) == Some(true));
    let (before, seen, after) = reader.run(|| {
        let verdicts = || present.keys().map(|pid| allowed(*pid)).collect::<Vec<_>>();
        let before = verdicts();
        let seen = Handle::open(daemon.path()).dump(&request(strategy, 0, Groups::BASE)).unwrap();
        (before, seen, verdicts())
    });
    let still = tasks(threads);
    let mut may = HashMap::new();
    for ((pid, itself), verdicts) in present.iter().zip(before.iter().zip(&after)) {
        if let (Some(before), Some(after)) = verdicts
            && before == after
            && still.get(pid) == Some(itself)
        {
            may.insert(*pid, *before);
        }
    }
    let shown: HashMap<u32, ()> = seen.iter().map(|task| (task.pid, ())).collect();
    let sees = may.keys().map(|pid| (*pid, shown.contains_key(pid))).collect();
    Sight { may, sees }
}

#[test]
fn every_reader_sees_what_the_kernel_lets_it() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        for strategy in [DumpStrategy::All, DumpStrategy::AllThreads] {
            for reader in READERS {
                let Sight { may, sees } = look(reader, &daemon, strategy);
                let describe = |pid: u32| {
                    let name = zoo.iter().find(|animal| animal.pid == pid).map_or("no animal", |a| a.name);
                    let status = proc::read(&format!("{pid}/status")).unwrap_or_default();
                    format!("{} and task {pid} ({name}):\n{}", reader.name, String::from_utf8_lossy(&status))
                };
                for (pid, sees) in &sees {
                    assert!(may[pid] || !sees, "sees too much: {}", describe(*pid));
                    let excused = || cannot_be_known(source, reader, *pid);
                    assert!(*sees || !may[pid] || excused(), "sees too little: {}", describe(*pid));
                }
                check_variety(reader, &zoo, &may);
            }
        }
    }
}

/// That the comparison was one: the kernel says yes and no to these readers where it should.
fn check_variety(reader: &Identity, zoo: &[Animal], may: &HashMap<u32, bool>) {
    let said = |name: &str| {
        let animal = zoo.iter().find(|animal| animal.name == name).unwrap();
        *may.get(&animal.pid).unwrap_or_else(|| panic!("{name} stands still"))
    };
    let expected: &[(&str, bool)] = match reader.name {
        "Alice" => &[
            ("Alice's", true),
            ("Bob's", false),
            ("sleeper", false),
            ("Alice's, not dumpable", false),
            ("Alice's with a capability", false),
            ("Alice's in Bob's group", false),
            ("Alice's, saved as Bob's", false),
        ],
        "Alice in Bob's group" => &[("Alice's in Bob's group", true), ("Alice's", false)],
        "Alice with CAP_SYS_PTRACE" | "root" => {
            &[("sleeper", true), ("Bob's", true), ("root's, not dumpable", true), ("zombie", true)]
        }
        "root without CAP_SYS_PTRACE" => &[("Alice's", false), ("root's without capabilities", true)],
        "root without capabilities" => &[("sleeper", false), ("root's without capabilities", true)],
        "root with Alice's eyes" => &[("Alice's", true), ("Bob's", false), ("sleeper", false)],
        _ => &[("root's, not dumpable", reader.name.ends_with("CAP_SYS_PTRACE"))],
    };
    for (name, verdict) in expected {
        assert_eq!(said(name), *verdict, "{} and {name}", reader.name);
    }
}

/// What a security module keeps even from root, and so from the daemon, is shown to nobody by any way to ask.
#[test]
fn what_root_is_refused_nobody_sees() {
    if !needs::root_and_fuse() {
        return;
    }
    let refused: Vec<u32> =
        proc::processes().into_iter().filter(|pid| allowed(*pid) == Some(false)).collect();
    if refused.is_empty() {
        needs::lacking("a task that a security module keeps from root");
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for pid in refused.iter().copied() {
            // The second time it is known already.
            for _ in 0..2 {
                for strategy in [DumpStrategy::All, DumpStrategy::AllThreads] {
                    for groups in [Groups::BASE, Groups::NATIVE] {
                        let seen = file.dump(&request(strategy, 0, groups)).unwrap();
                        assert!(
                            seen.len() > 1 && seen.iter().all(|task| task.tgid != pid),
                            "{pid}, {}",
                            source.name
                        );
                    }
                }
                for strategy in
                    [DumpStrategy::One, DumpStrategy::Thread, DumpStrategy::Children, DumpStrategy::Subtree]
                {
                    assert_eq!(
                        file.dump(&request(strategy, pid, Groups::BASE)).unwrap().len(),
                        0,
                        "{pid}, {}",
                        source.name
                    );
                }
            }
        }
    }
}

/// Every way to ask agrees with the dump of everything.
#[test]
fn every_strategy_judges_alike() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    let own_thread = nix::unistd::gettid().as_raw() as u32;
    for source in sources() {
        let daemon = Daemon::start(source);
        for reader in READERS {
            let Sight { may, sees } = look(reader, &daemon, DumpStrategy::All);
            reader.run(|| {
                let file = Handle::open(daemon.path());
                for animal in &zoo {
                    let sees = sees[&animal.pid];
                    assert!(may[&animal.pid] || !sees);
                    for strategy in [DumpStrategy::One, DumpStrategy::Thread] {
                        let tasks = file.dump(&request(strategy, animal.pid, Groups::NATIVE)).unwrap();
                        let shown = tasks.iter().any(|task| task.pid == animal.pid);
                        assert_eq!(shown, sees, "{} and {}", reader.name, animal.name);
                    }
                }
                // All animals that are no children of animals are this thread's. A thread of one's own is always
                // visible, so this shows that each child is judged for itself.
                let children = file.dump(&request(DumpStrategy::Children, own_thread, Groups::BASE)).unwrap();
                for animal in zoo.iter().filter(|animal| animal.pid == animal.child.pid()) {
                    let shown = children.iter().any(|task| task.pid == animal.pid);
                    assert_eq!(shown, sees[&animal.pid], "{} and {}", reader.name, animal.name);
                }
            });
        }
    }
}

/// A program of root's that its user has started (set-user-id) shows nothing, from the first moment on.
#[test]
fn a_set_user_id_exec_shows_nothing() {
    if !needs::root_and_fuse() {
        return;
    }
    const ROUNDS: usize = 60;
    const SECRET: &str = "31337133";
    let Some(dir) = place_for_set_user_id() else {
        needs::missing("a place for a set-user-id program");
        return;
    };
    // No shell: those step back to their user at once.
    let path = dir.path().join("roots-own");
    std::fs::copy("/bin/sleep", &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let program = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let strings = ["sleep", "1000000", SECRET].map(|s| CString::new(s).unwrap());
    let mut arguments: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
    arguments.push(null());
    let runs = |pid: u32| {
        let stat = proc::Stat::of(&pid.to_string()).expect("the program stays");
        stat.comm == b"roots-own" && stat.state() == b'S'
    };
    let alice = Identity::user("Alice", ALICE);
    let mut changed = 0;
    for source in sources() {
        let daemon = Daemon::start(source);
        for round in 0..ROUNDS {
            let child = Child::start(1, |inside| {
                inside.must(alice.assume());
                inside.set_dumpable(true);
                inside.ready();
                inside.wait_for(0);
                inside.exec(&program, &arguments);
            });
            let pid = child.pid();
            let is_roots = || proc::Status::of(&pid.to_string()).unwrap().ids("Uid")[1] == 0;
            let exists = |groups| Handle::open(daemon.path()).dump(&one(pid, groups));
            alice.run(|| {
                let file = Handle::open(daemon.path());
                file.answers(pid);
                let mut looks = 0;
                child.board.set(0, 1);
                loop {
                    let over = runs(pid);
                    for task in file.dump(&one(pid, Groups::NATIVE)).unwrap() {
                        let line = task.command_line.unwrap_or_default();
                        let leak = line.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                        assert!(!leak, "round {round}, look {looks}: {}", line.escape_ascii());
                        assert_eq!(task.credentials.unwrap().euid, ALICE, "round {round}, look {looks}");
                        let mapped = task.mappings.iter().any(|vma| vma.name.ends_with(b"/roots-own"));
                        assert!(!mapped, "round {round}, look {looks}");
                    }
                    looks += 1;
                    if over {
                        break;
                    }
                }
            });
            changed += usize::from(is_roots() && !exists(Groups::BASE).unwrap().is_empty());
        }
    }
    assert!(changed > 0, "no program ever became root's");
}
