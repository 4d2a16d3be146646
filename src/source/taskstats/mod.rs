//! `struct taskstats` of many tasks, by generic netlink (`linux/taskstats.h`).

mod ids;
mod socket;

pub use ids::for_reader;

use crate::access::Reader;
use crate::protocol::attribute_id;
use crate::source::push_section;
use crate::task::TaskRecord;
use netlink_packet_core::NlasIterator;
use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};
use socket::{Question, Socket};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use thiserror::Error;

/// `linux/genetlink.h`: the family that tells of the others, by name, and what it tells.
const FIND_FAMILY: Question = Question { family: 16, command: 3, attribute: 2 };
const FAMILY_ID: u16 = 1;

/// `linux/taskstats.h`: what can be asked, and what stands within what in an answer.
const GET: u8 = 1;
const BY_PID: u16 = 1;
const BY_TGID: u16 = 2;
const STATS: u16 = 3;
const OF_PID: u16 = 4;
const OF_TGID: u16 = 5;

/// Why there are no statistics to be had.
#[derive(Clone, Copy, Debug, Error)]
pub enum TaskstatsError {
    /// No such family.
    #[error("the kernel has none (CONFIG_TASKSTATS)")]
    Unknown,
    /// They are for CAP_NET_ADMIN alone, in the initial user namespace.
    #[error("they take CAP_NET_ADMIN")]
    Denied,
    /// Whatever else the system says.
    #[error("{0}")]
    System(#[from] Errno),
    /// The kernel does not answer in the way it should.
    #[error("the kernel's answer makes no sense")]
    Garbled,
}

/// Asks the kernel for `struct taskstats` of tasks. That takes CAP_NET_ADMIN in the initial user namespace, of whoever
/// opens it and of whoever asks.
#[derive(Debug)]
pub struct Taskstats {
    family: u16,
    /// So many readers can be answered at the same time. Whoever asks holds one for moments, as the kernel does not keep
    /// it waiting.
    sockets: Vec<Mutex<Socket>>,
    turn: AtomicUsize,
}

impl Taskstats {
    /// Opens sockets for several readers at once, and makes sure that the kernel answers.
    ///
    /// # Errors
    /// [`TaskstatsError`].
    pub fn open() -> Result<Taskstats, TaskstatsError> {
        // The kernel fills in one structure at a time, so that more would wait for each other.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut sockets = (0..cores.min(4)).map(|_| Socket::open()).collect::<nix::Result<Vec<_>>>()?;
        let family = find_family(&mut sockets[0])?;
        let sockets = sockets.into_iter().map(Mutex::new).collect();
        let taskstats = Taskstats { family, sockets, turn: AtomicUsize::new(0) };
        let mut outcome = Err(TaskstatsError::Garbled);
        let own = [std::process::id().to_ne_bytes()];
        taskstats.socket().ask(taskstats.question(true), &own, |_, answer| {
            outcome = match answer {
                Ok(answer) => stats(answer).map(drop).ok_or(TaskstatsError::Garbled),
                Err(Errno::EPERM) => Err(TaskstatsError::Denied),
                Err(e) => Err(e.into()),
            };
        });
        outcome.map(|()| taskstats)
    }

    /// The statistics of the tasks with these ids in the daemon's pid namespace: of processes, or else of single threads.
    pub fn query(&self, ids: &[u32], whole_process: bool) -> Answers {
        let mut answers = Answers { bytes: Vec::new(), ranges: vec![0..0; ids.len()] };
        let ids: Vec<[u8; 4]> = ids.iter().map(|id| id.to_ne_bytes()).collect();
        self.socket().ask(self.question(whole_process), &ids, |nth, answer| {
            let begin = answers.bytes.len();
            answers.bytes.extend(answer.ok().and_then(stats).unwrap_or_default());
            answers.ranges[nth] = begin..answers.bytes.len();
        });
        answers
    }

    /// Puts TASKSTATS before the other sections of these tasks, with the process ids of the reader's namespace and the user
    /// ids of the daemon's.
    pub(super) fn put_before(
        &self,
        reader: &Reader,
        whole_process: bool,
        tasks: Vec<(&TaskRecord, &mut Vec<u8>)>,
    ) {
        let id = |record: &TaskRecord| if whole_process { record.daemons_tgid } else { record.daemons_pid };
        let ids: Vec<u32> = tasks.iter().map(|(record, _)| id(record)).collect();
        let answers = self.query(&ids, whole_process);
        for (nth, (record, sections)) in tasks.into_iter().enumerate() {
            let Some(stats) = answers.get(nth) else { continue };
            let others = std::mem::take(sections);
            sections.reserve_exact(stats.len() + 16 + others.len());
            push_section(sections, attribute_id::TASKSTATS, |out| {
                let begin = out.len();
                out.extend_from_slice(stats);
                if reader.pid_ns.is_some() {
                    for_reader(&mut out[begin..], &record.base, &record.credentials);
                }
            });
            sections.extend(others);
        }
    }

    fn question(&self, whole_process: bool) -> Question {
        let attribute = if whole_process { BY_TGID } else { BY_PID };
        Question { family: self.family, command: GET, attribute }
    }

    /// One that is free, or the next in turn.
    fn socket(&self) -> MutexGuard<'_, Socket> {
        let free = self.sockets.iter().find_map(|socket| socket.try_lock());
        free.unwrap_or_else(|| self.sockets[self.turn.fetch_add(1, Relaxed) % self.sockets.len()].lock())
    }
}

/// What [`Taskstats::query`] found, in the order of the ids.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    /// Empty where there is no such task.
    ranges: Vec<Range<usize>>,
}

impl Answers {
    /// The structure of the nth task, as the kernel gave it; `None` where it is not there.
    pub fn get(&self, nth: usize) -> Option<&[u8]> {
        self.bytes.get(self.ranges.get(nth)?.clone()).filter(|stats| !stats.is_empty())
    }
}

fn find_family(socket: &mut Socket) -> Result<u16, TaskstatsError> {
    let mut found = Err(TaskstatsError::Garbled);
    socket.ask(FIND_FAMILY, &[b"TASKSTATS\0"], |_, answer| {
        found = match answer {
            Ok(answer) => {
                let id = attribute(answer, &[FAMILY_ID]).and_then(|id| id.first_chunk());
                id.map(|id| u16::from_ne_bytes(*id)).ok_or(TaskstatsError::Garbled)
            }
            Err(Errno::ENOENT) => Err(TaskstatsError::Unknown),
            Err(e) => Err(e.into()),
        };
    });
    found
}

/// The structure within an answer. Padding may stand before it.
fn stats(answer: &[u8]) -> Option<&[u8]> {
    attribute(attribute(answer, &[OF_PID, OF_TGID])?, &[STATS]).filter(|stats| !stats.is_empty())
}

/// The payload of the first attribute of one of these numbers.
fn attribute<'a>(attributes: &'a [u8], numbers: &[u16]) -> Option<&'a [u8]> {
    let found =
        NlasIterator::new(attributes).map_while(Result::ok).find(|nla| numbers.contains(&nla.kind()))?;
    let length = usize::from(found.length());
    found.into_inner().get(4..length)
}
