//! Sections that the tasks program writes, against what /proc says of the same tasks.

use crate::access::Reader;
use crate::protocol::Groups;
use crate::source::bpf::programs::{Ask, Programs, Reads};
use crate::source::bpf::refusal::LoadError;
use crate::source::bpf::testing::{Killed, available};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

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

/// What the program says of these tasks, by their ids for the reader: their ids for us, and sections.
fn told(programs: &Programs, reader: u32, ids: &[u32]) -> BTreeMap<u32, (u32, Sections)> {
    let reader = Reader { tid: reader, ..Reader::default() };
    let ask = Ask { groups: Groups::OWN, ..Ask::default() };
    let mut slot = programs.slot();
    let answer = programs.tasks(&mut slot, &reader, ask, ids).unwrap();
    let batch = slot.batch(answer.count, false, true);
    let there = (0..batch.records.len()).filter(|at| batch.records[*at].base.pid != 0);
    let one = |at: usize| {
        let record = &batch.records[at];
        (record.base.pid, (record.daemons_pid, sections(batch.sections(at).unwrap_or_default())))
    };
    there.map(one).collect()
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

/// Looks at these tasks until each was the same in /proc at once; gives those that never were.
fn differing(programs: &Programs, reader: u32, level: usize, ids: &[u32]) -> Vec<String> {
    let mut open = ids.to_vec();
    let mut differing = Vec::new();
    for _ in 0..200 {
        differing.clear();
        let told = told(programs, reader, &open);
        let mut cgroups: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        open.retain(|id| {
            let Some((pid, mut sections)) = told.get(id).cloned() else { return false };
            let dir = format!("/proc/{pid}");
            let cgroup = text(&format!("{dir}/cgroup")).unwrap_or_default();
            let same_cgroups =
                *cgroups.entry(sections.remove(&CGROUP).unwrap()).or_insert(cgroup.clone()) == cgroup;
            let expected = of_proc(&dir, level, &sections);
            let same = same_cgroups && expected.as_ref() == Some(&sections);
            if !same {
                differing.push(format!("{dir} {sections:?}\n{expected:?}"));
            }
            !same
        });
        if open.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    differing
}

fn programs() -> Option<&'static Programs> {
    static PROGRAMS: OnceLock<Result<Programs, LoadError>> = OnceLock::new();
    available("sections", PROGRAMS.get_or_init(|| Programs::load(Reads::Direct)).as_ref())
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come");
}

/// Short and long environments, a zombie, open files, another niceness, a terminal.
#[test]
fn sections_are_those_of_proc() {
    let Some(programs) = programs() else { return };
    let start = |command: &mut Command| Killed(command.stdin(Stdio::null()).spawn().unwrap());
    let processes = [
        start(Command::new("sleep").arg("100").env("LONG", "e".repeat(9000))),
        start(Command::new("sleep").arg("100").env_clear()),
        start(&mut Command::new("true")),
        start(Command::new("nice").args(["-n", "5", "sh", "-c", "exec 7</dev/null; sleep 100; :"])),
        start(Command::new("script").args(["-qc", "exec sleep 100", "/dev/null"]).stdout(Stdio::null())),
    ];
    let mut ids: Vec<u32> = processes.iter().map(|process| process.0.id()).collect();
    let [.., zombie, _, terminal] = ids[..] else { unreachable!() };
    let sleeper = wait_for(|| {
        let state = text(&format!("/proc/{zombie}/stat"))?;
        let children = text(&format!("/proc/{terminal}/task/{terminal}/children"))?;
        let sleeper = children.split_whitespace().next()?.parse().ok()?;
        let name = text(&format!("/proc/{sleeper}/comm"))?;
        (state.contains(") Z") && name == "sleep\n").then_some(sleeper)
    });
    ids.push(sleeper);
    let own = std::process::id();
    assert_eq!(differing(programs, own, 0, &ids), [""; 0]);

    let all = [GROUPS, SCHED, IO, NS, FD_COUNT, ENVIRON, CGROUP, MISC];
    let told = told(programs, own, &ids);
    for (pid, (_, sections)) in &told {
        let ids: Vec<u32> = sections.keys().copied().collect();
        let expected = all.into_iter().filter(|id| *id != ENVIRON || pid != &zombie);
        assert!(ids.into_iter().eq(expected), "of {pid}: {:?}", sections.keys());
    }
    assert!(told[&ids[0]].1[&ENVIRON].len() > 9000);
    assert_eq!(told[&ids[1]].1[&ENVIRON], b"");
    assert!(number(&told[&ids[5]].1[&SCHED], 72, 4) != 0, "no terminal");
}

#[test]
fn sections_of_kernel_threads() {
    let Some(programs) = programs() else { return };
    let threads = fs::read_to_string("/proc/2/task/2/children").unwrap();
    let ids: Vec<u32> = threads.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    // A few may be busy all the while.
    let differing = differing(programs, std::process::id(), 0, &ids);
    assert!(ids.len() > 10 && differing.len() * 5 < ids.len(), "{differing:?}");
}

#[test]
fn sections_for_a_reader_in_a_nested_namespace() {
    let Some(programs) = programs() else { return };
    let mut command = Command::new("unshare");
    let script = "sleep 100 & sleep 100 & read x < /proc/self/stat; echo $x; wait";
    command.args(["--pid", "--fork", "--kill-child", "sh", "-c", script]);
    let mut outer = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut reader = String::new();
    BufReader::new(outer.0.stdout.take().unwrap()).read_line(&mut reader).unwrap();
    let reader: u32 = reader.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(differing(programs, reader, 1, &[1, 2, 3]), [""; 0]);
    let told = told(programs, reader, &[1, 2, 3, 4]);
    let pids: Vec<u64> = told.values().map(|(_, sections)| number(&sections[&NS], 48, 4)).collect();
    assert_eq!(pids, [1, 2, 3]);
}
