//! A task into whole messages, over as many buffers as it takes.

use crate::protocol::{
    Groups, MAX_PAYLOAD, MessageWriter, attribute_id, cgroup_record_len, descriptor_record_len, record_len,
};
use crate::source::{Gathered, Sections};
use zerocopy::IntoBytes;

/// How far a task has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Index of the next part in [`ORDER`]; after those its end and the byte at which the next section begins.
    pub part: usize,
    /// Bytes of that part that have been sent.
    pub offset: usize,
}

impl Progress {
    /// Whether all is sent of a list of mappings with so many bytes, and nothing of what comes after it.
    pub fn has_sent_mappings(&self, len: usize) -> bool {
        ORDER.get(self.part) == Some(&Groups::VMA) && self.offset >= len
    }
}

/// What became of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// The last message of the task, of so many bytes.
    Whole(usize),
    /// A message that another one continues.
    Part(usize),
    /// Not even the smallest next piece fits; the buffer holds nothing of worth.
    NoRoom,
}

/// The order of a task's attributes; then come its sections, then MISSING.
const ORDER: [Groups; 6] =
    [Groups::BASE, Groups::CRED, Groups::VMA, Groups::STAT, Groups::STATM, Groups::CMDLINE];

/// Writes one message of `task` to the beginning of `buf`, with as much of it as fits, and moves `progress` on.
pub(super) fn pack(buf: &mut [u8], seq: u32, task: &Gathered, progress: &mut Progress) -> Packed {
    let base = &task.record.base;
    let Ok(mut message) = MessageWriter::begin(buf, seq, base.pid, base.tgid) else { return Packed::NoRoom };
    match append_parts(&mut message, task, progress) && append_sections(&mut message, task, progress) {
        true => Packed::Whole(message.finish(false)),
        false if message.is_bare() => Packed::NoRoom,
        false => Packed::Part(message.finish(true)),
    }
}

/// Appends the parts of [`ORDER`]; false if some of it has to wait for another message.
fn append_parts(message: &mut MessageWriter, task: &Gathered, progress: &mut Progress) -> bool {
    while let Some(part) = ORDER.get(progress.part) {
        if task.groups.contains(*part) && !append(message, *part, task, &mut progress.offset) {
            return false;
        }
        *progress = Progress { part: progress.part + 1, offset: 0 };
    }
    true
}

/// Appends what comes after the parts of [`ORDER`]; false if some of it has to wait for another message.
fn append_sections(message: &mut MessageWriter, task: &Gathered, progress: &mut Progress) -> bool {
    let at = |progress: &Progress| progress.part - ORDER.len();
    while let Some((id, payload, next)) = task.sections.at(at(progress)) {
        let group = Sections::group(id);
        let shown = !group.is_empty() && task.groups.contains(group);
        if shown && !append_section(message, group, id as u16, payload, &mut progress.offset) {
            return false;
        }
        *progress = Progress { part: ORDER.len() + next, offset: 0 };
    }
    !task.groups.contains(Groups::MISSING)
        || message.attribute(attribute_id::MISSING, &task.missing.bits().to_ne_bytes()).is_ok()
}

fn append_section(
    message: &mut MessageWriter,
    group: Groups,
    id: u16,
    payload: &[u8],
    offset: &mut usize,
) -> bool {
    match group {
        Groups::CGROUP => append_list(message, id, payload, offset, whole_records(cgroup_record_len)),
        Groups::FD => append_list(message, id, payload, offset, whole_records(descriptor_record_len)),
        Groups::GROUPS | Groups::FILES | Groups::ENVIRON => append_list(message, id, payload, offset, words),
        _ => message.attribute(id, payload).is_ok(),
    }
}

/// Writes a message that says only that nothing more of this task follows.
pub(super) fn pack_bare(buf: &mut [u8], seq: u32, pid: u32, tgid: u32) -> Packed {
    match MessageWriter::begin(buf, seq, pid, tgid) {
        Ok(message) => Packed::Whole(message.finish(false)),
        Err(_) => Packed::NoRoom,
    }
}

/// Appends one part from `offset` on; false if it, or its rest, has to wait for another message.
fn append(message: &mut MessageWriter, part: Groups, task: &Gathered, offset: &mut usize) -> bool {
    let record = task.record;
    let (id, fixed): (u16, &[u8]) = match part {
        Groups::VMA => {
            let cut = whole_records(record_len);
            let whole = append_list(message, attribute_id::VMA, task.mappings, offset, cut);
            if whole && task.rest.is_some() {
                *offset = task.mappings.len();
                return false;
            }
            return whole;
        }
        Groups::CMDLINE => {
            return append_list(message, attribute_id::CMDLINE, task.command_line, offset, words);
        }
        Groups::BASE => (attribute_id::BASE, record.base.as_bytes()),
        Groups::CRED => (attribute_id::CRED, record.credentials.as_bytes()),
        Groups::STAT => (attribute_id::STAT, record.stat.as_bytes()),
        _ => (attribute_id::STATM, record.statm.as_bytes()),
    };
    message.attribute(id, fixed).is_ok()
}

/// Appends what fits of a list, cut where `cut` says a piece of at most so many bytes may end.
fn append_list(
    message: &mut MessageWriter,
    id: u16,
    list: &[u8],
    offset: &mut usize,
    cut: impl Fn(&[u8], usize) -> usize,
) -> bool {
    let rest = list.get(*offset..).unwrap_or_default();
    if rest.is_empty() && *offset > 0 {
        return true;
    }
    if rest.len() <= MAX_PAYLOAD && message.attribute(id, rest).is_ok() {
        return true;
    }
    let piece = cut(rest, message.room());
    if piece > 0 && message.attribute(id, &rest[..piece]).is_ok() {
        *offset += piece;
    }
    false
}

/// The length of as many bytes as fit and leave no padding between the pieces.
fn words(_: &[u8], room: usize) -> usize {
    room & !3
}

/// The length of as many whole records as fit, by what tells the length of one.
fn whole_records(record_len: fn(&[u8]) -> Option<usize>) -> impl Fn(&[u8], usize) -> usize {
    move |list, room| {
        let mut end = 0;
        while let Some(len) = record_len(&list[end..]) {
            if end + len > room {
                break;
            }
            end += len;
        }
        end
    }
}
