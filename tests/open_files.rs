//! What a process has open is named as its links in /proc are, whatever it is; also while it opens and closes files
//! all the time.

mod common;

use common::child::{Child, Inside};
use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one, request};
use common::more::{More, expected};
use common::sources::sources;
use common::zoo::lives;
use common::{needs, proc};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::ffi::{CStr, CString, c_long};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};
use task_diag::protocol::{Descriptor, DescriptorList, DumpStrategy, Groups, Request, attribute_id};

const GROUPS: Groups = Groups::FILES.union(Groups::FD);

/// A descriptor that a C function made; `None` where the kernel has no such thing.
fn owned(fd: impl Into<i64>) -> Option<OwnedFd> {
    // SAFETY: nobody else knows it.
    RawFd::try_from(fd.into()).ok().filter(|fd| *fd >= 0).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One of every kind of thing that can be open.
fn everything(dir: &Path) -> Vec<OwnedFd> {
    let read = || OpenOptions::new().read(true).clone();
    let write = || OpenOptions::new().read(true).write(true).create(true).clone();
    let mut all: Vec<OwnedFd> = Vec::new();
    let mut plain = write().open(dir.join("plain")).unwrap();
    plain.write_all(b"hello").unwrap();
    all.push(plain.into());
    let append =
        write().append(true).truncate(false).open(dir.join("line\nfeed \\ \u{e9} (deleted)")).unwrap();
    all.push(append.into());
    let mut gone = write().open(dir.join("gone")).unwrap();
    gone.write_all(&[0; 77]).unwrap();
    fs::remove_file(dir.join("gone")).unwrap();
    all.push(gone.into());
    fs::create_dir(dir.join("directory")).unwrap();
    all.push(File::open(dir.join("directory")).unwrap().into());
    fs::remove_dir(dir.join("directory")).unwrap();
    let mut deep = dir.to_path_buf();
    deep.extend((0..12).map(|_| "d".repeat(200)));
    fs::create_dir_all(&deep).unwrap();
    all.push(File::open(&deep).unwrap().into());
    deep.extend((0..50).map(|_| "d"));
    fs::create_dir_all(&deep).unwrap();
    all.push(File::open(&deep).unwrap().into());

    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    all.push(write().open(dir.join("fifo")).unwrap().into());
    let pipe = nix::unistd::pipe().unwrap();
    all.extend([pipe.0, pipe.1]);
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    all.push(read().custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(dir.join("link")).unwrap().into());
    all.push(read().custom_flags(libc::O_PATH).open(dir.join("plain")).unwrap().into());
    all.push(UnixListener::bind(dir.join("socket")).unwrap().into());
    all.push(read().custom_flags(libc::O_PATH).open(dir.join("socket")).unwrap().into());
    let sockets = [
        (AddressFamily::Inet, SockType::Stream),
        (AddressFamily::Inet6, SockType::Datagram),
        (AddressFamily::Unix, SockType::SeqPacket),
        (AddressFamily::Netlink, SockType::Raw),
    ];
    all.extend(sockets.map(|(family, kind)| socket(family, kind, SockFlag::empty(), None).unwrap()));

    let device = |name| read().custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(name).unwrap().into();
    all.extend(
        ["/dev/null", "/dev/zero", "/dev/ptmx", "/dev/fuse", "/proc", "/proc/1/status", "/sys", "/"]
            .map(device),
    );
    let namespaces = fs::read_dir("/proc/self/ns").unwrap().map(|entry| entry.unwrap().path());
    all.extend(namespaces.map(|path| File::open(path).unwrap().into()));
    // SAFETY: each makes a descriptor and reads at most a signal mask or a name.
    all.extend(unsafe {
        let mut mask = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        let ring = [0_u64; 15];
        let (zero, one) = (0 as c_long, 1 as c_long);
        [
            owned(libc::eventfd(7, 0)),
            owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)),
            owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)),
            owned(libc::signalfd(-1, &mask, 0)),
            owned(libc::inotify_init1(0)),
            owned(libc::fanotify_init(0, 0)),
            owned(libc::memfd_create(c"a name".as_ptr(), 0)),
            owned(libc::memfd_create(c"closes".as_ptr(), libc::MFD_CLOEXEC)),
            owned(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)),
            owned(libc::syscall(libc::SYS_userfaultfd, zero)),
            owned(libc::syscall(libc::SYS_io_uring_setup, one, ring.as_ptr())),
        ]
        .into_iter()
        .flatten()
    });
    all
}

