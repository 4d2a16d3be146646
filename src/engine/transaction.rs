//! The state of one open file: no request, a request, or a dump half read.

use super::packer::{Packed, Progress, pack, pack_bare};
use crate::access::{Account, CallerError, Reader, Sight, sight};
use crate::counters::Counters;
use crate::protocol::{DumpStrategy, Groups, MAX_PAYLOAD, Request, RequestError};
use crate::source::{
    Anchor, Budget, Gathered, PIECE, Piece, Rest, Sections, Selection, Share, Source, SourceError, Turn,
    Visit, Walk,
};
use crate::task::TaskRecord;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why a `read` or a `write` fails.
#[derive(Debug, Error)]
pub enum EngineError {
    /// An earlier request has not been read to its end.
    #[error("an earlier request has not been read to its end")]
    Busy,
    /// The request makes no sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The reader's identity is not known.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// The source cannot answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The buffer holds not even the smallest next piece.
    #[error("the buffer is too small for the next piece of the answer")]
    BufferTooSmall,
}

impl EngineError {
    /// The errno a client gets.
    pub fn to_errno(&self) -> i32 {
        match self {
            EngineError::Busy => libc::EBUSY,
            EngineError::Request(e) => e.to_errno(),
            EngineError::Caller(e) => e.to_errno(),
            EngineError::Source(e) => e.to_errno(),
            EngineError::BufferTooSmall => libc::EMSGSIZE,
        }
    }
}

/// Tasks that are few.
const FEW: usize = 16;

/// Groups that may take long of one task alone.
const HEAVY: Groups =
    Groups::VMA.union(Groups::VMA_STAT).union(Groups::ROLLUP).union(Groups::FD).union(Groups::ENVIRON);

/// One open file's transaction: a request is written, then answers are read until a read gives 0 bytes.
pub struct Transaction {
    source: Arc<dyn Source>,
    /// Held for moments only, so that a write never waits for a read.
    phase: Mutex<Phase>,
    /// Held while a buffer is filled: reads of one file come one after the other.
    dump: Mutex<Option<Box<Dump>>>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Written and not yet read; judged by the first read. A list of tasks counts among what is kept.
    Requested {
        request: Result<Request, RequestError>,
        _list: Option<Share>,
    },
    Reading,
}

impl Transaction {
    /// A transaction with no request, answered from `source`.
    pub fn new(source: Arc<dyn Source>) -> Transaction {
        Transaction { source, phase: Mutex::new(Phase::Idle), dump: Mutex::default() }
    }

    /// Takes a request that is charged to `account`; gives the number of bytes taken, which is all of them.
    ///
    /// # Errors
    /// `EBUSY` before all else while an earlier request is unread, `EINVAL` for less than a netlink header, `ENOMEM` where the
    /// account may not have a list of tasks kept.
    pub fn write(&self, account: Account, data: &[u8]) -> Result<usize, EngineError> {
        let counters = self.source.counters();
        let mut phase = self.phase.lock();
        if !matches!(*phase, Phase::Idle) {
            counters.busy.count();
            return Err(EngineError::Busy);
        }
        let request = Request::parse(data);
        if let Err(e @ RequestError::NoHeader { .. }) = request {
            counters.invalid.count();
            return Err(e.into());
        }
        let listed = request.as_ref().map_or(0, |request| size_of_val(&*request.pids));
        let _list = match listed {
            0 => None,
            bytes => Some(self.source.budget().take(account, bytes).map_err(|_| {
                counters.over_budget.count();
                SourceError::OverBudget(account)
            })?),
        };
        counters.requests.count();
        *phase = Phase::Requested { request, _list };
        Ok(data.len())
    }

    /// Whether a read gives its answer without a look at any task: no request is pending, it makes no sense, or all of it was
    /// shown.
    pub fn is_at_end(&self) -> bool {
        match &*self.phase.lock() {
            Phase::Idle => true,
            Phase::Requested { request, .. } => request.is_err(),
            // Whoever fills a buffer has not come to the end.
            Phase::Reading => {
                self.dump.try_lock().is_some_and(|dump| dump.as_ref().is_none_or(|dump| dump.is_finished()))
            }
        }
    }

