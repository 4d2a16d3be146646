//! What is gathered of a dump before a read asks for it: only many tasks at once keep all cores at work, and a reader
//! that works on what it has got need not wait for the rest.

use crate::access::Reader;
use crate::source::bpf::BpfSource;
use crate::source::bpf::cores::Cores;
use crate::source::bpf::dump::gather::Memory;
use crate::source::bpf::programs::{Ask, Mode, Outcome};
use crate::source::bpf::tasks::abi::{OwnedBatch, TaskSlot};
use crate::source::{Selection, Share};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Bytes that are gathered at once by later reads of a dump.
pub const REACH: usize = 1 << 20;

/// How old what was gathered may get before a reader is shown it.
const FRESH: Duration = Duration::from_millis(500);

/// Dumps that are gathered ahead at the same time; others get along without.
const AT_ONCE: usize = 2;

/// Tasks gathered ahead of the read that shows them, where they are judged again.
pub struct Ahead {
    pub batch: OwnedBatch,
    pub memory: Memory,
    /// The first record that was not dealt with.
    pub at: usize,
    pub from_list: bool,
    reader: Reader,
    since: Instant,
    /// What it counts for, unless it was gathered for the read under way.
    pub share: Option<Share>,
}

impl Ahead {
    /// A batch that was just gathered for `reader`.
    pub fn new(
        batch: OwnedBatch,
        memory: Memory,
        from_list: bool,
        reader: &Reader,
        share: Option<Share>,
    ) -> Ahead {
        Ahead { batch, memory, at: 0, from_list, reader: reader.clone(), since: Instant::now(), share }
    }

    /// It was gathered for that reader, and not long ago.
    pub fn serves(&self, reader: &Reader) -> bool {
        self.reader == *reader && self.since.elapsed() <= FRESH
    }
}

/// The threads that gather ahead.
#[derive(Clone)]
pub struct Workers {
    threads: Cores,
    busy: Arc<AtomicUsize>,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers { threads: Cores::new(AT_ONCE), busy: Arc::default() }
    }
}

/// A batch under way.
pub struct Coming(mpsc::Receiver<(Ahead, Option<u32>)>);

impl Coming {
    /// Gathers the processes from number `first` on, about `bytes` of them; `None` where that cannot be done now.
    pub fn begin(
        source: &BpfSource,
        reader: &Reader,
        selection: Selection,
        first: u32,
        average: usize,
        bytes: usize,
    ) -> Option<Coming> {
        let workers = source.workers.clone();
        let share = source.procfs.budget.take(reader.account, bytes + bytes / 2).ok()?;
        let busy = Busy::new(workers.clone())?;
        let (source, reader) = (source.clone(), reader.clone());
        let (sender, receiver) = mpsc::sync_channel(1);
        workers.threads.pool()?.spawn(move || {
            let _busy = busy;
            let (lines, sections) = (source.reads_lines(selection), source.tells_sections(selection));
            let ask = Ask {
                mode: Mode::Processes,
                first,
                limit: bytes.div_ceil(average).max(1),
                per_thread: selection.per_thread(),
                lines,
                ..Ask::records(selection.groups)
            };
            let mut slot = source.programs.slot();
            let Ok(answer) = source.ask(&mut slot, &reader, ask) else { return };
            // The program looks at the thread, which does not wait for it.
            if !is_still(&reader, &slot) {
                return;
            }
            let next = match answer.outcome {
                Outcome::Finished => None,
                Outcome::More => Some(answer.next),
                _ => return,
            };
            let batch = slot.batch(answer.count, lines, sections).to_owned();
            drop(slot);
            let memory = Memory::gather(&source, &reader, selection, batch.batch(), bytes);
            if memory.is_refused {
                return;
            }
            let _ = sender.send((Ahead::new(batch, memory, false, &reader, Some(share)), next));
        });
        Some(Coming(receiver))
    }

    /// Waits for it; gives the number of the process that comes after it, too. `None` if nothing came of it.
    pub fn wait(self) -> Option<(Ahead, Option<u32>)> {
        self.0.recv().ok()
    }
}

/// Whether the thread that the program asked for had the rights with which it read.
fn is_still(reader: &Reader, slot: &TaskSlot) -> bool {
    let (now, user_ns, _) = slot.reader();
    let ids = &now.credentials;
    let effective: u64 = ids.effective.into();
    (now.daemons_tgid, u64::from(user_ns), effective) == (reader.tgid, reader.user_ns, reader.effective)
        && (ids.euid, ids.fsuid, ids.fsgid) == (reader.euid, reader.fsuid, reader.fsgid)
}

/// One of the dumps that are gathered ahead.
struct Busy(Workers);

impl Busy {
    fn new(workers: Workers) -> Option<Busy> {
        let more = |count| (count < AT_ONCE).then_some(count + 1);
        workers.busy.fetch_update(SeqCst, SeqCst, more).ok().map(|_| Busy(workers.clone()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}
