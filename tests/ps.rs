//! `task-diag ps` says what the `ps` of the machine says, of processes of every shape, and behaves as a Unix tool.

mod common;

use common::child::Child;
use common::daemon::{Daemon, program};
use common::sources::{Source, sources};
use common::tools::texts;
use common::zoo::{self, names, users};
use common::{needs, proc, tools, wait};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// `ps` with arguments, over `way`: options that choose who is asked.
fn ps(way: &[String], arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("ps").args(way).args(arguments);
    command
}

/// One process by the `ps` of the machine; and by ours, in the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    ppid: u64,
    user: String,
    state: char,
    rss: u64,
    seconds: u64,
    args: String,
}

fn theirs() -> BTreeMap<u32, Line> {
    let mut command = tools::command("ps");
    command.args(["-ww", "-eo", "pid=,ppid=,user:32=,stat=,rss=,cputimes=,args="]);
    let (out, _) = tools::succeeds(&mut command);
    let line = |text: &str| {
        let mut rest = text;
        let mut word = || {
            rest = rest.trim_start();
            let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = behind;
            word.to_string()
        };
        let pid = word().parse().unwrap();
        let line = Line {
            ppid: word().parse().unwrap(),
            user: word(),
            state: word().chars().next().unwrap(),
            rss: word().parse().unwrap(),
            seconds: word().parse().unwrap(),
            args: String::new(),
        };
        (pid, Line { args: rest.trim_end().to_string(), ..line })
    };
    out.lines().map(line).collect()
}

/// The bytes that an object gives, whole.
fn bytes(object: &Value, name: &str) -> Option<Vec<u8>> {
    if let Some(hex) = object[format!("{name}_hex")].as_str() {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        return Some((0..hex.len()).step_by(2).map(byte).collect());
    }
    match &object[name] {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(words) => {
            Some(words.iter().flat_map(|word| [word.as_str().unwrap().as_bytes(), b"\0"].concat()).collect())
        }
        _ => None,
    }
}

/// What `ps` writes as it is in the C locale, and `?` for every other byte.
fn in_ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if matches!(b, b' '..=b'~') { char::from(*b) } else { '?' }).collect()
}

/// Whether `theirs` is `ours` as the `ps` of the machine writes it: a newline is a blank, another control character a
/// dot or, like what is not ASCII, a question mark.
fn is_written(theirs: &str, ours: &str) -> bool {
    let same = |(theirs, ours)| theirs == ours || (ours == b'?' && matches!(theirs, b' ' | b'.'));
    theirs.len() == ours.len() && theirs.bytes().zip(ours.bytes()).all(same)
}

