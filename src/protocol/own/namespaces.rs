//! NS: the namespaces of a task.

use super::parts::{head, numbers};
use crate::protocol::DecodeError;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "NS";

/// The kinds of namespaces in the order of the list: names of the links below `/proc/PID/ns`.
pub const NAMESPACE_KINDS: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
struct Header {
    ns_off: u16,
    ns_count: u16,
    pids_off: u16,
    pids_count: u16,
}

/// Inode numbers of a task's namespaces, and its ids in its pid namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Inode numbers in the order of [`NAMESPACE_KINDS`]; 0 where there is none.
    pub inodes: [u32; 10],
    /// The task's ids, from the reader's pid namespace down to the task's own (NSpid of `status`).
    pub pids: Vec<u32>,
}

impl Namespaces {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(payload: &[u8]) -> Result<Namespaces, DecodeError> {
        let header: Header = head(NAME, payload)?;
        let mut inodes = [0; 10];
        let found = numbers(NAME, payload, header.ns_off, header.ns_count.into())?;
        inodes.iter_mut().zip(found).for_each(|(inode, found)| *inode = found);
        let pids = numbers(NAME, payload, header.pids_off, header.pids_count.into())?.collect();
        Ok(Namespaces { inodes, pids })
    }

    /// Inode number of the namespace of that kind, if there is one.
    pub fn inode(&self, kind: &str) -> Option<u32> {
        let at = NAMESPACE_KINDS.iter().position(|name| *name == kind)?;
        Some(self.inodes[at]).filter(|inode| *inode != 0)
    }
}

/// Appends a payload. (The kernel nests pid namespaces 32 deep at most.)
pub fn push_namespaces(out: &mut Vec<u8>, namespaces: &Namespaces) {
    let Namespaces { inodes, pids } = namespaces;
    let ns_off = size_of::<Header>() as u16;
    let header = Header {
        ns_off,
        ns_count: inodes.len() as u16,
        pids_off: ns_off + 4 * inodes.len() as u16,
        pids_count: pids.len() as u16,
    };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(inodes.as_bytes());
    out.extend_from_slice(pids.as_bytes());
}
