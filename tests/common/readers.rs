//! Readers of many kinds, and what of the kernel's verdicts on them a source cannot know.

use super::identity::{CAP_SYS_PTRACE, Caps, Identity};
use super::proc;
use super::sources::Source;
use super::zoo::users::{ALICE, BOB};
use std::os::unix::fs::MetadataExt;

/// One of each.
pub const READERS: &[Identity] = &[
    Identity::user("Alice", ALICE),
    Identity::user("Bob", BOB),
    Identity { name: "Alice in Bob's group", gids: [BOB; 3], ..Identity::user("", ALICE) },
    Identity {
        name: "Alice with CAP_SYS_PTRACE",
        caps: Caps::Only(CAP_SYS_PTRACE),
        ..Identity::user("", ALICE)
    },
    Identity { name: "Alice with another capability", caps: Caps::Only(5), ..Identity::user("", ALICE) },
    Identity { name: "root", caps: Caps::All, ..Identity::user("", 0) },
    Identity {
        name: "root without CAP_SYS_PTRACE",
        caps: Caps::AllBut(CAP_SYS_PTRACE),
        ..Identity::user("", 0)
    },
    Identity { name: "root without capabilities", ..Identity::user("", 0) },
    // As a set-user-id program of root's that has stepped back to its user, for now.
    Identity { name: "effectively Alice", uids: [0, ALICE, 0], gids: [0, ALICE, 0], ..Identity::user("", 0) },
    Identity { name: "effectively root", uids: [ALICE, 0, 0], ..Identity::user("", ALICE) },
    // As a file server that acts for Alice.
    Identity { name: "root with Alice's eyes", fs: Some((ALICE, ALICE)), ..Identity::user("", 0) },
    Identity {
        name: "root with Alice's eyes and CAP_SYS_PTRACE",
        fs: Some((ALICE, ALICE)),
        caps: Caps::Only(CAP_SYS_PTRACE),
        ..Identity::user("", 0)
    },
];

/// Whether the source cannot know that this reader, without CAP_SYS_PTRACE, may see the task.
pub fn cannot_be_known(source: &Source, reader: &Identity, pid: u32) -> bool {
    let has_ptrace = match reader.caps {
        Caps::All => true,
        Caps::Only(cap) => cap == CAP_SYS_PTRACE,
        Caps::AllBut(_) | Caps::None => false,
    };
    let Some(status) = proc::Status::of(&pid.to_string()) else { return true };
    let (uids, gids) = (status.ids("Uid"), status.ids("Gid"));
    // Root's files in /proc are root's whether the task is dumpable or not; so are those of tasks without memory, except on
    // kernels that remember whose they were.
    let owner = std::fs::metadata(format!("/proc/{pid}/status")).map_or(0, |file| file.uid());
    let remembered = owner != 0 && owner == uids[1];
    let in_the_dark = (uids[1], gids[1]) == (0, 0) || status.bytes("VmSize").is_none() && !remembered;
    !source.knows_dumpable && !has_ptrace && in_the_dark
}
