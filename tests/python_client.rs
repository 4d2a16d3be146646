//! The client in Python on a real mount: beside psutil, beside the files of /proc, on garbled answers, and over a
//! restart of the daemon. What is checked from within Python stands in `tests/python/check_client.py`.

mod common;

use common::answers::{self, Numbers};
use common::daemon::Daemon;
use common::hung::Hung;
use common::needs;
use common::sources::{PROCFS, Source, sources};
use common::tools::{self, command, python_check, succeeds, texts};
use common::zoo::{self, Animal, lives, names};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use task_diag::protocol::Messages;
use tempfile::TempDir;

fn python_is_there() -> bool {
    tools::are_there(&["python3"])
}

/// The interpreter that has psutil; the system's own need not be the first in the path.
fn python_with_psutil() -> Option<&'static str> {
    let has = |python: &&str| {
        command(python).args(["-c", "import psutil"]).output().is_ok_and(|o| o.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
    if found.is_none() {
        let _ = needs::missing("psutil (the package python3-psutil)");
    }
    found
}

/// The arguments that name a mount and processes.
fn zoo_arguments(daemon: &Daemon, source: &Source, zoo: &[Animal]) -> Vec<String> {
    let place = [daemon.path().display().to_string(), source.ticks.to_string()];
    place.into_iter().chain(zoo.iter().map(|animal| animal.pid.to_string())).collect()
}

#[test]
fn fields_are_those_of_psutil() {
    if !needs::root_and_fuse() {
        return;
    }
    let Some(python) = python_with_psutil() else { return };
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        succeeds(python_check(python, "psutil").args(zoo_arguments(&daemon, source, &zoo)));
    }
}

#[test]
fn fields_are_those_of_proc() {
    if !python_is_there() || !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        succeeds(python_check("python3", "proc").args(zoo_arguments(&daemon, source, &zoo)));
    }
}

#[test]
fn every_way_to_ask() {
    if !python_is_there() || !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let animal = zoo::lives::sleeper();
        succeeds(python_check("python3", "ways").arg(daemon.path()).arg(std::process::id().to_string()));
        succeeds(python_check("python3", "hidden").arg(daemon.path()).arg(animal.pid.to_string()));
    }
}

#[test]
fn nothing_that_a_terminal_obeys_is_in_the_table() {
    if !python_is_there() || !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let table = |arguments: &[&str]| {
        let mut table = command("python3");
        table.env("PYTHONIOENCODING", "latin-1").arg("examples/python/task_diag.py");
        succeeds(table.args(arguments).arg(daemon.path())).0
    };
    assert_eq!(table(&["-n", "3"]).lines().count(), 4);
    let (odd, script) = (names::odd_name(), names::script_as_argument());
    let out = table(&["-n", "1000000"]);
    for animal in [&odd, &script] {
        let is_of = |line: &&str| line.trim_start().starts_with(&format!("{} ", animal.pid));
        let line = out.lines().find(is_of).unwrap_or_else(|| panic!("{}: {out}", animal.name));
        assert!(animal.pid == odd.pid || line.contains(r"one\n\t"), "{line}");
    }
    assert!(out.chars().all(|c| c == '\n' || matches!(c, ' '..='~')), "{out:?}");
}

#[test]
fn one_odd_process_ends_nothing() {
    if !python_is_there() {
        return;
    }
    succeeds(&mut python_check("python3", "strange"));
    if !needs::root_and_fuse() {
        return;
    }
    let zombie = lives::zombie();
    for source in sources() {
        let daemon = Daemon::start(source);
        succeeds(python_check("python3", "odd").arg(daemon.path()).arg(zombie.pid.to_string()));
    }
}

