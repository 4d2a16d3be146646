//! Everything at once, for a while: many readers of every kind, a storm of processes that come and go, readers killed,
//! dumps left half read. What a dump says stays true, and the daemon stays as small as it was.
//!
//! `TASK_DIAG_STRESS_SECONDS` makes it longer, and larger.

mod common;

use common::child::Child;
use common::daemon::{Daemon, is_mounted};
use common::handle::{Handle, request};
use common::identity::{Identity, syscall};
use common::place::place_for_set_user_id;
use common::sources::{PROCFS, sources};
use common::zoo::farm::Farm;
use common::zoo::{Animal, lives, users};
use common::{needs, proc, wait};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::ptr::null;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, Request};

const ALICE: Identity = Identity::user("alice", users::ALICE);
const BOB: Identity = Identity::user("bob", users::BOB);
const ROUNDS: u32 = 10;

/// One test at a time has the machine: each measures.
static ALONE: Mutex<()> = Mutex::new(());

/// How long a test may take with all its sources, and whether that is the long form.
fn time() -> (Duration, bool) {
    let wanted = std::env::var("TASK_DIAG_STRESS_SECONDS").ok().map(|text| text.parse().unwrap());
    (Duration::from_secs(wanted.unwrap_or(3)), wanted.is_some())
}

/// Written at once: the test harness keeps the output of a test that passes to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Threads, open descriptors, and resident KiB of the process that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    threads: usize,
    files: usize,
    kib: u64,
}

fn size(pid: u32) -> Size {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let kib = proc::Status::of(&pid.to_string()).unwrap().bytes("VmRSS").unwrap() / 1024;
    Size { threads: count("task"), files: count("fd"), kib }
}

/// Processes that fork, run other programs and end, until the storm is dropped.
fn storm(whose: Option<Identity>) -> Child {
    let programs = ["/bin/true", "/bin/sleep", "/bin/sh"].map(|s| CString::new(s).unwrap());
    let words = ["a title", "0.01", "-c", ":"].map(|s| CString::new(s).unwrap());
    let long = CString::new(vec![b'x'; 20_000]).unwrap();
    let [title, moment, option, nothing] = words.each_ref().map(|s| s.as_ptr());
    let arguments = [
        vec![title, long.as_ptr(), null()],
        vec![title, moment, null()],
        vec![title, option, nothing, long.as_ptr(), null()],
    ];
    Child::start(0, |inside| {
        if let Some(whose) = whose {
            inside.must(whose.assume());
            inside.set_dumpable(true);
        }
        inside.ready();
        let mut forked = 0usize;
        for turn in 0usize.. {
            if forked < 30 {
                inside.fork(|process| match turn % 5 {
                    0 => process.exit(0),
                    1 => {
                        let _ = process.set_name(b"somebody\0\0\0\0\0\0\0\0");
                        process.exit(1)
                    }
                    way => process.exec(&programs[way - 2], &arguments[way - 2]),
                });
                forked += 1;
            }
            forked -= reaped(forked == 30);
            let moment = libc::timespec { tv_sec: 0, tv_nsec: 500_000 };
            // SAFETY: the time is only read.
            unsafe { libc::nanosleep(&moment, std::ptr::null_mut()) };
        }
    })
}

/// Takes note of children that ended; gives their number.
fn reaped(waits: bool) -> usize {
    let mut count = 0;
    let mut flags = if waits { 0 } else { libc::WNOHANG };
    // SAFETY: numbers and null pointers only.
    while unsafe { libc::wait4(-1, std::ptr::null_mut(), flags, std::ptr::null_mut()) } > 0 {
        count += 1;
        flags = libc::WNOHANG;
    }
    count
}

/// Processes that stand still from the beginning to the end.
struct Frozen {
    farm: Farm,
    name: [u8; 16],
    hers: Vec<Animal>,
}

impl Frozen {
    fn new() -> Frozen {
        let farm = Farm::new(24, 3);
        let stat = proc::Stat::of(&farm.leaders()[0].to_string()).unwrap();
        Frozen { farm, name: common::zoo::comm(&stat.comm), hers: (0..5).map(|_| users::alices()).collect() }
    }

