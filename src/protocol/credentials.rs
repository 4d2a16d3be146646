//! CRED: what a task may do, and as whom.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A set of capabilities: bit N is capability N of `linux/capability.h`, the low word first.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Capabilities(pub [u32; 2]);

impl From<u64> for Capabilities {
    fn from(bits: u64) -> Self {
        Self([bits as u32, (bits >> 32) as u32])
    }
}

impl From<Capabilities> for u64 {
    fn from(Capabilities([low, high]): Capabilities) -> Self {
        Self::from(high) << 32 | Self::from(low)
    }
}

/// `struct task_diag_creds` of the kernel patch.
///
/// Ids are those of the reader's user namespace, the overflow id (65534) where it has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Credentials {
    /// Kept over an exec of a file with the same inheritable capability.
    pub inheritable: Capabilities,
    /// What may become effective.
    pub permitted: Capabilities,
    /// What the task can do now.
    pub effective: Capabilities,
    /// What an exec may gain.
    pub bounding: Capabilities,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// User for file access.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// Group for file access.
    pub fsgid: u32,
}

const _: () = assert!(size_of::<Credentials>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_stand_low_word_first() {
        let set = Capabilities::from(0x0000_01ff_8000_0001);
        assert_eq!(set, Capabilities([0x8000_0001, 0x1ff]));
        assert_eq!(u64::from(set), 0x0000_01ff_8000_0001);
    }
}
