//! Sections that the tasks program writes, against what /proc says of the same tasks.

use super::abi::Batch;
use super::programs::{Ask, Mode, Programs};
use crate::access::Reader;
use crate::protocol::Groups;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

const MADE_OF: u32 = 1 << 15;
const GROUPS: u32 = 33;
const SCHED: u32 = 34;
const IO: u32 = 35;
const CGROUP: u32 = 36 | MADE_OF;
const NS: u32 = 37;
const FD_COUNT: u32 = 39;
const ENVIRON: u32 = 42;
const MISC: u32 = 43 | MADE_OF;
const NAMES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

type Sections = BTreeMap<u32, Vec<u8>>;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn groups() -> Groups {
    Groups::from_bits_retain(1 << 33 | 1 << 34 | 1 << 35 | 1 << 36 | 1 << 37 | 1 << 39 | 1 << 42 | 1 << 43)
}

fn sections(bytes: &[u8]) -> Sections {
    let mut found = Sections::new();
    let mut rest = bytes;
    while let [a, b, c, d, e, f, g, h, tail @ ..] = rest {
        let (id, length) =
            (u32::from_ne_bytes([*a, *b, *c, *d]), u32::from_ne_bytes([*e, *f, *g, *h]) as usize);
        let whole = length.next_multiple_of(8);
        assert!(tail[length..whole].iter().all(|byte| *byte == 0), "padding of {id}");
        assert!(found.last_key_value().is_none_or(|(last, _)| *last < id), "order of {id}");
        found.insert(id, tail[..length].to_vec());
        rest = &tail[whole..];
    }
    assert!(rest.is_empty());
    found
}

/// What the program says of these tasks, by their ids for the reader; all processes without any.
fn told(
    programs: &Programs,
    reader: u32,
    per_thread: bool,
    ids: &[u32],
) -> BTreeMap<u32, (u32, u32, Sections)> {
    let reader = Reader { tid: reader, ..Reader::default() };
    let mut all = BTreeMap::new();
    let mut keep = |batch: Batch<'_>| {
        for (at, record) in batch.records.iter().enumerate().filter(|(_, record)| record.base.pid != 0) {
            let found = sections(batch.sections(at).expect("room"));
            all.insert(record.base.pid, (record.daemons_tgid, record.daemons_pid, found));
        }
    };
    let ask = Ask { groups: groups(), per_thread, limit: 1024, first: 1, ..Ask::default() };
    let mut slot = programs.slot();
    if !ids.is_empty() {
        let answer = programs.tasks(&mut slot, &reader, ask, ids).unwrap();
        keep(slot.batch(answer.count, false, true));
        return all;
    }
    let mut first = 1;
    loop {
        let answer = programs.ask(&mut slot, &reader, Ask { mode: Mode::Processes, first, ..ask }).unwrap();
        keep(slot.batch(answer.count, false, true));
        match answer.outcome {
            super::programs::Outcome::More => first = answer.next,
            _ => return all,
        }
    }
}

fn number(payload: &[u8], at: usize, length: usize) -> u64 {
    let mut word = [0; 8];
    word[..length].copy_from_slice(&payload[at..at + length]);
    u64::from_ne_bytes(word)
}

fn text(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":")).map(str::trim)
}