    /// Whether little is asked for: light groups of few tasks, named one by one.
    pub fn is_short(&self) -> bool {
        match &*self.phase.lock() {
            Phase::Requested { request: Ok(request), .. } => {
                let few = match request.strategy {
                    DumpStrategy::One => true,
                    DumpStrategy::Set => request.pids.len() <= FEW,
                    _ => false,
                };
                few && !request.groups.intersects(HEAVY)
            }
            _ => false,
        }
    }

    /// Fills `buf` with whole messages that `reader` may see; 0 is the end, after which the next request may come.
    /// The reader is only asked for while a request is pending.
    ///
    /// # Errors
    /// All but [`EngineError::BufferTooSmall`] end the request; after that one a larger buffer goes on without loss.
    pub fn read(
        &self,
        reader: impl FnOnce() -> Result<Reader, CallerError>,
        buf: &mut [u8],
    ) -> Result<usize, EngineError> {
        self.read_in_turn(reader, &Turn::endless(), buf).map(Option::unwrap_or_default)
    }

    /// As [`Transaction::read`], but no longer than `turn` allows: `None` if nothing was shown until then, though this is not
    /// the end. The read is to be made again.
    ///
    /// # Errors
    /// As [`Transaction::read`].
    pub fn read_in_turn(
        &self,
        reader: impl FnOnce() -> Result<Reader, CallerError>,
        turn: &Turn<'_>,
        buf: &mut [u8],
    ) -> Result<Option<usize>, EngineError> {
        let mut dump = self.dump.lock();
        // What the list of a request counts for is given back, as the dump will count for itself.
        let requested = {
            let mut phase = self.phase.lock();
            match *phase {
                Phase::Idle => return Ok(Some(0)),
                _ => match std::mem::replace(&mut *phase, Phase::Reading) {
                    Phase::Requested { request, .. } => Some(request),
                    _ => None,
                },
            }
        };
        let begin = Instant::now();
        let outcome = self.fill(&mut dump, requested, reader, turn, buf);
        self.count(&outcome, begin.elapsed());
        match outcome {
            Ok(None) => {}
            Ok(Some(n)) if n > 0 => {}
            Err(EngineError::BufferTooSmall) => {}
            _ => {
                *dump = None;
                *self.phase.lock() = Phase::Idle;
            }
        }
        outcome
    }

    fn count(&self, outcome: &Result<Option<usize>, EngineError>, took: Duration) {
        let counters = self.source.counters();
        counters.nanoseconds.add(took.as_nanos() as u64);
        let refused = match outcome {
            Ok(None) => return,
            Ok(Some(n)) => {
                counters.reads.count();
                return counters.bytes.add(*n as u64);
            }
            Err(e) => match e.to_errno() {
                libc::EINVAL => &counters.invalid,
                libc::EBUSY => &counters.busy,
                libc::EACCES => &counters.unknown_readers,
                libc::ESRCH => &counters.no_such_task,
                libc::EMSGSIZE => &counters.too_small_buffers,
                libc::ENOMEM => &counters.over_budget,
                _ => &counters.failures,
            },
        };
        counters.reads.count();
        refused.count();
    }

    /// Drops the request, if there is one: for a read that could not be brought to an end.
    pub fn give_up(&self) {
        *self.dump.lock() = None;
        *self.phase.lock() = Phase::Idle;
    }

    fn fill(
        &self,
        dump: &mut Option<Box<Dump>>,
        requested: Option<Result<Request, RequestError>>,
        reader: impl FnOnce() -> Result<Reader, CallerError>,
        turn: &Turn<'_>,
        buf: &mut [u8],
    ) -> Result<Option<usize>, EngineError> {
        let request = requested.transpose()?;
        // At the end there is nothing left to judge.
        if dump.as_ref().is_some_and(|dump| dump.is_finished()) {
            return Ok(Some(0));
        }
        let reader = reader()?;
        if let Some(request) = request {
            *dump = Some(Box::new(Dump::start(&*self.source, &reader, request)?));
        }
        match dump {
            Some(dump) => dump.fill(&reader, turn, buf),
            None => Ok(Some(0)),
        }
    }
}

