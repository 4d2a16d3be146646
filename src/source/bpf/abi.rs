//! What the programs share with their driver: abi.h and mappings_abi.h.

use super::names::Names;
use crate::task::{Facts, TaskRecord};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct request` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Request {
    pub mode: u32,
    pub slot: u32,
    pub reader: u32,
    pub options: u32,
    pub first: u32,
    pub last: u32,
    pub target: u32,
    pub limit: u32,
    pub groups: u64,
    pub outcome: u32,
    pub count: u32,
    pub next: u32,
    pub unused: u32,
}

const IDS: usize = 4096;
pub const RECORDS: usize = 3000;
const WORDS: usize = RECORDS * size_of::<TaskRecord>() / 4;
const LINE_BYTES: usize = 512 * 1024;

/// `struct line` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
struct Line {
    at: u32,
    length: u32,
}

/// `struct slot` of abi.h; records and lists of ids share their place.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct TaskSlot {
    reader_user_ns: u32,
    reader_pid_ns: u32,
    reader: TaskRecord,
    pub ids: [u32; IDS],
    pub records: [TaskRecord; RECORDS],
    lines: [Line; RECORDS],
    sections: [Line; RECORDS],
    bytes: [u8; LINE_BYTES],
}

impl TaskSlot {
    /// The records of an answer.
    pub fn records(&self, count: u32) -> &[TaskRecord] {
        &self.records[..(count as usize).min(RECORDS)]
    }

    /// The records of an answer with their command lines and sections, as far as those were asked for.
    pub fn batch(&self, count: u32, with_lines: bool, with_sections: bool) -> Batch<'_> {
        let records = self.records(count);
        let each = |asked| if asked { records.len() } else { 0 };
        Batch {
            records,
            lines: &self.lines[..each(with_lines)],
            sections: &self.sections[..each(with_sections)],
            bytes: &self.bytes,
        }
    }

    /// The reader, and the inode numbers of its user and pid namespaces.
    pub fn reader(&self) -> (&TaskRecord, u32, u32) {
        (&self.reader, self.reader_user_ns, self.reader_pid_ns)
    }

    /// The ids of an answer.
    pub fn list(&self, count: u32) -> &[u32] {
        let words: &[u32] = <[u32]>::ref_from_bytes(self.records.as_bytes()).unwrap_or_default();
        &words[..(count as usize).min(WORDS)]
    }
}

/// Records with their command lines and sections.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub records: &'a [TaskRecord],
    lines: &'a [Line],
    sections: &'a [Line],
    bytes: &'a [u8],
}

/// A batch that needs no slot any more.
pub struct OwnedBatch {
    records: Vec<TaskRecord>,
    lines: Vec<Line>,
    sections: Vec<Line>,
    bytes: Vec<u8>,
}

impl<'a> Batch<'a> {
    /// The command line of a record, where the program could tell it: of the very moment of the record.
    pub fn line(&self, at: usize) -> Option<&'a [u8]> {
        self.told(self.lines.get(at)?)
    }

    /// What the program could tell of the groups from 32 on that it was asked for, of the very moment of the record:
    /// `u32` id, `u32` length, payload, zeros up to a multiple of 8; by ascending ids.
    pub fn sections(&self, at: usize) -> Option<&'a [u8]> {
        self.told(self.sections.get(at)?)
    }

    fn told(&self, place: &Line) -> Option<&'a [u8]> {
        self.bytes.get(place.at as usize..)?.get(..place.length as usize)
    }

    /// A task with memory, whose command line could not be told.
    pub fn lacks_line(&self, at: usize) -> bool {
        self.records[at].facts().contains(Facts::HAS_MEMORY) && self.line(at).is_none()
    }

    /// Its first `count` records.
    pub fn first(self, count: usize) -> Batch<'a> {
        Batch { records: &self.records[..count], ..self }
    }

    /// A copy of it.
    pub fn to_owned(self) -> OwnedBatch {
        let places = self.lines.iter().chain(self.sections);
        let ends = places.filter_map(|place| Some(place.at as usize + self.told(place)?.len()));
        let used = ends.max().unwrap_or(0);
        OwnedBatch {
            records: self.records.to_vec(),
            lines: self.lines.to_vec(),
            sections: self.sections.to_vec(),
            bytes: self.bytes[..used].to_vec(),
        }
    }
}

impl OwnedBatch {
    /// Bytes that it takes, about.
    pub fn len(&self) -> usize {
        let places = size_of_val(&*self.lines) + size_of_val(&*self.sections);
        size_of_val(&*self.records) + places + self.bytes.len()
    }

    /// The batch that it is a copy of.
    pub fn batch(&self) -> Batch<'_> {
        Batch { records: &self.records, lines: &self.lines, sections: &self.sections, bytes: &self.bytes }
    }
}

/// `struct mapping` of mappings_abi.h.
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

/// `struct target` of mappings_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Target {
    pub id: u32,
    state: u32,
    first: u32,
    count: u32,
    pub start_time: u64,
}

/// `enum target_state` of mappings_abi.h.
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

/// `struct mapping_request` of mappings_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MappingRequest {
    pub slot: u32,
    pub reader: u32,
    pub targets: u32,
    pub limit: u32,
    /// Where the first target's list goes on.
    pub resume: u64,
    /// Targets answered; a partial one is the last.
    pub done: u32,
    pub mappings: u32,
    pub names: u32,
    pub unused: u32,
}

/// Tasks whose mappings one run gives at most.
pub const TARGETS: usize = 512;
pub const MAPPINGS: usize = 16384;

/// `struct mapping_slot` of mappings_abi.h.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MappingSlot {
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
