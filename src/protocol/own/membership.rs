//! GROUPS: supplementary groups, and what else of a task's rights CRED does not hold.

use super::parts::{head, numbers};
use crate::protocol::{Capabilities, DecodeError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "GROUPS";

/// What stands before the list: 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MembershipHeader {
    /// Ambient capabilities.
    pub ambient: Capabilities,
    /// `SECBIT_*`; all ones where the source cannot know them.
    pub securebits: u32,
    /// 0 or 1 (`prctl(PR_SET_NO_NEW_PRIVS)`).
    pub no_new_privs: u8,
    /// 0 none, 1 strict, 2 filters.
    pub seccomp: u8,
    /// Where the list of group ids begins.
    pub gids_off: u16,
    /// How many there are.
    pub gids_count: u32,
}

const _: () = assert!(size_of::<MembershipHeader>() == 20);

/// GROUPS: the lines Groups, CapAmb, NoNewPrivs and Seccomp of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    header: MembershipHeader,
    payload: &'a [u8],
}

impl<'a> Membership<'a> {
    /// Reads a whole payload: the pieces of all attributes of that number, one behind the other.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(payload: &'a [u8]) -> Result<Membership<'a>, DecodeError> {
        let header: MembershipHeader = head(NAME, payload)?;
        let _gids = numbers(NAME, payload, header.gids_off, header.gids_count as usize)?;
        Ok(Membership { header, payload })
    }

    /// Ambient capabilities.
    pub fn ambient(&self) -> Capabilities {
        self.header.ambient
    }

    /// `SECBIT_*`; `None` where the source cannot know them.
    pub fn securebits(&self) -> Option<u32> {
        (self.header.securebits != u32::MAX).then_some(self.header.securebits)
    }

    /// Whether no program that it runs can give it more rights.
    pub fn no_new_privs(&self) -> bool {
        self.header.no_new_privs != 0
    }

    /// 0 none, 1 strict, 2 filters.
    pub fn seccomp(&self) -> u8 {
        self.header.seccomp
    }

    /// Supplementary group ids in the reader's user namespace, in the kernel's order.
    pub fn gids(&self) -> impl Iterator<Item = u32> + Clone + 'a {
        let count = self.header.gids_count as usize;
        numbers(NAME, self.payload, self.header.gids_off, count).into_iter().flatten()
    }
}

/// Appends a payload; offset and count of the header are filled in.
pub fn push_membership(out: &mut Vec<u8>, header: &MembershipHeader, gids: &[u32]) {
    let gids_off = size_of::<MembershipHeader>() as u16;
    let header = MembershipHeader { gids_off, gids_count: gids.len() as u32, ..*header };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(gids.as_bytes());
}
