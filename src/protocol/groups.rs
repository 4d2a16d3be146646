//! What can be asked for, and the numbers under which it is answered.

use bitflags::bitflags;
use std::fmt;
use zerocopy::{Immutable, IntoBytes};

/// `show_flags` of a request: bit N asks for the attribute of number N. Its bytes are the payload of MISSING.
///
/// Unknown bits of a request are dropped ([`Groups::from_bits_truncate`]).
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, IntoBytes, Immutable)]
pub struct Groups(u64);

bitflags! {
    impl Groups: u64 {
        /// [`Base`](super::Base).
        const BASE = 1 << attribute_id::BASE;
        /// [`Credentials`](super::Credentials).
        const CRED = 1 << attribute_id::CRED;
        /// [`VmaList`](super::VmaList).
        const VMA = 1 << attribute_id::VMA;
        /// [`VmaStat`](super::VmaStat) in each record of VMA; without VMA it does nothing.
        const VMA_STAT = 1 << attribute_id::VMA_STAT;
        /// [`Stat`](super::Stat).
        const STAT = 1 << attribute_id::STAT;
        /// The bytes of `/proc/PID/cmdline`. The number is this project's own.
        const CMDLINE = 1 << attribute_id::CMDLINE;
        /// [`Statm`](super::Statm). The number is this project's own.
        const STATM = 1 << attribute_id::STATM;
        /// A mask of the groups that could not be read in time. This project's own.
        const MISSING = 1 << attribute_id::MISSING;
    }
}

impl Groups {
    /// The groups that the kernel patch has: 0x7f.
    pub const NATIVE: Self = Self::from_bits_retain(0x7f);

    /// The groups that `/proc` shows of every process to everyone (unless mounted with `hidepid`).
    pub const UNGUARDED: Self = Self::BASE
        .union(Self::CRED)
        .union(Self::STAT)
        .union(Self::STATM)
        .union(Self::CMDLINE)
        .union(Self::MISSING);
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Groups(")?;
        bitflags::parser::to_writer(self, &mut *f)?;
        f.write_str(")")
    }
}

/// Numbers of the attributes.
///
/// 0 to 4 are those of the kernel patch's last public header. That header does not hold CMDLINE and STATM: their
/// numbers are this project's own. From 32 up are groups that the patch does not have at all.
pub mod attribute_id {
    /// [`Base`](crate::protocol::Base).
    pub const BASE: u16 = 0;
    /// [`Credentials`](crate::protocol::Credentials).
    pub const CRED: u16 = 1;
    /// [`VmaList`](crate::protocol::VmaList).
    pub const VMA: u16 = 2;
    /// Only a bit of the request: no attribute bears this number.
    pub const VMA_STAT: u16 = 3;
    /// [`Stat`](crate::protocol::Stat).
    pub const STAT: u16 = 4;
    /// The bytes of `/proc/PID/cmdline`, empty for an empty one. The number is this project's own.
    pub const CMDLINE: u16 = 5;
    /// [`Statm`](crate::protocol::Statm). The number and the order of its fields are this project's own.
    pub const STATM: u16 = 6;
    /// A u64 of [`Groups`](crate::protocol::Groups) bits: what could not be read in time. This project's own.
    pub const MISSING: u16 = 44;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_wires() {
        let native = [
            Groups::BASE,
            Groups::CRED,
            Groups::VMA,
            Groups::VMA_STAT,
            Groups::STAT,
            Groups::CMDLINE,
            Groups::STATM,
        ];
        for (number, group) in native.into_iter().enumerate() {
            assert_eq!(group.bits(), 1 << number);
        }
        assert_eq!(native.into_iter().collect::<Groups>(), Groups::NATIVE);
        assert_eq!(Groups::MISSING.bits(), 1 << 44);
        assert_eq!(Groups::from_bits_truncate(1 | 1 << 63), Groups::BASE);
        assert_eq!(Groups::MISSING.as_bytes(), (1_u64 << 44).to_ne_bytes());
        assert_eq!(format!("{:?}", Groups::BASE | Groups::STATM), "Groups(BASE | STATM)");
    }
}
