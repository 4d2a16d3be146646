//! What the file says to every kind of call: each row of the interface's table, and after each that the same
//! descriptor still answers.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::identity::Identity;
use common::sources::sources;
use common::wire;
use common::zoo::farm::Farm;
use common::zoo::{Animal, lives, memory, users};
use common::{needs, wait};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::os::unix::fs::PermissionsExt;
use task_diag::protocol::{DumpStrategy, Groups, Request};

/// A mount of each source, with a file open on it and a process to ask for.
fn with_file(test: impl Fn(&Daemon, &Handle, &Animal)) {
    if !needs::root_and_fuse() {
        return;
    }
    let animal = lives::threads();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        test(&daemon, &file, &animal);
        file.answers(animal.pid);
    }
}

/// A request's bytes with one field of the header changed.
fn with_length(request: &Request, nlmsg_len: u32) -> Vec<u8> {
    let mut bytes = request.to_bytes().to_vec();
    bytes[..4].copy_from_slice(&nlmsg_len.to_ne_bytes());
    bytes
}

fn with_strategy(request: &Request, strategy: u64) -> Vec<u8> {
    let mut bytes = request.to_bytes().to_vec();
    bytes[24..32].copy_from_slice(&strategy.to_ne_bytes());
    bytes
}

fn with_groups(request: &Request, groups: u64) -> Vec<u8> {
    let mut bytes = request.to_bytes().to_vec();
    bytes[16..24].copy_from_slice(&groups.to_ne_bytes());
    bytes
}

/// The number of a task that is no more.
fn gone() -> u32 {
    lives::sleeper().pid
}

#[test]
fn a_second_request_is_refused_and_the_first_goes_on() {
    with_file(|_, file, animal| {
        let threads = request(DumpStrategy::Thread, animal.pid, Groups::BASE);
        file.request(&threads);
        // Before any other check, that of the length too.
        for length in [1, 15, 16, 40, 4096] {
            assert_eq!(file.write(&vec![0; length]), Err(Errno::EBUSY), "{length} bytes");
        }
        let first = file.read(100).unwrap();
        assert_eq!(wire::messages(&first, threads.seq).len(), 1);
        for length in [1, 40] {
            assert_eq!(file.write(&vec![0; length]), Err(Errno::EBUSY), "{length} bytes");
        }
        let mut reads = vec![first];
        reads.extend(file.read_to_end(100).unwrap());
        assert_eq!(wire::tasks(&reads, threads.seq).len(), 10);
    });
}

#[test]
fn less_than_a_header_is_refused() {
    with_file(|_, file, animal| {
        for length in 1..16 {
            assert_eq!(file.write(&vec![1; length]), Err(Errno::EINVAL), "{length} bytes");
            assert_eq!(file.read(4096), Ok(vec![]));
        }
        file.answers(animal.pid);
        assert_eq!(file.write(&[]), Ok(0));
        assert_eq!(file.read(4096), Ok(vec![]));
    });
}

#[test]
fn without_a_request_there_is_nothing_to_read() {
    with_file(|_, file, animal| {
        for buffer in [0, 1, 28, 1 << 20] {
            assert_eq!(file.read(buffer), Ok(vec![]));
        }
        file.answers(animal.pid);
        assert_eq!(file.read(4096), Ok(vec![]));
    });
}

#[test]
fn lengths_that_make_no_sense() {
    with_file(|_, file, animal| {
        let good = one(animal.pid, Groups::BASE);
        for nlmsg_len in [0, 1, 15, 16, 39, 41, 44, 1 << 16, u32::MAX] {
            let bytes = with_length(&good, nlmsg_len);
            assert_eq!(file.write(&bytes), Ok(40), "{nlmsg_len}");
            assert_eq!(file.read(4096), Err(Errno::EINVAL), "{nlmsg_len}");
            assert_eq!(file.read(4096), Ok(vec![]), "the request is gone");
            file.answers(animal.pid);
        }
        // A header alone is taken, and judged by the read.
        assert_eq!(file.write(&good.to_bytes()[..16]), Ok(16));
        assert_eq!(file.read(4096), Err(Errno::EINVAL));
    });
}

