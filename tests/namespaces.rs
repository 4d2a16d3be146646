//! Readers in other namespaces: each sees the tasks of its own pid namespace, under the numbers and ids of its own
//! namespaces, and of those the ones that the kernel lets it see. Compared with the reader's own /proc.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::more::{self, agree, expected};
use common::needs;
use common::proc::{self, Status};
use common::sources::sources;
use common::zoo::{self, Animal, lives, users};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, Request};
use users::ALICE;

const FILE: &str = "TASK_DIAG_FILE";
const PROCFS: &str = "TASK_DIAG_PROCFS";

macro_rules! as_alice {
    () => {
        "setpriv --reuid=64001 --regid=64001 --clear-groups"
    };
}

/// Commands that run another one as the reader that they are named for.
const READERS: &[(&str, &str)] = &[
    ("root in a pid namespace", "unshare --pid --fork --mount-proc"),
    ("root two pid namespaces down", "unshare --pid --fork --mount-proc unshare --pid --fork --mount-proc"),
    (
        "a user in a pid namespace",
        concat!("unshare --pid --fork --mount-proc ", as_alice!(), " --inh-caps=-all --bounding-set=-all"),
    ),
    (
        "root of a user's namespaces",
        concat!(as_alice!(), " --inh-caps=-all unshare --user --map-root-user --pid --fork --mount-proc"),
    ),
    (
        "root of a user's user namespace alone",
        concat!(as_alice!(), " --inh-caps=-all unshare --user --map-root-user"),
    ),
    (
        "a user in a user namespace",
        concat!(
            as_alice!(),
            " --inh-caps=-all unshare --user --map-current-user setpriv --inh-caps=-all --bounding-set=-all"
        ),
    ),
    ("root in a user namespace of root's", "unshare --user --map-root-user --pid --fork --mount-proc"),
    ("nobody known in a user namespace", "unshare --user"),
];

