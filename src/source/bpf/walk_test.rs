//! What a walk makes of what it gathered ahead.

use super::*;
use crate::access::Visibility;
use crate::proc_files::ProcRoot;
use crate::source::{Limits, Source};
use caps::{CapSet, Capability, CapsHashSet};
use std::io::Write;
use std::process::{Child, Command};
use std::sync::Arc;

struct Killed(Vec<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn source(root: &Arc<ProcRoot>) -> Option<BpfSource> {
    match BpfSource::load(root.clone(), Limits::default()) {
        Ok(source) => Some(source),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no BPF: {why}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: walks: no BPF: {why}");
            None
        }
    }
}

/// A batch that was gathered in vain is followed by one that is no larger than what is read.
#[test]
fn less_is_gathered_at_once_after_something_was_given_up() {
    let root = Arc::new(ProcRoot::open("/proc").unwrap());
    let Some(source) = source(&root) else { return };
    let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
    let _many = Killed((0..60).map(|_| sleeper()).collect());
    let reader = Reader::current(&root).unwrap();
    let other = Reader { visibility: Visibility::Proc, ..reader.clone() };
    let selection = Selection { strategy: DumpStrategy::All, pid: 0, groups: Groups::VMA };
    let share = source.budget().take(0, 0).unwrap();
    let mut walk = BpfWalk::new(&source, selection, VecDeque::new(), Some(1), None, share);
    let room = 4096;
    while walk.reach < 16 * room || walk.ahead.is_none() {
        assert!(!walk.is_finished(), "too few processes");
        walk.next(&reader, room, &mut |_| Visit::Taken).unwrap();
    }
    walk.next(&other, room, &mut |_| Visit::Taken).unwrap();
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
    let rights = caps::read(None, CapSet::Effective).unwrap();
    let fewer = &rights - &CapsHashSet::from([Capability::CAP_SYS_PTRACE]);
    assert!(fewer.len() < rights.len(), "the test is for who has the right");
    caps::set(None, CapSet::Effective, &fewer).unwrap();
    let then = gathered();
    caps::set(None, CapSet::Effective, &rights).unwrap();
    assert!(then.is_none());
    // Those before may not have given back their places yet.
    assert!((0..1000).any(|_| gathered().is_some()));
}
