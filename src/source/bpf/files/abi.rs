//! What files.bpf.c shares with its driver: abi.h.

use crate::source::bpf::files::names::Names;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct open_file` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct OpenFile {
    pub position: u64,
    pub inode: u64,
    pub fd: u32,
    /// `O_*`.
    pub flags: u32,
    /// The kernel's `dev_t`: 12 bits major, 20 bits minor.
    pub device: u32,
    /// Its place among the names.
    pub name: u32,
    kind: u32,
    /// The upper four bits of the inode's mode.
    pub mode: u32,
}

/// How an open file is named: `enum kind` of abi.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As it stands.
    Whole,
    /// `name:[inode]`.
    Namespace,
    /// `pipe:[inode]`
    Pipe,
    /// `socket:[inode]`
    Socket,
    /// As [`PIDFD_NAME`].
    Pidfd,
}

/// How most kernels call a pidfd.
pub const PIDFD_NAME: &[u8] = b"anon_inode:[pidfd]";

impl OpenFile {
    pub fn naming(&self) -> Naming {
        match self.kind {
            1 => Naming::Namespace,
            2 => Naming::Pipe,
            3 => Naming::Socket,
            4 => Naming::Pidfd,
            _ => Naming::Whole,
        }
    }
}

/// Bits of [`FilesTarget::wants`].
pub const LINKS: u32 = 1;
pub const DESCRIPTORS: u32 = 2;

/// `struct target` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FilesTarget {
    pub id: u32,
    pub wants: u32,
    state: u32,
    first: u32,
    count: u32,
    /// Places among the names, 0 for none.
    pub exe: u32,
    pub cwd: u32,
    pub root: u32,
    pub start_time: u64,
    pub exec_id: u64,
}

/// `enum target_state` of abi.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesState {
    Complete,
    /// The rest of its descriptors comes with another run.
    Partial,
    /// There is no such task.
    Absent,
    /// To be asked of /proc.
    Busy,
}

impl FilesTarget {
    pub fn state(&self) -> FilesState {
        match self.state {
            0 => FilesState::Complete,
            1 => FilesState::Partial,
            2 => FilesState::Absent,
            _ => FilesState::Busy,
        }
    }
}

/// `struct files_request` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FilesRequest {
    pub reader: u32,
    pub targets: u32,
    /// The descriptor at which the first target's list goes on; afterwards that of a partial one.
    pub resume: u32,
    /// Targets answered; a partial one is the last.
    pub done: u32,
    pub files: u32,
    pub names: u32,
}

/// Tasks whose files one run gives at most.
pub const TARGETS: usize = 512;
const FILES: usize = 16384;

/// `struct files_slot` of abi.h.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FilesSlot {
    pub request: FilesRequest,
    pub targets: [FilesTarget; TARGETS],
    files: [OpenFile; FILES],
    pub names: Names,
}

impl FilesSlot {
    /// The open files of one target.
    pub fn files(&self, target: &FilesTarget) -> &[OpenFile] {
        let first = target.first as usize;
        self.files.get(first..first + target.count as usize).unwrap_or_default()
    }
}
