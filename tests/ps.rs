//! `task-diag ps` says what the `ps` of the machine says, of processes of every shape, and behaves as a Unix tool.

mod common;

use common::child::Child;
use common::daemon::Daemon;
use common::ps::{direct, lines, ps};
use common::sources::{Source, sources};
use common::tools::texts;
use common::zoo::{self, names, users};
use common::{needs, proc, tools, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;

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
        // What ps writes as blanks.
        let blanks = args.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\n')).count();
        args.truncate(args.len() - blanks);
        let mut args = in_ascii(&args);
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
        Some(_) => {
            let ours = ours.args.trim_end_matches(']');
            theirs.args.get(..ours.len()).is_some_and(|start| is_written(start, ours))
        }
        // Arguments that are all empty, or blanks.
        None if matches!(&theirs.args[..], "" | "?") => ours.args.starts_with('['),
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
        let strangers = strangers.count();
        if strangers >= 20 {
            left.insert(0, format!("{strangers} that ps does not show"));
        }
        for animal in
            zoo.iter().filter(|animal| open.as_ref().is_none_or(|open| open.contains_key(&animal.pid)))
        {
            assert!(shown.contains_key(&animal.pid), "{}", animal.name);
            // These stand still: nothing of them is excused as a change, but what the kernel takes of their memory.
            let (was, is) = (&before[&animal.pid], &after[&animal.pid]);
            if was != is {
                left.entry(animal.pid).or_insert_with(|| format!("{}: {was:?}\n   and {is:?}", animal.name));
            }
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

#[test]
fn sets_and_subtrees_are_chosen() {
    let group = zoo::lives::group_leader();
    let parent = group.child.pid();
    let shown = |way: &[String], arguments: &[&str]| {
        let (out, _) = tools::succeeds(&mut ps(way, arguments));
        out.lines().skip(1).map(|line| line.trim().to_string()).collect::<Vec<_>>()
    };
    let mut ways = vec![direct()];
    let daemon = needs::root_and_fuse().then(|| Daemon::start(&common::sources::PROCFS));
    ways.extend(daemon.iter().map(|daemon| vec!["--path".to_string(), daemon.path().display().to_string()]));
    let [top, child, own] = [parent, group.pid, std::process::id()].map(|pid| pid.to_string());
    for way in &ways {
        // As they are listed, and each once, even those that would come one after the other.
        let pids = format!("{child},{top},2147483647,{child}");
        assert_eq!(shown(way, &["-p", &pids, "-o", "pid"]), [&child[..], &top]);
        let mut below = [parent, group.pid];
        below.sort();
        assert_eq!(shown(way, &["--subtree", &top, "-o", "pid"]), below.map(|pid| pid.to_string()));
        assert_eq!(shown(way, &["--subtree", &format!("{child},{top}"), "-o", "pid"]).len(), 2);
        let tree = shown(way, &["--tree", "--subtree", &top, "-o", "pid"]);
        assert_eq!(tree, [top.clone(), format!("\\_ {child}")]);
        let all = shown(way, &["--subtree", &own, "-o", "pid"]);
        assert!([&own, &top, &child].iter().all(|pid| all.contains(pid)), "{all:?}");
        let outcome = ps(way, &["--subtree", "2147483647", "-o", "pid"]).output().unwrap();
        assert_eq!(outcome.status.code(), Some(1));
    }
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
    // Seldom not the youngest: when numbers began anew among them.
    let highest = proc::Stat::of(&format!("{pid}/task/{}", tids.iter().max().unwrap())).unwrap().comm;
    assert_eq!(lines(&["-L", "-p", &pid, "-o", "comm", "--sort", "-tid"])[0].as_bytes(), highest);
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