#[test]
fn unknown_strategies() {
    with_file(|_, file, animal| {
        for strategy in [5, 255, 1 << 32, u64::MAX] {
            assert_eq!(file.write(&with_strategy(&one(animal.pid, Groups::BASE), strategy)), Ok(40));
            assert_eq!(file.read(4096), Err(Errno::EINVAL), "{strategy}");
            assert_eq!(file.read(4096), Ok(vec![]));
            file.answers(animal.pid);
        }
    });
}

#[test]
fn tasks_that_do_not_exist() {
    with_file(|_, file, animal| {
        for strategy in [DumpStrategy::One, DumpStrategy::Thread, DumpStrategy::Children] {
            for pid in [gone(), 0, 1 << 30, u32::MAX] {
                assert_eq!(file.dump(&request(strategy, pid, Groups::BASE)), Err(Errno::ESRCH), "{pid}");
                assert_eq!(file.read(4096), Ok(vec![]));
                file.answers(animal.pid);
            }
        }
        // These two ignore the number.
        for strategy in [DumpStrategy::All, DumpStrategy::AllThreads] {
            let tasks = file.dump(&request(strategy, gone(), Groups::BASE)).unwrap();
            assert!(tasks.iter().any(|task| task.pid == animal.pid));
        }
    });
}

#[test]
fn a_hidden_task_is_an_empty_answer_and_an_absent_one_an_error() {
    if !needs::root_and_fuse() {
        return;
    }
    let (hidden, own) = (lives::threads(), users::alices());
    for source in sources() {
        let daemon = Daemon::start(source);
        Identity::user("alice", users::ALICE).run(|| {
            let file = Handle::open(daemon.path());
            for strategy in [DumpStrategy::One, DumpStrategy::Thread, DumpStrategy::Children] {
                let ask = |pid| file.dump(&request(strategy, pid, Groups::NATIVE));
                assert_eq!(ask(hidden.pid), Ok(vec![]), "{strategy:?}");
                assert_eq!(ask(hidden.child.board.get(0) as u32), Ok(vec![]), "{strategy:?} of a thread");
                assert_eq!(ask(gone()), Err(Errno::ESRCH), "{strategy:?}");
            }
            file.answers(own.pid);
        });
    }
}

#[test]
fn small_buffers_lose_nothing() {
    with_file(|_, file, animal| {
        let threads = request(DumpStrategy::Thread, animal.pid, Groups::BASE);
        file.request(&threads);
        for buffer in [1, 16, 27, 28, 75] {
            assert_eq!(file.read(buffer), Err(Errno::EMSGSIZE), "{buffer} bytes");
        }
        let mut reads = vec![file.read(76).unwrap()];
        assert_eq!(file.read(75), Err(Errno::EMSGSIZE));
        assert_eq!(file.write(&[0; 40]), Err(Errno::EBUSY));
        reads.push(file.read(76 * 3 + 75).unwrap());
        reads.extend(file.read_to_end(28).unwrap());
        assert_eq!(reads.iter().take(2).map(Vec::len).collect::<Vec<_>>(), [76, 76 * 3]);
        assert_eq!(wire::tasks(&reads, threads.seq).len(), 10);
        // Without any group a message has 28 bytes.
        file.request(&one(animal.pid, Groups::empty()));
        assert_eq!(file.read(27), Err(Errno::EMSGSIZE));
        assert_eq!(file.read(28).unwrap().len(), 28);
        assert_eq!(file.read(28), Ok(vec![]));
    });
}

