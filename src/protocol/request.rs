//! What a client writes.

use super::{Groups, NLMSG_HEADER_LEN, TASK_DIAG_CMD_GET};
use netlink_packet_core::NLM_F_REQUEST;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct nlmsghdr`, then `struct task_diag_pid` of the kernel patch.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
struct Wire {
    nlmsg_len: u32,
    nlmsg_type: u16,
    nlmsg_flags: u16,
    nlmsg_seq: u32,
    nlmsg_pid: u32,
    show_flags: u64,
    dump_strategy: u64,
    pid: u32,
    pad: u32,
}

/// Ids that a set may have: about as many as a `write` of 64 KiB holds.
pub const MOST_LISTED: u32 = 16_384;

const REQUEST_LEN: usize = size_of::<Wire>();
const _: () = assert!(REQUEST_LEN == 40);

/// Which tasks a dump shows (`TASK_DIAG_DUMP_*` of the kernel patch).
#[repr(u64)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DumpStrategy {
    /// Every process.
    #[default]
    All = 0,
    /// The task `pid`.
    One = 1,
    /// Every thread of every process.
    AllThreads = 2,
    /// The tasks whose parent is exactly the task `pid`.
    Children = 3,
    /// Every thread of `pid`'s process.
    Thread = 4,
    /// The tasks that the request lists. This project's own, like the next.
    Set = 16,
    /// The process of `pid`, and all that come from it.
    Subtree = 17,
}

impl DumpStrategy {
    /// All of them.
    pub const EVERY: [DumpStrategy; 7] =
        [Self::All, Self::One, Self::AllThreads, Self::Children, Self::Thread, Self::Set, Self::Subtree];

    /// As `info` and the documentation call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::One => "ONE",
            Self::AllThreads => "ALL_THREAD",
            Self::Children => "CHILDREN",
            Self::Thread => "THREAD",
            Self::Set => "SET",
            Self::Subtree => "SUBTREE",
        }
    }
}

impl TryFrom<u64> for DumpStrategy {
    type Error = RequestError;

    fn try_from(number: u64) -> Result<Self, RequestError> {
        let known = Self::EVERY.into_iter().find(|strategy| *strategy as u64 == number);
        known.ok_or(RequestError::UnknownStrategy(number))
    }
}

/// One question to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Echoed in every message of the response.
    pub seq: u32,
    /// What to show of each task.
    pub groups: Groups,
    /// Which tasks to show.
    pub strategy: DumpStrategy,
    /// Any thread's id, in the reader's pid namespace. All, AllThreads and Set ignore it.
    pub pid: u32,
    /// The ids of Set.
    pub pids: Vec<u32>,
}

impl Request {
    /// Asks for every process.
    pub fn all(groups: Groups) -> Self {
        Self { seq: 0, groups, strategy: DumpStrategy::All, pid: 0, pids: Vec::new() }
    }

    /// Asks for every thread of every process.
    pub fn all_threads(groups: Groups) -> Self {
        Self { strategy: DumpStrategy::AllThreads, ..Self::all(groups) }
    }

    /// Asks for the task `pid`.
    pub fn one(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::One, pid, ..Self::all(groups) }
    }

    /// Asks for every thread of the process that `pid` is a thread of.
    pub fn threads(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Thread, pid, ..Self::all(groups) }
    }

    /// Asks for the children of exactly the task `pid`.
    pub fn children(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Children, pid, ..Self::all(groups) }
    }

    /// Asks for these tasks, [`MOST_LISTED`] at most.
    pub fn set(pids: impl Into<Vec<u32>>, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Set, pids: pids.into(), ..Self::all(groups) }
    }

    /// Asks for the process that `pid` is a thread of, its children, theirs, and so on.
    pub fn subtree(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Subtree, pid, ..Self::all(groups) }
    }

    /// Reads what was written to the file.
    ///
    /// `nlmsg_type`, `nlmsg_flags`, `nlmsg_seq` and `nlmsg_pid` are never judged: the kernel patch's own client leaves
    /// them uninitialised. That client also sends 4 stray bytes, so whatever follows the struct is ignored.
    ///
    /// # Errors
    /// Every [`RequestError`].
    pub fn parse(written: &[u8]) -> Result<Self, RequestError> {
        let declared = match u32::read_from_prefix(written) {
            Ok((declared, _)) if written.len() >= NLMSG_HEADER_LEN => declared,
            _ => {
                return Err(RequestError::NoHeader { written: written.len() });
            }
        };
        let length = declared as usize;
        if length < REQUEST_LEN {
            return Err(RequestError::TooShort { declared });
        }
        let truncated = RequestError::Truncated { declared, written: written.len() };
        let request = written.get(..length).ok_or(truncated)?;
        let (wire, behind) = Wire::read_from_prefix(request).map_err(|_| truncated)?;
        let strategy = DumpStrategy::try_from(wire.dump_strategy)?;
        let mut pids = Vec::new();
        if strategy == DumpStrategy::Set {
            let words = behind.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
            let count = words.clone().next().ok_or(RequestError::NoList)?;
            if count > MOST_LISTED {
                return Err(RequestError::LongList(count));
            }
            pids.extend(words.skip(1).take(count as usize));
            if pids.len() < count as usize {
                return Err(RequestError::ShortList { count, found: pids.len() });
            }
        }
        Ok(Self {
            seq: wire.nlmsg_seq,
            groups: Groups::from_bits_truncate(wire.show_flags),
            strategy,
            pid: wire.pid,
            pids,
        })
    }

    /// What to write to the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut list = Vec::new();
        if self.strategy == DumpStrategy::Set {
            list.extend((self.pids.len() as u32).to_ne_bytes());
            list.extend_from_slice(self.pids.as_bytes());
        }
        let wire = Wire {
            nlmsg_len: (REQUEST_LEN + list.len()) as u32,
            nlmsg_type: TASK_DIAG_CMD_GET,
            nlmsg_flags: NLM_F_REQUEST,
            nlmsg_seq: self.seq,
            nlmsg_pid: 0,
            show_flags: self.groups.bits(),
            dump_strategy: self.strategy as u64,
            pid: self.pid,
            pad: 0,
        };
        [wire.as_bytes(), &list].concat()
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Less was written than a `struct nlmsghdr`.
    #[error("{written} bytes written, a netlink header has 16")]
    NoHeader {
        /// Bytes written.
        written: usize,
    },
    /// `nlmsg_len` leaves no room for a `struct task_diag_pid`.
    #[error("nlmsg_len {declared}, a request has at least 40 bytes")]
    TooShort {
        /// `nlmsg_len`.
        declared: u32,
    },
    /// `nlmsg_len` is more than was written.
    #[error("nlmsg_len {declared}, but {written} bytes written")]
    Truncated {
        /// `nlmsg_len`.
        declared: u32,
        /// Bytes written.
        written: usize,
    },
    /// `dump_strategy` is none of [`DumpStrategy`].
    #[error("unknown dump_strategy {0}")]
    UnknownStrategy(u64),
    /// A set without the number of its ids.
    #[error("a set of tasks needs the number of its ids at byte 40")]
    NoList,
    /// A set of more ids than one may have.
    #[error("a set of {0} ids, but 16,384 are the most")]
    LongList(u32),
    /// A set with fewer ids than it counts.
    #[error("a set of {count} ids, but only {found} follow")]
    ShortList {
        /// How many there should be.
        count: u32,
        /// How many there are.
        found: usize,
    },
}

impl RequestError {
    /// The error number that the file answers with.
    pub const fn to_errno(&self) -> i32 {
        const EINVAL: i32 = 22;
        match self {
            Self::NoHeader { .. }
            | Self::TooShort { .. }
            | Self::Truncated { .. }
            | Self::UnknownStrategy(_)
            | Self::NoList
            | Self::LongList(_)
            | Self::ShortList { .. } => EINVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategies;
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Request =
        Request { seq: 7, groups: Groups::NATIVE, strategy: DumpStrategy::One, pid: 42, pids: Vec::new() };

    fn with_length(declared: u32, written: usize) -> Vec<u8> {
        let mut bytes = REQUEST.to_bytes();
        bytes[..4].copy_from_slice(&declared.to_ne_bytes());
        bytes.resize(written, 0xcc);
        bytes
    }

    #[test]
    fn lengths_are_judged() {
        assert_eq!(Request::parse(&with_length(40, 40)), Ok(REQUEST));
        assert_eq!(Request::parse(&with_length(44, 44)), Ok(REQUEST));
        assert_eq!(Request::parse(&with_length(40, 60)), Ok(REQUEST));
        let refused = |declared, written, error: RequestError| {
            assert_eq!(Request::parse(&with_length(declared, written)), Err(error));
            assert_eq!(error.to_errno(), 22);
        };
        refused(40, 0, RequestError::NoHeader { written: 0 });
        refused(40, 15, RequestError::NoHeader { written: 15 });
        refused(0, 40, RequestError::TooShort { declared: 0 });
        refused(15, 40, RequestError::TooShort { declared: 15 });
        refused(39, 40, RequestError::TooShort { declared: 39 });
        refused(40, 39, RequestError::Truncated { declared: 40, written: 39 });
        refused(44, 40, RequestError::Truncated { declared: 44, written: 40 });
        refused(u32::MAX, 44, RequestError::Truncated { declared: u32::MAX, written: 44 });
    }

    #[test]
    fn only_the_strategy_is_judged_otherwise() {
        let mut bytes = REQUEST.to_bytes();
        bytes[4..8].fill(0xff);
        bytes[12..16].fill(0xff);
        bytes[36..].fill(0xff);
        assert_eq!(Request::parse(&bytes), Ok(REQUEST));
        bytes[16..24].fill(0xff);
        assert_eq!(Request::parse(&bytes), Ok(Request { groups: Groups::all(), ..REQUEST }));
        for strategy in [5, 1 << 32, u64::MAX] {
            bytes[24..32].copy_from_slice(&strategy.to_ne_bytes());
            assert_eq!(Request::parse(&bytes), Err(RequestError::UnknownStrategy(strategy)));
        }
    }

    #[test]
    fn a_set_needs_all_its_ids() {
        let set = Request::set([7, 8], Groups::BASE);
        let mut bytes = set.to_bytes();
        assert_eq!(bytes[40..], [2_u32, 7, 8].map(u32::to_ne_bytes).concat());
        assert_eq!(Request::parse(&bytes), Ok(set.clone()));
        for (len, error) in [(51, RequestError::ShortList { count: 2, found: 1 }), (43, RequestError::NoList)]
        {
            bytes.truncate(len);
            bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
            assert_eq!(Request::parse(&bytes), Err(error));
        }
        let long = Request::set(vec![1; MOST_LISTED as usize + 1], Groups::BASE).to_bytes();
        assert_eq!(Request::parse(&long), Err(RequestError::LongList(MOST_LISTED + 1)));
        let mut bytes = Request { strategy: DumpStrategy::One, ..set }.to_bytes();
        bytes.extend([0xff; 8]);
        assert_eq!(Request::parse(&bytes).unwrap().pids, []);
    }

    proptest! {
        #[test]
        fn any_request_comes_back(request in strategies::request()) {
            prop_assert_eq!(Request::parse(&request.to_bytes()), Ok(request));
        }

        #[test]
        fn any_bytes_are_judged(mut bytes: Vec<u8>, declared in 0..64u32) {
            let _ = Request::parse(&bytes);
            if let Some(length) = bytes.get_mut(..4) {
                length.copy_from_slice(&declared.to_ne_bytes());
                let accepted = Request::parse(&bytes).is_ok();
                prop_assert!(!accepted || (40..=bytes.len()).contains(&(declared as usize)));
            }
        }
    }
}
