//! Confused deputies: a file that one reader prepared is read by another, or in a way in which it is not plain who reads.
//! Each read is answered as for who makes it, by the kernel's own verdict on the same way to open a guarded file.

mod common;

use common::child::Child;
use common::daemon::Daemon;
use common::handle::{Handle, request};
use common::identity::{CAP_SYS_PTRACE, Caps, Identity, effective_caps, set_caps, syscall};
use common::needs;
use common::place::place_for_set_user_id;
use common::ring::{By, Ring};
use common::sources::{Source, sources};
use common::wire;
use common::zoo::{Animal, lives, users};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{IoSliceMut, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::ptr::null;
use task_diag::protocol::{DumpStrategy, Groups, Request};

const ALICE: Identity = Identity::user("alice", users::ALICE);
/// Root's ids without a capability.
const BARE_ROOT: Identity = Identity::user("bare root", 0);

const ROOTS: &str = "sleeper";
const BARE: &str = "root's without capabilities";
const HERS: &str = "Alice's";
const BOBS: &str = "Bob's";

type Names = BTreeSet<&'static str>;

/// What bare root sees: where a source cannot know that memory is dumpable, not even its own kind.
fn bare_roots(source: &Source) -> Names {
    if source.knows_dumpable { names([BARE]) } else { names([]) }
}

fn names<const N: usize>(names: [&'static str; N]) -> Names {
    names.into()
}

/// One of each kind of which the readers here see different ones.
struct Animals(Vec<Animal>);

impl Animals {
    fn new() -> Animals {
        Animals(vec![lives::sleeper(), users::roots_without_caps(), users::alices(), users::bobs()])
    }

    /// Those that an answer shows.
    fn in_answer(&self, reads: &[Vec<u8>]) -> Names {
        let messages =
            |read: &Vec<u8>| wire::messages(read, all().seq).iter().map(|m| m.pid).collect::<Vec<_>>();
        let pids: BTreeSet<u32> = reads.iter().flat_map(messages).collect();
        self.0.iter().filter(|animal| pids.contains(&animal.pid)).map(|animal| animal.name).collect()
    }

    /// Those whose guarded files `open` opens.
    fn opened(&self, mut open: impl FnMut(&str) -> bool) -> Names {
        let mut may = |animal: &&Animal| open(&format!("/proc/{}/maps", animal.pid));
        self.0.iter().filter(|animal| may(animal)).map(|animal| animal.name).collect()
    }
}

fn all() -> Request {
    request(DumpStrategy::All, 0, Groups::BASE | Groups::CRED)
}

/// A file with a request, of which the calling thread has read one task.
#[track_caller]
fn begun(daemon: &Daemon) -> Handle {
    let file = Handle::open(daemon.path());
    file.request(&all());
    assert!(!file.read(150).unwrap().is_empty());
    file
}

/// Reads to the end by `read`.
#[track_caller]
fn to_the_end(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Vec<Vec<u8>> {
    let mut reads = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match read(&mut buffer).unwrap() {
            0 => return reads,
            n => reads.push(buffer[..n].to_vec()),
        }
    }
}

/// The rest of a dump that root began, for a thread whose credentials changed after it.
#[test]
fn a_thread_reads_with_the_credentials_that_it_has_now() {
    if !needs::root_and_fuse() {
        return;
    }
    let animals = Animals::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        let rest = |file: &Handle| animals.in_answer(&file.read_to_end(64 << 10).unwrap());
        let saved = Identity { uids: [users::ALICE, users::ALICE, 0], ..ALICE };
        let all_caps = effective_caps().unwrap();
        let ptrace = 1 << CAP_SYS_PTRACE;
        let after = |change: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                let (daemon, rest) = (&daemon, &rest);
                let thread = scope.spawn(move || {
                    let file = begun(daemon);
                    change();
                    rest(&file)
                });
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        };
        assert_eq!(after(&|| ()), names([ROOTS, BARE, HERS, BOBS]));
        assert_eq!(after(&|| ALICE.assume().unwrap()), names([HERS]));
        assert_eq!(after(&|| saved.assume().unwrap()), names([HERS]));
        assert_eq!(after(&|| BARE_ROOT.assume().unwrap()), bare_roots(source));
        // The effective set counts, and can be taken back.
        assert_eq!(after(&|| set_caps(all_caps, all_caps & !ptrace, 0).unwrap()), bare_roots(source));
        let and_back = || {
            set_caps(all_caps, 0, 0).unwrap();
            set_caps(all_caps, all_caps, 0).unwrap();
        };
        assert_eq!(after(&and_back), names([ROOTS, BARE, HERS, BOBS]));
        // So do the filesystem ids. Whoever has the capability is not asked for ids.
        let eyes = |uid: u32| {
            set_caps(all_caps, all_caps & !ptrace, 0).unwrap();
            syscall(libc::SYS_setfsgid, [uid.into(), 0, 0]).unwrap();
            syscall(libc::SYS_setfsuid, [uid.into(), 0, 0]).unwrap();
        };
        assert_eq!(after(&|| eyes(users::BOB)), names([BOBS]));
        // And whoever asks with her eyes first does not keep them.
        let thread = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                syscall(libc::SYS_setresuid, [0, users::ALICE.into(), 0]).unwrap();
                let file = Handle::open(daemon.path());
                file.request(&all());
                syscall(libc::SYS_setresuid, [-1, 0, -1]).unwrap();
                rest(&file)
            });
            thread.join().unwrap()
        });
        assert_eq!(thread, names([ROOTS, BARE, HERS, BOBS]));
    }
}

