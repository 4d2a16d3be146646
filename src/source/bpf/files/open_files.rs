//! What tasks have open, from the files program: the groups FILES and FD.

use crate::access::Reader;
use crate::protocol::{Descriptor, EncodeError, Files, Groups, attribute_id, push_descriptor, push_files};
use crate::source::bpf::BpfSource;
use crate::source::bpf::files::abi::{
    DESCRIPTORS, FilesSlot, FilesState, FilesTarget, LINKS, Naming, OpenFile, PIDFD_NAME, TARGETS,
};
use crate::source::bpf::mappings::list::Listed;
use crate::source::bpf::programs::Programs;
use crate::source::bpf::slots::Lease;
use crate::source::procfs::LONGEST_LIST;
use crate::source::push_section;
use crate::task::TaskRecord;
use std::io::Write;

/// The groups that the program tells.
pub const GROUPS: Groups = Groups::FILES.union(Groups::FD);

/// The sections of these records' tasks, each with the groups wanted of it, about as much as `room` holds.
pub fn list(
    source: &BpfSource,
    reader: &Reader,
    records: &[TaskRecord],
    wanted: &[(usize, Groups)],
    room: usize,
) -> Listed {
    let mut listed = Listed::default();
    let Some(slot) = source.programs.files_slot() else {
        listed.ranges.extend(wanted.iter().map(|(at, _)| (*at, None)));
        return listed;
    };
    let mut run = Run { programs: &source.programs, reader, slot, resume: 0 };
    let mut rest = wanted;
    while !rest.is_empty() {
        let done = run.ask(records, &rest[..rest.len().min(TARGETS)], 0);
        if done == 0 {
            listed.ranges.extend(rest.iter().map(|(at, _)| (*at, None)));
            return listed;
        }
        for (nth, (at, groups)) in rest[..done].iter().enumerate() {
            let begin = listed.bytes.len();
            if begin > 2 * room {
                listed.not_reached = Some(*at);
                return listed;
            }
            let whole = run.push(&mut listed.bytes, nth, records, (*at, *groups));
            if whole.is_none() {
                listed.bytes.truncate(begin);
            }
            listed.ranges.push((*at, whole.map(|()| begin..listed.bytes.len())));
        }
        rest = &rest[done..];
    }
    listed
}

/// Runs of the program for one reader.
struct Run<'a> {
    programs: &'a Programs,
    reader: &'a Reader,
    slot: Lease<FilesSlot>,
    /// Where the list of the last task answered goes on; 0 if it is whole.
    resume: u32,
}

impl Run<'_> {
    /// Has the slot filled for these tasks; gives how many of them were answered.
    fn ask(&mut self, records: &[TaskRecord], wanted: &[(usize, Groups)], resume: u32) -> usize {
        for (target, (at, groups)) in self.slot.targets.iter_mut().zip(wanted) {
            target.id = records[*at].base.pid;
            target.wants = if groups.contains(Groups::FILES) { LINKS } else { 0 }
                | if groups.contains(Groups::FD) { DESCRIPTORS } else { 0 };
        }
        let answer = self.programs.files(&mut self.slot, self.reader, wanted.len(), resume);
        self.resume = answer.as_ref().map_or(0, |answer| answer.resume);
        answer.map_or(0, |answer| answer.done as usize)
    }

    /// Appends the sections of the `nth` target; `None` where /proc has to be asked for them.
    fn push(
        &mut self,
        out: &mut Vec<u8>,
        nth: usize,
        records: &[TaskRecord],
        wanted: (usize, Groups),
    ) -> Option<()> {
        let (at, groups) = wanted;
        let is_it = |target: &FilesTarget| records[at].instance() == (target.start_time, target.exec_id);
        let tell = |target: &FilesTarget| match target.state() {
            FilesState::Complete => is_it(target).then_some(false),
            FilesState::Partial => is_it(target).then_some(true),
            // Whoever judges it again finds that out.
            FilesState::Absent => Some(false),
            FilesState::Busy => None,
        };
        let mut goes_on = tell(&self.slot.targets[nth])?;
        let mut outcome = Some(());
        if groups.contains(Groups::FILES) {
            push_section(out, attribute_id::FILES, |out| outcome = push_links(out, &self.slot, nth).ok());
        }
        if groups.contains(Groups::FD) && outcome.is_some() {
            push_section(out, attribute_id::FD, |out| {
                let most = out.len() + LONGEST_LIST;
                outcome = push_open_files(out, &self.slot, nth).ok().filter(|()| out.len() <= most);
                // Only the last one answered can be longer than a slot; the rest of it comes alone.
                while goes_on && outcome.is_some() {
                    let done = self.ask(records, &[wanted], self.resume);
                    outcome = (done == 1).then_some(()).and_then(|()| {
                        goes_on = tell(&self.slot.targets[0])?;
                        push_open_files(out, &self.slot, 0).ok()?;
                        (out.len() <= most).then_some(())
                    });
                }
            });
        }
        outcome
    }
}

/// Appends what FILES says of a target.
fn push_links(out: &mut Vec<u8>, slot: &FilesSlot, nth: usize) -> Result<(), EncodeError> {
    let target = &slot.targets[nth];
    let [exe, cwd, root] =
        [target.exe, target.cwd, target.root].map(|place| (place != 0).then(|| slot.names.at(place)));
    push_files(out, &Files { exe, cwd, root })
}

/// Appends the records of FD of a target.
fn push_open_files(out: &mut Vec<u8>, slot: &FilesSlot, nth: usize) -> Result<(), EncodeError> {
    slot.files(&slot.targets[nth]).iter().try_for_each(|file| push_open_file(out, slot, file))
}

fn push_open_file(out: &mut Vec<u8>, slot: &FilesSlot, file: &OpenFile) -> Result<(), EncodeError> {
    let mut made = MadeName([0; 64]);
    let name = match file.naming() {
        Naming::Whole => slot.names.at(file.name),
        Naming::Pidfd => PIDFD_NAME,
        Naming::Pipe => made.with_inode(b"pipe", file.inode),
        Naming::Socket => made.with_inode(b"socket", file.inode),
        Naming::Namespace => made.with_inode(slot.names.at(file.name), file.inode),
    };
    let descriptor = Descriptor {
        fd: file.fd,
        kind: file.mode as u8,
        flags: file.flags,
        pos: file.position,
        inode: file.inode,
        major: file.device >> 20,
        minor: file.device & 0xf_ffff,
        name,
    };
    push_descriptor(out, &descriptor)
}

/// Room for a name that is made of an inode's number.
struct MadeName([u8; 64]);

impl MadeName {
    /// `kind:[inode]`
    fn with_inode(&mut self, kind: &[u8], inode: u64) -> &[u8] {
        let mut rest = &mut self.0[..];
        // A kind of namespace has at most 31 bytes, a number 20 digits.
        let written = rest.write_all(kind).and_then(|()| write!(rest, ":[{inode}]"));
        let left = if written.is_ok() { rest.len() } else { self.0.len() };
        &self.0[..self.0.len() - left]
    }
}
