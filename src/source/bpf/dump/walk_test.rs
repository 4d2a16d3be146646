//! What a walk makes of what it gathered ahead.

use super::*;
use crate::access::{Account, Visibility};
use crate::proc_files::ProcRoot;
use crate::source::bpf::testing::{Killed, available};
use crate::source::{Limits, Source};
use caps::{CapSet, Capability, CapsHashSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn source(root: &Arc<ProcRoot>) -> Option<BpfSource> {
    available("walks", BpfSource::load(root.clone(), Limits::default()))
}

/// What `act` gives without CAP_SYS_PTRACE.
fn without_ptrace<T>(act: impl FnOnce() -> T) -> T {
    let rights = caps::read(None, CapSet::Effective).unwrap();
    let fewer = &rights - &CapsHashSet::from([Capability::CAP_SYS_PTRACE]);
    assert!(fewer.len() < rights.len(), "the test is for who has the right");
    caps::set(None, CapSet::Effective, &fewer).unwrap();
    let outcome = act();
    caps::set(None, CapSet::Effective, &rights).unwrap();
    outcome
}

/// A batch that was gathered in vain is followed by one that is no larger than what is read.
#[test]
fn less_is_gathered_at_once_after_something_was_given_up() {
    let root = Arc::new(ProcRoot::open("/proc").unwrap());
    let Some(source) = source(&root) else { return };
    let sleeper = |_| Killed(Command::new("sleep").arg("1000").spawn().unwrap());
    let _many: Vec<Killed> = (0..60).map(sleeper).collect();
    let reader = Reader::current(&root).unwrap();
    let other = Reader { visibility: Visibility::Proc, ..reader.clone() };
    let selection = Selection { strategy: DumpStrategy::All, pid: 0, groups: Groups::VMA };
    let share = source.budget().take(Account::default(), 0).unwrap();
    let mut walk = BpfWalk::new(&source, selection, VecDeque::new(), Some(1), None, share);
    let room = 4096;
    while walk.reach < 16 * room || walk.ahead.is_none() {
        assert!(!walk.is_finished(), "too few processes");
        walk.next(&reader, room, &Turn::endless(), &mut |_| Visit::Taken).unwrap();
    }
    walk.next(&other, room, &Turn::endless(), &mut |_| Visit::Taken).unwrap();
    assert_eq!(walk.reach, 2 * room);
}

/// Between two reads the reader may act with other rights for a while: what it could not see then it can see now.
#[test]
fn nothing_is_gathered_ahead_for_a_reader_with_other_rights() {
    let root = Arc::new(ProcRoot::open("/proc").unwrap());
    let Some(source) = source(&root) else { return };
    let reader = Reader::current(&root).unwrap();
    let selection = Selection { strategy: DumpStrategy::All, pid: 0, groups: Groups::VMA };
    let gathered =
        || Coming::begin(&source, &reader, selection, 1, typical_len(Groups::VMA), REACH)?.wait().map(drop);
    assert!(gathered().is_some());
    let then = without_ptrace(gathered);
    assert!(then.is_none());
    // Those before may not have given back their places yet.
    assert!((0..1000).any(|_| gathered().is_some()));
}

/// What is kept from one read to the next is judged again, also where it was hidden at first.
#[test]
fn what_was_hidden_when_it_was_gathered_is_judged_again() {
    let root = Arc::new(ProcRoot::open("/proc").unwrap());
    let Some(source) = source(&root) else { return };
    let script = "read word; exec setpriv --inh-caps=-all --bounding-set=-all sleep 1000";
    let child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut child = Killed(child);
    let (me, pid) = (std::process::id(), child.0.id());
    let selection = Selection { strategy: DumpStrategy::Set, pid: 0, groups: Groups::VMA };
    let share = source.budget().take(Account::default(), 0).unwrap();
    let mut walk = BpfWalk::new(&source, selection, [me, pid].into(), None, None, share);
    let shown = without_ptrace(|| {
        let reader = Reader::current(&root).unwrap();
        let record = || source.records(&reader, Ask::default(), &[pid]).unwrap()[0];
        while record().facts().contains(Facts::UNSETTLED) {
            std::thread::yield_now();
        }
        assert_eq!(sight(&reader, &record()), Sight::Nothing, "it has rights that the reader lacks");
        walk.next(&reader, 4096, &Turn::endless(), &mut |_| Visit::Full).unwrap();
        assert!(walk.ahead.as_ref().is_some_and(|ahead| ahead.batch.batch().records.len() == 2));
        child.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        let is_ready = |now: TaskRecord| {
            sight(&reader, &now) != Sight::Nothing
                && now.base.comm.starts_with(b"sleep\0")
                && now.base.state == 1
        };
        while !is_ready(record()) {
            std::thread::yield_now();
        }
        let mut shown = Vec::new();
        while !walk.is_finished() {
            let mut visit = |task: &Gathered| {
                shown.push((task.record.base.pid, task.groups.contains(Groups::VMA)));
                Visit::Taken
            };
            walk.next(&reader, 4096, &Turn::endless(), &mut visit).unwrap();
        }
        shown
    });
    assert_eq!(shown, [(me, true), (pid, true)]);
}
