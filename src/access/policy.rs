//! The visibility rule: `ptrace_may_access(task, PTRACE_MODE_READ_FSCREDS)` as a pure function.

use super::Reader;
use crate::protocol::Groups;
use crate::task::{Facts, TaskRecord};

/// Number of the capability that lets a reader look at tasks of others (`CAP_SYS_PTRACE`).
pub const CAP_SYS_PTRACE: u32 = 19;

/// The capabilities each of which opens files of others (`CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`), a bit each.
pub const CAPS_DAC: u64 = 1 << 1 | 1 << 2;

/// What is shown of tasks that the reader may not look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Nothing: the rule of the kernel's own file.
    #[default]
    Ptrace,
    /// What `/proc` shows of every process to everyone, where it is mounted without `hidepid`.
    Proc,
}

impl Visibility {
    /// As options and `info` write it.
    pub fn name(self) -> &'static str {
        match self {
            Visibility::Ptrace => "ptrace",
            Visibility::Proc => "proc",
        }
    }
}

/// How much of a task a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Nothing, not even that it exists.
    Nothing,
    /// The groups that `/proc` guards by no right ([`Groups::UNGUARDED`]).
    Unguarded,
    /// What the ptrace rule guards, but not what stands in files that only their owner may open ([`Groups::OWNERS`]).
    Looking,
    /// Everything.
    Full,
}

impl Sight {
    /// Those of the groups `asked` that are shown.
    pub fn of(self, asked: Groups) -> Groups {
        match self {
            Sight::Nothing => Groups::empty(),
            Sight::Unguarded => asked & Groups::UNGUARDED,
            Sight::Looking => asked - Groups::OWNERS,
            Sight::Full => asked,
        }
    }
}

/// How much of `task` is shown to `reader`, judged on the record alone.
pub fn sight(reader: &Reader, task: &TaskRecord) -> Sight {
    if may_see(reader, task) {
        return if opens_files_of(reader, task) { Sight::Full } else { Sight::Looking };
    }
    match reader.visibility {
        Visibility::Proc if !task.facts().contains(Facts::UNSETTLED) => Sight::Unguarded,
        _ => Sight::Nothing,
    }
}

/// Whether the kernel would let `reader` look at `task`, judged on the record alone.
///
/// Mirrors `__ptrace_may_access` and `cap_ptrace_access_check`. Facts that the source could not learn are absent
/// from the record and count against the reader.
pub fn may_see(reader: &Reader, task: &TaskRecord) -> bool {
    let facts = task.facts();
    if facts.contains(Facts::UNSETTLED) {
        return false;
    }
    if facts.contains(Facts::SAME_THREAD_GROUP) {
        return true;
    }
    if facts.contains(Facts::REFUSED) {
        return false;
    }
    let over_task = facts.contains(Facts::PTRACE_OVER_TASK) && !reader.borrowed_ids;
    let over_memory = facts.contains(Facts::PTRACE_OVER_MEMORY) && !reader.borrowed_ids;
    if !over_task && !ids_match(reader, task) {
        return false;
    }
    if !facts.contains(Facts::DUMPABLE_KNOWN | Facts::DUMPABLE) && !over_memory {
        return false;
    }
    let permitted = u64::from(task.credentials.permitted);
    over_task || (facts.contains(Facts::SAME_USER_NS) && permitted & !reader.effective == 0)
}

/// Whether the kernel would let `reader` open a file of mode 0400 below the task's directory in `/proc`. Of its own process
/// a reader knows what stands there.
///
/// Mirrors `task_dump_owner` and `generic_permission`. Where it is not known whose the files are, they are another's.
fn opens_files_of(reader: &Reader, task: &TaskRecord) -> bool {
    const DUMPABLE: Facts = Facts::DUMPABLE_KNOWN.union(Facts::DUMPABLE);
    let facts = task.facts();
    let below = reader.id_maps.is_some();
    let kept = facts.contains(Facts::EXEC_STATE) && !facts.contains(Facts::KERNEL_THREAD);
    let decided = facts.contains(Facts::HAS_MEMORY) || kept;
    let owner = if decided && facts.contains(DUMPABLE) {
        Some((task.credentials.euid, task.credentials.egid))
    } else if !decided || !below && facts.contains(Facts::SAME_USER_NS) {
        // Files of tasks that nothing is kept of are root's, and so are those of others that are not dumpable.
        Some((0, 0))
    } else {
        // The root's of the namespace that owns what would be dumped.
        None
    };
    let has_name = match (&reader.id_maps, owner) {
        (None, _) => true,
        (Some(maps), Some(ids)) => maps.name(ids),
        (Some(_), None) => facts.contains(Facts::PTRACE_OVER_MEMORY),
    };
    facts.contains(Facts::SAME_THREAD_GROUP)
        || reader.opens_any_file() && has_name
        || owner.is_some_and(|(uid, _)| uid == reader.fsuid)
}