/// The classical client leaves everything of its header but the length to chance, and sends 4 bytes too many.
#[test]
fn header_fields_that_mean_nothing() {
    with_file(|_, file, animal| {
        let capture = std::fs::read("tests/captures/one-alpha-0x7f.bin").unwrap();
        let mut recorded = capture[16..16 + 44].to_vec();
        recorded[32..36].copy_from_slice(&animal.pid.to_ne_bytes());
        let mut odd = recorded.clone();
        odd[4..16].fill(0x2c);
        odd[36..44].fill(0xff);
        for bytes in [recorded, odd] {
            assert_eq!(bytes[..4], 44u32.to_ne_bytes());
            assert_eq!(file.write(&bytes), Ok(44));
            let seq = u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
            let tasks = wire::tasks(&file.read_to_end(4096).unwrap(), seq);
            assert_eq!(tasks.iter().map(|t| t.pid).collect::<Vec<_>>(), [animal.pid]);
            assert!(tasks[0].statm.is_some() && !tasks[0].mappings.is_empty());
        }
    });
}

#[test]
fn unknown_groups_are_ignored() {
    with_file(|_, file, animal| {
        let good = one(animal.pid, Groups::BASE);
        for groups in [1 << 63, 1 << 10, 1 << 7, Groups::VMA_STAT.bits(), 0] {
            assert_eq!(file.write(&with_groups(&good, groups)), Ok(40));
            let reads = file.read_to_end(4096).unwrap();
            assert_eq!(reads.concat().len(), 28, "{groups:#x}");
            assert_eq!(wire::tasks(&reads, good.seq)[0].pid, animal.pid);
        }
        // All that this version knows, and all that it never may.
        assert_eq!(file.write(&with_groups(&good, Groups::NATIVE.bits() | 0xffff_ff80)), Ok(40));
        let tasks = wire::tasks(&file.read_to_end(4096).unwrap(), good.seq);
        assert!(tasks[0].base.is_some() && tasks[0].command_line.is_some() && tasks.len() == 1);
    });
}

#[test]
fn offsets_mean_nothing() {
    with_file(|_, file, animal| {
        let good = one(animal.pid, Groups::BASE);
        let mut bytes = [0; 4096];
        for offset in [0, 1, 7 << 40, i64::MAX >> 1] {
            assert_eq!(nix::sys::uio::pwrite(file, &good.to_bytes(), offset), Ok(40), "{offset}");
            let n = nix::sys::uio::pread(file, &mut bytes, offset / 3).unwrap();
            assert_eq!(wire::messages(&bytes[..n], good.seq)[0].pid, animal.pid, "{offset}");
            assert_eq!(nix::sys::uio::pread(file, &mut bytes, offset), Ok(0), "{offset}");
            for whence in [nix::unistd::Whence::SeekSet, nix::unistd::Whence::SeekCur] {
                // Whether seeking succeeds means nothing either.
                let _ = nix::unistd::lseek(file, offset, whence);
                file.answers(animal.pid);
            }
        }
    });
}

#[test]
fn long_requests_are_taken_whole() {
    with_file(|_, file, animal| {
        let good = one(animal.pid, Groups::BASE);
        for length in [41, 44, 4095, 4096, 4097, 1 << 16] {
            for nlmsg_len in [40, length as u32] {
                let mut bytes = with_length(&good, nlmsg_len);
                bytes.resize(length, 0xee);
                assert_eq!(file.write(&bytes), Ok(length));
                let tasks = wire::tasks(&file.read_to_end(4096).unwrap(), good.seq);
                assert_eq!(tasks.iter().map(|t| t.pid).collect::<Vec<_>>(), [animal.pid]);
            }
        }
        // More than the kernel carries at once, and not aligned: it may be cut short, but it is one request.
        let mut bytes = vec![0];
        bytes.extend(with_length(&good, 40));
        bytes.resize((1 << 20) + 4097, 0xee);
        let taken = file.write(&bytes[1..]).unwrap();
        assert!(taken >= 1 << 16, "{taken}");
        let tasks = wire::tasks(&file.read_to_end(4096).unwrap(), good.seq);
        assert_eq!(tasks.iter().map(|t| t.pid).collect::<Vec<_>>(), [animal.pid]);
    });
}