/// Runs another command by that of a prefix.
fn under(prefix: &str) -> Command {
    let mut words = prefix.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

#[test]
fn every_reader_sees_its_own_namespaces() {
    if !needs::root_and_fuse() {
        return;
    }
    let _zoo = zoo::all();
    let _below: Vec<_> = [
        concat!(as_alice!(), " unshare --user --map-root-user"),
        concat!(as_alice!(), " unshare --user"),
        "unshare --user --pid --fork --kill-child",
        "unshare --pid --fork --kill-child",
    ]
    .map(Sleeping::under)
    .into();
    for source in sources() {
        let daemon = Daemon::start(source);
        for (name, prefix) in READERS {
            let me = std::env::current_exe().unwrap();
            let mut look = under(prefix);
            look.arg(me).args(["--exact", "look_from_here", "--ignored", "--nocapture"]);
            look.env(FILE, daemon.path()).env(PROCFS, if source.name == "bpf" { "" } else { "1" });
            let output = look.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{name}, source {}: {}\n{text}\n{}",
                source.name,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// A process in namespaces of its own.
struct Sleeping(std::process::Child);

impl Sleeping {
    fn under(prefix: &str) -> Sleeping {
        Sleeping(under(prefix).args(["sleep", "1000"]).spawn().unwrap())
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the kernel lets this reader see; `None` where the task is gone or not to be told.
fn allowed(pid: u32) -> Option<bool> {
    match nix::fcntl::readlink(format!("/proc/{pid}/ns/pid").as_str()) {
        Ok(_) => Some(true),
        Err(nix::errno::Errno::EACCES) => Some(false),
        Err(_) => None,
    }
}

fn verdicts() -> BTreeMap<u32, bool> {
    proc::processes().into_iter().filter_map(|pid| Some((pid, allowed(pid)?))).collect()
}

/// Run by the test above, as each of its readers.
#[test]
#[ignore = "only as the reader that another test makes of it"]
fn look_from_here() {
    let path = std::env::var_os(FILE).expect("run by another test");
    let in_the_dark = std::env::var_os(PROCFS).is_some_and(|value| value == "1");
    let own: Vec<Animal> =
        vec![lives::sleeper(), lives::threads(), lives::zombie(), lives::group_leader(), lives::traced()];
    let file = Handle::open(Path::new(&path));
    let groups = Groups::BASE | Groups::CRED | Groups::VMA | Groups::CMDLINE | Groups::STATM;

    let before = verdicts();
    let tasks = file.dump(&request(DumpStrategy::All, 0, groups)).unwrap();
    let after = verdicts();
    assert!(tasks.is_sorted_by(|a, b| a.tgid < b.tgid), "in the order of this namespace's numbers");
    let shown: BTreeMap<u32, &OwnedTask> = tasks.iter().map(|task| (task.pid, task)).collect();
    let mut seen = 0;
    for (pid, may) in before.iter().filter(|(pid, may)| after.get(*pid) == Some(*may)) {
        let status = Status::of(&pid.to_string());
        if status.is_none() {
            continue;
        }
        match shown.get(pid) {
            Some(task) => {
                assert!(may, "task {pid} is shown: {task:?}");
                equal(task);
                seen += 1;
            }
            // Only files tell this source of a task, and not whether root's own may be dumped, or one without memory.
            None if in_the_dark && cannot_be_known(*pid) => {}
            None => {
                let status = proc::read(&format!("{pid}/status")).unwrap_or_default();
                assert!(!may, "task {pid} is not shown:\n{}", String::from_utf8_lossy(&status));
            }
        }
    }
    let known = before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>();
    for pid in shown.keys() {
        assert!(known.contains(pid), "number {pid} means nothing here");
    }
    assert!(shown.contains_key(&std::process::id()), "the reader itself");
    assert!(in_the_dark || seen > own.len(), "its own are among {seen}");

    // Numbers of requests are those of this namespace, too.
    let [me] = &file.dump(&one(std::process::id(), groups)).unwrap()[..] else { panic!("not itself") };
    equal(me);
    let threads = file.dump(&request(DumpStrategy::Thread, std::process::id(), Groups::BASE)).unwrap();
    let tids = proc::threads(std::process::id());
    assert_eq!(threads.iter().map(|thread| thread.pid).collect::<Vec<_>>(), tids);
    let children =
        file.dump(&request(DumpStrategy::Children, nix::unistd::gettid().as_raw() as u32, Groups::BASE));
    let children: Vec<u32> = children.unwrap().iter().map(|task| task.pid).collect();
    let listed = own.iter().map(|animal| animal.child.pid()).filter(|pid| shown.contains_key(pid));
    assert_eq!(children, listed.collect::<Vec<_>>());
    assert!(file.dump(&one(u32::MAX / 2, groups)).is_err(), "a number that nothing has");

    // And so are those of lists, and what the groups from 32 on say.
    let still: Vec<u32> = own.iter().map(|animal| animal.pid).filter(|pid| shown.contains_key(pid)).collect();
    let listed = file.dump(&Request::set(still.clone(), Groups::BASE)).unwrap();
    assert_eq!(listed.iter().map(|task| task.pid).collect::<Vec<_>>(), still);
    let below = file.dump(&Request::subtree(std::process::id(), Groups::BASE)).unwrap();
    let below: Vec<u32> = below.iter().map(|task| task.pid).collect();
    assert!(below.is_sorted() && still.iter().all(|pid| below.contains(pid)), "{below:?}");
    for pid in still {
        agree(&format!("task {pid}"), || {
            let before = expected(&pid.to_string(), more::GROUPS, true);
            let [task] = &more::ask(&file, &one(pid, more::GROUPS))[..] else { panic!("{pid} is gone") };
            (task.lines(more::GROUPS), [before, expected(&pid.to_string(), more::GROUPS, true)])
        });
    }
}

fn cannot_be_known(pid: u32) -> bool {
    let known =
        |status: Status| status.bytes("VmSize").is_some() && ![0, 65534].contains(&status.ids("Uid")[1]);
    !Status::of(&pid.to_string()).is_some_and(known)
}

/// That what is shown is what this reader's own /proc shows.
fn equal(task: &OwnedTask) {
    let Some(status) = Status::of(&task.pid.to_string()) else { return };
    let (base, credentials) = (task.base.unwrap(), task.credentials.unwrap());
    let number = |key| status.number(key) as u32;
    assert_eq!([base.pid, base.tgid], [number("Pid"), number("Tgid")], "{task:?}");
    assert_eq!([base.ppid, base.tpid], [number("PPid"), number("TracerPid")], "{task:?}");
    assert_eq!([base.pgid, base.sid], [number("NSpgid"), number("NSsid")], "{task:?}");
    let ids = [credentials.uid, credentials.euid, credentials.suid, credentials.fsuid];
    assert_eq!(ids, status.ids("Uid"), "{task:?}");
    let ids = [credentials.gid, credentials.egid, credentials.sgid, credentials.fsgid];
    assert_eq!(ids, status.ids("Gid"), "{task:?}");
    if let Some(line) = proc::read(&format!("{}/cmdline", task.pid)) {
        assert_eq!(task.command_line.clone().unwrap_or_default(), line, "{task:?}");
    }
}

#[test]
fn everyone_is_shown_what_proc_shows_to_everyone() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    let hidden = zoo.iter().find(|animal| animal.name == "root's, not dumpable").unwrap().pid;
    let all = Groups::BASE | Groups::CRED | Groups::STAT | Groups::STATM | Groups::CMDLINE | Groups::VMA;
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--hidepid", "proc"]);
        let file = Handle::open(daemon.path());
        let root: BTreeMap<u32, OwnedTask> =
            file.dump(&request(DumpStrategy::All, 0, all)).unwrap().into_iter().map(|t| (t.pid, t)).collect();
        let alice = common::identity::Identity::user("alice", ALICE);
        let (her, may, one_of_roots) = alice.run(|| {
            let file = Handle::open(daemon.path());
            let her = file.dump(&request(DumpStrategy::All, 0, all)).unwrap();
            let may = verdicts();
            let one_of_roots = file.dump(&one(hidden, all)).unwrap();
            (her, may, one_of_roots)
        });
        let her: BTreeMap<u32, OwnedTask> = her.into_iter().map(|task| (task.pid, task)).collect();
        for animal in &zoo {
            let (seen, whole) = (&her[&animal.pid], &root[&animal.pid]);
            assert_eq!((&seen.base, &seen.credentials), (&whole.base, &whole.credentials), "{}", animal.name);
            assert_eq!(
                (&seen.statm, &seen.command_line),
                (&whole.statm, &whole.command_line),
                "{}",
                animal.name
            );
            assert!(seen.stat.is_some());
            if may.get(&animal.pid) == Some(&false) {
                assert!(seen.mappings.is_empty(), "guarded: {}", animal.name);
            }
        }
        let [seen] = &one_of_roots[..] else { panic!("everyone sees that process") };
        assert!(seen.base.is_some() && seen.mappings.is_empty());
        assert!(!her.values().all(|task| task.mappings.is_empty()), "her own are not guarded from her");
    }
}
