//! Every group from 32 on says what the file of /proc says that it mirrors, for processes of every shape that stand still.

mod common;

use common::daemon::Daemon;
use common::handle::{Handle, one, request};
use common::more::{GROUPS, agree, ask, expected};
use common::sources::sources;
use common::zoo;
use common::{needs, proc};
use std::collections::BTreeMap;
use task_diag::protocol::{DumpStrategy, Groups, Request};

#[test]
fn processes_one_by_one() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for animal in &zoo {
            let path = animal.pid.to_string();
            agree(&format!("{} by {}", animal.name, source.name), || {
                let before = expected(&path, GROUPS, true);
                let got = ask(&file, &one(animal.pid, GROUPS));
                assert_eq!(got.len(), 1);
                (got[0].lines(GROUPS), [before, expected(&path, GROUPS, true)])
            });
        }
    }
}

#[test]
fn threads_and_everything_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for animal in &zoo {
            for tid in proc::threads(animal.pid) {
                let (path, leader) = (format!("{}/task/{tid}", animal.pid), tid == animal.pid);
                agree(&format!("thread {tid} of {} by {}", animal.name, source.name), || {
                    let before = expected(&path, GROUPS, leader);
                    let got = ask(&file, &request(DumpStrategy::Thread, animal.pid, GROUPS));
                    let of_thread = got.iter().find(|task| task.pid == tid).unwrap();
                    (of_thread.lines(GROUPS), [before, expected(&path, GROUPS, leader)])
                });
            }
        }
        // Together they come as they do one by one, each with its own.
        let pids: Vec<u32> = zoo.iter().map(|animal| animal.pid).collect();
        for request in [Request::all(GROUPS), Request::set(pids.clone(), GROUPS)] {
            let mut open: Vec<u32> = pids.clone();
            for _ in 0..20 {
                let before: BTreeMap<u32, _> =
                    open.iter().map(|pid| (*pid, expected(&pid.to_string(), GROUPS, true))).collect();
                let got = ask(&file, &request);
                let same = |pid: &u32| {
                    let task = got.iter().find(|task| task.pid == *pid).unwrap();
                    let lines = task.lines(GROUPS);
                    lines == before[pid] || lines == expected(&pid.to_string(), GROUPS, true)
                };
                open.retain(|pid| !same(pid));
            }
            assert!(open.is_empty(), "{}: {open:?}", source.name);
        }
    }
}

#[test]
fn each_group_comes_alone_and_only_if_asked_for() {
    if !needs::root_and_fuse() {
        return;
    }
    let sleeper = zoo::lives::sleeper();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for group in GROUPS {
            let got = ask(&file, &one(sleeper.pid, group | Groups::BASE));
            let ids: Vec<u64> = got[0].payloads.keys().map(|id| 1 << id).collect();
            assert_eq!(ids, [group.bits()], "{}", source.name);
        }
        assert!(ask(&file, &one(sleeper.pid, Groups::NATIVE))[0].payloads.is_empty());
    }
}
