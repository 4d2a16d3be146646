//! No one sees what another reader was told: not through another open file, not through a shared one, and by no way
//! round the daemon.

mod common;

use common::child::Child;
use common::daemon::Daemon;
use common::doors::DOORS;
use common::handle::{Handle, one, request};
use common::identity::{Caps, Identity};
use common::sources::sources;
use common::wire;
use common::zoo::farm::Farm;
use common::zoo::{Animal, comm, lives, memory, users};
use common::{needs, proc};
use nix::fcntl::OFlag;
use std::collections::{HashMap, HashSet};
use std::io::{IoSlice, IoSliceMut, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use task_diag::protocol::{DumpStrategy, Groups, Request};

const ALICE: Identity = Identity::user("alice", users::ALICE);
const EVERYONE: DumpStrategy = DumpStrategy::All;

/// A process that only root may see, with a name to find in anything that leaks.
fn secret() -> (Animal, Vec<u8>) {
    let name = format!("sk{:x}", std::process::id() ^ nix::unistd::gettid().as_raw() as u32 ^ 0x5eed_5eed);
    let raw = comm(name.as_bytes());
    let child = Child::start(0, |inside| {
        inside.must(inside.set_name(&raw));
        inside.set_dumpable(false);
    });
    (Animal::new("secret", b'S', child), name.into_bytes())
}

#[track_caller]
fn assert_no_trace(of: &[u8], bytes: &[u8], what: &str) {
    let leak = bytes.windows(of.len()).any(|window| window == of);
    assert!(!leak, "{what} gave away what another read: {}", bytes.escape_ascii());
}

/// Other open files of the same node as `file`, and of others.
fn others(daemon: &Daemon, file: &Handle) -> Vec<(&'static str, Handle)> {
    let same_node = format!("/proc/self/fd/{}", file.raw());
    vec![
        ("the same path", Handle::open(daemon.path())),
        ("the other name", Handle::open(daemon.dir().join("task-diag"))),
        ("the same node", Handle::open(&same_node)),
        ("the same node, read-only", Handle::open_with(&same_node, OFlag::O_RDONLY).unwrap()),
        ("the same node, truncated", Handle::open_with(&same_node, OFlag::O_RDWR | OFlag::O_TRUNC).unwrap()),
    ]
}

/// Writes a request far behind the beginning. The kernel then believes that the file is long, so that page-cache
/// readers do not stop at its end.
#[track_caller]
fn ask_far(file: &Handle, request: &Request) {
    assert_eq!(nix::sys::uio::pwrite(file, &request.to_bytes(), 4 << 20), Ok(40));
}

#[test]
fn no_door_shows_what_another_file_read() {
    if !needs::root_and_fuse() {
        return;
    }
    let (secret, name) = secret();
    let other = lives::sleeper();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let handles = others(&daemon, &file);
        // Opening a file makes the kernel ask for its size again, so each handle gets its turn alone, too.
        for ((way, take), (what, handle)) in DOORS.iter().flat_map(|a| handles.iter().map(move |b| (a, b))) {
            for (door, open) in DOORS {
                let what = format!("{door} of {what}, after {way},");
                ask_far(&file, &one(secret.pid, Groups::BASE));
                let taken = take(file.raw());
                let read = file.read_to_end(4096).unwrap().concat();
                assert!(*way != "read" || taken.windows(name.len()).any(|window| window == name));
                assert!([0, 76].contains(&read.len()));
                // It has asked for nothing.
                let bytes = open(handle.raw());
                assert_no_trace(&name, &bytes, &what);
                assert!(bytes.is_empty(), "{what}: {}", bytes.escape_ascii());
                if !what.contains("read-only") {
                    ask_far(handle, &one(other.pid, Groups::BASE));
                    assert_no_trace(&name, &open(handle.raw()), &what);
                    handle.read_to_end(4096).unwrap();
                }
            }
            handle.read_to_end(4096).unwrap();
            if !what.contains("read-only") {
                handle.answers(other.pid);
            }
        }
    }
}

