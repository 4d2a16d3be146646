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
}

impl TryFrom<u64> for DumpStrategy {
    type Error = RequestError;

    fn try_from(number: u64) -> Result<Self, RequestError> {
        Ok(match number {
            0 => Self::All,
            1 => Self::One,
            2 => Self::AllThreads,
            3 => Self::Children,
            4 => Self::Thread,
            _ => return Err(RequestError::UnknownStrategy(number)),
        })
    }
}

/// One question to the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Echoed in every message of the response.
    pub seq: u32,
    /// What to show of each task.
    pub groups: Groups,
    /// Which tasks to show.
    pub strategy: DumpStrategy,
    /// Any thread's id, in the reader's pid namespace. All and AllThreads ignore it.
    pub pid: u32,
}

impl Request {
    /// Asks for every process.
    pub const fn all(groups: Groups) -> Self {
        Self { seq: 0, groups, strategy: DumpStrategy::All, pid: 0 }
    }

    /// Asks for every thread of every process.
    pub const fn all_threads(groups: Groups) -> Self {
        Self { strategy: DumpStrategy::AllThreads, ..Self::all(groups) }
    }

    /// Asks for the task `pid`.
    pub const fn one(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::One, pid, ..Self::all(groups) }
    }

    /// Asks for every thread of the process that `pid` is a thread of.
    pub const fn threads(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Thread, pid, ..Self::all(groups) }
    }

    /// Asks for the children of exactly the task `pid`.
    pub const fn children(pid: u32, groups: Groups) -> Self {
        Self { strategy: DumpStrategy::Children, pid, ..Self::all(groups) }
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
        let (wire, _) = Wire::read_from_prefix(request).map_err(|_| truncated)?;
        Ok(Self {
            seq: wire.nlmsg_seq,
            groups: Groups::from_bits_truncate(wire.show_flags),
            strategy: DumpStrategy::try_from(wire.dump_strategy)?,
            pid: wire.pid,
        })
    }

    /// What to write to the file.
    pub fn to_bytes(&self) -> [u8; 40] {
        zerocopy::transmute!(Wire {
            nlmsg_len: REQUEST_LEN as u32,
            nlmsg_type: TASK_DIAG_CMD_GET,
            nlmsg_flags: NLM_F_REQUEST,
            nlmsg_seq: self.seq,
            nlmsg_pid: 0,
            show_flags: self.groups.bits(),
            dump_strategy: self.strategy as u64,
            pid: self.pid,
            pad: 0,
        })
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
}

impl RequestError {
    /// The error number that the file answers with.
    pub const fn to_errno(&self) -> i32 {
        const EINVAL: i32 = 22;
        match self {
            Self::NoHeader { .. }
            | Self::TooShort { .. }
            | Self::Truncated { .. }
            | Self::UnknownStrategy(_) => EINVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategies;
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Request = Request { seq: 7, groups: Groups::NATIVE, strategy: DumpStrategy::One, pid: 42 };

    fn with_length(declared: u32, written: usize) -> Vec<u8> {
        let mut bytes = REQUEST.to_bytes().to_vec();
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