/// What `dd` reads from `file`, run by a child that becomes `who` first.
fn through_dd(program: &std::path::Path, file: &Handle, who: Option<Identity>) -> Vec<u8> {
    let program = CString::new(program.as_os_str().as_encoded_bytes()).unwrap();
    let strings = ["dd", "bs=65536", "status=none"].map(|s| CString::new(s).unwrap());
    let mut arguments: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
    arguments.push(null());
    let mut sink = tempfile::tempfile().unwrap();
    let (from, to) = (i64::from(file.raw()), i64::from(sink.as_raw_fd()));
    let child = Child::start_keeping_files(0, |inside| {
        if let Some(who) = who {
            inside.must(who.assume());
        }
        inside.call(libc::SYS_dup3, [from, 0, 0]);
        inside.call(libc::SYS_dup3, [to, 1, 0]);
        inside.ready();
        inside.exec(&program, &arguments);
    });
    child.wait_until_ended();
    let mut bytes = Vec::new();
    sink.rewind().unwrap();
    sink.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_program_reads_with_its_own_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(dir) = place_for_set_user_id() else {
        needs::missing("a place for a set-user-id program");
        return;
    };
    let (plain, roots) = (dir.path().join("dd"), dir.path().join("roots-dd"));
    for (path, mode) in [(&plain, 0o755), (&roots, 0o4755)] {
        std::fs::copy("/bin/dd", path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let animals = Animals::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        // She asks, and a program of root's reads.
        let file = ALICE.run(|| Handle::open(daemon.path()));
        ALICE.run(|| file.request(&all()));
        let seen = animals.in_answer(&[through_dd(&roots, &file, Some(ALICE))]);
        assert_eq!(seen, names([ROOTS, BARE, HERS, BOBS]));
        // Root asks, and her program reads.
        let file = begun(&daemon);
        assert_eq!(animals.in_answer(&[through_dd(&plain, &file, Some(ALICE))]), names([HERS]));
        let file = begun(&daemon);
        assert_eq!(animals.in_answer(&[through_dd(&plain, &file, None)]), names([ROOTS, BARE, HERS, BOBS]));
    }
}

/// A read by way of a ring is made by a thread of the kernel's, with credentials that may be neither its own nor those
/// of the thread that asks. It shows what the kernel shows in the same way, or less where that is not to be found out.
#[test]
fn a_ring_shows_no_more_than_the_kernel_does() {
    if !needs::root_and_fuse() || !Ring::is_there() {
        return;
    }
    let animals = Animals::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        for by in [By::Asking, By::Worker, By::Poller] {
            for kept in [false, true] {
                let who = [Identity { caps: Caps::All, ..BARE_ROOT }, BARE_ROOT, ALICE];
                for later in who {
                    let what = format!("{source:?}, {by:?}, kept {kept}, {later:?}");
                    // The thread makes the ring and reads by it as root, so that all threads it needs are there.
                    let read = || {
                        let mut ring = Ring::new(by);
                        let credentials = if kept { ring.keep_credentials() } else { 0 };
                        let file = Handle::open(daemon.path());
                        file.request(&all());
                        let mut small = [0; 150];
                        let first = ring.read(file.raw(), &mut small, 0);
                        assert!(first.is_ok_and(|n| n > 0), "{what}: {first:?}");
                        later.assume().unwrap();
                        // The ring asks for the rest of a read by itself, which may have been the end.
                        let _ = file.write(&all().to_bytes());
                        let reads = to_the_end(|buffer| ring.read(file.raw(), buffer, credentials));
                        let may = animals.opened(|path| ring.open(path, credentials).is_ok());
                        let own = animals.opened(|path| std::fs::File::open(path).is_ok());
                        (animals.in_answer(&reads), may, own)
                    };
                    let (shown, may, own) = std::thread::scope(|scope| scope.spawn(read).join()).unwrap();
                    assert!(shown.is_subset(&may), "{what}: {shown:?}, and the kernel shows {may:?}");
                    assert!(
                        own.is_subset(&may) && (kept || by == By::Poller || own == may),
                        "{what}: {own:?} {may:?}"
                    );
                    if source.name == "bpf" {
                        assert_eq!(shown, may, "{what}");
                    }
                    if later.uids[0] != 0 && may == own {
                        assert_eq!(shown, names([HERS]), "{what}");
                    }
                }
            }
        }
        // And as an ordinary user from the beginning.
        let (shown, own) = ALICE.run(|| {
            let mut ring = Ring::new(By::Worker);
            let file = Handle::open(daemon.path());
            file.request(&all());
            let reads = to_the_end(|buffer| ring.read(file.raw(), buffer, 0));
            (animals.in_answer(&reads), animals.opened(|path| ring.open(path, 0).is_ok()))
        });
        assert_eq!((shown, own), (names([HERS]), names([HERS])));
    }
}

