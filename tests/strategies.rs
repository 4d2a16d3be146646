//! Each strategy gives exactly the right tasks, once each and in order, whatever the size of the buffers.

mod common;

use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, one, request};
use common::needs;
use common::sources::sources;
use common::wire;
use common::zoo::farm::Farm;
use common::zoo::{lives, memory, names};
use nix::errno::Errno;
use std::collections::HashSet;
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, Request};

const LIGHT: Groups = Groups::BASE.union(Groups::CRED).union(Groups::STAT).union(Groups::STATM);
const BUFFERS: [usize; 4] = [4 << 10, 16 << 10, BUFFER, 1 << 20];

fn pids(tasks: &[OwnedTask]) -> Vec<u32> {
    tasks.iter().map(|task| task.pid).collect()
}

/// Children belong to the thread that made them, so those of a test are its thread's.
fn own_thread() -> u32 {
    nix::unistd::gettid().as_raw() as u32
}

#[test]
fn a_thousand_processes_of_ten_threads() {
    if !needs::root_and_fuse() {
        return;
    }
    let farm = Farm::new(1000, 10);
    let ordered = farm.in_order();
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        all(&file, &ordered);
        all_threads(&file, &ordered);

        let children = request(DumpStrategy::Children, farm.parent.pid(), LIGHT);
        let first = file.dump(&children).unwrap();
        assert_eq!(pids(&first), farm.leaders(), "in order of birth");
        for buffer in BUFFERS {
            assert_eq!(file.dump_with(&children, buffer).unwrap(), first, "{buffer}");
        }
        for process in farm.processes.iter().step_by(97) {
            for by in [process[0], process[1], process[9]] {
                let threads = file.dump(&request(DumpStrategy::Thread, by, LIGHT)).unwrap();
                assert_eq!(&pids(&threads), process, "by {by}");
                assert!(threads.iter().all(|task| task.tgid == process[0]));
                assert_eq!(pids(&file.dump(&one(by, LIGHT)).unwrap()), [by]);
            }
            assert_eq!(file.dump(&request(DumpStrategy::Children, process[0], LIGHT)), Ok(vec![]));
        }
    }
}

fn all(file: &Handle, ordered: &[Vec<u32>]) {
    let farm: HashSet<u32> = ordered.iter().map(|threads| threads[0]).collect();
    let mut first: Option<Vec<OwnedTask>> = None;
    for buffer in BUFFERS {
        let tasks = file.dump_with(&request(DumpStrategy::All, 0, LIGHT), buffer).unwrap();
        assert!(tasks.is_sorted_by(|a, b| a.tgid < b.tgid), "ascending, once each");
        assert!(tasks.iter().all(|task| task.pid == task.tgid), "processes alone");
        let ours: Vec<OwnedTask> = tasks.into_iter().filter(|task| farm.contains(&task.pid)).collect();
        assert_eq!(pids(&ours), ordered.iter().map(|threads| threads[0]).collect::<Vec<_>>());
        assert!(ours.iter().all(|task| task.stat.unwrap().threads == 10 && task.statm.is_some()));
        assert_eq!(*first.get_or_insert_with(|| ours.clone()), ours, "{buffer}");
    }
}

fn all_threads(file: &Handle, ordered: &[Vec<u32>]) {
    let farm: HashSet<u32> = ordered.concat().into_iter().collect();
    let mut first: Option<Vec<OwnedTask>> = None;
    for buffer in BUFFERS {
        let tasks = file.dump_with(&request(DumpStrategy::AllThreads, 0, LIGHT), buffer).unwrap();
        let processes: Vec<&[OwnedTask]> = tasks.chunk_by(|a, b| a.tgid == b.tgid).collect();
        assert!(processes.is_sorted_by(|a, b| a[0].tgid < b[0].tgid), "ascending, each process once");
        assert!(processes.iter().all(|threads| threads[0].pid == threads[0].tgid), "leaders first");
        assert_eq!(pids(&tasks).iter().collect::<HashSet<_>>().len(), tasks.len(), "once each");
        let ours: Vec<OwnedTask> = tasks.into_iter().filter(|task| farm.contains(&task.pid)).collect();
        assert_eq!(pids(&ours), ordered.concat(), "threads in order of creation");
        assert_eq!(*first.get_or_insert_with(|| ours.clone()), ours, "{buffer}");
    }
}

/// The whole of every group, in pieces of any size: the same in the end.
#[test]
fn all_groups_in_any_buffer() {
    if !needs::root_and_fuse() {
        return;
    }
    let farm = Farm::new(40, 3);
    let (many, long) = (memory::many_mappings(), names::long_command_line());
    let requests = [
        request(DumpStrategy::Children, farm.parent.pid(), Groups::NATIVE),
        request(DumpStrategy::Thread, farm.processes[7][2], Groups::NATIVE),
        one(many.pid, Groups::NATIVE),
        one(long.pid, Groups::NATIVE),
    ];
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for asked in &requests {
            same_in_any_buffer(&file, asked);
        }
        // With everyone else in between.
        let groups = Groups::NATIVE - Groups::VMA_STAT;
        let ours: HashSet<u32> = farm.leaders().into_iter().chain([many.pid, long.pid]).collect();
        let [a, b] = [16 << 10, 1 << 20].map(|buffer| {
            let mut tasks = file.dump_with(&request(DumpStrategy::All, 0, groups), buffer).unwrap();
            tasks.retain(|task| ours.contains(&task.pid));
            tasks
        });
        assert_eq!(a, b);
        assert_eq!(a.len(), 42);
        assert!(a.iter().all(|task| !task.mappings.is_empty() && task.command_line.is_some()));
    }
}