#[test]
fn ways_to_open() {
    with_file(|daemon, file, animal| {
        let path = daemon.path();
        let read_only = Handle::open_with(&path, OFlag::O_RDONLY).unwrap();
        let good = one(animal.pid, Groups::BASE);
        assert_eq!(read_only.write(&good.to_bytes()), Err(Errno::EBADF));
        assert_eq!(read_only.read(4096), Ok(vec![]));
        let write_only = Handle::open_with(&path, OFlag::O_WRONLY).unwrap();
        write_only.request(&good);
        assert_eq!(write_only.read(4096), Err(Errno::EBADF));
        for flags in [OFlag::O_TRUNC, OFlag::O_APPEND, OFlag::O_NONBLOCK, OFlag::O_CREAT, OFlag::O_NOCTTY] {
            Handle::open_with(&path, OFlag::O_RDWR | flags).unwrap().answers(animal.pid);
        }
        assert_eq!(Handle::open_with(&path, OFlag::O_DIRECTORY).unwrap_err(), Errno::ENOTDIR);
        // Truncation means nothing, not even in the middle of a dump.
        file.request(&request(DumpStrategy::Thread, animal.pid, Groups::BASE));
        let mut reads = vec![file.read(76).unwrap()];
        nix::unistd::ftruncate(file, 0).unwrap();
        nix::unistd::ftruncate(file, 1 << 30).unwrap();
        reads.extend(file.read_to_end(4096).unwrap());
        assert_eq!(wire::tasks(&reads, 0x5eed_0002).len(), 10);
    });
}

#[test]
fn ioctl_and_poll() {
    with_file(|_, file, animal| {
        for number in [0u32, 0x5401, 0x8004_6601, 0xdead] {
            let mut argument = [0u8; 256];
            // SAFETY: an argument longer than what any of these numbers tells the kernel to write.
            let result = unsafe { libc::ioctl(file.raw(), number as _, argument.as_mut_ptr()) };
            assert_eq!((result, Errno::last()), (-1, Errno::ENOTTY), "{number:#x}");
        }
        let ready = || {
            use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
            use std::os::fd::AsFd;
            let both = PollFlags::POLLIN | PollFlags::POLLOUT;
            let mut fds = [PollFd::new(file.as_fd(), both)];
            poll(&mut fds, PollTimeout::ZERO).unwrap();
            assert_eq!(fds[0].revents(), Some(both));
        };
        ready();
        file.request(&one(animal.pid, Groups::BASE));
        ready();
        assert_eq!(file.read(4096).unwrap().len(), 76);
        ready();
        assert_eq!(file.read(4096), Ok(vec![]));
    });
}

#[test]
fn both_names_and_no_other() {
    with_file(|daemon, _, animal| {
        for name in ["task_diag", "task-diag"] {
            let path = daemon.dir().join(name);
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!(meta.permissions().mode() & 0o7777, 0o666);
            assert!(meta.is_file() && meta.len() == 0);
            Handle::open(path).answers(animal.pid);
        }
        let entries = std::fs::read_dir(daemon.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["info", "metrics", "task-diag", "task_diag"]);
        let other = daemon.dir().join("other");
        assert_eq!(Handle::open_with(&other, OFlag::O_RDWR).unwrap_err(), Errno::ENOENT);
        // Nothing can be made, taken away or changed.
        assert!(Handle::open_with(&other, OFlag::O_RDWR | OFlag::O_CREAT).is_err());
        assert!(std::fs::create_dir(&other).is_err());
        assert!(std::fs::remove_file(daemon.path()).is_err());
        assert!(std::fs::rename(daemon.path(), &other).is_err());
        assert!(std::fs::hard_link(daemon.path(), &other).is_err());
        let private = std::fs::Permissions::from_mode(0o600);
        assert!(std::fs::set_permissions(daemon.path(), private).is_err());
        assert!(std::os::unix::fs::chown(daemon.path(), Some(1), None).is_err());
    });
}