/// `io_submit(2)` of one read.
fn asynchronous(fd: RawFd, into: &mut [u8]) -> Result<usize, Errno> {
    #[repr(C)]
    #[derive(Default)]
    struct Event {
        data: u64,
        object: u64,
        result: i64,
        result2: i64,
    }
    let mut context = 0u64;
    syscall(libc::SYS_io_setup, [1, &raw mut context as i64, 0])?;
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut call: libc::iocb = unsafe { std::mem::zeroed() };
    // IOCB_CMD_PREAD is 0.
    call.aio_fildes = fd as u32;
    (call.aio_buf, call.aio_nbytes) = (into.as_mut_ptr() as u64, into.len() as u64);
    let calls = [&raw mut call];
    let mut event = Event::default();
    let submitted = syscall(libc::SYS_io_submit, [context as i64, 1, calls.as_ptr() as i64]);
    let result = submitted.map(|_| {
        // SAFETY: room for one event; the buffer outlives the call, of which this is the end.
        let got = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                context,
                1i64,
                1i64,
                &raw mut event,
                null::<libc::timespec>(),
            )
        };
        assert_eq!(got, 1);
        event.result
    });
    syscall(libc::SYS_io_destroy, [context as i64, 0, 0])?;
    match result? {
        n if n < 0 => Err(Errno::from_raw(-n as i32)),
        n => Ok(n as usize),
    }
}