/// How much of a page is this process' own depends on who else maps it just now: so it may take several looks.
#[track_caller]
fn same_in_any_buffer(file: &Handle, asked: &Request) {
    for _ in 0..40 {
        let answers = BUFFERS.map(|buffer| file.dump_with(asked, buffer).unwrap());
        assert!(answers[0].iter().any(|task| !task.mappings.is_empty()), "{asked:?}: {:?}", answers[0]);
        if answers.iter().all(|answer| *answer == answers[0]) {
            return;
        }
    }
    panic!("never the same: {asked:?}");
}

/// Buffers that hold one attribute, or not even that, and that change from read to read.
#[test]
fn tiny_and_changing_buffers() {
    if !needs::root_and_fuse() {
        return;
    }
    let (threads, long, many) = (lives::threads(), names::long_command_line(), memory::many_mappings());
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let few = LIGHT | Groups::CMDLINE;
        let cases: &[(Request, &[usize])] = &[
            (request(DumpStrategy::Thread, threads.pid, Groups::BASE), &[76]),
            (request(DumpStrategy::Thread, threads.pid, Groups::empty()), &[28]),
            // A piece for each attribute: 28 bytes of message, 4 of attribute, and the largest payload, 120.
            (request(DumpStrategy::Thread, threads.pid, few), &[152]),
            (request(DumpStrategy::Thread, threads.pid, few), &[4096, 152, 153, 200, 160, 1000, 28]),
            (one(long.pid, few), &[152]),
            (one(long.pid, few), &[65_536, 152, 1 << 20, 300]),
            (one(many.pid, Groups::NATIVE), &[512]),
            (one(many.pid, Groups::NATIVE), &[4096, 600, 1 << 20, 512, 70_000]),
        ];
        for (asked, buffers) in cases {
            let whole = file.dump_with(asked, 1 << 20).unwrap();
            let stat =
                |task: &OwnedTask| task.mappings.iter().map(|vma| (vma.start, vma.name.clone())).collect();
            let pieces = in_pieces(&file, asked, buffers);
            assert_eq!(pids(&pieces), pids(&whole));
            for (a, b) in pieces.iter().zip(&whole) {
                let [x, y]: [Vec<_>; 2] = [stat(a), stat(b)];
                assert_eq!(x, y);
                assert_eq!(a.command_line, b.command_line);
                assert_eq!(
                    (a.base, a.credentials, a.stat, a.statm),
                    (b.base, b.credentials, b.stat, b.statm)
                );
            }
        }
    }
}

/// Reads a dump with buffers of these sizes in turns; where one is too small, with the next one that is not.
#[track_caller]
fn in_pieces(file: &Handle, asked: &Request, buffers: &[usize]) -> Vec<OwnedTask> {
    file.request(asked);
    let mut reads = Vec::new();
    let mut too_small = 0;
    for buffer in buffers.iter().cycle() {
        match file.read(*buffer) {
            Ok(read) if read.is_empty() => break,
            Ok(read) => {
                assert!(read.len() <= *buffer);
                reads.push(read);
                too_small = 0;
            }
            Err(Errno::EMSGSIZE) => {
                too_small += 1;
                assert!(too_small < buffers.len(), "too small: {buffers:?}");
            }
            Err(e) => panic!("{e}"),
        }
    }
    wire::tasks(&reads, asked.seq)
}

#[test]
fn children_belong_to_the_very_thread() {
    if !needs::root_and_fuse() {
        return;
    }
    let parents = lives::parents();
    let told = |slot: usize| parents.child.board.get(slot) as u32;
    let other = told(0);
    let [of_leader, of_thread] = [1, 2].map(|first| (first..9).step_by(2).map(told).collect::<Vec<u32>>());
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for (parent, children) in [(parents.pid, &of_leader), (other, &of_thread)] {
            for groups in [Groups::BASE, Groups::empty(), Groups::NATIVE] {
                let tasks = file.dump(&request(DumpStrategy::Children, parent, groups)).unwrap();
                assert_eq!(pids(&tasks), *children);
                assert!(groups != Groups::BASE || tasks.iter().all(|t| t.base.unwrap().ppid == parents.pid));
            }
            let tasks = file.dump(&request(DumpStrategy::Children, parent, Groups::BASE)).unwrap();
            let states: Vec<u8> = tasks.iter().map(|task| task.base.unwrap().state).collect();
            assert_eq!(states, [1, 6, 1, 1], "the second has ended");
        }
    }
}

#[test]
fn a_task_that_dies_half_sent_is_closed() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        for groups in [Groups::BASE | Groups::VMA, Groups::NATIVE] {
            // Both are children of this thread, as the daemon before them.
            let (dying, next) = (memory::many_mappings(), lives::sleeper());
            let (pid, next_pid) = (dying.pid, next.pid);
            let asked = request(DumpStrategy::Children, own_thread(), groups);
            file.request(&asked);
            let mut last = (0, false);
            while last != (pid, true) {
                let read = file.read(4096).unwrap();
                let messages = wire::messages(&read, asked.seq);
                last = messages.last().map(|message| (message.pid, message.continues)).unwrap();
            }
            drop(dying);
            let rest = file.read_to_end(4096).unwrap();
            let messages: Vec<_> = rest.iter().flat_map(|read| wire::messages(read, asked.seq)).collect();
            assert_eq!(
                (messages[0].pid, messages[0].continues, messages[0].attributes.len()),
                (pid, false, 0)
            );
            assert_eq!((messages[1].pid, messages[1].attributes[0].0), (next_pid, 0), "from its beginning");
            assert!(messages[1..].iter().all(|message| message.pid == next_pid));
        }
    }
}