/// A time namespace has another boot, which `/proc/stat` tells of and the daemon does not.
#[test]
fn times_of_start_are_right_in_a_time_namespace() {
    if !python_is_there() || !needs::root_and_fuse() || !tools::are_there(&["unshare"]) {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let pid = std::process::id().to_string();
    let arguments = [daemon.path().display().to_string(), pid];
    let (outside, _) = succeeds(python_check("python3", "start").args(&arguments));
    let mut inside = command("unshare");
    inside.args([
        "--time",
        "--boottime",
        "1000000",
        "--fork",
        "python3",
        "tests/python/check_client.py",
        "start",
    ]);
    let (inside, _) = succeeds(inside.args(&arguments).env("PYTHONPATH", "examples/python"));
    let [outside, inside] = [outside, inside].map(|text| text.trim().parse::<f64>().unwrap());
    assert!((outside - inside).abs() < 2.0, "{inside} not {outside}");
}

/// While it hangs, whoever reads its `stat` waits: the daemon has to be impatient.
#[test]
fn a_process_that_hangs_in_an_exec_is_shown() {
    if !python_is_there() || !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start_with(source, &["--target-deadline", "50", "--read-deadline", "100000"]);
        let hung = Hung::in_exec();
        let check =
            python_check("python3", "in_exec").arg(daemon.path()).arg(hung.pid().to_string()).output();
        hung.let_go();
        let (out, err) = texts(&check.unwrap());
        assert!(out.trim().parse::<u32>().is_ok_and(|late| late > 0), "{}: {out}{err}", source.name);
    }
}

#[test]
fn restarted_daemon_is_found() {
    if !python_is_there() || !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let mut client = python_check("python3", "restart")
            .arg(daemon.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = client.stdin.take().unwrap();
        let mut output = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut says = || output.next().unwrap().unwrap();
        assert_eq!(says(), "there");
        let dead = daemon.kill();
        input.write_all(b"\n").unwrap();
        let reason = says();
        assert!(
            reason.starts_with("ENOTCONN ") && reason.contains("the service behind this file has ended"),
            "{reason}"
        );
        let daemon = dead.start_again(source);
        input.write_all(b"\n").unwrap();
        assert_eq!(says(), "there");
        // Restarted between two questions: not a word of it.
        let _daemon = daemon.kill().start_again(source);
        input.write_all(b"\n").unwrap();
        assert_eq!(says(), "there");
        drop(input);
        assert!(client.wait().unwrap().success());
    }
}

#[test]
fn absence_has_its_reason() {
    if !python_is_there() {
        return;
    }
    let place = TempDir::new().unwrap();
    let ordinary = place.path().join("ordinary");
    std::fs::write(&ordinary, "text").unwrap();
    let (out, _) =
        succeeds(python_check("python3", "absent").arg("/nowhere/task_diag").arg(&ordinary).arg("/dev/null"));
    let wanted = "ENOENT there is no such file: no task-diag service serves here\n\
                  EPROTO the file does not speak the protocol of task_diag\n\
                  EPROTO the file does not speak the protocol of task_diag\n";
    assert_eq!(out, wanted);
    assert_eq!(std::fs::read(&ordinary).unwrap(), b"text");
}

/// Bytes that the library refuses are refused, others give as many tasks, and nothing raises anything else.
#[test]
fn garbled_answers_are_refused() {
    if !python_is_there() {
        return;
    }
    let place = TempDir::new().unwrap();
    let mut numbers = Numbers(2);
    let whole = answers::synthetic();
    let mut all: Vec<Vec<u8>> = (0..=whole.len()).map(|len| whole[..len].to_vec()).collect();
    all.extend((0..4000).map(|_| answers::garbled(&whole, &mut numbers)));
    all.extend(answers::captured());
    for (n, answer) in all.iter().enumerate() {
        std::fs::write(place.path().join(n.to_string()), answer).unwrap();
    }
    let (out, _) = succeeds(python_check("python3", "answers").arg(place.path()).arg(all.len().to_string()));
    assert_eq!(out.lines().count(), all.len());
    for (n, (found, answer)) in out.lines().zip(&all).enumerate() {
        let messages = || Messages::new(answer).flatten();
        let unfinished = messages().last().is_some_and(|message| message.continues);
        let tasks = messages().filter(|message| !message.continues).count();
        let wanted = match unfinished || answers::text(answer).contains("malformed") {
            true => "malformed".to_string(),
            false => tasks.to_string(),
        };
        assert_eq!(found, wanted, "answer {n}: {}", answers::text(answer));
    }
}