/// What an administrator mounts over the file, as container runtimes hide paths, stays there whoever looks, here and in other
/// mount namespaces; and two open files of other users still show each other nothing.
#[test]
fn a_mask_stays() {
    if !needs::root_and_fuse() {
        return;
    }
    let (secret, name) = secret();
    let source = sources()[0];
    let daemon = Daemon::start(&source);
    let dir = daemon.dir().to_str().unwrap().to_string();
    for file in ["task_diag", "task-diag", "info", "metrics"] {
        let path = format!("{dir}/{file}");
        let script = "mount --make-rprivate / && mount --bind /dev/null \"$1\" && echo masked && read line && \
                      ls -l \"$2\" > /dev/null; stat -c %F \"$1\"; grep -c \" $1 \" /proc/self/mountinfo";
        let mut masked = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", &path, &dir])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(masked.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line, "masked\n", "{file}");
        // The others go on, and look at the name again and again.
        ALICE.run(|| {
            for _ in 0..3 {
                assert!(std::fs::metadata(&path).unwrap().is_file());
                assert!(std::fs::read_dir(&dir).unwrap().count() >= 4);
            }
            if file.starts_with("task") {
                Handle::open(&path).answers(std::process::id());
            }
        });
        if file.starts_with("task") {
            let files = [Handle::open(&path), Handle::open(&path)];
            for (door, open) in DOORS {
                ask_far(&files[0], &one(secret.pid, Groups::BASE));
                open(files[0].raw());
                files[0].read_to_end(4096).unwrap();
                let bytes = open(files[1].raw());
                assert_no_trace(&name, &bytes, door);
                assert!(bytes.is_empty(), "{door}");
            }
        }
        use std::io::Write;
        masked.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(masked.wait().unwrap().success(), "{file}: the mask is gone: {rest}");
        assert!(rest.starts_with("character special file\n"), "{file}: {rest}");
    }
}

/// The ids in an answer that may be anything.
fn pids(reads: &[u8], seq: u32) -> Vec<u32> {
    wire::messages(reads, seq).iter().map(|message| message.pid).collect()
}

/// Hands a descriptor over a socket.
fn over_a_socket(fd: RawFd) -> OwnedFd {
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = [fd];
    let message = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(a.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None).unwrap();
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let got = recvmsg::<()>(b.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty()).unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next() else {
        panic!("no descriptor")
    };
    // SAFETY: a descriptor that has just come to us.
    unsafe { OwnedFd::from_raw_fd(fds[0]) }
}

#[test]
fn a_shared_file_is_read_with_the_readers_own_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let (secret, name) = secret();
    let own = users::alices();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let asked = request(EVERYONE, 0, Groups::BASE);
        for shared in [file.0.try_clone().unwrap(), over_a_socket(file.raw())].map(Handle) {
            for (door, open) in DOORS {
                // Root reads the beginning, and she goes on.
                ask_far(&file, &asked);
                assert!(!pids(&file.read(76 * 2).unwrap(), asked.seq).is_empty(), "root goes first");
                let mut bytes = ALICE.run(|| open(shared.raw()));
                bytes.extend(ALICE.run(|| shared.read_to_end(4096).unwrap().concat()));
                assert_no_trace(&name, &bytes, door);
                let seen = pids(&bytes, asked.seq);
                assert!(seen.contains(&own.pid), "her own is there after {door}");
                let allowed = |pid: &u32| *pid == std::process::id() || is_alices(*pid);
                assert!(seen.iter().all(allowed), "and nobody else's: {seen:?}");
                // What root takes by any way is not in what the kernel keeps for her.
                for (way, take) in DOORS {
                    ask_far(&file, &one(secret.pid, Groups::BASE));
                    take(file.raw());
                    file.read_to_end(4096).unwrap();
                    let bytes = ALICE.run(|| open(shared.raw()));
                    assert_no_trace(&name, &bytes, &format!("{door} of a shared file, after root's {way},"));
                }
            }
        }
    }
}