/// A dump under way.
struct Dump {
    seq: u32,
    groups: Groups,
    walk: Box<dyn Walk>,
    half_sent: Option<HalfSent>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
}

/// A task larger than a buffer, with what of it is still to be sent.
struct HalfSent {
    record: TaskRecord,
    /// How much of it was shown to whom it was gathered for: others may have to see less.
    seen: Sight,
    groups: Groups,
    mappings: Vec<u8>,
    /// Where the mappings go on, if those are not all.
    rest: Option<Rest>,
    command_line: Vec<u8>,
    sections: Vec<u8>,
    missing: Groups,
    anchor: Anchor,
    progress: Progress,
    _share: Share,
}

impl Dump {
    fn start(source: &dyn Source, reader: &Reader, request: Request) -> Result<Dump, SourceError> {
        let Request { seq, groups, strategy, pid, pids } = request;
        let groups = groups & source.offers();
        let walk = source.start(reader, Selection { strategy, pid, groups }, &pids)?;
        Ok(Dump {
            seq,
            groups,
            walk,
            half_sent: None,
            budget: source.budget().clone(),
            counters: source.counters().clone(),
        })
    }

    fn is_finished(&self) -> bool {
        self.half_sent.is_none() && self.walk.is_finished()
    }

    fn fill(
        &mut self,
        reader: &Reader,
        turn: &Turn<'_>,
        buf: &mut [u8],
    ) -> Result<Option<usize>, EngineError> {
        // The kernel never asks with one; a program that has the engine in itself may, and 0 bytes would be the end.
        if buf.is_empty() {
            return Err(EngineError::BufferTooSmall);
        }
        let mut used = 0;
        if let Some(half) = self.half_sent.take() {
            used = self.go_on(half, reader, buf)?;
            if self.half_sent.is_some() {
                return Ok(Some(used));
            }
        }
        let Dump { seq, groups, walk, half_sent, budget, counters } = self;
        let mut failed = None;
        let (mut shown, mut late) = (0, 0);
        let room = buf.len() - used;
        let outcome = walk.next(reader, room, turn, &mut |task| {
            let mut progress = Progress::default();
            late += u64::from(!task.missing.is_empty());
            let missing =
                task.missing & if groups.contains(Groups::MISSING) { Groups::all() } else { Groups::empty() };
            let mut groups = task.groups;
            groups.set(Groups::MISSING, !missing.is_empty());
            let task = Gathered { groups, missing, ..*task };
            match pack_for(reader, &mut buf[used..], *seq, &task, &mut progress) {
                Packed::Whole(n) => {
                    shown += 1;
                    used += n;
                    Visit::Taken
                }
                // A task is cut only where it would not fit an empty buffer.
                Packed::Part(n) if used == 0 => {
                    *half_sent = HalfSent::new(&task, progress, budget, reader);
                    if half_sent.is_none() {
                        failed = Some(SourceError::OverBudget(reader.account).into());
                        return Visit::Full;
                    }
                    shown += 1;
                    used = n;
                    Visit::Last
                }
                Packed::NoRoom if used == 0 => {
                    failed = Some(EngineError::BufferTooSmall);
                    Visit::Full
                }
                Packed::Part(_) | Packed::NoRoom => Visit::Full,
            }
        });
        counters.tasks_shown.add(shown);
        counters.deadlines_missed.add(late);
        outcome?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        let goes_on = used == 0 && turn.is_over() && !self.is_finished();
        Ok((!goes_on).then_some(used))
    }

