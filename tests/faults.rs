//! What readers and the next start meet when one of the daemon's two processes, the mount or a reader goes at a bad moment.

mod common;

use common::child::Child;
use common::daemon::{Daemon, is_mounted, program};
use common::handle::{Handle, one, request};
use common::hung::Hung;
use common::sources::{PROCFS, sources};
use common::zoo::lives;
use common::{needs, wait};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::CString;
use std::time::{Duration, Instant};
use task_diag::protocol::{DumpStrategy, Groups};

const MEMORY: Groups = Groups::BASE.union(Groups::VMA).union(Groups::VMA_STAT);

/// Far more than it takes, far less than the deadlines of a patient daemon.
const AT_ONCE: Duration = Duration::from_secs(60);

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// Waits until the thread is in a read that does not return.
fn until_it_reads(tid: u32) {
    let read = format!("{} ", libc::SYS_read);
    wait::until("it waits for its read", || {
        std::fs::read_to_string(format!("/proc/{tid}/syscall")).unwrap().starts_with(&read)
    });
}

#[test]
fn without_the_server_readers_get_errors_and_a_restart_heals() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let (dir, path) = (daemon.dir(), daemon.path());
        let idle = Handle::open(&path);
        let hung = Hung::new();
        let place = std::thread::scope(|scope| {
            let (send_tid, tid) = std::sync::mpsc::channel();
            let (path, hung) = (&path, &hung);
            let reader = scope.spawn(move || {
                let file = Handle::open(path);
                file.request(&one(hung.pid(), MEMORY));
                send_tid.send(nix::unistd::gettid().as_raw() as u32).unwrap();
                let outcome = file.read(4096);
                (outcome, Instant::now())
            });
            let tid = tid.recv().unwrap();
            until_it_reads(tid);
            let began = Instant::now();
            send(daemon.server(), Signal::SIGKILL);
            let new = Handle::open_with(path, OFlag::O_RDWR).map(|file| file.read(4096));
            let gone = [Errno::ENOTCONN, Errno::ECONNABORTED, Errno::ENOENT];
            assert!(
                matches!(&new, Err(e) if gone.contains(e)) || matches!(&new, Ok(Err(e)) if gone.contains(e)),
                "{new:?}"
            );
            let (outcome, ended) = reader.join().unwrap();
            assert!(matches!(outcome, Err(Errno::ENOTCONN | Errno::ECONNABORTED)), "{outcome:?}");
            assert!(ended - began < AT_ONCE);
            assert_eq!(idle.read(4096), Err(Errno::ENOTCONN));
            let log = daemon.log();
            let place = daemon.fail();
            assert!(began.elapsed() < AT_ONCE, "{log}");
            place
        });
        assert!(!is_mounted(&dir), "its parent has unmounted");
        let again = place.start_again(source);
        assert!(!again.log().contains("dead mount"), "{}", again.log());
        Handle::open(again.path()).answers(std::process::id());
    }
}

/// As a service manager with Restart=on-failure would have it, whatever was killed; nobody unmounts by hand.
#[test]
fn a_restart_loop_heals() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let mut daemon = Daemon::start(source);
        let dir = daemon.dir();
        for round in 0..6 {
            // Held open, so that a mount cannot go away altogether.
            let file = Handle::open(daemon.path());
            file.request(&request(DumpStrategy::All, 0, Groups::BASE));
            assert!(!file.read(4096).unwrap().is_empty());
            let server = daemon.server();
            let place = match round % 3 {
                0 => daemon.kill(),
                1 => {
                    send(server, Signal::SIGKILL);
                    daemon.fail()
                }
                _ => {
                    // Both at once.
                    send(server, Signal::SIGKILL);
                    daemon.kill()
                }
            };
            daemon = place.start_again(source);
            assert!(file.read(4096).is_err());
            Handle::open(daemon.path()).answers(std::process::id());
        }
        drop(daemon);
        assert!(!is_mounted(&dir), "no dead mount is left below");
    }
}

#[test]
fn a_mount_that_is_cut_off_is_a_failure() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let (dir, file) = (daemon.dir(), Handle::open(daemon.path()));
    // It is in use, so this does no more than end the connection.
    assert_eq!(umount2(&dir, MntFlags::MNT_FORCE), Err(Errno::EBUSY));
    let place = daemon.fail();
    assert!(!is_mounted(&dir));
    assert!(file.read(4096).is_err());
    Handle::open(place.start_again(&PROCFS).path()).answers(std::process::id());
}

/// Signals that a terminal sends to every process are the parent's to act on.
#[test]
fn the_server_leaves_the_end_to_its_parent() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let server = daemon.server();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        send(server, signal);
    }
    Handle::open(daemon.path()).answers(std::process::id());
    assert_eq!(daemon.server(), server);
}

#[test]
fn an_end_is_quiet() {
    if !needs::root_and_fuse() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start_at(place, program().env("RUST_LOG", "info,fuser=warn,fuser::reply=off"));
    Handle::open(daemon.path()).answers(std::process::id());
    assert_eq!(daemon.end_by(Signal::SIGTERM).code(), Some(0));
    let log = daemon.log();
    assert!(log.contains("is unmounted") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// Open descriptors and threads of a process.
fn size(pid: u32) -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

#[test]
fn readers_killed_in_a_read_leave_nothing_behind() {
    if !needs::root_and_fuse() {
        return;
    }
    let animal = lives::sleeper();
    for source in sources() {
        // A read cannot be cut short, so it takes as long as the daemon waits for the memory.
        let daemon = Daemon::start_with(source, &["--target-deadline", "500", "--read-deadline", "100000"]);
        let server = daemon.server();
        let path = CString::new(daemon.path().as_os_str().as_encoded_bytes()).unwrap();
        let mut buffer = [0u8; 4096];
        let (path, into) = (path.as_ptr() as i64, buffer.as_mut_ptr() as i64);
        let round = || {
            // One each: while a hung process holds a thread it is not tried again.
            let hung = Hung::new();
            let bytes = one(hung.pid(), MEMORY).to_bytes();
            let message = bytes.as_ptr() as i64;
            let reader = Child::start(0, |inside| {
                let fd = inside.call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, libc::O_RDWR.into()]);
                inside.call(libc::SYS_write, [fd, message, 40]);
                inside.ready();
                inside.call(libc::SYS_read, [fd, into, 4096]);
            });
            until_it_reads(reader.pid());
            send(reader.pid(), Signal::SIGKILL);
            drop(reader);
        };
        round();
        Handle::open(daemon.path()).answers(animal.pid);
        let mut before = (0, 0);
        wait::until("it settles", || std::mem::replace(&mut before, size(server)) == size(server));
        for _ in 0..4 {
            round();
        }
        wait::until("nothing is left of them", || size(server) <= before);
        Handle::open(daemon.path()).answers(animal.pid);
    }
}
