//! STATM: how much memory a process has.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Memory of a process, in pages but for `ptes`.
///
/// The kernel patch had such a struct, but its last public header does not hold it: the order of these fields, like
/// the attribute's number, is this project's own. The values are those of the kernel's `mm_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Statm {
    /// Resident anonymous pages.
    pub anon: u64,
    /// Resident pages of files.
    pub file: u64,
    /// Resident pages of shared memory.
    pub shmem: u64,
    /// Address space.
    pub total_vm: u64,
    /// Resident pages of all kinds.
    pub total_rss: u64,
    /// The largest `total_vm` so far.
    pub hiwater_vm: u64,
    /// The largest `total_rss` so far.
    pub hiwater_rss: u64,
    /// The program's code.
    pub text: u64,
    /// Other executable mappings.
    pub lib: u64,
    /// Swapped-out pages.
    pub swap: u64,
    /// Page tables, in bytes.
    pub ptes: u64,
    /// Locked by mlock(2).
    pub locked_vm: u64,
    /// Pinned for a device.
    pub pinned_vm: u64,
    /// Private writable mappings other than stacks.
    pub data_vm: u64,
    /// Stacks.
    pub stack_vm: u64,
}

const _: () = assert!(size_of::<Statm>() == 120);