    /// Sends more of a half-sent task, as many messages as the buffer holds, or closes it if the reader may not see it any more.
    fn go_on(&mut self, mut half: HalfSent, reader: &Reader, buf: &mut [u8]) -> Result<usize, EngineError> {
        let sees = |half: &HalfSent| self.walk.sight(reader, &half.record, &half.anchor) >= half.seen;
        let mut seen = sees(&half);
        let mut used = 0;
        loop {
            if let Some(rest) = half.rest.as_ref().filter(|_| seen && half.has_sent_mappings()) {
                let piece = match self.walk.go_on(reader, &half.record, rest) {
                    // What is packed has been read from the task: the error comes with the next read.
                    Err(_) if used > 0 => break,
                    piece => piece?,
                };
                let missing = piece.missing & self.groups;
                self.counters.deadlines_missed.add(u64::from(!missing.is_empty()));
                seen = !piece.gone;
                half.take(
                    piece,
                    if self.groups.contains(Groups::MISSING) { missing } else { Groups::empty() },
                );
                seen = seen && sees(&half);
            }
            let mut progress = half.progress;
            let packed = match seen {
                true => pack_for(reader, &mut buf[used..], self.seq, &half.gathered(), &mut progress),
                false => pack_bare(&mut buf[used..], self.seq, half.record.base.pid, half.record.base.tgid),
            };
            half.progress = progress;
            match packed {
                Packed::Whole(n) => return Ok(used + n),
                Packed::Part(n) => used += n,
                Packed::NoRoom if used > 0 => break,
                Packed::NoRoom => {
                    self.half_sent = Some(half);
                    return Err(EngineError::BufferTooSmall);
                }
            }
            if buf.len() - used < MAX_PAYLOAD {
                break;
            }
        }
        self.half_sent = Some(half);
        Ok(used)
    }
}

/// Packs a task with ids as the reader's user namespace calls them.
fn pack_for(reader: &Reader, buf: &mut [u8], seq: u32, task: &Gathered, progress: &mut Progress) -> Packed {
    let Some(ids) = &reader.id_maps else { return pack(buf, seq, task, progress) };
    let record = TaskRecord { credentials: ids.shown(&task.record.credentials), ..*task.record };
    let sections = task.sections.shown(ids, &record);
    pack(buf, seq, &Gathered { record: &record, sections: Sections::new(&sections), ..*task }, progress)
}

impl HalfSent {
    /// `None` where the user may not have so much kept.
    fn new(task: &Gathered, progress: Progress, budget: &Arc<Budget>, reader: &Reader) -> Option<HalfSent> {
        let lists = task.mappings.len() + task.command_line.len() + task.sections.len();
        // The pieces that come are no longer than this, but for the last of their records.
        let more = if task.rest.is_some() { PIECE + PIECE / 4 + Rest::COST } else { 0 };
        let bytes = size_of::<HalfSent>() + lists.max(more);
        Some(HalfSent {
            _share: budget.take(reader.account, bytes).ok()?,
            record: *task.record,
            // Whatever it is, it was enough to be shown at all.
            seen: sight(reader, task.record).max(Sight::Unguarded),
            groups: task.groups,
            mappings: task.mappings.to_vec(),
            rest: task.rest.cloned(),
            command_line: task.command_line.to_vec(),
            sections: task.sections.as_bytes().to_vec(),
            missing: task.missing,
            anchor: task.anchor.clone(),
            progress,
        })
    }

    /// Nothing is left to be sent of the mappings that were gathered.
    fn has_sent_mappings(&self) -> bool {
        self.progress.has_sent_mappings(self.mappings.len())
    }

    /// Goes on with the next piece of the mappings, and what turned out to be missing.
    fn take(&mut self, piece: Piece, missing: Groups) {
        if !piece.mappings.is_empty() {
            self.mappings = piece.mappings;
            self.progress.offset = 0;
        }
        self.rest = piece.rest;
        self.missing |= missing;
        self.groups.set(Groups::MISSING, !self.missing.is_empty());
    }

    fn gathered(&self) -> Gathered<'_> {
        Gathered {
            record: &self.record,
            groups: self.groups,
            mappings: &self.mappings,
            rest: self.rest.as_ref(),
            command_line: &self.command_line,
            sections: Sections::new(&self.sections),
            missing: self.missing,
            anchor: &self.anchor,
        }
    }
}
