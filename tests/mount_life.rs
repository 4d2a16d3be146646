//! How a mount begins and ends: well, by force, and not at all.

mod common;

use common::child::Child;
use common::daemon::{Daemon, ends_with_this_thread, is_mounted, program};
use common::handle::{Handle, one, request};
use common::identity::Identity;
use common::sources::{PROCFS, Source};
use common::zoo::{lives, users};
use common::{needs, proc, wait};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use task_diag::protocol::{DumpStrategy, Groups};

/// Which source is used does not matter here.
const SOURCE: &Source = &PROCFS;

#[test]
fn signals_end_it_well() {
    if !needs::root_and_fuse() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        for open in [false, true] {
            let mut daemon = Daemon::start(SOURCE);
            let dir = daemon.dir();
            assert!(is_mounted(&dir));
            let file = open.then(|| Handle::open(daemon.path()));
            if let Some(file) = &file {
                file.request(&request(DumpStrategy::All, 0, Groups::BASE));
                assert!(!file.read(4096).unwrap().is_empty());
            }
            let status = daemon.end_by(signal);
            assert_eq!(status.code(), Some(0), "{signal}, open: {open}: {}", daemon.log());
            assert!(!is_mounted(&dir));
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "the directory is itself again");
            if let Some(file) = file {
                assert_eq!(file.read(4096), Err(Errno::ENOTCONN));
            }
        }
    }
}

#[test]
fn it_ends_well_while_it_is_used() {
    if !needs::root_and_fuse() {
        return;
    }
    for _ in 0..20 {
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            // Ends before the readers are waited for, come what may.
            let mut daemon = Daemon::start(SOURCE);
            for _ in 0..4 {
                let (path, answered) = (daemon.path(), &answered);
                scope.spawn(move || {
                    // Until the mount is gone: the path, the file or the connection.
                    while let Ok(file) = Handle::open_with(&path, OFlag::O_RDWR) {
                        let bytes = one(std::process::id(), Groups::NATIVE).to_bytes();
                        if file.write(&bytes).is_err() || file.read(1 << 20).is_err() {
                            break;
                        }
                        answered.fetch_add(1, SeqCst);
                    }
                });
            }
            wait::until("readers are answered", || answered.load(SeqCst) > 100);
            let status = daemon.end_by(Signal::SIGTERM);
            assert_eq!(status.code(), Some(0), "{}", daemon.log());
        });
    }
}

#[test]
fn it_ends_well_when_someone_unmounts_it() {
    if !needs::root_and_fuse() {
        return;
    }
    let mut daemon = Daemon::start(SOURCE);
    // Whoever asks for the size of every file system is in each for a moment.
    wait::until("nobody uses it", || match umount2(&daemon.dir(), MntFlags::empty()) {
        Err(Errno::EBUSY) => false,
        outcome => outcome.is_ok() || panic!("{outcome:?}"),
    });
    // No signal at all: the one sent here does nothing, and says so if there is nobody to get it.
    assert_eq!(daemon.end_by(Signal::SIGCONT).code(), Some(0), "{}", daemon.log());
}

#[test]
fn after_a_kill_readers_know_at_once_and_the_next_start_heals() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(SOURCE);
    let (dir, path) = (daemon.dir(), daemon.path());
    let (idle, busy) = (Handle::open(&path), Handle::open(&path));
    busy.request(&request(DumpStrategy::All, 0, Groups::BASE));
    assert!(!busy.read(4096).unwrap().is_empty());
    let server = daemon.server();
    let dead = daemon.kill();
    // With its parent gone it would serve on unnoticed.
    // Not every machine's first process takes note of the dead; all of its threads have to be, for its files to be closed.
    wait::until("its child ends too", || {
        proc::state(server).is_none_or(|state| state == b'Z' && proc::threads(server).len() <= 1)
    });
    for file in [&idle, &busy] {
        assert_eq!(file.read(4096), Err(Errno::ENOTCONN));
        assert_eq!(file.write(&[0; 40]), Err(Errno::ENOTCONN));
    }
    assert_eq!(Handle::open_with(&path, OFlag::O_RDWR).unwrap_err(), Errno::ENOTCONN);
    assert!(is_mounted(&dir));

    let again = dead.start_again(SOURCE);
    assert_eq!(again.dir(), dir);
    assert!(again.log().contains("cleared a dead mount"), "{}", again.log());
    Handle::open(&path).answers(std::process::id());
    // The old ones stay dead.
    assert_eq!(busy.read(4096), Err(Errno::ENOTCONN));
    drop(again);
    assert!(!is_mounted(&dir), "no dead mount is left below");
}

#[test]
fn any_directory_will_do() {
    if !needs::root_and_fuse() {
        return;
    }
    use std::os::unix::ffi::OsStrExt;
    let place =
        tempfile::Builder::new().prefix(std::ffi::OsStr::from_bytes(b"a #b\\c\xff\n")).tempdir().unwrap();
    let mut daemon = Daemon::start_at(place, &mut program());
    Handle::open(daemon.path()).answers(std::process::id());
    assert!(refused(&daemon.dir()).contains("already"));
    assert_eq!(daemon.end_by(Signal::SIGTERM).code(), Some(0), "{}", daemon.log());
    assert_eq!(std::fs::read_dir(daemon.dir()).unwrap().count(), 0, "it is unmounted");
}