    #[track_caller]
    fn check(&self, asked: &Request, tasks: &[OwnedTask], who: &str) {
        let pids: Vec<u32> = tasks.iter().map(|task| task.pid).collect();
        let once: HashSet<(u32, u32)> = tasks.iter().map(|task| (task.tgid, task.pid)).collect();
        assert_eq!(once.len(), tasks.len(), "a task twice");
        for task in tasks {
            let base = task.base.unwrap();
            assert_eq!((base.pid, base.tgid), (task.pid, task.tgid));
        }
        match asked.strategy {
            DumpStrategy::All => assert!(tasks.is_sorted_by(|a, b| a.tgid < b.tgid)),
            DumpStrategy::AllThreads => assert!(tasks.is_sorted_by_key(|task| task.tgid)),
            DumpStrategy::Children if who == "root" => return assert_eq!(pids, self.farm.leaders()),
            DumpStrategy::Thread if who == "root" => return assert!(self.farm.processes.contains(&pids)),
            _ => return,
        }
        if who == "root" {
            for threads in &self.farm.processes {
                let found: Vec<&OwnedTask> = tasks.iter().filter(|task| task.tgid == threads[0]).collect();
                assert_eq!(found[0].base.unwrap().comm, self.name);
                if asked.strategy == DumpStrategy::AllThreads {
                    assert_eq!(&found.iter().map(|task| task.pid).collect::<Vec<_>>(), threads);
                }
            }
        }
        assert!(who == "bob" || self.hers.iter().all(|animal| pids.contains(&animal.pid)), "{who}");
    }
}

/// One of the readers: whole dumps of its kind, each checked, until the time is over; at least one.
fn reader(number: usize, daemon: &Daemon, frozen: &Frozen, until: Instant) -> usize {
    let strategies = [
        DumpStrategy::All,
        DumpStrategy::AllThreads,
        DumpStrategy::Children,
        DumpStrategy::All,
        DumpStrategy::Thread,
        DumpStrategy::One,
    ];
    let light = Groups::BASE | Groups::CRED | Groups::STAT | Groups::STATM;
    let groups = [light, Groups::BASE | Groups::CMDLINE, Groups::BASE | Groups::VMA, light, Groups::NATIVE];
    let buffers = [8 << 10, 64 << 10, 160 << 10, 1 << 20];
    let strategy = strategies[number % strategies.len()];
    let farm = &frozen.farm;
    let pid =
        if strategy == DumpStrategy::Children { farm.parent.pid() } else { farm.leaders()[number % 24] };
    let mut asked = request(strategy, pid, groups[number % groups.len()]);
    if strategy == DumpStrategy::AllThreads || strategy == DumpStrategy::All {
        asked.groups -= Groups::VMA_STAT;
    }
    let look = |who| {
        let file = Handle::open(daemon.path());
        for dumps in 1.. {
            let tasks = file.dump_with(&asked, buffers[number % buffers.len()]).unwrap();
            frozen.check(&asked, &tasks, who);
            if Instant::now() > until {
                return dumps;
            }
        }
        0
    };
    match number % 7 {
        0 | 1 => ALICE.run(|| look("alice")),
        2 => BOB.run(|| look("bob")),
        _ => look("root"),
    }
}

/// A process that reads dumps with no end, to be killed at any moment.
fn doomed_reader(number: usize, path: &CString) -> Child {
    let groups = if number.is_multiple_of(2) { Groups::NATIVE - Groups::VMA_STAT } else { Groups::BASE };
    let bytes = request(DumpStrategy::All, 0, groups).to_bytes();
    let mut buffer = vec![0u8; 64 << 10];
    let (path, message, into) = (path.as_ptr() as i64, bytes.as_ptr() as i64, buffer.as_mut_ptr() as i64);
    Child::start(0, |inside| {
        if number.is_multiple_of(3) {
            inside.must(ALICE.assume());
        }
        let fd = inside.call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, libc::O_RDWR.into()]);
        inside.ready();
        loop {
            inside.call(libc::SYS_write, [fd, message, 40]);
            while inside.call(libc::SYS_read, [fd, into, 64 << 10]) > 0 {}
        }
    })
}