fn is_alices(pid: u32) -> bool {
    // Whatever went meanwhile cannot be told; the animals of this test stay.
    proc::Status::of(&pid.to_string()).is_none_or(|status| status.ids("Uid") == [users::ALICE; 4])
}

#[test]
fn a_child_reads_an_inherited_file_with_its_own_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let (_secret, name) = secret();
    let own = users::alices();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let asked = request(EVERYONE, 0, Groups::BASE);
        file.request(&asked);
        assert_eq!(file.read(76).unwrap().len(), 76);
        let mut sink = tempfile::tempfile().unwrap();
        let mut buffer = vec![0u8; 64 << 10];
        let (fd, into, space) = (file.raw(), sink.as_raw_fd(), buffer.as_mut_ptr());
        let child = Child::start_keeping_files(1, |inside| {
            inside.must(ALICE.assume());
            loop {
                let n = inside.call(libc::SYS_read, [fd.into(), space as i64, 64 << 10]);
                if n == 0 {
                    break;
                }
                inside.call(libc::SYS_write, [into.into(), space as i64, n]);
            }
        });
        drop(child);
        let mut read = Vec::new();
        sink.rewind().unwrap();
        sink.read_to_end(&mut read).unwrap();
        let seen = pids(&read, asked.seq);
        assert!(seen.contains(&own.pid) && seen.iter().all(|pid| is_alices(*pid)), "{seen:?}");
        assert_no_trace(&name, &read, "an inherited file");
        file.answers(own.pid);
    }
}

/// The rest of a task that root has read half of is not for someone who may not see the task.
#[test]
fn a_half_sent_task_is_closed_for_other_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let hidden = memory::many_mappings();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let asked = one(hidden.pid, Groups::NATIVE);
        let nobody = Identity { caps: Caps::Only(5), ..ALICE };
        for other in [ALICE, nobody] {
            file.request(&asked);
            for _ in 0..3 {
                let read = file.read(4096).unwrap();
                assert!(wire::messages(&read, asked.seq)[0].continues);
            }
            let rest = other.run(|| file.read_to_end(4096).unwrap());
            assert_eq!(rest.concat().len(), 28, "a bare message");
            let closing = &wire::messages(&rest[0], asked.seq)[0];
            assert_eq!((closing.pid, closing.continues), (hidden.pid, false));
            file.answers(hidden.pid);
        }
    }
}

/// What its owner was being told of a task does not go on for somebody to whom only the unguarded is shown.
#[test]
fn a_half_sent_task_is_closed_for_who_may_see_less_of_it() {
    if !needs::root_and_fuse() {
        return;
    }
    let child = Child::start(0, |inside| {
        inside.must(ALICE.assume());
        inside.set_dumpable(true);
        for _ in 0..2000 {
            // SAFETY: new mappings, of turns in protection, so that they stay apart.
            unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
            }
        }
    });
    let nobody = Identity { caps: Caps::None, ..Identity::user("Bob", users::BOB) };
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--hidepid", "proc"]);
        let file = Handle::open(daemon.path());
        let asked = one(child.pid(), Groups::BASE | Groups::VMA);
        ALICE.run(|| {
            file.request(&asked);
            assert!(wire::messages(&file.read(4096).unwrap(), asked.seq)[0].continues);
        });
        let rest = nobody.run(|| file.read_to_end(4096).unwrap());
        assert_eq!(rest.concat().len(), 28, "{}: a bare message", source.name);
    }
}