/// A child with those and some more, alone.
fn holder(fds: &[OwnedFd], more: impl FnOnce(&Inside)) -> Child {
    let fds: Vec<(RawFd, bool)> = fds
        .iter()
        .map(|fd| {
            // SAFETY: asks for a flag.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            (fd.as_raw_fd(), flags & libc::FD_CLOEXEC != 0)
        })
        .collect();
    let highest = fds.iter().map(|(fd, _)| *fd).max().unwrap_or(2).max(2) + 1;
    Child::start_keeping_files(1, |inside| {
        // Where they lie depends on what other tests have open: so they go behind all those.
        for (nth, (fd, closes)) in fds.iter().enumerate() {
            let flags = if *closes { libc::O_CLOEXEC } else { 0 };
            let place = highest + 200 + nth as RawFd;
            inside.call(libc::SYS_dup3, [c_long::from(*fd), place.into(), flags.into()]);
        }
        inside.call(libc::SYS_close_range, [3, (highest + 199).into(), 0]);
        more(inside);
    })
}

/// The answer for one process is what /proc says of it.
#[track_caller]
fn check(file: &Handle, pid: u32, what: &str) {
    let mut last = Default::default();
    for _ in 0..20 {
        file.request(&one(pid, GROUPS));
        let answer = More::of(&file.read_to_end(BUFFER).unwrap());
        assert_eq!(answer.len(), 1, "{what}");
        let (got, want) = (answer[0].lines(GROUPS), expected(&pid.to_string(), GROUPS, true));
        if got == want {
            return;
        }
        last = (got, want);
    }
    for (id, want) in &last.1 {
        let got = last.0.get(id).cloned().unwrap_or_default();
        let (got, want): (Vec<_>, Vec<_>) = (got.lines().collect(), want.lines().collect());
        let at = (0..).find(|at| got.get(*at) != want.get(*at) || *at > want.len()).unwrap();
        assert_eq!(got.get(at), want.get(at), "{what}: line {at} of group {id}");
    }
    panic!("{what}: {last:?}");
}

#[test]
fn things_of_every_kind() {
    if !needs::root_and_fuse() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let fds = everything(dir.path());
    let child = holder(&fds, |_| {});
    let (zombie, dead) = (lives::zombie(), lives::dead_leader());
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for (what, pid) in [
            ("of every kind", child.pid()),
            ("kernel thread", 2),
            ("zombie", zombie.pid),
            ("dead leader", dead.pid),
        ] {
            check(&file, pid, &format!("{what} by {}", source.name));
        }
        file.request(&one(child.pid(), GROUPS));
        let answer = More::of(&file.read_to_end(BUFFER).unwrap());
        let list = DescriptorList::new(&answer[0].payloads[&attribute_id::FD]);
        assert_eq!(list.count(), fds.len() + 3);
    }
}

/// Makes a file system of memory at `path` and goes there.
fn mount_memory(inside: &Inside, path: &CStr) {
    // SAFETY: C strings, and a null pointer for no data.
    unsafe {
        let none = c"none".as_ptr();
        inside.check(libc::mount(none, path.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()));
        inside.check(libc::chdir(path.as_ptr()));
    }
}

fn bind(inside: &Inside, from: &CStr, to: &CStr) {
    let null = std::ptr::null();
    // SAFETY: C strings, and null pointers for what a bind has not.
    inside.check(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), null, libc::MS_BIND, null.cast()) });
}

