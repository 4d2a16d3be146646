//! A list of mappings that no memory should hold at once comes piece by piece, and whole.

mod common;

use common::child::{Child, close_from};
use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one};
use common::sources::sources;
use common::{needs, proc};
use std::os::fd::AsRawFd;
use task_diag::protocol::Groups;

/// Mappings of one file; with their names more than the daemon may take.
const COUNT: usize = 4_000;

/// A process that maps a file with a path of almost 4 kB many times.
fn with_long_names() -> (Child, tempfile::TempDir) {
    let place = tempfile::TempDir::new().unwrap();
    let name = "n".repeat(240);
    let mut dir =
        nix::fcntl::open(place.path(), nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
    let all = nix::sys::stat::Mode::S_IRWXU;
    for _ in 0..15 {
        nix::sys::stat::mkdirat(&dir, name.as_str(), all).unwrap();
        dir = nix::fcntl::openat(&dir, name.as_str(), nix::fcntl::OFlag::O_PATH, all).unwrap();
    }
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CREAT;
    let file = nix::fcntl::openat(&dir, "f", flags, all).unwrap();
    nix::unistd::ftruncate(&file, proc::page_size() as i64).unwrap();
    let page = proc::page_size() as usize;
    let child = Child::start_keeping_files(0, |inside| {
        for n in 0..COUNT {
            let access = if n % 2 == 0 { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
            // SAFETY: a new mapping at an address of the kernel's choice.
            let at = unsafe {
                libc::mmap(std::ptr::null_mut(), page, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
            };
            inside.check(at as i64);
        }
        // A mapping needs no descriptor, and those of another test's daemon are not to stay open here.
        close_from(3);
    });
    (child, place)
}

/// First addresses and lengths of names, as /proc has them.
fn expected(pid: u32) -> Vec<(u64, usize)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let lines = text.lines().filter(|line| !line.ends_with("[vsyscall]"));
    let mapping = |line: &str| {
        let (start, _) = line.split_once('-').unwrap();
        // The name begins in a column of its own.
        let name = line.splitn(6, ' ').nth(5).unwrap_or("").trim_start().len();
        (u64::from_str_radix(start, 16).unwrap(), name)
    };
    lines.map(mapping).collect()
}

/// The most that the daemon's child has ever had in memory, in KiB.
fn peak(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.server())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_long_list_is_whole_and_never_in_memory_as_a_whole() {
    if !needs::root_and_fuse() {
        return;
    }
    let (child, _place) = with_long_names();
    let expected = expected(child.pid());
    assert!(expected.len() >= COUNT);
    for source in sources() {
        let daemon = Daemon::start(source);
        let before = peak(&daemon);
        for more in [Groups::empty(), Groups::VMA_STAT] {
            let groups = Groups::BASE | Groups::VMA | Groups::STAT | Groups::CMDLINE | Groups::MISSING | more;
            // Readers that stop in the middle, and one that goes on to the end.
            let half_read: Vec<Handle> = (0..8).map(|_| Handle::open(daemon.path())).collect();
            std::thread::scope(|scope| {
                for file in &half_read {
                    scope.spawn(|| {
                        file.request(&one(child.pid(), groups));
                        assert!(!file.read(BUFFER).unwrap().is_empty());
                    });
                }
            });
            let [task] = &Handle::open(daemon.path()).dump(&one(child.pid(), groups)).unwrap()[..] else {
                panic!("{}: one task", source.name)
            };
            assert!(task.stat.is_some() && task.command_line.is_some() && task.missing.is_empty());
            assert!(task.mappings.iter().all(|vma| vma.stat.is_some() != more.is_empty()));
            let found: Vec<_> = task.mappings.iter().map(|vma| (vma.start, vma.name.len())).collect();
            assert!(found == expected, "{}: {} of {}", source.name, found.len(), expected.len());
        }
        // One list alone has 16 MB.
        let grown = peak(&daemon) - before;
        assert!(grown < 40_000, "{}: {grown} KiB more", source.name);
    }
}

/// The middle of a list is followed by its end, and not by another program's.
#[test]
fn a_list_ends_with_its_process() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        for groups in [Groups::VMA, Groups::VMA | Groups::VMA_STAT] {
            let (child, _place) = with_long_names();
            let (file, pid) = (Handle::open(daemon.path()), child.pid());
            file.request(&one(pid, Groups::BASE | groups));
            let mut reads = vec![file.read(BUFFER).unwrap()];
            drop(child);
            reads.extend(file.read_to_end(BUFFER).unwrap());
            // A bare message closes it.
            let last = reads.last().unwrap();
            assert!(
                reads.len() < 10 && last.ends_with(&[[pid, pid, 0].map(u32::to_ne_bytes).concat()].concat())
            );
        }
    }
}
