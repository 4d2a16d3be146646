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
        /// The kernel's `struct taskstats`. This project's own, like all that follow.
        const TASKSTATS = 1 << attribute_id::TASKSTATS;
        /// [`Membership`](super::Membership).
        const GROUPS = 1 << attribute_id::GROUPS;
        /// [`Sched`](super::Sched).
        const SCHED = 1 << attribute_id::SCHED;
        /// [`Io`](super::Io).
        const IO = 1 << attribute_id::IO;
        /// [`CgroupList`](super::CgroupList).
        const CGROUP = 1 << attribute_id::CGROUP;
        /// [`Namespaces`](super::Namespaces).
        const NS = 1 << attribute_id::NS;
        /// [`Files`](super::Files).
        const FILES = 1 << attribute_id::FILES;
        /// [`FdCount`](super::FdCount).
        const FD_COUNT = 1 << attribute_id::FD_COUNT;
        /// [`DescriptorList`](super::DescriptorList).
        const FD = 1 << attribute_id::FD;
        /// [`Rollup`](super::Rollup).
        const ROLLUP = 1 << attribute_id::ROLLUP;
        /// The bytes of `/proc/PID/environ`.
        const ENVIRON = 1 << attribute_id::ENVIRON;
        /// [`Misc`](super::Misc).
        const MISC = 1 << attribute_id::MISC;
        /// A mask of the groups that could not be read in time.
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
        .union(Self::GROUPS)
        .union(Self::SCHED)
        .union(Self::CGROUP)
        .union(Self::MISC)
        .union(Self::MISSING);

    /// The groups that mirror files which only their owner may open (mode 0400), and TASKSTATS, which tells what `io` does.
    pub const OWNERS: Self =
        Self::TASKSTATS.union(Self::IO).union(Self::FD_COUNT).union(Self::FD).union(Self::ENVIRON);

    /// The groups that this project adds to those of the kernel patch, without MISSING.
    pub const OWN: Self = Self::from_bits_retain(0xfff << attribute_id::TASKSTATS);

    /// Those of which dumps of threads show the leader's only, besides VMA.
    pub const LEADERS: Self = Self::FD.union(Self::ROLLUP).union(Self::ENVIRON);
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
    /// The kernel's `struct taskstats`. From here on the numbers are this project's own.
    pub const TASKSTATS: u16 = 32;
    /// [`Membership`](crate::protocol::Membership).
    pub const GROUPS: u16 = 33;
    /// [`Sched`](crate::protocol::Sched).
    pub const SCHED: u16 = 34;
    /// [`Io`](crate::protocol::Io).
    pub const IO: u16 = 35;
    /// [`CgroupList`](crate::protocol::CgroupList).
    pub const CGROUP: u16 = 36;
    /// [`Namespaces`](crate::protocol::Namespaces).
    pub const NS: u16 = 37;
    /// [`Files`](crate::protocol::Files).
    pub const FILES: u16 = 38;
    /// [`FdCount`](crate::protocol::FdCount).
    pub const FD_COUNT: u16 = 39;
    /// [`DescriptorList`](crate::protocol::DescriptorList).
    pub const FD: u16 = 40;
    /// [`Rollup`](crate::protocol::Rollup).
    pub const ROLLUP: u16 = 41;
    /// The bytes of `/proc/PID/environ`.
    pub const ENVIRON: u16 = 42;
    /// [`Misc`](crate::protocol::Misc).
    pub const MISC: u16 = 43;
    /// A u64 of [`Groups`](crate::protocol::Groups) bits: what could not be read in time.
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
        assert_eq!(Groups::OWN | Groups::NATIVE | Groups::MISSING, Groups::all());
        assert_eq!(Groups::from_bits_truncate(1 | 1 << 63), Groups::BASE);
        assert_eq!(Groups::MISSING.as_bytes(), (1_u64 << 44).to_ne_bytes());
        assert_eq!(format!("{:?}", Groups::BASE | Groups::STATM), "Groups(BASE | STATM)");
    }
}
