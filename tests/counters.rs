//! What /proc only ever adds to does not fall from one look to the next.

mod common;

use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one, request};
use common::more::More;
use common::sources::sources;
use common::{needs, tools};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use task_diag::protocol::{DumpStrategy, Groups, Io, Request, Sched, attribute_id};
use zerocopy::FromBytes;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn times_and_faults_while_threads_come_and_go() {
    if !needs::root_and_fuse() || !tools::are_there(&["gcc"]) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("churn");
    let source = "tests/common/churn.c";
    tools::succeeds(tools::command("gcc").args(["-O1", "-w", "-pthread", "-o"]).arg(&program).arg(source));
    let mut child = Killed(Command::new(&program).stdout(Stdio::piped()).spawn().unwrap());
    child.0.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let pid = child.0.id();
    for source in sources() {
        let daemon = Daemon::start_with(source, &[]);
        let file = Handle::open(daemon.path());
        let mut most = [0; 4];
        for look in 0..600 {
            let asked = match look % 3 {
                0 => Request { pids: vec![pid], ..request(DumpStrategy::Set, 0, Groups::STAT) },
                _ => one(pid, Groups::STAT),
            };
            let tasks = file.dump(&asked).unwrap();
            // What is not read in time is not shown at all.
            let Some(stat) = tasks[0].stat else { continue };
            let now = [stat.utime, stat.stime, stat.minflt, stat.majflt];
            let falls = now.iter().zip(&most).any(|(now, most)| now < most);
            assert!(!falls, "{}: look {look}: {now:?} after {most:?}", source.name);
            most = now;
        }
        assert!(most[0] + most[1] >= 98, "{}: {most:?}", source.name);
    }
}

/// The name in a line of `stat`, and the fields from the state on.
fn fields(path: &str) -> (String, Vec<String>) {
    let line = std::fs::read_to_string(path).unwrap();
    let (name, rest) = line.rsplit_once(") ").unwrap();
    (name.into(), rest.split_whitespace().map(String::from).collect())
}

/// The sums of `/proc/PID/stat`: faults, times, guest time.
fn stat_of(pid: u32) -> [u64; 5] {
    let (_, line) = fields(&format!("/proc/{pid}/stat"));
    [10, 12, 14, 15, 43].map(|number| line[number - 3].parse().unwrap())
}

/// The sums of `/proc/PID/io`: characters and calls of reading.
fn io_of(pid: u32) -> [u64; 2] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let number = |key| text.lines().find_map(|line: &str| line.strip_prefix(key)).unwrap().parse().unwrap();
    [number("rchar: "), number("syscr: ")]
}

/// The sums over a process' threads are made once for all of them that are asked for together.
#[test]
fn a_list_of_threads_of_one_process() {
    if !needs::root_and_fuse() {
        return;
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(parking_lot::Mutex::new(stopped));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let stopped = stopped.clone();
            std::thread::spawn(move || stopped.lock().recv().is_ok())
        })
        .collect();
    let own = std::process::id();
    let mut tids: Vec<u32> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    // Another process' among them.
    let other = Killed(Command::new("sleep").arg("1000").spawn().unwrap());
    tids.insert(tids.len() / 2, other.0.id());
    for source in sources() {
        let daemon = Daemon::start_with(source, &[]);
        let asked = |groups| Request { pids: tids.clone(), ..request(DumpStrategy::Set, 0, groups) };
        let file = Handle::open(daemon.path());
        let look = || [own, other.0.id()].map(|pid| (stat_of(pid), io_of(pid)));
        let before = look();
        file.request(&asked(Groups::SCHED | Groups::IO));
        let others = More::of(&file.read_to_end(BUFFER).unwrap());
        let tasks = file.dump(&asked(Groups::STAT)).unwrap();
        let after = look();
        let of_us: Vec<_> = tasks.iter().filter(|task| task.tgid == own).collect();
        assert!(of_us.len() >= 100, "{}: {}", source.name, of_us.len());
        for (task, others) in tasks.iter().zip(&others) {
            assert_eq!(task.pid, others.pid);
            let stat = task.stat.unwrap();
            let sched = Sched::read_from_bytes(&others.payloads[&attribute_id::SCHED]).unwrap();
            let io = Io::read_from_bytes(&others.payloads[&attribute_id::IO]).unwrap();
            let process = usize::from(task.tgid != own);
            let (before, after) = (before[process], after[process]);
            let now =
                ([stat.minflt, stat.majflt, stat.utime, stat.stime, sched.guest_time], [io.rchar, io.syscr]);
            let within = |now: &[u64], before: &[u64], after: &[u64]| {
                now.iter().zip(before.iter().zip(after)).all(|(now, (from, to))| (from..=to).contains(&now))
            };
            let right = within(&now.0, &before.0, &after.0) && within(&now.1, &before.1, &after.1);
            assert!(right, "{}: {}: {now:?} between {before:?} and {after:?}", source.name, task.pid);
            // What is the thread's own is not its process'.
            let (_, line) = fields(&format!("/proc/{}/stat", task.pid));
            assert_eq!(sched.start_time / 10_000_000, line[19].parse::<u64>().unwrap(), "{}", source.name);
        }
        assert!(tasks.iter().any(|task| task.pid == other.0.id()), "{}", source.name);
    }
    drop(stop);
    threads.into_iter().for_each(|thread| drop(thread.join()));
}