#[test]
fn info_is_text_for_everyone() {
    with_file(|daemon, _, _| {
        let path = daemon.dir().join("info");
        let text = std::fs::read_to_string(&path).unwrap();
        let look = Identity::user("alice", users::ALICE);
        assert_eq!(look.run(|| std::fs::read_to_string(&path)).unwrap(), text);
        let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(": ").expect(line)).collect();
        let value = |key| lines.iter().find(|(k, _)| *k == key).expect(key).1;
        assert!(lines.iter().all(|(key, _)| !key.is_empty() && !key.contains(' ')));
        assert!(sources().iter().any(|source| source.name == value("source")));
        assert_eq!(value("protocol"), "1");
        for word in
            ["BASE=0", "CRED=1", "VMA=2", "VMA_STAT=3", "STAT=4", "CMDLINE=5", "STATM=6", "MISSING=44"]
        {
            assert!(value("groups").split(' ').any(|group| group == word), "{word} in {}", value("groups"));
        }
        assert_eq!(value("strategies"), "ALL=0 ONE=1 ALL_THREAD=2 CHILDREN=3 THREAD=4 SET=16 SUBTREE=17");

        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
        let write = || Handle::open_with(&path, OFlag::O_WRONLY).map(|file| file.write(b"text"));
        assert_eq!(look.run(write).unwrap_err(), Errno::EACCES);
        // Root may open it, but not write.
        assert!(!matches!(write(), Ok(Ok(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    });
}

#[test]
fn too_many_files() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--files", "6", "--files-per-user", "4"]);
        let open = || std::fs::OpenOptions::new().read(true).write(true).open(daemon.path());
        let errno = |result: std::io::Result<std::fs::File>| result.unwrap_err().raw_os_error().unwrap();
        let mut roots: Vec<_> = (0..4).map(|_| open().unwrap()).collect();
        assert_eq!(errno(open()), libc::EMFILE, "root has its share");
        let alice = Identity::user("alice", users::ALICE);
        let hers = alice.run(|| [open().unwrap(), open().unwrap()]);
        let bob = Identity::user("bob", users::BOB);
        assert_eq!(errno(bob.run(open)), libc::ENFILE, "nobody gets any more");
        drop(roots.pop());
        wait::until("the place is free again", || bob.run(open).is_ok());
        drop(hers);
        assert!(daemon.log().contains("too many files open"), "{}", daemon.log());
    }
}

/// One person with many user ids leaves something for others, and more for root.
#[test]
fn several_ids_leave_something() {
    if !needs::root_and_fuse() {
        return;
    }
    let greedy = (1..=6).map(|n| Identity::user("greedy", users::BOB + n));
    for source in sources() {
        let limits = ["--files", "64", "--files-per-user", "32", "--parked", "4", "--parked-per-user", "2"];
        let daemon = Daemon::start_with(source, &limits);
        let open = || Handle::open_with(daemon.path(), OFlag::O_RDWR);
        let list = |length: u32| Request {
            pids: (1..=length).collect(),
            ..request(DumpStrategy::Set, 0, Groups::BASE)
        };
        // Each opens files until it may not, or has lists kept until it may not.
        let files = || std::iter::from_fn(|| open().ok()).collect::<Vec<_>>();
        let lists = || {
            let kept = || open().ok().filter(|file| file.write(&list(4096).to_bytes()).is_ok());
            std::iter::from_fn(kept).collect::<Vec<_>>()
        };
        let alice = Identity::user("alice", users::ALICE);
        for take in [&files as &(dyn Fn() -> Vec<Handle> + Sync), &lists] {
            let taken: Vec<Vec<Handle>> = greedy.clone().map(|identity| identity.run(take)).collect();
            assert!(taken.iter().all(|files| !files.is_empty()));
            alice.run(|| open().unwrap().request(&list(500)));
            let roots: Vec<Handle> = (0..3).map(|_| open().unwrap()).collect();
            roots.iter().for_each(|file| file.request(&list(16_384)));
            drop((taken, roots));
            wait::until("all is closed", || alice.run(files).len() > 16);
        }
    }
}

#[test]
fn too_much_half_read() {
    if !needs::root_and_fuse() {
        return;
    }
    let large = memory::many_mappings();
    let (pid, groups) = (large.pid, Groups::BASE | Groups::VMA);
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--parked-per-user", "1"]);
        let mut files = Vec::new();
        let refused = loop {
            let file = Handle::open(daemon.path());
            file.request(&one(pid, groups));
            match file.read(4096) {
                Ok(bytes) => assert!(!bytes.is_empty()),
                Err(e) => break e,
            }
            files.push(file);
            assert!(files.len() < 2000, "no bound");
        };
        assert_eq!(refused, Errno::ENOMEM);
        assert!(!files.is_empty());
        // What fits is answered as ever.
        assert_eq!(Handle::open(daemon.path()).dump(&one(pid, Groups::BASE)).unwrap().len(), 1);
        drop(files);
        wait::until("what was kept is given up", || {
            let file = Handle::open(daemon.path());
            file.request(&one(pid, groups));
            file.read(4096).is_ok()
        });
    }
}