/// The same made from /proc; `None` if the task is gone. `level`: how many pid namespaces lie above the reader's.
/// `groups` of IO and SCHED are the thread's where the directory is below `task`.
fn of_proc(dir: &str, level: usize, sections: &Sections) -> Option<Sections> {
    let status = text(&format!("{dir}/status"))?;
    let stat = text(&format!("{dir}/stat"))?;
    let fields: Vec<i64> = stat[stat.rfind(") ")? + 2..]
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse::<u64>().map_or_else(|_| n.parse().unwrap_or(0), |n| n as i64))
        .collect();
    let field = |number: usize| fields[number - 4];
    let value = |name: &str| line(&status, name).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let mut all = Sections::new();
    let put = |payload: &mut Vec<u8>, number: u64, length: usize| {
        payload.extend_from_slice(&number.to_ne_bytes()[..length]);
    };

    let mut payload = Vec::new();
    put(&mut payload, u64::from_str_radix(value("CapAmb").first()?, 16).ok()?, 8);
    put(&mut payload, number(sections.get(&GROUPS)?, 8, 4), 4); // securebits stand in no file
    put(&mut payload, value("NoNewPrivs").first()?.parse().ok()?, 1);
    put(&mut payload, value("Seccomp").first()?.parse().ok()?, 1);
    put(&mut payload, 20, 2);
    let gids = value("Groups");
    put(&mut payload, gids.len() as u64, 4);
    gids.iter().for_each(|gid| put(&mut payload, gid.parse().unwrap(), 4));
    all.insert(GROUPS, payload);

    let mut payload = Vec::new();
    let sched = sections.get(&SCHED)?;
    assert_eq!(number(sched, 0, 8) / 10_000_000, field(22) as u64, "{dir}");
    put(&mut payload, number(sched, 0, 8), 8);
    put(&mut payload, value("voluntary_ctxt_switches").first()?.parse().ok()?, 8);
    put(&mut payload, value("nonvoluntary_ctxt_switches").first()?.parse().ok()?, 8);
    for place in [43, 44, 42] {
        put(&mut payload, field(place) as u64, 8);
    }
    for place in [9, 19, 18, 40, 41, 39, 7] {
        put(&mut payload, field(place) as u64, 4);
    }
    let tpgid = if level == 0 { field(8) as u64 } else { number(sched, 76, 4) };
    put(&mut payload, tpgid, 4);
    put(&mut payload, field(38) as u64, 4);
    put(&mut payload, 0, 4);
    all.insert(SCHED, payload);

    let mut payload = Vec::new();
    for line in text(&format!("{dir}/io"))?.lines() {
        put(&mut payload, line.split_whitespace().nth(1)?.parse().ok()?, 8);
    }
    all.insert(IO, payload);

    let mut payload = Vec::new();
    let ids = &value("NSpid")[level..];
    for number in [8, 10, 48, ids.len() as u64] {
        put(&mut payload, number, 2);
    }
    for name in NAMES {
        let link = fs::read_link(format!("{dir}/ns/{name}")).ok();
        let inode = link.map_or(0, |link| {
            let link = link.to_string_lossy().into_owned();
            link[link.find('[').unwrap() + 1..link.len() - 1].parse().unwrap()
        });
        put(&mut payload, inode, 4);
    }
    ids.iter().for_each(|id| put(&mut payload, id.parse().unwrap(), 4));
    all.insert(NS, payload);

    let mut payload = Vec::new();
    put(&mut payload, fs::read_dir(format!("{dir}/fd")).ok()?.count() as u64, 8);
    let limits = text(&format!("{dir}/limits"))?;
    let limits = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    for limit in limits.split_whitespace().take(2) {
        put(&mut payload, limit.parse().unwrap_or(u64::MAX), 8);
    }
    all.insert(FD_COUNT, payload);

    if let Some(told) = sections.get(&ENVIRON) {
        all.insert(ENVIRON, fs::read(format!("{dir}/environ")).unwrap_or_else(|_| told.clone()));
    }

    let mut payload = Vec::new();
    put(&mut payload, text(&format!("{dir}/oom_score_adj"))?.trim().parse::<i64>().ok()? as u64, 4);
    for file in ["loginuid", "sessionid"] {
        let number = text(&format!("{dir}/{file}")).map_or(u64::MAX, |text| text.trim().parse().unwrap());
        put(&mut payload, number, 4);
    }
    all.insert(MISC, payload);
    Some(all)
}

