//! Each group from 32 on is shown to whom the kernel would give the file that it mirrors, and to nobody else.

mod common;

use common::daemon::Daemon;
use common::handle::{BUFFER, Handle};
use common::more::More;
use common::needs;
use common::readers::{READERS, cannot_be_known};
use common::sources::sources;
use common::zoo;
use nix::errno::Errno;
use nix::fcntl::readlink;
use std::collections::BTreeMap;
use std::io;
use task_diag::protocol::{Groups, Misc, Request, attribute_id};

/// What the kernel gives the calling thread of the file that a group mirrors; `None` where the task has none.
fn kernel_gives(pid: u32, group: Groups) -> Option<bool> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).map(drop);
    let link =
        |name: &str| readlink(format!("/proc/{pid}/{name}").as_str()).map(drop).map_err(io::Error::from);
    let outcome = match group {
        Groups::IO => read("io"),
        Groups::ENVIRON => read("environ"),
        Groups::FD | Groups::FD_COUNT => std::fs::read_dir(format!("/proc/{pid}/fd")).map(drop),
        Groups::FILES => link("exe"),
        Groups::NS => link("ns/user"),
        Groups::ROLLUP => read("smaps_rollup"),
        Groups::GROUPS => read("status"),
        Groups::SCHED => read("stat"),
        Groups::CGROUP => read("cgroup"),
        Groups::MISC => read("oom_score"),
        _ => return None,
    };
    match outcome {
        Ok(()) => Some(true),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Some(false),
        Err(_) => None,
    }
}

/// The rule that guards them all, unless the daemon shows what /proc shows everyone.
fn passes_ptrace_rule(pid: u32) -> Option<bool> {
    match readlink(format!("/proc/{pid}/ns/pid").as_str()) {
        Ok(_) => Some(true),
        Err(Errno::EACCES) => Some(false),
        Err(_) => None,
    }
}

const GROUPS: Groups = Groups::OWN.difference(Groups::TASKSTATS);

#[test]
fn each_group_is_guarded_as_its_file_is() {
    if !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    let (mut yes, mut no) = (0, 0);
    for source in sources() {
        for open_to_all in [false, true] {
            let arguments: &[&str] = if open_to_all { &["--hidepid", "proc"] } else { &[] };
            let daemon = Daemon::start_with(source, arguments);
            for reader in READERS {
                let (verdicts, shown) = reader.run(|| {
                    let verdicts: BTreeMap<u32, _> = zoo
                        .iter()
                        .map(|animal| {
                            let given =
                                GROUPS.iter().map(|group| (group.bits(), kernel_gives(animal.pid, group)));
                            (animal.pid, (passes_ptrace_rule(animal.pid), given.collect::<BTreeMap<_, _>>()))
                        })
                        .collect();
                    let file = Handle::open(daemon.path());
                    file.request(&Request::all(GROUPS | Groups::BASE));
                    (verdicts, More::of(&file.read_to_end(BUFFER).unwrap()))
                });
                for animal in &zoo {
                    let (Some(visible), given) = &verdicts[&animal.pid] else { continue };
                    let task = shown.iter().find(|task| task.pid == animal.pid);
                    let in_the_dark = cannot_be_known(source, reader, animal.pid);
                    for group in GROUPS {
                        let what =
                            || format!("{group:?} of {} for {} by {}", animal.name, reader.name, source.name);
                        let id = group.bits().trailing_zeros() as u16;
                        let payload = task.and_then(|task| task.payloads.get(&id));
                        let guarded = !(open_to_all && Groups::UNGUARDED.contains(group));
                        let Some(given) = given[&group.bits()] else { continue };
                        let due = given && (*visible || !guarded);
                        assert!(due || payload.is_none(), "shows too much: {}", what());
                        let excused = in_the_dark && guarded;
                        assert!(!due || payload.is_some() || excused, "shows too little: {}", what());
                        if due {
                            yes += 1
                        } else {
                            no += 1
                        }
                        // Of this group one part is guarded more than the rest.
                        if let (Groups::MISC, Some(payload), false) = (group, payload, visible) {
                            assert_eq!(Misc::parse(payload).unwrap().wchan, None, "{}", what());
                        }
                    }
                    let without = task.is_none_or(|task| !task.payloads.contains_key(&attribute_id::MISSING));
                    assert!(without, "{}: nothing is missing", animal.name);
                }
            }
        }
    }
    assert!(yes > 1000 && no > 1000, "the kernel said yes {yes} times and no {no} times");
}