#[test]
fn a_storm() {
    if !needs::root_and_fuse() {
        return;
    }
    let _alone = ALONE.lock();
    for source in sources() {
        let frozen = Frozen::new();
        let storms = [storm(None), storm(Some(ALICE))];
        let daemon = Daemon::start(source);
        let server = daemon.server();
        let path = CString::new(daemon.path().as_os_str().as_encoded_bytes()).unwrap();
        let part = time().0 / ROUNDS / sources().len() as u32;
        let mut sizes = Vec::new();
        for round in 0..ROUNDS as usize {
            let until = Instant::now() + part;
            let (many, few) = if time().1 { (48, 16) } else { (6, 2) };
            let doomed: Vec<Child> =
                (0..few).map(|number| doomed_reader(number + round * many, &path)).collect();
            let dumps: usize = std::thread::scope(|scope| {
                let (daemon, frozen) = (&daemon, &frozen);
                let run =
                    |number: usize| scope.spawn(move || reader(number + round * many, daemon, frozen, until));
                let readers: Vec<_> = (0..many).map(run).collect();
                for (number, child) in doomed.into_iter().enumerate() {
                    std::thread::sleep(Duration::from_micros(number as u64 * 7919 % 10_000));
                    kill(Pid::from_raw(child.pid() as i32), Signal::SIGKILL).unwrap();
                    // Not one stays in a sleep that no signal ends.
                    child.wait_until_ended();
                }
                readers.into_iter().map(|reader| reader.join().unwrap()).sum()
            });
            wait::until("all files are closed", || {
                size(server).files <= sizes.first().map_or(usize::MAX, |s: &Size| s.files)
            });
            sizes.push(size(server));
            say(&format!("{}: round {round}, {dumps} dumps, {:?}", source.name, sizes[round]));
        }
        let (early, last) = (sizes[2], sizes[ROUNDS as usize - 1]);
        assert!(last.threads <= early.threads + 8, "{sizes:?}");
        assert!(last.kib <= early.kib + early.kib / 2 + (32 << 10), "{sizes:?}");
        // And the end of the child while all read.
        let dir = daemon.dir();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ended = [Errno::ENOTCONN, Errno::ECONNABORTED, Errno::ENOENT];
            for number in 0..16 {
                let (path, stop) = (daemon.path(), &stop);
                scope.spawn(move || {
                    let buffer = 8192 << (number % 4);
                    let asked = request(DumpStrategy::All, 0, Groups::BASE | Groups::VMA);
                    while !stop.load(Relaxed) {
                        let file = Handle::open_with(&path, OFlag::O_RDWR);
                        let read = file.and_then(|file| {
                            file.write(&asked.to_bytes())?;
                            file.read_to_end(buffer)
                        });
                        if let Err(e) = read {
                            return assert!(ended.contains(&e), "{e}");
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(50));
            kill(Pid::from_raw(server as i32), Signal::SIGKILL).unwrap();
            let place = daemon.fail();
            stop.store(true, Relaxed);
            let again = place.start_again(source);
            let asked = request(DumpStrategy::AllThreads, 0, Groups::BASE);
            frozen.check(&asked, &Handle::open(again.path()).dump(&asked).unwrap(), "root");
        });
        assert!(!is_mounted(&dir));
        let ids: Vec<u32> = storms.iter().map(Child::pid).chain(frozen.farm.leaders()).collect();
        drop((storms, frozen));
        wait::until("no process is left", || {
            ids.iter().all(|pid| proc::state(*pid).is_none_or(|state| state == b'Z'))
        });
    }
}

/// Refusals that a bound may make of one who takes too much.
const REFUSED: [Errno; 3] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];

/// Others are answered, while somebody takes all that there is to take.
#[track_caller]
fn others_are_served(daemon: &Daemon, animal: &Animal, bobs: &Animal) {
    let began = Instant::now();
    Handle::open(daemon.path()).answers(animal.pid);
    BOB.run(|| {
        let file = Handle::open(daemon.path());
        let all = file.dump(&request(DumpStrategy::All, 0, Groups::NATIVE - Groups::VMA_STAT)).unwrap();
        assert!(all.iter().any(|task| task.pid == bobs.pid));
    });
    say(&format!("  others are answered in {:?}", began.elapsed()));
}

#[test]
fn dumps_left_half_read() {
    if !needs::root_and_fuse() {
        return;
    }
    let _alone = ALONE.lock();
    let (processes, dumps) = if time().1 { (3000, 1000) } else { (200, 100) };
    let _farm = Farm::of(Some(ALICE), processes, 1);
    let (animal, bobs) = (lives::sleeper(), users::bobs());
    for source in sources() {
        let daemon = Daemon::start(source);
        others_are_served(&daemon, &animal, &bobs);
        let before = size(daemon.server());
        let asked = request(DumpStrategy::All, 0, Groups::BASE | Groups::VMA);
        let park = || -> Result<Handle, Errno> {
            let file = Handle::open_with(daemon.path(), OFlag::O_RDWR)?;
            file.write(&asked.to_bytes())?;
            assert!(!file.read(8192)?.is_empty());
            Ok(file)
        };
        let (mut parked, mut refused) = (Vec::new(), 0);
        ALICE.run(|| {
            for _ in 0..dumps {
                match park() {
                    Ok(file) => parked.push(file),
                    Err(e) if REFUSED.contains(&e) => refused += 1,
                    Err(e) => panic!("{e} after {} dumps", parked.len()),
                }
            }
        });
        let full = size(daemon.server());
        say(&format!(
            "{}: {} of {dumps} dumps parked, {refused} refused: {before:?}, {full:?}",
            source.name,
            parked.len()
        ));
        assert!(!parked.is_empty());
        assert!(full.kib < before.kib + (192 << 10), "what one user may hold is bounded");
        others_are_served(&daemon, &animal, &bobs);
        // They are whole, whether what was gathered ahead was kept or not.
        for file in parked.iter().step_by(dumps / 10) {
            let rest: usize = ALICE.run(|| file.read_to_end(160 << 10)).unwrap().iter().map(Vec::len).sum();
            assert!(rest > processes * 500, "{rest}");
        }
        drop(parked);
        wait::until("all files are closed", || size(daemon.server()).files <= before.files);
        others_are_served(&daemon, &animal, &bobs);
        let after = size(daemon.server());
        say(&format!("  afterwards {after:?}"));
        assert!(after.kib <= before.kib + (64 << 10), "{before:?} {after:?}");
    }
}

/// Opens of a file by one process, up to its bound or a refusal: how many, and the error.
fn opener(path: &CString, most: u64) -> Child {
    let path = path.as_ptr() as i64;
    Child::start(2, |inside| {
        inside.must(ALICE.assume());
        for count in 1..=most {
            let flags = [libc::AT_FDCWD.into(), path, libc::O_RDWR.into()];
            match syscall(libc::SYS_openat, flags) {
                Ok(_) => inside.tell(0, count),
                Err(e) => return inside.tell(1, e as u64),
            }
        }
    })
}

#[test]
fn files_that_nobody_reads() {
    if !needs::root_and_fuse() {
        return;
    }
    let _alone = ALONE.lock();
    let most = if time().1 { 100_000 } else { 10_000 };
    let bound = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0;
    let each = (bound - 100).min(5_000);
    let (animal, bobs) = (lives::sleeper(), users::bobs());
    let daemon = Daemon::start(&PROCFS);
    let path = CString::new(daemon.path().as_os_str().as_encoded_bytes()).unwrap();
    let mut sizes = vec![size(daemon.server())];
    for _ in 0..3 {
        let (mut open, mut openers, mut refused) = (0, Vec::new(), None);
        while open < most && refused.is_none() {
            let child = opener(&path, each);
            open += child.board.get(0);
            let error = Some(child.board.get(1)).filter(|errno| *errno != 0);
            refused = error.map(|errno| Errno::from_raw(errno as i32));
            openers.push(child);
        }
        let full = size(daemon.server());
        assert!(open >= 64 && refused.is_none_or(|e| REFUSED.contains(&e)), "{open} {refused:?}");
        assert!(full.kib < sizes[0].kib + 2 * open + (16 << 10), "two KiB each: {full:?}");
        others_are_served(&daemon, &animal, &bobs);
        drop(openers);
        others_are_served(&daemon, &animal, &bobs);
        ALICE.run(|| drop(Handle::open(daemon.path())));
        // The kernel tells of closed files when it comes to it.
        wait::until("all files are closed", || {
            let metrics = std::fs::read_to_string(daemon.dir().join("metrics")).unwrap();
            metrics.lines().any(|line| line == "task_diag_open_files 0")
        });
        sizes.push(size(daemon.server()));
        say(&format!("{open} files open, {refused:?}: {full:?}, then {:?}", sizes.last().unwrap()));
    }
    // What the first left is what the next ones take.
    assert!(sizes[3].kib <= sizes[1].kib + sizes[1].kib / 4 + (8 << 10), "{sizes:?}");
    assert!(sizes[3].files <= sizes[0].files && sizes[3].threads <= sizes[1].threads + 2, "{sizes:?}");
}

/// Programs of root's that she starts, in numbers, while she looks: between judging one and gathering of it, it becomes
/// another.
#[test]
fn a_storm_of_set_user_id_programs() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(dir) = place_for_set_user_id() else {
        needs::missing("a place for a set-user-id program");
        return;
    };
    const SECRET: &str = "0.0031337133";
    let _alone = ALONE.lock();
    // No shell: those step back to their user at once.
    let path = dir.path().join("roots-own");
    std::fs::copy("/bin/sleep", &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let program = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let strings = ["sleep", "0.02", SECRET].map(|s| CString::new(s).unwrap());
    let mut arguments: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
    arguments.push(null());
    // Enough on either side of them in the order of a dump that they are gathered ahead of a read.
    let farms = [Farm::of(Some(ALICE), 50, 1), Farm::of(Some(ALICE), 50, 1)];
    let ours: HashSet<u32> = farms.iter().flat_map(Farm::leaders).collect();
    for source in sources() {
        let daemon = Daemon::start(source);
        let storm = || {
            Child::start(0, |inside| {
                inside.must(ALICE.assume());
                inside.set_dumpable(true);
                inside.ready();
                let mut forked = 0;
                for turn in 0i64.. {
                    inside.fork(|process| {
                        let _ = process.set_name(b"lamb\0\0\0\0\0\0\0\0\0\0\0\0");
                        let moment = libc::timespec { tv_sec: 0, tv_nsec: turn * 7_919_113 % 150_000_000 };
                        // SAFETY: the time is only read.
                        unsafe { libc::nanosleep(&moment, std::ptr::null_mut()) };
                        process.exec(&program, &arguments)
                    });
                    forked += 1;
                    forked -= reaped(forked == 25);
                }
            })
        };
        let storms = [storm(), storm()];
        let until = Instant::now() + time().0 / sources().len() as u32;
        let [before, after, looks] = [const { AtomicUsize::new(0) }; 3];
        // On a machine that stood still meanwhile, until there was a storm to see.
        let goes_on = || {
            let now = Instant::now();
            let met = before.load(Relaxed) > 0 && after.load(Relaxed) > 0;
            now < until || !met && now < until + Duration::from_secs(60)
        };
        let look = |number: usize| {
            let file = Handle::open(daemon.path());
            while goes_on() {
                let groups = if number == 3 { Groups::NATIVE } else { Groups::NATIVE - Groups::VMA_STAT };
                let strategy = if number == 3 { DumpStrategy::Children } else { DumpStrategy::All };
                let asked = request(strategy, storms[0].pid(), groups);
                let tasks = file.dump_with(&asked, [8 << 10, 160 << 10, 32 << 10, 1 << 20][number]).unwrap();
                looks.fetch_add(1, Relaxed);
                for task in tasks.iter().filter(|task| !ours.contains(&task.pid)) {
                    let (base, c) = (task.base.unwrap(), task.credentials.unwrap());
                    let line = task.command_line.as_deref().unwrap_or_default();
                    let leak = line.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                    assert!(!leak, "{}: {}", source.name, line.escape_ascii());
                    // The test itself is root's, and of the reader's thread group.
                    if task.tgid != std::process::id() {
                        assert_eq!([c.uid, c.euid, c.suid, c.fsuid], [users::ALICE; 4], "{base:?}");
                        assert_eq!(u64::from(c.permitted), 0, "{base:?}");
                    }
                    assert_ne!(base.comm_bytes(), b"roots-own", "{}: {base:?} {c:?}", source.name);
                    let mapped = task.mappings.iter().any(|vma| vma.name.ends_with(b"/roots-own"));
                    assert!(!mapped, "{}: {base:?} {c:?}", source.name);
                    before.fetch_add(usize::from(base.comm_bytes() == b"lamb"), Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for number in 0..4 {
                let look = &look;
                scope.spawn(move || ALICE.run(|| look(number)));
            }
            let file = Handle::open(daemon.path());
            while goes_on() {
                let tasks = file.dump(&request(DumpStrategy::All, 0, Groups::BASE | Groups::CRED)).unwrap();
                let roots = |task: &&OwnedTask| {
                    task.base.unwrap().comm_bytes() == b"roots-own" && task.credentials.unwrap().euid == 0
                };
                after.fetch_add(tasks.iter().filter(roots).count(), Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let [before, after, looks] = [before, after, looks].map(|count| count.load(Relaxed));
        say(&format!(
            "{}: {looks} looks met {before} before they changed; root met {after} that had",
            source.name
        ));
        assert!(before > 0 && after > 0, "no storm: {before} {after}");
    }
}
