//! The library's client at a real mount: tasks borrowed and owned, daemons that come and go.

mod common;

use common::daemon::Daemon;
use common::needs;
use common::sources::{PROCFS, sources};
use common::zoo::{lives, memory};
use std::fs::File;
use task_diag::client::{Absent, Client, OwnedTask, probe};
use task_diag::protocol::{Cgroup, Descriptor, DescriptorKind, DumpStrategy, Groups, Request};

const LIGHT: Groups = Groups::BASE.union(Groups::CRED).union(Groups::CMDLINE);

fn own() -> u32 {
    std::process::id()
}

fn sees_itself(client: &mut Client) {
    let tasks = client.tasks(Request::one(own(), LIGHT)).unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].command_line.as_deref().unwrap(), std::fs::read("/proc/self/cmdline").unwrap());
}

#[test]
fn a_restarted_daemon_is_found_again() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let path = daemon.path();
    let mut client = Client::open(&path).unwrap();
    sees_itself(&mut client);

    let place = daemon.kill();
    assert_eq!(client.tasks(Request::one(own(), LIGHT)).unwrap_err().errno(), Some(libc::ENOTCONN));
    assert!(matches!(probe(&path), Err(Absent::Dead(_))));
    let daemon = place.start_again(&PROCFS);
    assert_eq!(daemon.path(), path);
    sees_itself(&mut client);
    sees_itself(&mut client);

    // Between a request and the first read of its answer.
    let mut dump = client.dump(Request::one(own(), LIGHT)).unwrap();
    let daemon = daemon.kill().start_again(&PROCFS);
    let task = dump.next_task().unwrap().unwrap();
    assert_eq!(task.pid, own());
    assert!(dump.next_task().unwrap().is_none());

    // In the midst of an answer tasks would come twice: that dump fails, the next one does not.
    client.set_buffer_len(256);
    let mut dump = client.dump(Request::all(Groups::BASE)).unwrap();
    assert!(dump.next_task().unwrap().is_some());
    let _daemon = daemon.kill().start_again(&PROCFS);
    let error = loop {
        match dump.next_task() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a dump that was torn ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Some(libc::ENOTCONN));
    sees_itself(&mut client);
}

#[test]
fn a_probe_says_who_answers_or_why_nobody_does() {
    if !needs::root_and_fuse() {
        return;
    }
    for source in sources() {
        let daemon = Daemon::start(source);
        let server = probe(daemon.path()).unwrap();
        assert_eq!((&server.source[..], &server.version[..]), (source.name, env!("CARGO_PKG_VERSION")));
        assert!(server.offers(Groups::NATIVE | Groups::MISSING) && server.visibility == "ptrace");
        // A file of the same mount that takes no requests.
        assert!(!matches!(probe(daemon.dir().join("info")), Ok(_) | Err(Absent::NotMounted(_))));
        let path = daemon.path();
        drop(daemon);
        assert!(matches!(probe(path), Err(Absent::NotMounted(_))));
    }
}

#[test]
fn borrowed_tasks_are_whole_however_small_the_pieces() {
    if !needs::root_and_fuse() {
        return;
    }
    let animal = memory::many_mappings();
    for source in sources() {
        let daemon = Daemon::start(source);
        let mut client = Client::open(daemon.path()).unwrap();
        let request = Request::one(animal.pid, LIGHT | Groups::STAT | Groups::STATM | Groups::VMA);
        let whole = client.tasks(request.clone()).unwrap().remove(0);
        assert!(whole.mappings.len() > 5000);
        for buffer in [512, 4096, 70_000] {
            client.set_buffer_len(buffer);
            let mut dump = client.dump(request.clone()).unwrap();
            let task = dump.next_task().unwrap().unwrap();
            assert_eq!(task.base(), whole.base.as_ref());
            assert_eq!(task.statm(), whole.statm.as_ref());
            assert_eq!(task.command_line(), whole.command_line.as_deref());
            assert!(task.messages().count() > 1, "in one piece");
            let ends: Vec<u64> = task.mappings().map(|vma| vma.unwrap().end).collect();
            assert!(ends.iter().eq(whole.mappings.iter().map(|vma| &vma.end)));
            let owned: OwnedTask = task.to_owned().unwrap();
            assert_eq!(owned.mappings, whole.mappings);
            assert!(dump.next_task().unwrap().is_none() && dump.next_task().unwrap().is_none());
        }
        // A dump that is not read to its end keeps the file busy until it is discarded.
        client.set_buffer_len(512);
        client.dump(Request::all(Groups::BASE)).unwrap().next_task().unwrap().unwrap();
        assert_eq!(client.dump(request).unwrap_err().errno(), Some(libc::EBUSY));
    }
}

