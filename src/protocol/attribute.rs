//! One attribute of a message, borrowed from it.

use super::{Base, Credentials, DecodeError, Stat, Statm, VmaList, attribute_id};
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
            Self::Cmdline(bytes) => bytes,
            Self::Statm(statm) => statm.as_bytes(),
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
