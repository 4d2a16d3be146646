//! Every field of every group equals what /proc says: for processes of every shape, and for the kernel's own threads.
//!
//! The processes stand still, but what is shared with others (a library's pages, say) does not, nor do kernel threads.
//! So a task is asked for again, with a fresh look at /proc, until both agree; what is wrong never does.

mod common;

use common::daemon::Daemon;
use common::expect::{Expected, differences};
use common::handle::{Handle, one, request};
use common::sources::{Source, sources};
use common::zoo::{self, Animal, memory, names};
use common::{needs, proc};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, State};

const ALL_GROUPS: Groups = Groups::NATIVE.union(Groups::MISSING);
const LIGHT: Groups = Groups::BASE.union(Groups::CRED).union(Groups::STAT).union(Groups::STATM);

/// Looks at a task until the answer and /proc agree.
#[track_caller]
fn agree(what: &str, mut look: impl FnMut() -> Vec<String>) {
    const LOOKS: usize = 40;
    let mut last = Vec::new();
    for _ in 0..LOOKS {
        last = look();
        if last.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let shown = last.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    panic!("{what}: {} differences\n{shown}", last.len());
}

/// The one task of an answer.
#[track_caller]
fn single(tasks: Vec<OwnedTask>) -> OwnedTask {
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    tasks.into_iter().next().unwrap()
}

#[test]
fn processes_one_by_one() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    check_zoo(&zoo);
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let light = LIGHT | Groups::CMDLINE;
        for animal in &zoo {
            for groups in [ALL_GROUPS, Groups::BASE | Groups::VMA, light, Groups::VMA_STAT, Groups::empty()] {
                agree(animal.name, || {
                    let want = Expected::of(&animal.pid.to_string(), groups).unwrap();
                    let got = single(file.dump(&one(animal.pid, groups)).unwrap());
                    differences(&got, &want, groups, source)
                });
            }
        }
    }
}

#[test]
fn threads_one_by_one() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for animal in &zoo {
            let threads = proc::threads(animal.pid);
            agree(animal.name, || thread_dump(&file, animal, &threads, source));
            for tid in threads.iter().filter(|tid| **tid != animal.pid) {
                // By its own id it has the process' memory and the whole process' STAT: those of /proc/TID.
                agree(&format!("thread {tid} of {}", animal.name), || {
                    let want = Expected::of(&tid.to_string(), ALL_GROUPS).unwrap();
                    let got = single(file.dump(&one(*tid, ALL_GROUPS)).unwrap());
                    assert_eq!((got.pid, got.tgid), (*tid, animal.pid));
                    differences(&got, &want, ALL_GROUPS, source)
                });
            }
        }
    }
}

/// Differences in the dump of an animal's threads, which is asked for by its last thread's id.
fn thread_dump(file: &Handle, animal: &Animal, threads: &[u32], source: &Source) -> Vec<String> {
    let want: Vec<Expected> = threads
        .iter()
        .map(|tid| {
            // In such a dump the leader alone has mappings.
            let groups = if *tid == animal.pid { ALL_GROUPS } else { ALL_GROUPS - Groups::VMA };
            Expected::of(&format!("{}/task/{tid}", animal.pid), groups).unwrap()
        })
        .collect();
    let got = file.dump(&request(DumpStrategy::Thread, threads[threads.len() - 1], ALL_GROUPS)).unwrap();
    assert_eq!(got.iter().map(|t| t.pid).collect::<Vec<_>>(), threads);
    got.iter().zip(&want).flat_map(|(got, want)| differences(got, want, ALL_GROUPS, source)).collect()
}

#[test]
fn everything_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for (strategy, groups) in
            [(DumpStrategy::All, LIGHT | Groups::CMDLINE | Groups::VMA), (DumpStrategy::AllThreads, LIGHT)]
        {
            let mut open: HashMap<u32, (u32, &str)> = HashMap::new();
            for animal in &zoo {
                let threads = match strategy {
                    DumpStrategy::All => vec![animal.pid],
                    _ => proc::threads(animal.pid),
                };
                open.extend(threads.into_iter().map(|tid| (tid, (animal.pid, animal.name))));
            }
            agree(&format!("{strategy:?}"), || {
                let want: HashMap<u32, Expected> =
                    open.iter().map(|(tid, (pid, _))| (*tid, at(*tid, *pid, strategy, groups))).collect();
                let got = file.dump(&request(strategy, 0, groups)).unwrap();
                let mut left = Vec::new();
                for task in
                    got.iter().filter(|task| open.contains_key(&task.pid)).cloned().collect::<Vec<_>>()
                {
                    let found = differences(&task, &want[&task.pid], groups, source);
                    if found.is_empty() {
                        open.remove(&task.pid);
                    }
                    left.extend(found);
                }
                left.extend(open.iter().map(|(tid, (_, name))| format!("{tid} of {name} did not agree")));
                left
            });
        }
    }
}