fn ours(way: &[String]) -> BTreeMap<u32, Line> {
    let (out, err) =
        tools::succeeds(&mut ps(way, &["--json", "-o", "pid,ppid,user,state,rss,cputimes,comm,args"]));
    assert_eq!(err, "");
    let objects: Vec<Value> = serde_json::from_str(&out).unwrap();
    let line = |object: &Value| {
        let state = object["state"].as_str().unwrap().chars().next().unwrap();
        let mut args = bytes(object, "args").unwrap_or_default();
        args.truncate(args.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
        args.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        let mut args = in_ascii(args.trim_ascii_end());
        if args.is_empty() {
            let end = if state == 'Z' { "] <defunct>" } else { "]" };
            args = format!("[{}{end}", in_ascii(&bytes(object, "comm").unwrap()));
        }
        let line = Line {
            ppid: object["ppid"].as_u64().unwrap(),
            user: object["user"].as_str().unwrap().to_string(),
            state,
            rss: object["rss"].as_u64().unwrap(),
            seconds: object["cputimes"].as_u64().unwrap(),
            args,
        };
        (object["pid"].as_u64().unwrap() as u32, line)
    };
    objects.iter().map(line).collect()
}

/// Whether ours is what theirs was or became; a field that changed meanwhile may be anything.
fn agree(ours: &Line, was: &Line, is: &Line, source: &Source) -> bool {
    let args = |theirs: &Line| match theirs.args.strip_prefix('[') {
        // What /proc calls a kernel thread may be longer than its name, which is what there is.
        Some(_) => theirs.args.starts_with(ours.args.trim_end_matches(']')),
        // An array of arguments that are all empty.
        None if theirs.args == "?" => ours.args.starts_with('['),
        // That ps reads no more of a command line than 128 KiB.
        None if theirs.args.len() > 100_000 => {
            ours.args.get(..theirs.args.len()).is_some_and(|start| is_written(&theirs.args, start))
        }
        None => is_written(&theirs.args, &ours.args),
    };
    // A source may be some clock ticks off, which can be the ones that complete a second.
    let late = if source.ticks > 0 { 1 } else { 0 };
    let seconds = was.seconds.saturating_sub(late)..=is.seconds + late;
    (args(was) || args(is))
        && (ours.ppid, &ours.user) == (is.ppid, &is.user)
        && (was.state != is.state || ours.state == is.state)
        && (was.rss != is.rss || ours.rss == is.rss)
        && seconds.contains(&ours.seconds)
}

/// Holds every process that did not change meanwhile against what `ps` says before and after, until each has agreed once.
fn equals(way: &[String], source: &Source, zoo: &[zoo::Animal]) {
    const LOOKS: usize = 30;
    let mut open: Option<BTreeMap<u32, String>> = None;
    for _ in 0..LOOKS {
        let (before, shown, after) = (theirs(), ours(way), theirs());
        let mut left = BTreeMap::new();
        for (pid, was) in &before {
            let Some(is) = after.get(pid) else { continue };
            if open.as_ref().is_some_and(|open| !open.contains_key(pid)) {
                continue;
            }
            match shown.get(pid) {
                Some(line) if agree(line, was, is, source) => {}
                line => {
                    left.insert(*pid, format!("{pid}: {line:?}\n   not {was:?}\n   nor {is:?}"));
                }
            }
        }
        // Nobody is shown who isn't there, but this program and what came and went meanwhile.
        let strangers = shown.keys().filter(|pid| !before.contains_key(pid) && !after.contains_key(pid));
        assert!(strangers.count() < 20);
        for animal in zoo {
            // These stand still: nothing of them is excused as a change.
            assert!(
                shown.contains_key(&animal.pid) && before[&animal.pid] == after[&animal.pid],
                "{}",
                animal.name
            );
        }
        if left.is_empty() {
            return;
        }
        open = Some(left);
    }
    let left: Vec<String> =
        open.unwrap_or_default().into_values().map(|text| text.chars().take(2000).collect()).collect();
    panic!("{way:?}: {} processes\n{}", left.len(), left.join("\n"));
}

#[test]
fn every_process_is_as_ps_shows_it() {
    if !needs::root_and_fuse() || !tools::are_there(&["ps"]) {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        equals(&["--direct", "--source", source.name].map(str::to_string), source, &zoo);
        let daemon = Daemon::start(source);
        equals(&["--path".to_string(), daemon.path().display().to_string()], source, &zoo);
    }
}

fn direct() -> Vec<String> {
    ["--direct", "--source", "procfs"].map(str::to_string).to_vec()
}

/// The lines of a table without its heading.
fn lines(arguments: &[&str]) -> Vec<String> {
    let (out, _) = tools::succeeds(&mut ps(&direct(), arguments));
    out.lines().skip(1).map(|line| line.trim().to_string()).collect()
}

#[test]
fn odd_names_are_escaped_for_people_and_whole_for_programs() {
    let odd = names::odd_name();
    let title = c"t\x1b]0;x\x07\xff\n";
    let child = Child::start_not_waiting(0, |inside| {
        let words = [
            c"sh".as_ptr(),
            c"-c".as_ptr(),
            c"kill -STOP $$".as_ptr(),
            title.as_ptr(),
            c"".as_ptr(),
            std::ptr::null(),
        ];
        inside.exec(c"/bin/sh", &words)
    });
    wait::until("the shell stops", || proc::state(child.pid()) == Some(b'T'));
    let pids = format!("{},{}", odd.pid, child.pid());
    let output = ps(&direct(), &["-p", &pids, "-o", "pid,comm,args"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text:?}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.contains(r"a) R 1 \\n\xff\xc3(\u{1}"), "{text}");
    assert!(text.contains(r"t\u{1b}]0;x\u{7}\xff\n"), "{text}");

    for form in ["--json", "--ndjson"] {
        let (out, _) = tools::succeeds(&mut ps(&direct(), &["-p", &pids, form]));
        let objects: Vec<Value> = match form {
            "--json" => serde_json::from_str(&out).unwrap(),
            _ => out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        for (object, pid) in objects.iter().zip([odd.pid, child.pid()]) {
            assert_eq!(object["pid"], pid);
            assert_eq!(
                bytes(object, "comm").unwrap(),
                proc::Stat::of(&pid.to_string()).map(|_| raw_name(pid)).unwrap()
            );
            assert_eq!(bytes(object, "args").unwrap(), proc::read(&format!("{pid}/cmdline")).unwrap());
        }
        assert!(objects[1]["args"][4] == "" && objects[1]["args_hex"].is_string());
    }
}

/// `comm` gives the bytes with a newline behind them.
fn raw_name(pid: u32) -> Vec<u8> {
    let text = proc::read(&format!("{pid}/comm")).unwrap();
    text.strip_suffix(b"\n").unwrap().to_vec()
}

#[test]
fn tasks_are_chosen_and_put_in_order() {
    let threads = zoo::lives::threads();
    let group = zoo::lives::group_leader();
    let number = |text: &String| text.parse::<u32>().unwrap();
    let pid = threads.pid.to_string();

    let tids: Vec<u32> = lines(&["-L", "-p", &pid, "-o", "tid"]).iter().map(number).collect();
    assert_eq!(tids, proc::threads(threads.pid));
    assert!(lines(&["-L", "-p", &pid, "-o", "pid"]).iter().all(|line| *line == pid));
    assert_eq!(lines(&["-L", "-p", &pid, "-o", "comm", "--sort", "-tid"])[0], "thread 9");
    assert_eq!(lines(&["-p", &pid, "-o", "threads,state"]), ["10 S"]);

    let parent = group.child.pid();
    let tree = lines(&["--tree", "-p", &parent.to_string(), "-o", "pid"]);
    assert_eq!(tree, [parent.to_string(), format!("\\_ {}", group.pid)]);

    let rss: Vec<u32> = lines(&["--sort", "-rss", "-o", "rss"]).iter().map(number).collect();
    assert!(rss.len() > 2 && rss.is_sorted_by(|a, b| a >= b) && rss[0] > 0, "{rss:?}");

    if !needs::root_and_fuse() {
        return;
    }
    let alice = users::alices();
    let found = lines(&["-u", &users::ALICE.to_string(), "-o", "pid,uid"]);
    assert!(found.contains(&format!("{} {}", alice.pid, users::ALICE)), "{found:?}");
    assert!(found.iter().all(|line| line.ends_with(&users::ALICE.to_string())), "{found:?}");
}

#[test]
fn ends_as_a_unix_tool() {
    let outcome = |way: &[String], arguments: &[&str]| {
        let output = ps(way, arguments).output().unwrap();
        let (out, err) = texts(&output);
        (output.status.code().unwrap(), out, err)
    };
    // No pid is as large.
    let nobody = "2147483647";
    let (code, out, err) = outcome(&direct(), &["-p", nobody, "-o", "pid,args"]);
    assert_eq!((code, out.lines().count(), &err[..]), (1, 1, ""));
    assert_eq!(outcome(&direct(), &["-p", nobody, "--json"]), (1, "[]\n".to_string(), String::new()));
    assert_eq!(outcome(&direct(), &["-p", nobody, "--ndjson"]), (1, String::new(), String::new()));
    let own = std::process::id().to_string();
    assert_eq!(outcome(&direct(), &["-p", &format!("{own},{nobody}")]).0, 0);
    for wrong in [&["-o", "nothing"][..], &["-u", "no such user"], &["--watch", "0"], &["--json", "--tree"]] {
        let (code, out, err) = outcome(&direct(), wrong);
        assert!(code == 2 && out.is_empty() && err.starts_with("error: "), "{wrong:?}: {err}");
    }
    let (code, out, err) = outcome(&["--path", "/nowhere/task_diag"].map(str::to_string), &[]);
    assert!(
        code == 1 && out.is_empty() && err.starts_with("task-diag: cannot ask /nowhere/task_diag"),
        "{err}"
    );
    // -v says who was asked, and nothing else is said on standard error.
    let (code, _, err) = outcome(&direct(), &["-v", "-p", &own]);
    assert_eq!((code, &err[..]), (0, "task-diag: 1 process; no daemon, from procfs\n"));

    // A reader that leaves before the first byte.
    let mut child = ps(&direct(), &["--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), texts(&output).1), (Some(0), String::new()));
}

#[test]
fn man_and_shells_know_the_command_line() {
    let dir = tempfile::TempDir::new().unwrap();
    tools::succeeds(program().arg("shell-files").arg(dir.path()));
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(
        text("man1/task-diag-ps.1").contains("cputimes")
            && text("man1/task-diag.1").contains("task\\-diag\\-mount(1)")
    );
    for shell in ["task-diag.bash", "_task-diag", "task-diag.fish"] {
        assert!(text(&format!("completions/{shell}")).contains("ndjson"), "{shell}");
    }
}

/// Runs `command` on a terminal of 60 columns and 10 lines until `enough` of what it writes; ends it by `signal` if one is
/// given. Gives all that it wrote, and whether the terminal is set as before.
fn on_terminal(command: &mut Command, signal: Option<Signal>, enough: fn(&str) -> bool) -> (String, bool) {
    let size = nix::pty::Winsize { ws_row: 10, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
    // A program that holds its own terminal's other end would never see that end go.
    for fd in [&master, &slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let before = tcgetattr(&slave).unwrap();
    let end = || Stdio::from(slave.try_clone().unwrap());
    command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut master = std::fs::File::from(master);
    let seen = Arc::new(Mutex::new(String::new()));
    // All the time, so that nobody waits to write. Ends when nobody has the terminal open any more.
    let reader = std::thread::spawn({
        let seen = seen.clone();
        move || {
            let mut bytes = [0; 1 << 16];
            while let Ok(n @ 1..) = master.read(&mut bytes) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        }
    });
    wait::until("the terminal shows enough", || enough(&seen.lock().unwrap()));
    if let Some(signal) = signal {
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    }
    let mut ended = None;
    wait::until("the program ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    let after = tcgetattr(&slave).unwrap();
    drop(slave);
    reader.join().unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(ended.unwrap().success(), "{ended:?}: {seen}");
    (seen, after == before)
}

#[test]
fn a_terminal_gets_lines_that_fit_and_its_screen_back() {
    const ENTER: &str = "\u{1b}[?1049h";
    const LEAVE: &str = "\u{1b}[?1049l";
    let own = std::process::id().to_string();
    // Arguments of many characters.
    let wide = names::long_command_line();
    let pids = format!("{own},{}", wide.pid);
    let (text, _) = on_terminal(ps(&direct(), &["-p", &pids]).env("NO_COLOR", "1"), None, |seen| {
        seen.contains("processes;")
    });
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.chars().count() <= 60), "{lines:?}");
    assert!(lines.iter().any(|line| line.len() == 60), "{lines:?}");
    let (text, _) = on_terminal(ps(&direct(), &["-p", &own]).env_remove("NO_COLOR"), None, |seen| {
        seen.contains("process;")
    });
    assert!(text.starts_with("\u{1b}[1m"), "{text:?}");

    let frames = |seen: &str| seen.matches("\u{1b}[H").count() >= 3;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (text, restored) = on_terminal(&mut ps(&direct(), &["--watch", "0.1"]), Some(signal), frames);
        assert!(text.starts_with(ENTER) && text.matches(LEAVE).count() == 1, "{text:?}");
        assert!(text.ends_with(LEAVE) && text.contains("%CPU"), "{text:?}");
        assert!(restored, "keys are echoed again");
        // Ten lines: a heading, eight tasks, and the last without an end.
        let frame = text.split("\u{1b}[H").nth(1).unwrap();
        assert!(frame.matches('\n').count() <= 9, "{frame:?}");
    }
}
