//! User and group ids as another user namespace calls them.

use crate::proc_files::{ProcRoot, TaskDir, decimal};
use crate::protocol::Credentials;

/// What an id without a name in the namespace is called (`overflowuid`).
const OVERFLOW: u32 = 65534;

/// A user namespace's two maps (`/proc/PID/uid_map` and `gid_map`), as the daemon's namespace sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    users: Vec<Extent>,
    groups: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMaps {
    /// The maps of a task's user namespace; where they cannot be read, no id has a name there.
    pub(crate) fn of(dir: &TaskDir) -> IdMaps {
        let read = |name| dir.read(name, &mut Vec::new()).map(parse).unwrap_or_default();
        IdMaps { users: read("uid_map"), groups: read("gid_map") }
    }

    /// The credentials as this namespace shows them (`from_kuid_munged`).
    pub fn shown(&self, of: &Credentials) -> Credentials {
        let mut shown = *of;
        for id in [&mut shown.uid, &mut shown.euid, &mut shown.suid, &mut shown.fsuid] {
            *id = inside(&self.users, *id);
        }
        for id in [&mut shown.gid, &mut shown.egid, &mut shown.sgid, &mut shown.fsgid] {
            *id = inside(&self.groups, *id);
        }
        shown
    }

    /// A group id as this namespace shows it (`from_kgid_munged`).
    pub(crate) fn shown_group(&self, gid: u32) -> u32 {
        inside(&self.groups, gid)
    }

    /// A user id as this namespace shows it, all ones where it has none (`from_kuid`).
    pub(crate) fn shown_user_or_none(&self, uid: u32) -> u32 {
        find(&self.users, uid).unwrap_or(u32::MAX)
    }

    /// Whether this namespace has names for these ids of a user and a group.
    pub(crate) fn name(&self, (uid, gid): (u32, u32)) -> bool {
        find(&self.users, uid).and(find(&self.groups, gid)).is_some()
    }

    /// The user that this namespace calls root, as the daemon's namespace calls it.
    pub(crate) fn root(&self) -> Option<u32> {
        self.users.iter().find(|extent| extent.inside == 0).map(|extent| extent.outside)
    }
}

/// The user whom a task counts for that may hang, without waiting for it (an exec holds up whoever looks for its namespaces):
/// `uid`, its real one, or the one whom its user namespace calls root, for one person may have many ids there. A namespace
/// whose root is root is no one person's.
pub(crate) fn person(root: &ProcRoot, pid: u32, uid: u32) -> u32 {
    let maps = root.task(pid).map(|dir| IdMaps::of(&dir));
    maps.ok().and_then(|maps| maps.root()).filter(|root| *root != 0).unwrap_or(uid)
}

fn inside(map: &[Extent], id: u32) -> u32 {
    find(map, id).unwrap_or(OVERFLOW)
}

fn find(map: &[Extent], id: u32) -> Option<u32> {
    let name = |extent: &Extent| {
        let at = id.checked_sub(extent.outside).filter(|at| *at < extent.count)?;
        extent.inside.checked_add(at)
    };
    map.iter().find_map(name)
}

fn parse(text: &[u8]) -> Vec<Extent> {
    let extent = |line: &[u8]| {
        let mut words = line.split(|c| *c == b' ').filter(|word| !word.is_empty());
        let mut number = || words.next().and_then(decimal).and_then(|n| u32::try_from(n).ok());
        Some(Extent { inside: number()?, outside: number()?, count: number()? })
    };
    text.split(|c| *c == b'\n').filter_map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_by_other_names() {
        let users = parse(b"         0       1000          1\n         1     100000      65536\n");
        let groups = parse(b"         0          0 4294967295\n");
        let maps = IdMaps { users, groups };
        assert_eq!(maps.root(), Some(1000));
        let credentials =
            Credentials { uid: 1000, euid: 100_000, suid: 165_536, fsuid: 0, gid: 7, ..Default::default() };
        let shown = maps.shown(&credentials);
        assert_eq!(
            [shown.uid, shown.euid, shown.suid, shown.fsuid, shown.gid],
            [0, 1, OVERFLOW, OVERFLOW, 7]
        );
        assert_eq!(IdMaps::default().shown(&credentials).uid, OVERFLOW);
        assert_eq!(parse(b"0 0\nx\n99999999999 1 1\n"), []);
    }
}