#[test]
fn two_threads_share_one_dump() {
    if !needs::root_and_fuse() {
        return;
    }
    let farm = Farm::new(300, 3);
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let asked = request(DumpStrategy::AllThreads, 0, Groups::BASE | Groups::STAT);
        for _ in 0..5 {
            file.request(&asked);
            let seen = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for buffer in [4096, 10_000] {
                    let (file, seen) = (&file, &seen);
                    scope.spawn(move || {
                        for read in file.read_to_end(buffer).unwrap() {
                            // Whole tasks, each in one read.
                            let tasks = wire::tasks(&[read], asked.seq);
                            seen.lock().unwrap().extend(tasks.into_iter().map(|task| task.pid));
                        }
                    });
                }
            });
            let seen = seen.into_inner().unwrap();
            let once: HashSet<u32> = seen.iter().copied().collect();
            assert_eq!(once.len(), seen.len(), "each task once");
            let ours = farm.processes.concat();
            assert!(ours.iter().all(|tid| once.contains(tid)));
        }
    }
}

#[test]
fn many_files_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    let farm = Farm::new(200, 1);
    let ask = |pid| one(pid, Groups::BASE | Groups::VMA | Groups::CMDLINE);
    for source in sources() {
        let daemon = Daemon::start(source);
        let open = |pid: &u32| (*pid, Handle::open(daemon.path()));
        let files: Vec<(u32, Handle)> = farm.leaders().iter().map(open).collect();
        for (pid, file) in &files {
            file.request(&ask(*pid));
        }
        // A piece of each in turns, by four threads with files of their own.
        let interleaved = |files: &[(u32, Handle)]| {
            let mut reads: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
            let mut open: Vec<&(u32, Handle)> = files.iter().collect();
            while !open.is_empty() {
                open.retain(|(pid, file)| {
                    let read = file.read(600).unwrap();
                    let more = !read.is_empty();
                    reads.entry(*pid).or_default().extend(more.then_some(read));
                    more
                });
            }
            for (pid, reads) in reads {
                let tasks = wire::tasks(&reads, ask(pid).seq);
                assert!(tasks.len() == 1 && tasks[0].pid == pid && tasks[0].base.unwrap().pid == pid);
                assert!(reads.len() > 3 && !tasks[0].mappings.is_empty() && tasks[0].command_line.is_some());
            }
        };
        std::thread::scope(|scope| {
            for some in files.chunks(50) {
                scope.spawn(|| interleaved(some));
            }
        });
    }
}

/// What was gathered for one reader, who has not read it yet, is not what the next one gets.
#[test]
fn nothing_is_gathered_ahead_for_other_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let roots: Vec<Animal> = (0..60).map(|_| lives::sleeper()).collect();
    let own = users::alices();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let shared = Handle(file.0.try_clone().unwrap());
        let asked = request(EVERYONE, 0, Groups::BASE | Groups::VMA);
        file.request(&asked);
        let mut first = Vec::new();
        while !roots.iter().take(20).all(|root| pids(&first, asked.seq).contains(&root.pid)) {
            first.extend(file.read(8192).unwrap());
        }
        let rest = ALICE.run(|| shared.read_to_end(8192).unwrap().concat());
        let seen = pids(&rest, asked.seq);
        assert!(seen.contains(&own.pid) || pids(&first, asked.seq).contains(&own.pid));
        // The task that root's last read left half sent is closed before her own.
        let closed = usize::from(seen.first().is_some_and(|pid| !is_alices(*pid)));
        let allowed = |pid: &u32| *pid == std::process::id() || is_alices(*pid);
        assert!(seen[closed..].iter().all(allowed), "nobody else's: {seen:?}");
        // And root sees everyone, whatever eyes the reads between had.
        file.request(&asked);
        let mut all = Vec::new();
        for turn in 0.. {
            let piece = if turn % 4 == 3 {
                ALICE.run(|| shared.read(64).unwrap_or_default())
            } else {
                match file.read(8192) {
                    Ok(piece) if piece.is_empty() => break,
                    piece => piece.unwrap(),
                }
            };
            all.extend(pids(&piece, asked.seq));
        }
        all.dedup();
        assert!(all.is_sorted(), "each once, in order: {all:?}");
    }
}
