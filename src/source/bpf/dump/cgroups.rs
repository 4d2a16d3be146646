//! CGROUP: what `/proc` says of one task goes for all that are in the same control groups.

use crate::access::{Reader, Sight};
use crate::protocol::{Groups, attribute_id};
use crate::source::Sections;
use crate::source::bpf::BpfSource;
use crate::source::bpf::programs::Ask;
use crate::source::bpf::tasks::abi::Batch;
use crate::source::procfs::{Contents, Question, with_text};
use std::collections::{HashMap, HashSet};

/// Sections, by what the program knows a set of control groups by: the address of a `css_set`.
#[derive(Default)]
pub struct Cgroups(HashMap<u64, Vec<u8>>);

impl Cgroups {
    /// Asks for the control groups of the tasks at these places of a batch, once for each set.
    ///
    /// The task that is asked for is the first of its set. If it still is of it afterwards, then the set was there all
    /// the while, and what bears its address in the batch is that set.
    pub fn learn(source: &BpfSource, reader: &Reader, batch: Batch<'_>, places: &[usize]) -> Cgroups {
        let mut known = HashSet::new();
        let keys = places.iter().filter_map(|at| Some((key(batch, *at)?, *at)));
        let first: Vec<(u64, usize)> = keys.filter(|(key, _)| known.insert(*key)).collect();
        let read = |(key, at): (u64, usize)| {
            let dir = source.procfs.root.task(batch.records[at].daemons_pid).ok()?;
            let question = Question {
                root: &source.procfs.root,
                reader,
                seen: Sight::Full,
                groups: Groups::CGROUP,
                known: None,
                sums: None,
            };
            let contents = with_text(|text| Contents::read(text, &dir, &question));
            (!contents.sections.is_empty()).then_some((key, at, contents.sections))
        };
        let read = source.cores.each(first, 16, read);

        let ids: Vec<u32> = read.iter().map(|(_, at, _)| batch.records[*at].base.pid).collect();
        let ask = Ask { groups: Groups::CGROUP, ..Ask::default() };
        let mut texts = HashMap::new();
        let mut read = read.into_iter();
        let mut slot = source.programs.slot();
        while read.len() > 0 {
            let answer = source.programs.tasks(&mut slot, reader, ask, &ids[ids.len() - read.len()..]);
            let Ok(count @ 1..) = answer.map(|answer| answer.count) else { break };
            let now = slot.batch(count, false, true);
            for (nth, (key_then, at, section)) in read.by_ref().take(count as usize).enumerate() {
                let same_task = now.records[nth].start_time == batch.records[at].start_time;
                if now.records[nth].base.pid != 0 && same_task && key(now, nth) == Some(key_then) {
                    texts.insert(key_then, section);
                }
            }
        }
        Cgroups(texts)
    }

    /// The section of the task at that place.
    pub fn section(&self, batch: Batch<'_>, at: usize) -> Option<&[u8]> {
        self.0.get(&key(batch, at)?).map(Vec::as_slice)
    }
}

/// The set that a task is in.
fn key(batch: Batch<'_>, at: usize) -> Option<u64> {
    let payload = Sections::new(batch.sections(at)?).part(attribute_id::CGROUP)?;
    payload.try_into().ok().map(u64::from_ne_bytes)
}