/// Runs `mount` where it has to fail.
#[track_caller]
fn refused(dir: &Path) -> String {
    let mut command = program();
    ends_with_this_thread(command.arg("mount").arg(dir));
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains(&*dir.to_string_lossy()), "the message names the directory: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_living_mount_is_left_alone() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(SOURCE);
    let file = Handle::open(daemon.path());
    let text = refused(&daemon.dir());
    assert!(text.contains("already"), "{text}");
    file.answers(std::process::id());
    Handle::open(daemon.path()).answers(std::process::id());
}

#[test]
fn directories_that_are_none() {
    if !needs::root_and_fuse() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(refused(&file).contains("not a directory"));
    assert!(refused(&file.join("below")).contains("not a directory"));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    assert!(refused(Path::new("/proc/no-such-directory/below")).contains("cannot make the directory"));
}

#[test]
fn missing_directories_are_made() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(SOURCE);
    // The directory was not there before: only the place for it was.
    assert!(daemon.dir().join("info").exists());
    assert!(daemon.log().contains(&format!("serving {}", daemon.path().display())), "{}", daemon.log());
}

#[test]
fn it_tells_a_service_manager() {
    if !needs::root_and_fuse() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut command = program();
    let daemon = Daemon::start_at(place, command.env("NOTIFY_SOCKET", &socket));
    let mut bytes = [0; 4096];
    let n = manager.recv(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    assert!(text.lines().any(|line| line == "READY=1"), "{text}");
    Handle::open(daemon.path()).answers(std::process::id());
}

#[test]
fn an_ordinary_user_serves_himself() {
    if !needs::root_and_fuse() {
        return;
    }
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join("fusermount3").exists());
    if !found {
        needs::missing("fusermount3 (package fuse3)");
        return;
    }
    // fusermount3 wants a user with a name.
    let Some(user) = nix::unistd::User::from_name("nobody").unwrap() else {
        needs::missing("a user nobody");
        return;
    };
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let nobody = Identity { gids: [gid; 3], ..Identity::user("nobody", uid) };
    if nobody.run(|| Handle::open_with("/dev/fuse", OFlag::O_RDWR)).is_err() {
        open_fuse_to_everyone();
    }
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(place.path(), Some(uid), Some(gid)).unwrap();
    let dir = place.path().join("mnt");
    let log = std::fs::File::create(place.path().join("log")).unwrap();
    let mut command = program();
    command.arg("mount").arg(&dir).uid(uid).gid(gid).stdout(Stdio::null()).stderr(log);
    let mut daemon = ends_with_this_thread(&mut command).spawn().unwrap();
    let logged = || std::fs::read_to_string(place.path().join("log")).unwrap();
    wait::until("the daemon serves", || {
        assert!(daemon.try_wait().unwrap().is_none(), "{}", logged());
        logged().contains("serving")
    });
    let own = users::of("nobody's", nobody, true);
    // A process of its own: this one, which has had several users' threads, is closed to an ordinary daemon.
    let mut client = program();
    client.args(["one", "--path"]).arg(dir.join("task_diag")).arg(own.pid.to_string()).uid(uid).gid(gid);
    let answer = client.output().unwrap();
    let table = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && table.contains(&own.pid.to_string()), "{answer:?}");
    // Not even root is let in, unless FUSE is told so.
    assert_eq!(Handle::open_with(dir.join("task_diag"), OFlag::O_RDWR).unwrap_err(), Errno::EACCES);
    let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0), "{}", logged());
    assert!(!is_mounted(&dir));
}

/// Most distributions let everyone open /dev/fuse. Where it is root's alone, this thread and what it starts get one
/// like theirs, in a mount namespace of their own, which goes when they do.
fn open_fuse_to_everyone() {
    use nix::mount::{MsFlags, mount};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let place = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let device = place.path().join("fuse");
    mknod(&device, SFlag::S_IFCHR, Mode::empty(), makedev(10, 229)).unwrap();
    std::fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    mount(Some(&device), "/dev/fuse", none, MsFlags::MS_BIND, none).unwrap();
    nix::mount::umount2(place.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// The descriptors that a process has open.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn killed_readers_leave_nothing_behind() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(SOURCE);
    let animal = lives::threads();
    Handle::open(daemon.path()).answers(animal.pid);
    let mut before = 0;
    // What the first dump opened for good, and what its closing still has to close.
    wait::until("the descriptors settle", || {
        let now = descriptors(daemon.server());
        std::mem::replace(&mut before, now) == now
    });
    let path = std::ffi::CString::new(daemon.path().as_os_str().as_encoded_bytes()).unwrap();
    let bytes = request(DumpStrategy::One, animal.pid, Groups::NATIVE).to_bytes();
    let mut buffer = [0u8; 512];
    let (path, message, into) = (path.as_ptr() as i64, bytes.as_ptr() as i64, buffer.as_mut_ptr() as i64);
    let readers: Vec<Child> = (0..20)
        .map(|_| {
            Child::start(0, |inside| {
                let open = [libc::AT_FDCWD.into(), path, libc::O_RDWR.into()];
                let fd = inside.call(libc::SYS_openat, open);
                inside.call(libc::SYS_write, [fd, message, 40]);
                inside.call(libc::SYS_read, [fd, into, 512]);
            })
        })
        .collect();
    // Each is in the middle of a task that 512 bytes do not hold.
    assert!(descriptors(daemon.server()) > before);
    drop(readers);
    wait::until("the daemon forgets its readers", || descriptors(daemon.server()) <= before);
    Handle::open(daemon.path()).answers(animal.pid);
}