fn make(inside: &Inside, directory: &CStr) {
    // SAFETY: a C string.
    inside.check(unsafe { libc::mkdir(directory.as_ptr(), 0o755) });
}

fn open(inside: &Inside, path: &CStr, flags: i32) {
    // SAFETY: a C string.
    inside.check(unsafe { libc::open(path.as_ptr(), flags, 0o644) });
}

const NEW: i32 = libc::O_CREAT | libc::O_RDWR;

/// Paths that the daemon cannot reach: in another mount namespace, in an unmounted tree, moved out of what is mounted.
fn unreachable(inside: &Inside) {
    // SAFETY: C strings, and null pointers for what there is not.
    unsafe {
        inside.check(libc::unshare(libc::CLONE_NEWNS));
        let null = std::ptr::null::<libc::c_char>();
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        inside.check(libc::mount(null, c"/".as_ptr(), null, flags, null.cast()));
        mount_memory(inside, c"/mnt");
        open(inside, c"alone", NEW);
        for directory in [c"from", c"to", c"from/below", c"lazy", c"from/below/moving"] {
            make(inside, directory);
        }
        bind(inside, c"from/below", c"to");
        open(inside, c"to", 0);
        open(inside, c"to/file", NEW);
        open(inside, c"to/moving/file", NEW);
        open(inside, c"to/moving/gone", NEW);
        inside.check(libc::unlink(c"to/moving/gone".as_ptr()));
        inside.check(libc::rename(c"from/below/moving".as_ptr(), c"from/moved".as_ptr()));
        open(inside, c"name", NEW);
        bind(inside, c"/proc/self/ns/net", c"name");
        open(inside, c"name", 0);
        mount_memory(inside, c"/mnt/lazy");
        make(inside, c"inner");
        open(inside, c"inner/file", NEW);
        inside.check(libc::umount2(c"/mnt/lazy".as_ptr(), libc::MNT_DETACH));
        inside.check(libc::chdir(c"/mnt".as_ptr()));
        for directory in [c"lower", c"upper", c"work", c"merged"] {
            make(inside, directory);
        }
        open(inside, c"lower/low", NEW);
        let (kind, data) = (c"overlay".as_ptr(), c"lowerdir=lower,upperdir=upper,workdir=work".as_ptr());
        // Not every kernel has it.
        if libc::mount(kind, c"merged".as_ptr(), kind, 0, data.cast()) == 0 {
            open(inside, c"merged", 0);
            open(inside, c"merged/new", NEW);
        }
    }
}