/// Looks at all these tasks until each was once the same in /proc; gives how often each section was compared.
fn compare(
    programs: &Programs,
    reader: u32,
    level: usize,
    per_thread: bool,
    ids: &[u32],
) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    let mut settled = std::collections::BTreeSet::new();
    let mut differing = BTreeMap::new();
    for _ in 0..30 {
        differing.clear();
        let mut keys: BTreeMap<u64, (String, String)> = BTreeMap::new();
        for (id, (tgid, pid, mut sections)) in told(programs, reader, per_thread, ids) {
            let dir = if per_thread { format!("/proc/{tgid}/task/{pid}") } else { format!("/proc/{pid}") };
            if let (Some(key), Some(text)) = (sections.remove(&CGROUP), text(&format!("{dir}/cgroup"))) {
                let first = keys.entry(number(&key, 0, 8)).or_insert_with(|| (dir.clone(), text.clone()));
                if first.1 != text && fs::metadata(&first.0).is_ok() && fs::metadata(&dir).is_ok() {
                    differing.insert(id, format!("cgroups of {dir} and {}", first.0));
                    continue;
                }
            }
            if settled.contains(&(tgid, pid)) {
                continue;
            }
            let Some(expected) = of_proc(&dir, level, &sections) else { continue };
            if sections == expected {
                settled.insert((tgid, pid));
                sections.keys().for_each(|id| *counts.entry(*id).or_default() += 1);
            } else {
                differing.insert(id, format!("{dir}\n {sections:?}\n {expected:?}"));
            }
        }
        // The tester itself, and whoever else is at work, may differ.
        if differing.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let count = settled.len();
    assert!(differing.len() * 10 <= count, "besides {count} that are the same, these differ: {differing:?}");
    counts
}

/// Threads of this process, a zombie, one with files, an environment of several pages, one in a terminal.
fn processes() -> Vec<Killed> {
    let start = |command: &mut Command| Killed(command.stdin(Stdio::null()).spawn().unwrap());
    let long = "e".repeat(9000);
    vec![
        start(Command::new("sleep").arg("100").env("LONG", &long)),
        start(Command::new("sleep").arg("100").env_clear()),
        start(Command::new("true").arg("zombie")),
        start(Command::new("nice").args(["-n", "5", "sh", "-c", "exec 7</dev/null; sleep 100; :"])),
        start(Command::new("script").args(["-qc", "sleep 100", "/dev/null"]).stdout(Stdio::null())),
    ]
}

fn programs() -> Option<Programs> {
    match Programs::load() {
        Ok(programs) => Some(programs),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no BPF: {why}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: sections: no BPF: {why}");
            None
        }
    }
}

#[test]
fn sections_are_those_of_proc() {
    let Some(programs) = programs() else { return };
    let _processes = processes();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let own = std::process::id();
    let counts = compare(&programs, own, 0, false, &[]);
    println!("{counts:?}");
    for id in [GROUPS, SCHED, IO, NS, FD_COUNT, MISC] {
        assert!(counts[&id] > 20, "{counts:?}");
    }
    assert!(counts[&ENVIRON] > 6, "{counts:?}");
    let counts = compare(&programs, own, 0, true, &[]);
    println!("{counts:?}");
    assert!(counts[&SCHED] > 20);
}

#[test]
fn sections_for_a_reader_in_a_nested_namespace() {
    let Some(programs) = programs() else { return };
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        "sleep 100 & sleep 100 & read x < /proc/self/stat; echo $x; wait",
    ]);
    let mut outer = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut reader = String::new();
    BufReader::new(outer.0.stdout.take().unwrap()).read_line(&mut reader).unwrap();
    let reader: u32 = reader.split_whitespace().next().unwrap().parse().unwrap();
    assert!(fs::metadata(format!("/proc/{reader}")).unwrap().uid() == 0);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let counts = compare(&programs, reader, 1, false, &[]);
    println!("{counts:?}");
    assert_eq!(counts[&NS], 3);
    assert_eq!(counts[&ENVIRON], 3);
}