#[test]
fn a_discarded_dump_makes_way_for_the_next() {
    if !needs::root_and_fuse() {
        return;
    }
    let daemon = Daemon::start(&PROCFS);
    let mut client = Client::open(daemon.path()).unwrap();
    client.set_buffer_len(512);
    let mut dump = client.dump(Request::all(Groups::BASE)).unwrap();
    dump.next_task().unwrap().unwrap();
    dump.discard().unwrap();
    sees_itself(&mut client);
}

#[test]
fn groups_of_strings_and_lists_are_joined_too() {
    if !needs::root_and_fuse() {
        return;
    }
    let open: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let groups = Groups::BASE | Groups::OWN.difference(Groups::TASKSTATS);
    let environ = std::fs::read("/proc/self/environ").unwrap();
    for source in sources() {
        let daemon = Daemon::start(source);
        let mut client = Client::open(daemon.path()).unwrap();
        for buffer in [512, 4096, 160 * 1024] {
            client.set_buffer_len(buffer);
            let mut dump = client.dump(Request::one(own(), groups)).unwrap();
            let task = dump.next_task().unwrap().unwrap();
            assert_eq!(task.messages().count() > 1, buffer < 160 * 1024);
            let descriptors: Vec<Descriptor> = task.descriptors().unwrap().map(Result::unwrap).collect();
            let nulls = descriptors.iter().filter(|d| d.name == b"/dev/null").count();
            assert!(nulls >= open.len() && descriptors.is_sorted_by_key(|d| d.fd), "{nulls}");
            assert!(descriptors.iter().any(|d| d.kind() == DescriptorKind::CharacterDevice));
            assert_eq!(task.environ(), Some(&environ[..]));
            let exe = std::env::current_exe().unwrap();
            assert_eq!(task.files().unwrap().exe, Some(exe.as_os_str().as_encoded_bytes()));
            let lines: Vec<String> = task.cgroups().unwrap().map(|line| as_in_proc(&line.unwrap())).collect();
            assert_eq!(lines.join(""), std::fs::read_to_string("/proc/self/cgroup").unwrap());
            assert!(task.sched().unwrap().start_time > 0 && task.io().unwrap().syscr > 0);
            assert!(task.fd_count().unwrap().open >= 300 && task.rollup().unwrap().pss > 0);
            assert_eq!(task.namespaces().unwrap().pids, [own()]);
            assert!(task.misc().is_some() && task.membership().is_some() && task.taskstats().is_none());

            let owned = task.to_owned().unwrap();
            assert!(owned.descriptors().unwrap().map(Result::unwrap).eq(descriptors));
            assert_eq!((owned.environ(), owned.files()), (task.environ(), task.files()));
            assert!(owned.cgroups().unwrap().map(|line| as_in_proc(&line.unwrap())).eq(lines));
            assert_eq!((owned.sched.as_ref(), owned.rollup.as_ref()), (task.sched(), task.rollup()));
            assert_eq!((owned.misc(), owned.membership()), (task.misc().copied(), task.membership()));
            assert_eq!(owned.namespaces().as_ref(), task.namespaces());
            assert!(dump.next_task().unwrap().is_none());
        }
    }
}

fn as_in_proc(line: &Cgroup) -> String {
    let [controllers, path] = [line.controllers, line.path].map(|part| str::from_utf8(part).unwrap());
    format!("{}:{controllers}:{path}\n", line.hierarchy)
}

#[test]
fn listed_tasks_and_those_below_one_are_asked_for_at_once() {
    if !needs::root_and_fuse() {
        return;
    }
    let group = lives::group_leader();
    for source in sources() {
        let daemon = Daemon::start(source);
        let server = probe(daemon.path()).unwrap();
        assert!(
            server.knows(DumpStrategy::Set)
                && server.knows(DumpStrategy::Subtree)
                && server.offers(Groups::OWN - Groups::TASKSTATS)
        );
        let mut client = Client::open(daemon.path()).unwrap();
        let mut pids =
            |request| client.tasks(request).unwrap().iter().map(|task| task.pid).collect::<Vec<_>>();
        let listed = [group.pid, own(), u32::MAX, own(), group.child.pid()];
        assert_eq!(pids(Request::set(listed, LIGHT)), [group.pid, own(), group.child.pid()]);
        assert_eq!(pids(Request::set([], LIGHT)), []);
        let mut below = [group.pid, group.child.pid()];
        below.sort();
        assert_eq!(pids(Request::subtree(group.child.pid(), LIGHT)), below);
        assert!(client.tasks(Request::subtree(u32::MAX >> 1, LIGHT)).unwrap_err().is_no_such_task());
    }
}
