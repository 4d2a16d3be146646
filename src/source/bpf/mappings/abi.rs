//! What mappings.bpf.c shares with its driver: abi.h.

use crate::source::bpf::files::names::Names;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct mapping` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// The kernel's `vm_flags`.
    pub flags: u64,
    /// Bytes.
    pub offset: u64,
    pub inode: u64,
    /// The kernel's `dev_t`: 12 bits major, 20 bits minor.
    pub device: u32,
    pub generation: u32,
    name: u32,
    kind: u32,
}

impl Mapping {
    /// Its file's name could not be made.
    pub fn is_unresolved(&self) -> bool {
        self.kind == 2
    }
}

/// `struct target` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Target {
    pub id: u32,
    state: u32,
    first: u32,
    count: u32,
    pub start_time: u64,
    pub exec_id: u64,
}

/// `enum target_state` of abi.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    Complete,
    Partial,
    NoMemory,
    Absent,
    Busy,
}

impl Target {
    pub fn state(&self) -> TargetState {
        match self.state {
            0 => TargetState::Complete,
            1 => TargetState::Partial,
            2 => TargetState::NoMemory,
            3 => TargetState::Absent,
            _ => TargetState::Busy,
        }
    }
}

/// `struct mapping_request` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MappingRequest {
    pub reader: u32,
    pub targets: u32,
    pub limit: u32,
    /// Targets answered; a partial one is the last.
    pub done: u32,
    /// Where the first target's list goes on; afterwards that of a partial one.
    pub resume: u64,
    pub mappings: u32,
    pub names: u32,
}

/// Tasks whose mappings one run gives at most.
pub const TARGETS: usize = 512;
pub const MAPPINGS: usize = 16384;

/// `struct mapping_slot` of abi.h.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MappingSlot {
    pub request: MappingRequest,
    pub targets: [Target; TARGETS],
    mappings: [Mapping; MAPPINGS],
    names: Names,
}

impl MappingSlot {
    /// The mappings of one target.
    pub fn mappings(&self, target: &Target) -> &[Mapping] {
        let first = target.first as usize;
        self.mappings.get(first..first + target.count as usize).unwrap_or_default()
    }

    /// The name of a mapping, empty for none.
    pub fn name(&self, mapping: &Mapping) -> &[u8] {
        self.names.at(mapping.name)
    }
}
