//! Where no thread can be started the work is done all the same, in the thread at hand.

mod common;

use common::daemon::program;
use common::{needs, tools};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// A user may have no process more: its command lines are told, by nobody but the one thread there is.
#[test]
fn at_the_limit_of_processes() {
    let Some(place) = common::place::place_for_set_user_id() else {
        let _ = needs::missing("a place that everyone may search");
        return;
    };
    if !needs::root_and_fuse() {
        return;
    }
    let copy = place.path().join("task-diag");
    fs::copy(program().get_program(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.args(["ps", "--direct", "--source", "procfs", "-o", "pid,args"]);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            setgroups(&[])?;
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            setresgid(gid, gid, gid)?;
            setrlimit(Resource::RLIMIT_NPROC, 1, 1)?;
            setresuid(uid, uid, uid)?;
            Ok(())
        });
    }
    let (said, _) = tools::succeeds(&mut command);
    // It sees itself at least, with its own arguments.
    assert!(said.contains(" --direct --source procfs"), "{said}");
}

/// A user whom nothing else runs as.
const NOBODY: u32 = 54_322;

/// A control group that allows so many threads, gone when it is dropped.
struct Pids(PathBuf);

impl Pids {
    fn new(most: u32) -> Option<Pids> {
        let name = format!("task-diag-test-{}", std::process::id());
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let group = PathBuf::from(root).join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Pids(group);
            if fs::write(group.0.join("pids.max"), most.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn in_a_control_group_that_allows_no_more() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(group) = Pids::new(1) else {
        let _ = needs::missing("the controller of pids");
        return;
    };
    for source in common::sources::sources() {
        let procs = group.0.join("cgroup.procs");
        let mut command = program();
        command.args(["ps", "--direct", "--source", source.name, "-o", "pid,cgroup,args"]);
        // SAFETY: between fork and exec a number is written to a file; the path was made before.
        unsafe {
            command.pre_exec(move || fs::write(&procs, "0"));
        }
        let (said, complaints) = tools::succeeds(&mut command);
        assert!(said.contains("--direct --source"), "{}: {said} {complaints}", source.name);
        assert!(!complaints.contains("panicked"), "{complaints}");
    }
}
