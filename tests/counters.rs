//! What /proc only ever adds to does not fall from one look to the next.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::sources::sources;
use common::{needs, tools};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use task_diag::protocol::{DumpStrategy, Groups, Request};

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
        let asked = Request { pids: tids.clone(), ..request(DumpStrategy::Set, 0, Groups::STAT) };
        let tasks = Handle::open(daemon.path()).dump(&asked).unwrap();
        let of_us: Vec<_> = tasks.iter().filter(|task| task.tgid == own).collect();
        assert!(of_us.len() >= 100, "{}: {}", source.name, of_us.len());
        let first = of_us[0].stat.unwrap();
        for task in &of_us {
            let stat = task.stat.unwrap();
            assert!(stat.minflt.abs_diff(first.minflt) < 10_000 && stat.threads.abs_diff(first.threads) < 20);
            assert!(stat.minflt >= 100, "{}: {stat:?}", source.name);
        }
        let stat = tasks.iter().find(|task| task.pid == other.0.id()).unwrap().stat.unwrap();
        assert!(
            stat.threads == 1 && stat.minflt < of_us[0].stat.unwrap().minflt,
            "{}: {stat:?}",
            source.name
        );
    }
    drop(stop);
    threads.into_iter().for_each(|thread| drop(thread.join()));
}
