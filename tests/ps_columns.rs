//! A column of `task-diag ps` that is called as one of the machine's `ps` shows the same; others show what /proc says.

mod common;

use common::daemon::{Daemon, program};
use common::ps::{Killed, direct, lines, ps};
use common::sources::sources;
use common::zoo;
use common::{needs, proc, tools, wait};
use nix::pty::openpty;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

/// What stands in one column, by process.
fn column(command: &mut Command) -> BTreeMap<u32, String> {
    let (out, _) = tools::succeeds(command);
    let line = |line: &str| {
        let (pid, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        Some((pid.parse().ok()?, value.trim().to_string()))
    };
    out.lines().filter_map(line).collect()
}

/// The columns, by each name that the machine's `ps` lists too.
fn names_of_both() -> Vec<String> {
    let (help, _) = tools::succeeds(program().args(["ps", "--help"]));
    let listed = help.split("with other names of theirs:").nth(1).unwrap();
    let ours = listed.lines().flat_map(|line| line.get(2..22).unwrap_or_default().split_whitespace());
    let (theirs, _) = tools::succeeds(tools::command("ps").arg("L"));
    let theirs: BTreeSet<&str> = theirs.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let both: Vec<String> = ours.filter(|name| theirs.contains(name)).map(str::to_string).collect();
    assert!(both.len() > 60 && both.iter().any(|name| name == "stime"), "{both:?}");
    both
}

/// Where odd names and arguments stand, which each `ps` writes in its way.
const NAMES: [&str; 5] = ["comm", "ucmd", "args", "cmd", "command"];

#[test]
fn columns_are_those_of_ps() {
    if !needs::root_and_fuse() || !tools::are_there(&["ps"]) {
        return;
    }
    // One of them on a terminal, with a nice value.
    let size = nix::pty::Winsize { ws_row: 10, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let mut shell = tools::command("setsid");
    shell.args(["--ctty", "nice", "-n", "3", "sleep", "1000"]).stdin(Stdio::from(terminal.slave));
    let on_terminal = Killed(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let spawn = |words: &[&str]| {
        let mut command = tools::command(words[0]);
        Killed(command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let others = [
        spawn(&["nice", "-n", "-5", "sleep", "1000"]),
        spawn(&["chrt", "--fifo", "7", "sleep", "1000"]),
        spawn(&["chrt", "--idle", "0", "sleep", "1000"]),
        // Has used a share of the processor.
        spawn(&["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 1000"]),
    ];
    let zoo = zoo::all();
    let mut pids: Vec<String> = zoo.iter().map(|animal| animal.pid.to_string()).collect();
    pids.extend(["2".to_string(), on_terminal.0.id().to_string()]);
    pids.extend(others.iter().map(|other| other.0.id().to_string()));
    wait::until("it sleeps on its terminal", || {
        let comm = proc::read(&format!("{}/comm", on_terminal.0.id()));
        comm.is_some_and(|comm| comm == b"sleep\n") && proc::state(on_terminal.0.id()) == Some(b'S')
    });
    let pids = pids.join(",");
    for other in &others {
        wait::until("it sleeps", || {
            proc::read(&format!("{}/comm", other.0.id())).is_some_and(|comm| comm == b"sleep\n")
        });
    }
    let both = names_of_both();
    let mut differences = Vec::new();
    for source in sources() {
        let daemon = Daemon::start(source);
        let way = ["--path".to_string(), daemon.path().display().to_string()];
        for name in both.iter().map(String::as_str).filter(|name| !NAMES.contains(name)) {
            let mut found = String::new();
            // Each has agreed once: of many there is nearly always one that gets a second older between two looks.
            let mut agreed = BTreeSet::new();
            for _ in 0..20 {
                let format = format!("pid=,{name}=");
                let theirs = column(tools::command("ps").args(["-ww", "-o", &format, "-p", &pids]));
                let ours = column(&mut ps(&way, &["-o", &format!("pid,{name}"), "-p", &pids]));
                assert!(theirs.len() == ours.len() && ours.len() > zoo.len(), "{name}: {ours:?}");
                let same = |(pid, theirs): &(&u32, &String)| {
                    let ours = &ours[*pid];
                    ours == *theirs
                        || match name {
                            // A share of memory depends on who else has it: `ps` for one, and this program.
                            "pss" => number(ours).abs_diff(number(theirs)) <= 16,
                            // It leaves out what names begin with.
                            "wchan" => ours.trim_start_matches(['_', '.']) == *theirs,
                            _ => false,
                        }
                };
                agreed.extend(theirs.iter().filter(same).map(|(pid, _)| *pid));
                let differ = theirs.iter().filter(|(pid, _)| !agreed.contains(pid));
                found =
                    differ.map(|(pid, theirs)| format!(" {pid}: {:?} not {theirs:?}", ours[pid])).collect();
                if found.is_empty() {
                    break;
                }
            }
            if !found.is_empty() {
                differences.push(format!("{} {name}:{found}", source.name));
            }
        }
        let shown = column(&mut ps(&way, &["-o", "pid,tty", "-p", &pids]));
        assert!(shown[&on_terminal.0.id()].starts_with("pts/"), "{shown:?}");
        // Signs behind the letter, and the name of a zombie.
        let sign = |pid: u32, sign: char| {
            column(&mut ps(&way, &["-o", "pid,stat", "-p", &pids]))[&pid].contains(sign)
        };
        assert!(
            sign(on_terminal.0.id(), 'N') && sign(on_terminal.0.id(), '+') && sign(others[0].0.id(), '<')
        );
        let zombie = zoo.iter().find(|animal| animal.state == b'Z').unwrap().pid.to_string();
        for name in ["comm", "ucmd"] {
            let theirs = column(tools::command("ps").args(["-o", &format!("pid=,{name}="), "-p", &zombie]));
            assert_eq!(column(&mut ps(&way, &["-o", &format!("pid,{name}"), "-p", &zombie])), theirs);
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// No name that has another value there.
#[test]
fn names_of_ps_with_other_values_are_not_known() {
    for name in ["cpu", "utime", "c"] {
        let output = ps(&direct(), &["-o", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
    }
    // A key comes once, whatever it was called.
    let own = std::process::id().to_string();
    let (out, _) =
        tools::succeeds(&mut ps(&direct(), &["--ndjson", "-p", &own, "-o", "pid,tgid,rss,pid,rssize"]));
    assert_eq!(out.matches("\"pid\"").count() + out.matches("\"rss\"").count(), 2, "{out}");
}

/// As for ps, a thread's id is no process'.
#[test]
fn a_thread_is_no_process() {
    let animal = zoo::lives::threads();
    let tid = *proc::threads(animal.pid).last().unwrap();
    assert!(tid != animal.pid);
    let pids = format!("{tid},{}", animal.pid);
    assert_eq!(lines(&["-o", "pid,tid", "-p", &pids]), [format!("{0} {0}", animal.pid)]);
    assert_eq!(ps(&direct(), &["-p", &tid.to_string()]).output().unwrap().status.code(), Some(1));
    assert!(lines(&["-L", "-o", "tid", "-p", &tid.to_string()]).contains(&tid.to_string()));
}

/// A time namespace has another time since boot, which the times of start are told in or not, by whoever is asked.
#[test]
fn times_are_right_in_a_time_namespace() {
    if !needs::root_and_fuse() || !tools::are_there(&["unshare"]) {
        return;
    }
    let own = std::process::id().to_string();
    let daemon = Daemon::start(&common::sources::PROCFS);
    let path = daemon.path().display().to_string();
    let shown = |command: &mut Command| {
        let (out, _) = tools::succeeds(command);
        let words: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
        (number(words[0]), words[1..].join(" "))
    };
    let columns = ["-p", &own, "-o", "etimes,lstart"];
    let (age, start) = shown(ps(&direct(), &[]).args(columns));
    for way in [&["--direct", "--source", "procfs"][..], &["--path", &path]] {
        let mut inside = tools::command("unshare");
        inside.args(["--time", "--boottime", "1000000", "--fork", env!("CARGO_BIN_EXE_task-diag"), "ps"]);
        let (inside_age, inside_start) = shown(inside.args(way).args(columns));
        assert!((age..age + 120).contains(&inside_age), "{way:?}: {inside_age} not {age}");
        // Whole seconds of two clocks may differ by one.
        assert!(inside_start[..17] == start[..17], "{way:?}: {inside_start} not {start}");
    }
}

/// The columns that `ps` does not have, or not in this form.
#[test]
fn columns_of_no_other_ps_are_those_of_proc() {
    let own = std::process::id().to_string();
    let names = "pid,cgroup,cwd,root,exe,fds,nofile,environ,nspid,nnp,seccomp,nvcsw,start_ns,swap_pss,tty";
    let (out, _) = tools::succeeds(&mut ps(&direct(), &["--json", "-p", &own, "-o", names]));
    let all: Vec<Value> = serde_json::from_str(&out).unwrap();
    let shown = &all[0];
    let link = |name: &str| std::fs::read_link(format!("/proc/self/{name}")).unwrap().display().to_string();
    for name in ["cwd", "root", "exe"] {
        assert_eq!(shown[name], link(name), "{name}");
    }
    let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
    assert_eq!(shown["cgroup"], text("cgroup").lines().collect::<Value>());
    let environ = std::fs::read("/proc/self/environ").unwrap();
    let variables = environ.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0);
    assert_eq!(shown["environ"], variables.map(String::from_utf8_lossy).collect::<Value>());
    assert_eq!(shown["nspid"], serde_json::json!([std::process::id()]));
    let status = text("status");
    let of_status = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!([&shown["nnp"], &shown["seccomp"]], [of_status("NoNewPrivs:"), of_status("Seccomp:")]);
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(shown["nofile"], limit.0);
    assert!(shown["fds"].as_u64() >= Some(3) && shown["nvcsw"].as_u64() >= Some(1), "{shown}");
    let ticks = proc::Stat::of(&own).unwrap().field(22);
    assert_eq!(shown["start_ns"].as_u64().unwrap() / 10_000_000, ticks);
    // What was not asked for is not there, and what costs much is asked for by name only.
    let (out, _) = tools::succeeds(&mut ps(&direct(), &["--json", "-p", &own]));
    let all: Vec<Value> = serde_json::from_str(&out).unwrap();
    let names: Vec<&String> = all[0].as_object().unwrap().keys().collect();
    assert!(
        all[0]["etimes"].is_u64() && all[0].get("environ").is_none() && all[0].get("pss").is_none(),
        "{names:?}"
    );
}
