//! Lists of mappings from the program that walks their trees, in the protocol's form.

use crate::access::Reader;
use crate::protocol::{EncodeError, VmFlags, VmaFields, push_vma};
use crate::source::bpf::BpfSource;
use crate::source::bpf::mappings::abi::{Mapping, MappingSlot, TargetState};
use crate::task::TaskRecord;
use std::ops::Range;

/// What a program told of many tasks.
#[derive(Default)]
pub struct Listed {
    pub bytes: Vec<u8>,
    /// Where in `bytes` each record's task stands; `None` where the program could not tell.
    pub ranges: Vec<(usize, Option<Range<usize>>)>,
    /// The first record that was left for later.
    pub not_reached: Option<usize>,
}

/// Lists on two cores.
pub fn in_halves<T: Sync>(tasks: &[T], list: impl Fn(&[T]) -> Listed + Sync) -> [Listed; 2] {
    let (left, right) = tasks.split_at(tasks.len() / 2);
    // Below that, waking another core takes longer than the work.
    match left.len() {
        0..8 => [list(tasks), Listed::default()],
        _ => rayon::join(|| list(left), || list(right)).into(),
    }
}

pub fn list_mappings(
    source: &BpfSource,
    reader: &Reader,
    records: &[TaskRecord],
    part: &[usize],
    room: usize,
) -> Listed {
    let mut listed = Listed::default();
    let Some(mut slot) = source.programs.mapping_slot() else {
        listed.ranges.extend(part.iter().map(|at| (*at, None)));
        return listed;
    };
    let mut rest = part;
    while !rest.is_empty() {
        for (target, at) in slot.targets.iter_mut().zip(rest) {
            target.id = records[*at].base.pid;
        }
        let answer = source.programs.mappings(&mut slot, reader, rest.len(), 0);
        let (done, mut resume) = answer.map_or((0, 0), |answer| (answer.done as usize, answer.resume));
        if done == 0 {
            listed.ranges.extend(rest.iter().map(|at| (*at, None)));
            return listed;
        }
        for (nth, at) in rest[..done].iter().enumerate() {
            let begin = listed.bytes.len();
            if begin > 2 * room {
                listed.not_reached = Some(*at);
                return listed;
            }
            let mut whole = push_target(&mut listed.bytes, &slot, nth, &records[*at]);
            // Only the last one answered can be longer than a slot; the rest of it comes alone.
            while whole && nth + 1 == done && resume != 0 {
                slot.targets[0].id = records[*at].base.pid;
                let more = source.programs.mappings(&mut slot, reader, 1, resume);
                let Some(more) = more.ok().filter(|more| more.done == 1) else {
                    whole = false;
                    break;
                };
                resume = more.resume;
                whole = push_target(&mut listed.bytes, &slot, 0, &records[*at]);
            }
            if !whole {
                listed.bytes.truncate(begin);
            }
            listed.ranges.push((*at, whole.then_some(begin..listed.bytes.len())));
        }
        rest = &rest[done..];
    }
    listed
}

/// Appends the mappings of one target of a slot; false where /proc has to be asked for them.
fn push_target(out: &mut Vec<u8>, slot: &MappingSlot, nth: usize, record: &TaskRecord) -> bool {
    let target = &slot.targets[nth];
    match target.state() {
        TargetState::NoMemory | TargetState::Absent => true,
        TargetState::Complete | TargetState::Partial
            if record.instance() == (target.start_time, target.exec_id) =>
        {
            push_all(out, slot, slot.mappings(target))
        }
        _ => false,
    }
}

/// Appends these mappings; false where one has no name that could be made.
fn push_all(out: &mut Vec<u8>, slot: &MappingSlot, mappings: &[Mapping]) -> bool {
    mappings.iter().all(|mapping| !mapping.is_unresolved() && push(out, slot, mapping).is_ok())
}

fn push(out: &mut Vec<u8>, slot: &MappingSlot, mapping: &Mapping) -> Result<(), EncodeError> {
    let fields = VmaFields {
        start: mapping.start,
        end: mapping.end,
        flags: flags(mapping.flags),
        pgoff: mapping.offset,
        major: mapping.device >> 20,
        minor: mapping.device & 0xf_ffff,
        inode: mapping.inode,
        generation: mapping.generation,
    };
    push_vma(out, &fields, None, slot.name(mapping))
}

/// The protocol's flags of the kernel's `vm_flags`, whose bits stand where they have stood since before BPF.
fn flags(kernel: u64) -> VmFlags {
    // READ to GROWSDOWN are the same; from there on the kernel's bits lie one or two places higher.
    const HIGHER: [(u32, VmFlags); 17] = [
        (10, VmFlags::PFNMAP),
        (13, VmFlags::LOCKED),
        (14, VmFlags::IO),
        (15, VmFlags::SEQ_READ),
        (16, VmFlags::RAND_READ),
        (17, VmFlags::DONTCOPY),
        (18, VmFlags::DONTEXPAND),
        (20, VmFlags::ACCOUNT),
        (21, VmFlags::NORESERVE),
        (22, VmFlags::HUGETLB),
        (24, VmFlags::ARCH_1),
        (26, VmFlags::DONTDUMP),
        (27, VmFlags::SOFTDIRTY),
        (28, VmFlags::MIXEDMAP),
        (29, VmFlags::HUGEPAGE),
        (30, VmFlags::NOHUGEPAGE),
        (31, VmFlags::MERGEABLE),
    ];
    let low = VmFlags::from_bits_truncate(kernel & 0x1ff);
    HIGHER.iter().filter(|(bit, _)| kernel >> bit & 1 != 0).fold(low, |all, (_, flag)| all | *flag)
}
