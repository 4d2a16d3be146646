//! Whose a process may be, and what it may do.

use super::{Animal, comm};
use crate::common::child::{Child, Inside, Stacks, ThreadPlan};
use crate::common::identity::{CAP_SYS_PTRACE, Caps, Identity, set_caps};
use std::ffi::c_long;

/// Users that nothing else on the machine runs as.
pub const ALICE: u32 = 64_001;
pub const BOB: u32 = 64_002;

pub fn all() -> Vec<Animal> {
    vec![
        alices(),
        bobs(),
        alices_hidden(),
        roots_hidden(),
        roots_without_caps(),
        alices_with_a_capability(),
        alices_in_bobs_group(),
        all_ids_differ(),
        saved_id_differs(),
        one_thread_is_bobs(),
        alices_zombie(),
        alices_hidden_zombie(),
    ]
}

/// A process of anyone's.
#[track_caller]
pub fn of(name: &'static str, identity: Identity, dumpable: bool) -> Animal {
    let child = Child::start(0, |inside| {
        inside.must(identity.assume());
        inside.set_dumpable(dumpable);
    });
    Animal::new(name, b'S', child)
}

pub fn alices() -> Animal {
    of("Alice's", Identity::user("alice", ALICE), true)
}

pub fn bobs() -> Animal {
    of("Bob's", Identity::user("bob", BOB), true)
}

pub fn alices_hidden() -> Animal {
    of("Alice's, not dumpable", Identity::user("alice", ALICE), false)
}

pub fn roots_hidden() -> Animal {
    of("root's, not dumpable", Identity { caps: Caps::All, ..Identity::user("root", 0) }, false)
}

pub fn roots_without_caps() -> Animal {
    of("root's without capabilities", Identity::user("root", 0), true)
}

pub fn alices_with_a_capability() -> Animal {
    of(
        "Alice's with a capability",
        Identity { caps: Caps::Only(CAP_SYS_PTRACE), ..Identity::user("alice", ALICE) },
        true,
    )
}

pub fn alices_in_bobs_group() -> Animal {
    of("Alice's in Bob's group", Identity { gids: [BOB; 3], ..Identity::user("alice", ALICE) }, true)
}

pub fn saved_id_differs() -> Animal {
    let uids = [ALICE, ALICE, BOB];
    of("Alice's, saved as Bob's", Identity { uids, ..Identity::user("alice", ALICE) }, true)
}

/// Eight different ids, four different sets of capabilities.
pub fn all_ids_differ() -> Animal {
    let identity = Identity {
        name: "many",
        uids: [64_011, 64_012, 64_013],
        gids: [64_021, 64_022, 64_023],
        fs: Some((64_014, 64_024)),
        caps: Caps::All,
    };
    const KILL: u64 = 1 << 5;
    const CHOWN: u64 = 1;
    const BPF: u64 = 1 << 39;
    let child = Child::start(0, |inside| {
        inside.must(identity.assume());
        inside.call(libc::SYS_prctl, [libc::PR_CAPBSET_DROP as c_long, 3, 0]);
        inside.must(set_caps(KILL | CHOWN | BPF, KILL | BPF, CHOWN | BPF));
        inside.set_dumpable(true);
    });
    Animal::new("all ids differ", b'S', child)
}

/// A process of root's with a thread of Bob's.
pub fn one_thread_is_bobs() -> Animal {
    fn become_bob(inside: &Inside, slot: usize) {
        inside.must(Identity::user("bob", BOB).assume());
        inside.set_dumpable(true);
        inside.tell(slot, 1);
    }
    let stacks = Stacks::new(2);
    let plans = [1, 2].map(|number| ThreadPlan { name: comm(b"bob's"), run: become_bob, number });
    let child = Child::start(3, |inside| {
        inside.thread(&stacks, 0, &plans[0]);
        inside.wait_for(1);
        inside.thread(&stacks, 1, &super::idle_thread(b"root's"));
    });
    Animal::new("one thread is Bob's", b'S', child)
}

fn zombie(name: &'static str, dumpable: bool) -> Animal {
    let child = Child::start_not_waiting(0, |inside| {
        inside.must(Identity::user("alice", ALICE).assume());
        inside.set_dumpable(dumpable);
        inside.exit(0);
    });
    Animal::new(name, b'Z', child)
}

pub fn alices_zombie() -> Animal {
    zombie("Alice's zombie", true)
}

pub fn alices_hidden_zombie() -> Animal {
    zombie("Alice's zombie, not dumpable", false)
}
