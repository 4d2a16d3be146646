//! What tasks.bpf.c shares with its driver: abi.h.

use crate::task::{Facts, TaskRecord};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct request` of abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Request {
    pub mode: u32,
    pub reader: u32,
    pub options: u32,
    pub first: u32,
    pub last: u32,
    pub target: u32,
    pub limit: u32,
    pub outcome: u32,
    pub groups: u64,
    pub count: u32,
    pub next: u32,
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
    pub request: Request,
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