fn at(tid: u32, pid: u32, strategy: DumpStrategy, groups: Groups) -> Expected {
    let path = match strategy {
        DumpStrategy::All => tid.to_string(),
        _ => format!("{pid}/task/{tid}"),
    };
    Expected::of(&path, groups).unwrap()
}

#[test]
fn kernel_threads() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let listed = file.dump(&request(DumpStrategy::All, 0, Groups::empty())).unwrap();
        let mut checked = 0;
        let mut workers = 0;
        for OwnedTask { pid, .. } in listed {
            let path = pid.to_string();
            if !proc::Stat::of(&path).is_some_and(|stat| stat.is_kernel_thread()) {
                continue;
            }
            let mut gone = false;
            agree(&format!("kernel thread {pid}"), || {
                let want = Expected::of(&path, ALL_GROUPS);
                let got = file.dump(&one(pid, ALL_GROUPS)).unwrap_or_default();
                // Workers come and go; a process may even take the number of one.
                let (Some(want), Some(got)) = (want.filter(|want| want.kernel_thread), got.first()) else {
                    gone = proc::Stat::of(&path).is_none_or(|stat| !stat.is_kernel_thread());
                    return if gone { Vec::new() } else { vec!["not shown".to_string()] };
                };
                workers += usize::from(want.base.comm.starts_with(b"kworker/"));
                differences(got, &want, ALL_GROUPS, source)
            });
            checked += usize::from(!gone);
        }
        assert!(checked > 10 && workers > 0, "{checked} kernel threads, {workers} workers");
    }
}

/// What each file is called cannot always be told from the text of /proc, but the zoo knows.
#[test]
fn true_names_of_mapped_files() {
    if !needs::root_and_fuse() {
        return;
    }
    let animal = memory::every_kind();
    let dir = animal.files.as_ref().unwrap().path().canonicalize().unwrap();
    let full = |name: &[u8], end: &[u8]| [dir.as_os_str().as_encoded_bytes(), b"/", name, end].concat();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let ways = [DumpStrategy::One, DumpStrategy::Thread]
            .map(|way| [Groups::VMA, Groups::VMA | Groups::VMA_STAT].map(|groups| (way, groups)));
        for (strategy, groups) in ways.into_iter().flatten() {
            let task = single(file.dump(&request(strategy, animal.pid, groups)).unwrap());
            let count = |name: &[u8]| task.mappings.iter().filter(|vma| vma.name == name).count();
            for name in [memory::NEWLINE_NAME, memory::ESCAPED_NAME, memory::SPACES_NAME, memory::BYTES_NAME]
            {
                assert_eq!(count(&full(name, b"")), 5, "{}", name.escape_ascii());
            }
            assert_eq!(count(&full(memory::DELETED_NAME, b" (deleted)")), 5);
            assert_eq!(count(b"/memfd:mem\nfd (deleted)"), 1);
            assert_eq!(count(b"[vdso]"), 1);
            assert_eq!(count(b"[vsyscall]"), 0);
        }
    }
}

