//! One attribute of a message, borrowed from it.

use super::{
    Base, CgroupList, Credentials, DecodeError, DescriptorList, FdCount, Io, Rollup, Sched, Stat, Statm,
    VmaList, attribute_id,
};
use zerocopy::{FromBytes, IntoBytes};

/// One attribute. Structs are copied out, lists and strings borrowed.
///
/// Payloads may be longer than their struct: what follows is ignored, since structs grow at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// Who the task is.
    Base(Base),
    /// What it may do, and as whom.
    Credentials(Credentials),
    /// Its mappings, or the next of them.
    Vma(VmaList<'a>),
    /// Page faults, time and threads.
    Stat(Stat),
    /// The bytes of `/proc/PID/cmdline`, or the next of them. The number is this project's own.
    Cmdline(&'a [u8]),
    /// How much memory it has. The number and the order of the fields are this project's own.
    Statm(Statm),
    /// The kernel's `struct taskstats`.
    Taskstats(&'a [u8]),
    /// Of [`Membership`](super::Membership): all of it, or the next piece.
    Groups(&'a [u8]),
    /// How it is scheduled, and what else `/proc/PID/stat` says.
    Sched(Sched),
    /// What it has read and written.
    Io(Io),
    /// Its control groups, or the next of them.
    Cgroup(CgroupList<'a>),
    /// What [`Namespaces`](super::Namespaces) reads.
    Namespaces(&'a [u8]),
    /// Of [`Files`](super::Files): all of it, or the next piece.
    Files(&'a [u8]),
    /// How many descriptors it has open.
    FdCount(FdCount),
    /// Its open descriptors, or the next of them.
    Descriptors(DescriptorList<'a>),
    /// Its memory, summed up.
    Rollup(Rollup),
    /// The bytes of `/proc/PID/environ`, or the next of them.
    Environ(&'a [u8]),
    /// What [`Misc`](super::Misc) reads.
    Misc(&'a [u8]),
    /// [`Groups`](super::Groups) bits of what could not be read in time. This project's own.
    Missing(u64),
    /// An attribute that this version does not know.
    Unknown {
        /// Its number, without the two flag bits of netlink.
        id: u16,
        /// Its bytes.
        payload: &'a [u8],
    },
}

impl<'a> Attribute<'a> {
    /// Reads the payload of the attribute `id`. The records of a [`VmaList`] are checked when it is read.
    ///
    /// # Errors
    /// [`DecodeError::PayloadTooShort`].
    pub fn parse(id: u16, payload: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(match id {
            attribute_id::BASE => Self::Base(Base::from_payload(payload)?),
            attribute_id::CRED => Self::Credentials(prefix("CRED", payload)?),
            attribute_id::VMA => Self::Vma(VmaList::new(payload)),
            // The kernel patch leaves the padding uninitialised.
            attribute_id::STAT => Self::Stat(Stat { pad: 0, ..prefix("STAT", payload)? }),
            attribute_id::CMDLINE => Self::Cmdline(payload),
            attribute_id::STATM => Self::Statm(prefix("STATM", payload)?),
            attribute_id::TASKSTATS => Self::Taskstats(payload),
            attribute_id::GROUPS => Self::Groups(payload),
            attribute_id::SCHED => Self::Sched(prefix("SCHED", payload)?),
            attribute_id::IO => Self::Io(prefix("IO", payload)?),
            attribute_id::CGROUP => Self::Cgroup(CgroupList::new(payload)),
            attribute_id::NS => Self::Namespaces(payload),
            attribute_id::FILES => Self::Files(payload),
            attribute_id::FD_COUNT => Self::FdCount(prefix("FD_COUNT", payload)?),
            attribute_id::FD => Self::Descriptors(DescriptorList::new(payload)),
            attribute_id::ROLLUP => Self::Rollup(prefix("ROLLUP", payload)?),
            attribute_id::ENVIRON => Self::Environ(payload),
            attribute_id::MISC => Self::Misc(payload),
            attribute_id::MISSING => Self::Missing(prefix("MISSING", payload)?),
            _ => Self::Unknown { id, payload },
        })
    }

    /// The attribute's number.
    pub const fn id(&self) -> u16 {
        match self {
            Self::Base(_) => attribute_id::BASE,
            Self::Credentials(_) => attribute_id::CRED,
            Self::Vma(_) => attribute_id::VMA,
            Self::Stat(_) => attribute_id::STAT,
            Self::Cmdline(_) => attribute_id::CMDLINE,
            Self::Statm(_) => attribute_id::STATM,
            Self::Taskstats(_) => attribute_id::TASKSTATS,
            Self::Groups(_) => attribute_id::GROUPS,
            Self::Sched(_) => attribute_id::SCHED,
            Self::Io(_) => attribute_id::IO,
            Self::Cgroup(_) => attribute_id::CGROUP,
            Self::Namespaces(_) => attribute_id::NS,
            Self::Files(_) => attribute_id::FILES,
            Self::FdCount(_) => attribute_id::FD_COUNT,
            Self::Descriptors(_) => attribute_id::FD,
            Self::Rollup(_) => attribute_id::ROLLUP,
            Self::Environ(_) => attribute_id::ENVIRON,
            Self::Misc(_) => attribute_id::MISC,
            Self::Missing(_) => attribute_id::MISSING,
            Self::Unknown { id, .. } => *id,
        }
    }

    /// The attribute's bytes, without header and padding.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Base(base) => base.as_bytes(),
            Self::Credentials(credentials) => credentials.as_bytes(),
            Self::Vma(list) => list.as_bytes(),
            Self::Stat(stat) => stat.as_bytes(),
            Self::Statm(statm) => statm.as_bytes(),
            Self::Sched(sched) => sched.as_bytes(),
            Self::Io(io) => io.as_bytes(),
            Self::Cgroup(list) => list.as_bytes(),
            Self::FdCount(count) => count.as_bytes(),
            Self::Descriptors(list) => list.as_bytes(),
            Self::Rollup(rollup) => rollup.as_bytes(),
            Self::Cmdline(bytes)
            | Self::Taskstats(bytes)
            | Self::Groups(bytes)
            | Self::Namespaces(bytes)
            | Self::Files(bytes)
            | Self::Environ(bytes)
            | Self::Misc(bytes) => bytes,
            Self::Missing(mask) => mask.as_bytes(),
            Self::Unknown { payload, .. } => payload,
        }
    }
}

fn prefix<T: FromBytes>(attribute: &'static str, payload: &[u8]) -> Result<T, DecodeError> {
    let (value, _) = T::read_from_prefix(payload).map_err(|_| DecodeError::PayloadTooShort {
        attribute,
        found: payload.len(),
        needed: size_of::<T>(),
    })?;
    Ok(value)
}
