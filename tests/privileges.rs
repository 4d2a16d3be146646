//! What the daemon's processes may do once readers are answered, and who may ask.

mod common;

use common::daemon::{Daemon, program};
use common::handle::{Handle, request};
use common::identity::Identity;
use common::sources::{PROCFS, sources};
use common::zoo::users::{self, ALICE, BOB};
use common::{needs, proc, wait};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::{AccessFlags, faccessat};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use task_diag::protocol::{DumpStrategy, Groups};

/// What root's own process may have at most: this test's.
fn bounding() -> u64 {
    hex(&status("self").unwrap(), "CapBnd")
}

/// `None` where the task went.
fn status(of: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{of}/status")).ok()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_string()
}

fn hex(text: &str, name: &str) -> u64 {
    u64::from_str_radix(&field(text, name), 16).unwrap()
}

#[track_caller]
fn has(of: &str, text: &str, capabilities: &[u32]) {
    let kept = capabilities.iter().map(|cap| 1 << cap).sum::<u64>() & bounding();
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(hex(text, set), kept, "{of} {set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(hex(text, set), 0, "{of} {set}");
    }
    let may_narrow = bounding() & 1 << 8 != 0;
    assert_eq!(hex(text, "CapBnd"), if may_narrow { kept } else { bounding() }, "{of} CapBnd");
    assert_eq!(field(text, "NoNewPrivs"), "1", "{of}");
}

#[test]
fn little_is_kept() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let (parent, server) = (daemon.pid(), daemon.server());
        // CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN; the first, CAP_SYS_PTRACE and CAP_NET_ADMIN.
        let of = parent.to_string();
        // It gives up the rest while its child begins to serve; this comes last.
        wait::until("the parent gives up the rest", || field(&status(&of).unwrap(), "NoNewPrivs") == "1");
        has(&of, &status(&of).unwrap(), &[2, 21]);
        assert_eq!(proc::threads(parent).len(), 1);
        // Every thread that it starts to answer: by now, and for memory. Those end where they have nothing to do for
        // long, as on a machine that stands still meanwhile.
        let everything = request(DumpStrategy::AllThreads, 0, Groups::NATIVE | Groups::VMA_STAT);
        let threads = wait::until_some("all its threads are there", || {
            Handle::open(daemon.path()).dump(&everything).unwrap();
            let named = |thread| format!("{server}/task/{thread}");
            let threads = proc::threads(server).into_iter().map(named);
            let threads: Option<Vec<_>> = threads.map(|of| Some((status(&of)?, of))).collect();
            threads.filter(|threads| threads.len() > 8)
        });
        for (text, of) in threads {
            has(&of, &text, &[2, 12, 19]);
            // The mode "filter".
            assert_eq!(field(&text, "Seccomp"), "2");
        }
    }
}

/// What `reader` gets who opens `path` to read and write, and what access(2) says of that.
fn opens(reader: &Identity, path: &Path) -> (Result<(), Errno>, Result<(), Errno>) {
    reader.run(|| {
        let mode = AccessFlags::R_OK | AccessFlags::W_OK;
        let access = faccessat(nix::fcntl::AT_FDCWD, path, mode, AtFlags::AT_EACCESS);
        (Handle::open_with(path, OFlag::O_RDWR).map(drop), access)
    })
}

const ALLOWED: (Result<(), Errno>, Result<(), Errno>) = (Ok(()), Ok(()));
const REFUSED: (Result<(), Errno>, Result<(), Errno>) = (Err(Errno::EACCES), Err(Errno::EACCES));

#[test]
fn everyone_may_ask_by_default() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    assert_eq!(daemon.path().metadata().unwrap().permissions().mode() & 0o7777, 0o666);
    for id in [0, ALICE, BOB] {
        assert_eq!(opens(&Identity::user("", id), &daemon.path()), ALLOWED, "user {id}");
    }
    // The kernel judges, and nobody may execute it.
    let alice = Identity::user("Alice", ALICE);
    let executes =
        alice.run(|| faccessat(nix::fcntl::AT_FDCWD, &daemon.path(), AccessFlags::X_OK, AtFlags::AT_EACCESS));
    assert_eq!(executes, Err(Errno::EACCES));
}

#[test]
fn a_mode_and_a_group_narrow_who_may_ask() {
    if !needs::root_and_fuse() {
        return;
    }
    const GROUP: u32 = 54_321;
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--mode", "660", "--group", &GROUP.to_string()]);
        let meta = daemon.path().metadata().unwrap();
        assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o660, 0, GROUP));
        let alice = Identity::user("Alice", ALICE);
        let member = Identity { name: "Alice of the group", gids: [GROUP; 3], ..alice };
        // Root, with no capability to help it, owns the file.
        for (reader, outcome) in [(alice, REFUSED), (member, ALLOWED), (Identity::user("root", 0), ALLOWED)] {
            for name in ["task_diag", "task-diag"] {
                let path = daemon.dir().join(name);
                // Twice: what the kernel keeps of the first answer is no other reader's.
                assert_eq!(opens(&reader, &path), outcome, "{}", reader.name);
                assert_eq!(opens(&reader, &path), outcome, "{}", reader.name);
            }
        }
        // What the group's members see is no more than before.
        let own = users::of("Alice's", Identity { name: "", ..member }, true);
        let foreign = users::of("Bob's", Identity::user("Bob", BOB), true);
        let seen = member
            .run(|| Handle::open(daemon.path()).dump(&request(DumpStrategy::All, 0, Groups::BASE)).unwrap());
        let sees = |pid| seen.iter().any(|task| task.pid == pid);
        assert!(sees(own.pid) && !sees(foreign.pid));
        // The text beside it stays open, and the mode is not to be changed from outside.
        alice
            .run(|| assert!(std::fs::read_to_string(daemon.dir().join("info")).unwrap().contains("version")));
        let mode = std::fs::Permissions::from_mode(0o666);
        assert!(std::fs::set_permissions(daemon.path(), mode).is_err());
        assert_eq!(opens(&alice, &daemon.path()), REFUSED);
    }
}

#[test]
fn modes_and_groups_that_are_none() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("mnt");
    let cases: [[&str; 2]; 5] = [
        ["--mode", "abc"],
        ["--mode", "1777"],
        ["--mode", "888"],
        ["--group", "no such group"],
        ["--group", "4294967295"],
    ];
    for arguments in cases {
        let output = program().arg("mount").arg(&dir).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(arguments[1]), "{output:?}");
    }
    assert!(!dir.exists());
}