/// Half-read dumps keep lists of threads; all of it counts, and goes back to the system in the end.
#[test]
fn lists_count_and_memory_goes_back() {
    if !needs::root_and_fuse() {
        return;
    }
    const THREADS: usize = 3000;
    const FILES: usize = 1200;
    let farm = Farm::new(1, THREADS);
    let pid = farm.leaders()[0];
    for source in sources() {
        let daemon = Daemon::start(source);
        let server = daemon.server();
        let resident = || {
            let text = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
        };
        let parked = || {
            let text = std::fs::read_to_string(daemon.dir().join("metrics")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("task_diag_parked_bytes ")).unwrap();
            line.parse::<usize>().unwrap()
        };
        Handle::open(daemon.path()).answers(pid);
        let before = resident();
        let half_read = |_| {
            let file = Handle::open(daemon.path());
            let asked = request(DumpStrategy::AllThreads, 0, Groups::BASE);
            file.request(&asked);
            loop {
                let bytes = file.read(4096).unwrap();
                let seq = asked.seq;
                if wire::messages(&bytes, seq).iter().any(|message| message.tgid == pid) {
                    break;
                }
            }
            file
        };
        let files: Vec<Handle> = (0..FILES).map(half_read).collect();
        assert!(parked() >= FILES * THREADS * size_of::<u32>(), "{} bytes", parked());
        drop(files);
        wait::until("nothing is kept", || parked() == 0);
        wait::until("memory goes back to the system", || resident() < before + (8 << 20));
    }
}

#[test]
fn metrics_are_for_root() {
    if !needs::root_and_fuse() {
        return;
    }
    let hidden = users::roots_hidden();
    for source in sources() {
        let daemon = Daemon::start(source);
        let alice = Identity::user("alice", users::ALICE);
        let path = daemon.dir().join("metrics");
        let sum = |name: &str| {
            let text = std::fs::read_to_string(&path).unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("task_diag_{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!((sum("requests_total"), sum("tasks_shown_total"), sum("open_files")), (0, 0, 0));
        let seen = alice.run(|| {
            assert_eq!(std::fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EACCES));
            let file = Handle::open(daemon.path());
            assert_eq!(file.dump(&one(hidden.pid, Groups::BASE)).unwrap().len(), 0);
            assert!(file.dump(&one(u32::MAX / 2, Groups::BASE)).is_err());
            file.dump(&request(DumpStrategy::All, 0, Groups::BASE)).unwrap().len()
        });
        assert_eq!((sum("requests_total"), sum("no_such_task_total")), (3, 1));
        assert_eq!(sum("tasks_shown_total"), seen as u64);
        assert!(sum("tasks_hidden_total") >= 2 && sum("bytes_total") > 0 && sum("nanoseconds_total") > 0);
        wait::until("the file is closed", || sum("open_files") == 0);
    }
}