type Way = (&'static str, fn(&Handle, &mut [u8]) -> Result<usize, Errno>);

const WAYS: [Way; 5] = [
    ("readv", |file, into| {
        let (a, b) = into.split_at_mut(200);
        nix::sys::uio::readv(file, &mut [IoSliceMut::new(a), IoSliceMut::new(b)])
    }),
    ("preadv", |file, into| nix::sys::uio::preadv(file, &mut [IoSliceMut::new(into)], 123)),
    ("preadv2", |file, into| positioned(file, into, 0)),
    ("preadv2 that does not wait", |file, into| match positioned(file, into, libc::RWF_NOWAIT) {
        Err(Errno::EOPNOTSUPP | Errno::EAGAIN) => nix::unistd::read(file, into),
        other => other,
    }),
    ("io_submit", |file, into| asynchronous(file.raw(), into)),
];

fn positioned(file: &Handle, into: &mut [u8], flags: i32) -> Result<usize, Errno> {
    let vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: one buffer of that length.
    let n = unsafe { libc::preadv2(file.raw(), &vector, 1, -1, flags) };
    Errno::result(n).map(|n| n as usize)
}

#[test]
fn every_call_reads_with_the_callers_eyes() {
    if !needs::root_and_fuse() {
        return;
    }
    let animals = Animals::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        for (way, read) in WAYS {
            for flags in [OFlag::O_RDWR, OFlag::O_RDWR | OFlag::O_NONBLOCK] {
                let file = Handle::open_with(daemon.path(), flags).unwrap();
                file.request(&all());
                let reads = to_the_end(|into| read(&file, into));
                assert_eq!(animals.in_answer(&reads), names([ROOTS, BARE, HERS, BOBS]), "{way}");
                file.request(&all());
                let mut small = [0; 350];
                assert!(read(&file, &mut small).unwrap() > 0);
                let reads = ALICE.run(|| to_the_end(|into| read(&file, into)));
                assert_eq!(animals.in_answer(&reads), names([HERS]), "{way}");
            }
        }
    }
}

/// A file of another process', by way of /proc and of its pidfd.
#[test]
fn a_file_of_another_process() {
    if !needs::root_and_fuse() {
        return;
    }
    let animals = Animals::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = begun(&daemon);
        let raw = file.raw();
        // Her own process, which has a file that root asked and began to read.
        let holder = Child::start_keeping_files(0, |inside| {
            inside.must(ALICE.assume());
            inside.set_dumpable(true);
            let flags = 0;
            inside.call(libc::SYS_fcntl, [raw.into(), libc::F_SETFD.into(), flags]);
        });
        let path = format!("/proc/{}/fd/{raw}", holder.pid());
        let pidfd_getfd = || {
            let pidfd = syscall(libc::SYS_pidfd_open, [holder.pid().into(), 0, 0])?;
            // SAFETY: a descriptor that is new, and nobody else's.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) };
            let fd = syscall(libc::SYS_pidfd_getfd, [pidfd.as_raw_fd().into(), raw.into(), 0])?;
            // SAFETY: as above.
            Ok::<_, Errno>(Handle(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
        };
        ALICE.run(|| {
            // The same node, but a file of its own: nothing was asked.
            let again = Handle::open(&path);
            assert_eq!(again.read(4096).unwrap(), b"");
            again.request(&all());
            assert_eq!(animals.in_answer(&again.read_to_end(4096).unwrap()), names([HERS]));
            // The same file.
            let same = pidfd_getfd().unwrap();
            assert_eq!(same.write(&all().to_bytes()), Err(Errno::EBUSY));
            assert_eq!(animals.in_answer(&same.read_to_end(4096).unwrap()), names([HERS]));
        });
        let bob = Identity::user("bob", users::BOB);
        bob.run(|| {
            assert_eq!(Handle::open_with(&path, OFlag::O_RDWR).unwrap_err(), Errno::EACCES);
            assert_eq!(pidfd_getfd().unwrap_err(), Errno::EPERM);
        });
        // What she asked and began is root's to go on with, with root's eyes.
        file.request(&all());
        assert!(!ALICE.run(|| file.read(150)).unwrap().is_empty());
        let rest = animals.in_answer(&file.read_to_end(64 << 10).unwrap());
        assert!(rest.is_superset(&names([BOBS])), "{rest:?}");
    }
}