#[test]
fn odd_places() {
    if !needs::root_and_fuse() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path =
        |name: &str| CString::new(dir.path().join(name).into_os_string().into_encoded_bytes()).unwrap();
    let [root, lost, program] = ["root", "lost", "program"].map(path);
    for source in sources() {
        let elsewhere = holder(&[], unreachable);
        let confined = holder(&[], |inside| {
            make(inside, &root);
            // SAFETY: C strings.
            unsafe {
                inside.check(libc::chroot(root.as_ptr()));
                inside.check(libc::chdir(c"/".as_ptr()));
            }
            open(inside, c"inside", NEW);
        });
        let homeless = holder(&[], |inside| {
            make(inside, &lost);
            // SAFETY: C strings.
            unsafe {
                inside.check(libc::chdir(lost.as_ptr()));
                inside.check(libc::rmdir(lost.as_ptr()));
            }
        });
        fs::copy("/bin/sleep", dir.path().join("program")).unwrap();
        let arguments = [program.as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        let replaced = Child::start_not_waiting(0, |inside| inside.exec(&program, &arguments));
        common::wait::until("the program runs", || {
            fs::read_link(format!("/proc/{}/exe", replaced.pid()))
                .is_ok_and(|exe| exe == dir.path().join("program"))
        });
        fs::remove_file(dir.path().join("program")).unwrap();
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for (what, child) in [
            ("elsewhere", &elsewhere),
            ("confined", &confined),
            ("homeless", &homeless),
            ("replaced", &replaced),
        ] {
            check(&file, child.pid(), &format!("{what} by {}", source.name));
        }
        drop((elsewhere, confined, homeless, replaced));
        fs::remove_dir_all(dir.path().join("root")).unwrap();
    }
}

/// Many descriptors, high ones, and many names: more than fit what is gathered at once. Where a program gathers them,
/// no file of /proc is read for them.
#[test]
fn many_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    const MANY: u64 = 17_000;
    // A shell of an ordinary system allows a thousand files, and more to who asks for them.
    let (soft, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit.min(MANY + 3_000).max(soft), limit).unwrap();
    let many = MANY.min(limit - 300) as c_long;
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<CString> = (0..2_000)
        .map(|nth| dir.path().join(format!("{nth:0200}")))
        .map(|path| CString::new(path.into_os_string().into_encoded_bytes()).unwrap())
        .collect();
    let copies = Child::start(1, |inside| {
        for place in 3..many {
            inside.call(libc::SYS_dup2, [0, place, 0]);
        }
    });
    let sparse = Child::start(1, |inside| {
        for place in [63, 64, 127, 1000, many] {
            inside.call(libc::SYS_dup2, [0, place, 0]);
        }
    });
    let named = Child::start(1, |inside| paths.iter().for_each(|path| open(inside, path, NEW)));
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for (what, child) in [("copies", &copies), ("sparse", &sparse), ("named", &named)] {
            check(&file, child.pid(), &format!("{what} by {}", source.name));
        }
        let reads = || proc::read(&format!("{}/io", daemon.server())).map(|io| reads_of(&io)).unwrap();
        let before = reads();
        file.request(&Request::set([copies.pid(), sparse.pid(), named.pid()], GROUPS));
        let answer = More::of(&file.read_to_end(BUFFER).unwrap());
        assert_eq!(answer.len(), 3);
        let read = reads() - before;
        assert_eq!(source.name != "procfs", read < 500, "{read} reads of {}", source.name);
    }
}

