//! What a user may not see: dump commands say so and fail, `ps` says so and shows what `/proc` does. And whoever cannot be
//! served is told why.

mod common;

use common::daemon::{Daemon, is_mounted};
use common::needs;
use common::sources::{PROCFS, sources};
use common::tools::{self, command, texts};
use common::zoo::{lives, users};
use std::process::Command;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_task-diag");

/// The program, run by Alice.
fn as_alice() -> Command {
    let id = users::ALICE;
    let mut command = command("setpriv");
    command.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into(), PROGRAM.into()]);
    command
}

fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    (output.status.code(), out, err)
}

#[test]
fn dump_commands_say_what_may_not_be_seen() {
    if !needs::root_and_fuse() || !tools::are_there(&["setpriv"]) {
        return;
    }
    let (roots, alices) = (lives::sleeper(), users::alices());
    let [hidden, own] = [roots.pid, alices.pid].map(|pid| pid.to_string());
    for source in sources() {
        let daemon = Daemon::start(source);
        let ask = |words: &[&str]| outcome(as_alice().args(words).arg("--path").arg(daemon.path()));
        for command in ["one", "threads", "children", "subtree"] {
            let (code, out, err) = ask(&[command, &hidden]);
            assert!(code == Some(1) && out.is_empty(), "{command}: {out}");
            assert!(
                err.contains(&format!("task {hidden} is there, and may not be seen")),
                "{command}: {err}"
            );
        }
        let (code, _, err) = ask(&["set", &hidden, "2147483647"]);
        assert!(code == Some(1) && err.contains("none may be seen"), "{err}");
        // No children are an answer, and one that is seen is enough.
        assert_eq!(ask(&["children", &own]), (Some(0), String::new(), String::new()));
        let (code, out, err) = ask(&["set", &hidden, &own]);
        assert!(code == Some(0) && out.contains(&own) && err.is_empty(), "{out}{err}");
    }
}

#[test]
fn ps_takes_from_proc_what_a_mount_hides_and_says_so() {
    if !needs::root_and_fuse() || !tools::are_there(&["setpriv"]) {
        return;
    }
    let (roots, alices) = (lives::sleeper(), users::alices());
    let [hidden, own] = [roots.pid, alices.pid].map(|pid| pid.to_string());
    for source in sources() {
        let daemon = Daemon::start(source);
        let ps =
            |words: &[&str]| outcome(as_alice().args(["ps", "-v", "--path"]).arg(daemon.path()).args(words));
        let column = |out: &str| -> Vec<u32> {
            out.lines().skip(1).map(|line| line.trim().parse().unwrap()).collect()
        };
        let (code, out, err) = ps(&["-o", "pid"]);
        let pids = column(&out);
        assert!(
            code == Some(0) && [1, 2, roots.pid, alices.pid].iter().all(|pid| pids.contains(pid)),
            "{out}"
        );
        assert!(pids.is_sorted(), "{pids:?}");
        assert!(err.contains("which does not show this user all") && err.contains(" from /proc"), "{err}");
        // In the order in which they are listed; and a parent that is hidden is no end of a tree.
        let (_, out, _) = ps(&["-o", "pid", "-p", &format!("{own},{hidden},1")]);
        assert_eq!(column(&out), [alices.pid, roots.pid, 1]);
        let (_, out, _) = ps(&["-o", "pid", "--subtree", &std::process::id().to_string()]);
        assert!([roots.pid, alices.pid].iter().all(|pid| column(&out).contains(pid)), "{out}");
        let (_, out, _) = ps(&["-L", "-o", "tid"]);
        assert!([roots.pid, alices.pid].iter().all(|pid| column(&out).contains(pid)), "{out}");
        // Nothing of that for whoever sees all.
        let (_, _, err) =
            outcome(Command::new(PROGRAM).args(["ps", "-v", "-p", &own, "--path"]).arg(daemon.path()));
        assert_eq!(err, format!("task-diag: 1 process; {}\n", daemon.path().display()));
    }
}

#[test]
fn the_proc_of_another_pid_namespace_is_refused_at_once() {
    if !needs::root_and_fuse() || !tools::are_there(&["unshare"]) {
        return;
    }
    let place = TempDir::new().unwrap();
    let dir = place.path().join("mnt");
    for words in [&["mount", "--source", "procfs", dir.to_str().unwrap()][..], &["ps", "--direct"]] {
        let (code, out, err) =
            outcome(command("unshare").args(["--pid", "--fork", "--kill-child", PROGRAM]).args(words));
        assert!(
            code == Some(1) && out.is_empty() && err.contains("/proc is that of another pid namespace"),
            "{err}"
        );
        assert!(!is_mounted(&dir));
    }
}

#[test]
fn too_few_descriptors_are_called_that() {
    if !tools::are_there(&["prlimit"]) {
        return;
    }
    let way = ["ps", "--direct", "--source", PROCFS.name, "-o", "pid", "-p", "1"];
    let mut refused = 0;
    for limit in 3..12 {
        let limited = format!("--nofile={limit}:{limit}");
        let (code, _, err) = outcome(command("prlimit").args([&limited, PROGRAM]).args(way));
        // With fewer than the dynamic loader needs it does not even start.
        if code == Some(1) && err.starts_with("task-diag: ") {
            refused += 1;
            assert!(
                err.contains("too many open files") || err.contains("Too many open files"),
                "{limit}: {err}"
            );
            assert!(!err.contains("namespace") && !err.contains("is it mounted"), "{limit}: {err}");
        }
    }
    assert!(refused > 0);
}
