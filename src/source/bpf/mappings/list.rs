//! Lists of mappings from the program that walks their trees, in the protocol's form.

use crate::access::Reader;
use crate::protocol::{EncodeError, VmFlags, VmaFields, push_vma};
use crate::source::PIECE;
use crate::source::bpf::BpfSource;
use crate::source::bpf::cores::Cores;
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
    /// Where the lists of records go on that are too long for one read.
    pub rests: Vec<(usize, u64)>,
}

/// Lists on two cores.
pub fn in_halves<T: Sync>(cores: &Cores, tasks: &[T], list: impl Fn(&[T]) -> Listed + Sync) -> [Listed; 2] {
    let (left, right) = tasks.split_at(tasks.len() / 2);
    // Below that, waking another core takes longer than the work.
    match left.len() {
        0..8 => [list(tasks), Listed::default()],
        _ => cores.both(|| list(left), || list(right)).into(),
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
            let mut pushed = push_target(&mut listed.bytes, begin, &slot, nth, &records[*at]);
            // Only the last one answered can be longer than a slot; the rest of it comes alone.
            while pushed == Pushed::Whole && nth + 1 == done && resume != 0 {
                if listed.bytes.len() - begin >= PIECE {
                    pushed = Pushed::Until(resume);
                    break;
                }
                slot.targets[0].id = records[*at].base.pid;
                let more = source.programs.mappings(&mut slot, reader, 1, resume);
                let Some(more) = more.ok().filter(|more| more.done == 1) else {
                    pushed = Pushed::AskProc;
                    break;
                };
                resume = more.resume;
                pushed = push_target(&mut listed.bytes, begin, &slot, 0, &records[*at]);
            }
            match pushed {
                Pushed::AskProc => listed.bytes.truncate(begin),
                Pushed::Until(address) => listed.rests.push((*at, address)),
                Pushed::Whole => {}
            }
            let range = (pushed != Pushed::AskProc).then_some(begin..listed.bytes.len());
            listed.ranges.push((*at, range));
        }
        rest = &rest[done..];
    }
    listed
}

/// The next piece of the list of one task, which goes on at an address; where it goes on after that, 0 for nowhere. `None` where
/// /proc has to be asked.
pub fn piece_from(
    source: &BpfSource,
    reader: &Reader,
    record: &TaskRecord,
    address: u64,
) -> Option<(Vec<u8>, u64)> {
    let mut slot = source.programs.mapping_slot()?;
    slot.targets[0].id = record.base.pid;
    let answer = source.programs.mappings(&mut slot, reader, 1, address).ok()?;
    let mut list = Vec::new();
    match push_target(&mut list, 0, &slot, 0, record) {
        _ if answer.done != 1 => None,
        Pushed::Whole => Some((list, answer.resume)),
        Pushed::Until(address) => Some((list, address)),
        Pushed::AskProc => None,
    }
}

/// What became of the mappings of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Whole,
    /// Those from this address on are for later.
    Until(u64),
    AskProc,
}

/// Appends the mappings of one target of a slot, to a list that began at `begin`.
fn push_target(
    out: &mut Vec<u8>,
    begin: usize,
    slot: &MappingSlot,
    nth: usize,
    record: &TaskRecord,
) -> Pushed {
    let target = &slot.targets[nth];
    match target.state() {
        TargetState::NoMemory | TargetState::Absent => return Pushed::Whole,
        TargetState::Complete | TargetState::Partial
            if record.instance() == (target.start_time, target.exec_id) => {}
        _ => return Pushed::AskProc,
    }
    for mapping in slot.mappings(target) {
        if out.len() - begin >= PIECE {
            return Pushed::Until(mapping.start);
        }
        // One has no name that could be made.
        if mapping.is_unresolved() || push(out, slot, mapping).is_err() {
            return Pushed::AskProc;
        }
    }
    Pushed::Whole
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