/// Calls of read(2) by a process.
fn reads_of(io: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(io);
    text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

/// Opens and closes files, pipes and sockets until the end.
fn storm(paths: &[CString]) -> ! {
    loop {
        for path in paths {
            // SAFETY: C strings; descriptors of this process alone, which nothing else counts on.
            unsafe {
                let fd = libc::open(path.as_ptr(), NEW | libc::O_CLOEXEC, 0o600);
                let copy = libc::dup(fd);
                libc::close(fd);
                let mut pipe = [-1; 2];
                libc::pipe(pipe.as_mut_ptr());
                libc::unlink(path.as_ptr());
                let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
                // The child has them, too.
                let none = 0 as c_long;
                let signal = c_long::from(libc::SIGCHLD);
                let child = libc::syscall(libc::SYS_clone, signal, none, none, none, none);
                if child == 0 {
                    libc::_exit(0);
                }
                libc::waitpid(child as i32, std::ptr::null_mut(), 0);
                libc::close(copy);
                libc::close(pipe[0]);
                libc::close(libc::memfd_create(path.as_ptr().add(1), 0));
                libc::close(pipe[1]);
                libc::close(socket);
            }
        }
    }
}

/// Whether a storm of that name may have a file of such a name open, and then whether the rest of the record suits it.
fn is_of(storm: &str, descriptor: &Descriptor) -> (bool, bool) {
    let name = String::from_utf8_lossy(descriptor.name);
    let bare = name.strip_suffix(" (deleted)").unwrap_or(&name);
    let inode = bare.split(['[', ']']).nth(1).and_then(|digits| digits.parse().ok());
    match descriptor.fd {
        0..=2 => (true, true),
        _ if bare.starts_with("pipe:[") => (true, descriptor.kind == 1 && inode == Some(descriptor.inode)),
        _ if bare.starts_with("socket:[") => (true, descriptor.kind == 12 && inode == Some(descriptor.inode)),
        _ => (bare.contains(storm), descriptor.kind == 8 && descriptor.flags & 0o3 == 2),
    }
}

/// Files, and the kernel's structures of them, go from one process to the next all the time: none of another's is ever
/// shown.
#[test]
fn amid_a_storm() {
    if !needs::root_and_fuse() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names = ["alpha", "beta", "gamma"];
    let storms = names.map(|name| {
        let paths: Vec<CString> = (0..20)
            .map(|nth| dir.path().join(format!("{name}-{nth}-{}", "x".repeat(nth * 10))))
            .map(|path| CString::new(path.into_os_string().into_encoded_bytes()).unwrap())
            .collect();
        let child = Child::start(1, |inside| {
            inside.fork(|_| storm(&paths));
            inside.fork(|inside| {
                inside.fork_sharing_files(|_| storm(&paths));
                storm(&paths)
            });
        });
        (name, child)
    });
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let began = Instant::now();
        let (mut seen, mut answers, mut mixed) = (0, 0, 0);
        let wanted = if source.name == "bpf" { 200 } else { 0 };
        // For a while; and on a machine that stood still meanwhile until there was something to see.
        let enough =
            |answers, seen| answers > 20 && seen > wanted || began.elapsed() > Duration::from_secs(60);
        while began.elapsed() < Duration::from_secs(3) || !enough(answers, seen) {
            for (name, child) in &storms {
                file.request(&request(DumpStrategy::Subtree, child.pid(), GROUPS));
                for task in More::of(&file.read_to_end(BUFFER).unwrap()) {
                    let Some(list) = task.payloads.get(&attribute_id::FD) else { continue };
                    let list: Vec<Descriptor> = DescriptorList::new(list).map(|one| one.unwrap()).collect();
                    assert!(list.is_sorted_by(|a, b| a.fd < b.fd));
                    for one in &list {
                        let (own, whole) = is_of(name, one);
                        assert!(own, "{}: {one:?} is none of {name}", source.name);
                        seen += usize::from(one.fd > 2);
                        mixed += usize::from(!whole);
                    }
                    answers += 1;
                }
            }
        }
        let counts = format!("{}: {answers} answers, {seen} descriptors, {mixed} mixed", source.name);
        assert!(answers > 20 && seen > wanted, "{counts}");
        // Name, flags and kind are files of their own in /proc: by the next one it may be another descriptor. That is
        // asked only where the table changes again and again.
        assert!(source.name != "bpf" || mixed * 100 <= seen, "{counts}");
    }
    drop(storms);
    // Its descendants end a moment later, and until then make files.
    common::wait::until("the storm is over", || fs::remove_dir_all(dir.path()).is_ok());
}

/// A name that is longer than the kernel tells is lacking at its descriptor, not at the others.
#[test]
fn a_name_too_long_to_be_told() {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};
    if !needs::root_and_fuse() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mut here: OwnedFd = File::open(place.path()).unwrap().into();
    let name = "d".repeat(250);
    for _ in 0..18 {
        mkdirat(&here, name.as_str(), Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        here = openat(&here, name.as_str(), flags, Mode::empty()).unwrap();
    }
    let known = File::open("/etc/passwd").unwrap();
    for source in sources() {
        let daemon = Daemon::start_with(source, &[]);
        let tasks = Handle::open(daemon.path());
        tasks.request(&one(std::process::id(), GROUPS | Groups::MISSING));
        let mut all = task_diag::client::OwnedTask::default();
        for read in tasks.read_to_end(BUFFER).unwrap() {
            for message in task_diag::protocol::Messages::new(&read) {
                all.add(&message.unwrap()).unwrap();
            }
        }
        let list: Vec<_> = all.descriptors().expect("it has open files").map(Result::unwrap).collect();
        let of = |fd: RawFd| list.iter().find(|of| of.fd == fd as u32).unwrap();
        assert_eq!(of(known.as_raw_fd()).name, b"/etc/passwd", "{}", source.name);
        let deep = of(here.as_raw_fd());
        assert_eq!((deep.name, deep.kind), (&b""[..], 4), "{}", source.name);
    }
}