/// Whether all of the task's user and group ids are the reader's filesystem ids.
pub(crate) fn ids_match(reader: &Reader, task: &TaskRecord) -> bool {
    let c = &task.credentials;
    [c.uid, c.euid, c.suid].iter().all(|id| *id == reader.fsuid)
        && [c.gid, c.egid, c.sgid].iter().all(|id| *id == reader.fsgid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Credentials;

    const PTRACE: u64 = 1 << CAP_SYS_PTRACE;
    const ALL: u64 = (1 << 41) - 1;

    fn reader(fsuid: u32, fsgid: u32, effective: u64) -> Reader {
        Reader { fsuid, fsgid, effective, ..Reader::default() }
    }

    fn task(uids: [u32; 3], gids: [u32; 3], permitted: u64, facts: Facts) -> TaskRecord {
        TaskRecord {
            facts: facts.bits(),
            credentials: Credentials {
                permitted: permitted.into(),
                uid: uids[0],
                euid: uids[1],
                suid: uids[2],
                gid: gids[0],
                egid: gids[1],
                sgid: gids[2],
                ..Credentials::default()
            },
            ..TaskRecord::default()
        }
    }

    #[test]
    fn files_of_their_owner() {
        let plain = Facts::HAS_MEMORY | Facts::DUMPABLE_KNOWN | Facts::DUMPABLE | Facts::SAME_USER_NS;
        let over_both = Facts::PTRACE_OVER_TASK | Facts::PTRACE_OVER_MEMORY;
        let alices = |facts| task([1000; 3], [1000; 3], 0, facts);
        let looker = reader(1, 1, PTRACE);
        #[rustfmt::skip]
        let table: &[(&str, Reader, TaskRecord, Sight)] = &[
            ("its owner", reader(1000, 1000, 0), alices(plain), Sight::Full),
            ("who may only look", looker.clone(), alices(plain | over_both), Sight::Looking),
            ("who may look and open", reader(1, 1, PTRACE | CAPS_DAC), alices(plain | over_both), Sight::Full),
            ("root's id alone, not dumpable", reader(0, 0, PTRACE), alices((plain - Facts::DUMPABLE) | over_both), Sight::Full),
            ("its user, not dumpable", reader(1000, 1000, PTRACE), alices((plain - Facts::DUMPABLE) | over_both), Sight::Looking),
            ("its user, without memory", reader(1000, 1000, 0), alices(plain - Facts::HAS_MEMORY), Sight::Looking),
            ("its user, without memory where what is kept of it decides", reader(1000, 1000, 0),
                alices((plain - Facts::HAS_MEMORY) | Facts::EXEC_STATE), Sight::Full),
            ("its user, without memory, kept as not dumpable", reader(1000, 1000, PTRACE),
                alices((plain - Facts::HAS_MEMORY - Facts::DUMPABLE) | Facts::EXEC_STATE | over_both), Sight::Looking),
            ("a kernel thread's, whatever is kept of it", reader(1000, 1000, 0),
                alices((plain - Facts::HAS_MEMORY) | Facts::EXEC_STATE | Facts::KERNEL_THREAD), Sight::Looking),
            ("itself", reader(5, 5, 0), alices(Facts::SAME_THREAD_GROUP), Sight::Full),
            ("root of a namespace that has no name for it", Reader { id_maps: Some(Default::default()), ..reader(1, 1, PTRACE | CAPS_DAC) },
                alices(plain | over_both), Sight::Looking),
            ("nobody of these", reader(5, 5, 0), alices(plain), Sight::Nothing),
        ];
        for (name, reader, task, expected) in table {
            assert_eq!(sight(reader, task), *expected, "{name}");
        }
    }

    #[test]
    fn rule_table() {
        let plain = Facts::HAS_MEMORY | Facts::DUMPABLE_KNOWN | Facts::DUMPABLE | Facts::SAME_USER_NS;
        let over_both = Facts::PTRACE_OVER_TASK | Facts::PTRACE_OVER_MEMORY;
        let mine = ([1000; 3], [1000; 3]);
        #[rustfmt::skip]
        let table: &[(&str, Reader, TaskRecord, bool)] = &[
            ("own task", reader(1000, 1000, 0), task(mine.0, mine.1, 0, plain), true),
            ("another user's", reader(1001, 1001, 0), task(mine.0, mine.1, 0, plain), false),
            ("another group", reader(1000, 1001, 0), task(mine.0, mine.1, 0, plain), false),
            ("real uid differs", reader(1000, 1000, 0), task([0, 1000, 1000], mine.1, 0, plain), false),
            ("effective uid differs", reader(1000, 1000, 0), task([1000, 0, 1000], mine.1, 0, plain), false),
            ("saved uid differs", reader(1000, 1000, 0), task([1000, 1000, 0], mine.1, 0, plain), false),
            ("saved gid differs", reader(1000, 1000, 0), task(mine.0, [1000, 1000, 5], 0, plain), false),
            ("not dumpable", reader(1000, 1000, 0), task(mine.0, mine.1, 0, plain - Facts::DUMPABLE), false),
            ("dumpable unknown", reader(1000, 1000, 0), task(mine.0, mine.1, 0, plain - Facts::DUMPABLE_KNOWN), false),
            ("own thread group, not dumpable", reader(1000, 1000, 0),
                task([0; 3], [0; 3], ALL, Facts::SAME_THREAD_GROUP), true),
            ("more capabilities than the reader", reader(1000, 1000, 0), task(mine.0, mine.1, 1 << 10, plain), false),
            ("as many capabilities", reader(1000, 1000, 1 << 10), task(mine.0, mine.1, 1 << 10, plain), true),
            ("foreign user namespace, no capability", reader(1000, 1000, ALL),
                task(mine.0, mine.1, 0, plain - Facts::SAME_USER_NS), false),
            ("capability over the task, dumpable", reader(1000, 1000, PTRACE),
                task([0; 3], [0; 3], ALL, plain | Facts::PTRACE_OVER_TASK), true),
            ("capability over the task only, not dumpable", reader(1000, 1000, PTRACE),
                task([0; 3], [0; 3], ALL, (plain - Facts::DUMPABLE) | Facts::PTRACE_OVER_TASK), false),
            ("capability over task and memory", reader(1000, 1000, PTRACE),
                task([0; 3], [0; 3], ALL, over_both), true),
            ("root without capabilities, full-capability task", reader(0, 0, 0), task([0; 3], [0; 3], ALL, plain), false),
            ("root with all but ptrace, full-capability task", reader(0, 0, ALL & !PTRACE),
                task([0; 3], [0; 3], ALL, plain), false),
            ("root without capabilities, bare root task", reader(0, 0, 0), task([0; 3], [0; 3], 0, plain), true),
            ("borrowed ids take the capabilities away", Reader { borrowed_ids: true, ..reader(1, 1, PTRACE) },
                task([0; 3], [0; 3], ALL, over_both), false),
            ("refused to this process by a security module", reader(1000, 1000, PTRACE),
                task(mine.0, mine.1, 0, plain | over_both | Facts::REFUSED), false),
            ("refused, but the reader's own", reader(1000, 1000, 0),
                task(mine.0, mine.1, 0, Facts::SAME_THREAD_GROUP | Facts::REFUSED), true),
            ("memory capability alone does not match ids", reader(1, 1, PTRACE),
                task([0; 3], [0; 3], 0, plain | Facts::PTRACE_OVER_MEMORY), false),
        ];
        for (name, reader, task, expected) in table {
            assert_eq!(may_see(reader, task), *expected, "{name}");
        }
    }
}