/// That each odd shape really is one, by /proc alone: a comparison of ordinary processes would prove little.
fn check_zoo(zoo: &[Animal]) {
    let find = |name: &str| {
        let animal = zoo.iter().find(|animal| animal.name == name).unwrap();
        (animal, Expected::of(&animal.pid.to_string(), Groups::NATIVE).unwrap())
    };
    let (_, threads) = find("ten threads");
    assert_eq!(threads.stat.threads, 10);
    for (name, state) in [
        ("zombie", State::Zombie),
        ("dead leader", State::Zombie),
        ("stopped", State::Stopped),
        ("traced", State::TracingStop),
        ("uninterruptible", State::DiskSleep),
    ] {
        assert_eq!(find(name).1.base.state, state as u8, "{name}");
    }
    let (dead, leader) = find("dead leader");
    assert!(leader.statm.is_none() && leader.stat.threads >= 2 && proc::threads(dead.pid).len() == 3);
    let (traced, base) = find("traced");
    assert_eq!(base.base.tpid, traced.child.pid());
    let (session, base) = find("session leader");
    assert_eq!((base.base.sid, base.base.pgid), (session.pid, session.pid));
    let (group, base) = find("group leader");
    assert_eq!((base.base.sid, base.base.pgid), (group.child.pid(), group.pid));
    let stat = find("experienced").1.stat;
    assert!(stat.utime + stat.stime >= 9 && stat.cutime + stat.cstime >= 4 && stat.cminflt > 10, "{stat:?}");

    assert_eq!(find("odd name").1.base.comm, zoo::comm(names::ODD_NAME));
    let line = |name| find(name).1.command_line.unwrap();
    assert!(line("long command line").len() > 300 << 10);
    assert!(line("empty first argument").starts_with(b"\0-c\0"));
    assert!(line("long title").ends_with(b"ttteeeeeee") || line("long title").ends_with(b"ttteeeeeee\0"));
    assert!(line("short title").starts_with(b"sss"));
    assert!(line("empty title").iter().all(|c| *c == 0) && !line("empty title").is_empty());
    assert!(line("no command line").is_empty());

    assert!(find("many mappings").1.mappings.unwrap().len() > 5000);
    let mappings = find("every kind of mapping").1.mappings.unwrap();
    for word in ["lo", "sr", "rr", "dc", "dd", "nr", "gd", "sh", "ms"] {
        assert!(mappings.iter().any(|m| m.flags.iter().any(|f| f == word)), "a mapping with {word}");
    }
    assert!(mappings.iter().any(|m| m.name.starts_with(b"/dev/zero (deleted)")));

    let many = find("all ids differ").1.credentials;
    let mut ids =
        [many.uid, many.euid, many.suid, many.fsuid, many.gid, many.egid, many.sgid, many.fsgid].to_vec();
    let caps = [many.inheritable, many.permitted, many.effective, many.bounding].map(u64::from);
    ids.dedup();
    assert!(ids.len() == 8 && (1..4).all(|n| !caps[..n].contains(&caps[n])), "{many:?}");
}

/// A name is that of one moment, whatever is renamed while it is made.
#[test]
fn names_while_directories_are_renamed() {
    if !needs::root_and_fuse() {
        return;
    }
    let place = tempfile::TempDir::new().unwrap();
    let root = place.path().canonicalize().unwrap();
    let [short, long] = ["s".to_string(), "l".repeat(120)].map(|name| root.join(name));
    std::fs::create_dir(&short).unwrap();
    std::fs::write(short.join("mapped"), [7; 4096]).unwrap();
    let file = std::fs::File::open(short.join("mapped")).unwrap();
    let length = std::num::NonZero::new(4096).unwrap();
    let (access, kind) = (nix::sys::mman::ProtFlags::PROT_READ, nix::sys::mman::MapFlags::MAP_SHARED);
    // SAFETY: a new mapping, never looked into.
    let mapping = unsafe { nix::sys::mman::mmap(None, length, access, kind, &file, 0) }.unwrap();
    let start = mapping.as_ptr() as u64;
    let names = [&short, &long].map(|dir| dir.join("mapped").into_os_string().into_encoded_bytes());
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let (done, renames) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    std::fs::rename(&short, &long).unwrap();
                    std::fs::rename(&long, &short).unwrap();
                    renames.fetch_add(2, SeqCst);
                }
            });
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // Until there was something to get wrong, where a rename waits for a disk.
                let began = std::time::Instant::now();
                let enough =
                    || renames.load(SeqCst) > 100 || began.elapsed() > std::time::Duration::from_secs(60);
                for _ in (0..).take_while(|look| *look < 500 || !enough()) {
                    let [me] = &file.dump(&one(std::process::id(), Groups::VMA)).unwrap()[..] else {
                        panic!()
                    };
                    let mapped = me.mappings.iter().find(|vma| vma.start == start).unwrap();
                    assert!(names.contains(&mapped.name), "{mapped:?}, source {}", source.name);
                }
            }));
            done.store(true, SeqCst);
            looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(renames.load(SeqCst) > 100, "it was renamed meanwhile");
    }
    // SAFETY: the mapping made above.
    unsafe { nix::sys::mman::munmap(mapping, 4096) }.unwrap();
}
