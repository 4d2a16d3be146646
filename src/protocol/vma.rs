//! A record of VMA: one mapping of a process, and how to write it.

use super::{EncodeError, MAX_PAYLOAD, align4};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// `vm_flags` of a mapping. The bits are the protocol's own (`TASK_DIAG_VMA_F_*` of the kernel patch), not the
    /// kernel's `VM_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct VmFlags: u64 {
        /// Readable.
        const READ = 0x1;
        /// Writable.
        const WRITE = 0x2;
        /// Executable.
        const EXEC = 0x4;
        /// Shared.
        const SHARED = 0x8;
        /// May be made readable.
        const MAYREAD = 0x10;
        /// May be made writable.
        const MAYWRITE = 0x20;
        /// May be made executable.
        const MAYEXEC = 0x40;
        /// May be shared.
        const MAYSHARE = 0x80;
        /// Grows down, as a stack does.
        const GROWSDOWN = 0x100;
        /// Page frames without `struct page`.
        const PFNMAP = 0x200;
        /// Writing to the file is refused.
        const DENYWRITE = 0x400;
        /// Bounds table of Intel MPX.
        const MPX = 0x800;
        /// Locked in memory.
        const LOCKED = 0x1000;
        /// Memory of a device.
        const IO = 0x2000;
        /// Read in sequence (MADV_SEQUENTIAL).
        const SEQ_READ = 0x4000;
        /// Read at random (MADV_RANDOM).
        const RAND_READ = 0x8000;
        /// Not copied by fork.
        const DONTCOPY = 0x10000;
        /// mremap cannot expand it.
        const DONTEXPAND = 0x20000;
        /// Counted against the limit of committed memory.
        const ACCOUNT = 0x40000;
        /// MAP_NORESERVE.
        const NORESERVE = 0x80000;
        /// hugetlbfs.
        const HUGETLB = 0x100000;
        /// The architecture's own flag.
        const ARCH_1 = 0x200000;
        /// Left out of core dumps.
        const DONTDUMP = 0x400000;
        /// Written since the soft-dirty bits were cleared.
        const SOFTDIRTY = 0x800000;
        /// May hold both `struct page` memory and bare page frames.
        const MIXEDMAP = 0x1000000;
        /// MADV_HUGEPAGE.
        const HUGEPAGE = 0x2000000;
        /// MADV_NOHUGEPAGE.
        const NOHUGEPAGE = 0x4000000;
        /// KSM may merge its pages.
        const MERGEABLE = 0x8000000;
    }
}

/// `struct task_diag_vma` of the kernel patch: the head of a record. Offsets count from its own first byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VmaHeader {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Bits of [`VmFlags`].
    pub vm_flags: u64,
    /// Offset in the file, in bytes; 0 without a file.
    pub pgoff: u64,
    /// Major number of the file's device; 0 without a file.
    pub major: u32,
    /// Minor number of the file's device; 0 without a file.
    pub minor: u32,
    /// The file's inode; 0 without a file.
    pub inode: u64,
    /// The inode's generation; 0 without a file.
    pub generation: u32,
    /// Bytes of the whole record with its padding, a multiple of 4: the way to the next record.
    pub vma_len: u16,
    /// Where the name begins; 0 without one.
    pub name_off: u16,
    /// Bytes of the name with its NUL; 0 without one.
    pub name_len: u16,
    /// Where the [`VmaStat`] begins; 0 without one.
    pub stat_off: u16,
    /// Bytes of the [`VmaStat`]; 0 without one.
    pub stat_len: u16,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<VmaHeader>() == 64);

/// `struct task_diag_vma_stat` of the kernel patch: what of a mapping is resident, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VmaStat {
    /// Resident.
    pub resident: u64,
    /// Of that: mapped elsewhere too, not written.
    pub shared_clean: u64,
    /// Of that: mapped elsewhere too, written. The kernel patch leaves it 0.
    pub shared_dirty: u64,
    /// Of that: mapped only here, not written.
    pub private_clean: u64,
    /// Of that: mapped only here, written.
    pub private_dirty: u64,
    /// Of that: lately used.
    pub referenced: u64,
    /// Of that: no page of a file.
    pub anonymous: u64,
    /// Of that: in huge pages.
    pub anonymous_thp: u64,
    /// Swapped out.
    pub swap: u64,
    /// The proportional share of what is resident, in bytes << 12.
    pub pss: u64,
}

const _: () = assert!(size_of::<VmaStat>() == 80);

/// What a [`VmaHeader`] says of the mapping itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmaFields {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// What it is and what may be done to it.
    pub flags: VmFlags,
    /// Offset in the file, in bytes; 0 without a file.
    pub pgoff: u64,
    /// Major number of the file's device; 0 without a file.
    pub major: u32,
    /// Minor number of the file's device; 0 without a file.
    pub minor: u32,
    /// The file's inode; 0 without a file.
    pub inode: u64,
    /// The inode's generation; 0 without a file.
    pub generation: u32,
}

/// Appends one record to a list: the header, `stat` where there is one, and `name` (raw bytes, without NUL; empty for
/// none). The record is at most 65,528 bytes, so that it fits one attribute.
///
/// # Errors
/// [`EncodeError::TooLong`] for a longer record, [`EncodeError::NulInName`]; `out` is as it was then.
#[inline]
pub fn push_vma(
    out: &mut Vec<u8>,
    header: &VmaFields,
    stat: Option<&VmaStat>,
    name: &[u8],
) -> Result<(), EncodeError> {
    if name.contains(&0) {
        let at = name.iter().take_while(|&&byte| byte != 0).count();
        return Err(EncodeError::NulInName { at });
    }
    let stat_len = if stat.is_some() { size_of::<VmaStat>() } else { 0 };
    let name_len = if name.is_empty() { 0 } else { name.len() + 1 };
    let name_off = size_of::<VmaHeader>() + stat_len;
    let vma_len = align4(name_off + name_len);
    if vma_len > MAX_PAYLOAD {
        return Err(EncodeError::TooLong { length: vma_len });
    }
    out.reserve(vma_len);
    let wire = VmaHeader {
        start: header.start,
        end: header.end,
        vm_flags: header.flags.bits(),
        pgoff: header.pgoff,
        major: header.major,
        minor: header.minor,
        inode: header.inode,
        generation: header.generation,
        vma_len: vma_len as u16,
        name_off: if name.is_empty() { 0 } else { name_off as u16 },
        name_len: name_len as u16,
        stat_off: if stat.is_some() { size_of::<VmaHeader>() as u16 } else { 0 },
        stat_len: stat_len as u16,
        pad: [0; 2],
    };
    out.extend_from_slice(wire.as_bytes());
    if let Some(stat) = stat {
        out.extend_from_slice(stat.as_bytes());
    }
    out.extend_from_slice(name);
    out.extend_from_slice(&[0; 4][..vma_len - name_off - name.len()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_laid_out_as_the_patch_does() {
        let header = VmaFields { start: 0x1000, inode: 9, ..VmaFields::default() };
        let stat = VmaStat { pss: 5, ..VmaStat::default() };
        let mut out = Vec::new();
        push_vma(&mut out, &header, Some(&stat), b"[vdso]").unwrap();
        push_vma(&mut out, &header, None, b"abc").unwrap();
        push_vma(&mut out, &header, None, b"").unwrap();
        let lengths = |at: usize| {
            let (header, _) = VmaHeader::read_from_prefix(&out[at..]).unwrap();
            assert_eq!((header.start, header.inode, header.pad), (0x1000, 9, [0; 2]));
            [header.vma_len, header.name_off, header.name_len, header.stat_off, header.stat_len]
        };
        assert_eq!(lengths(0), [152, 144, 7, 64, 80]);
        assert_eq!(out[64..144], *stat.as_bytes());
        assert_eq!(out[144..152], *b"[vdso]\0\0");
        assert_eq!(lengths(152), [68, 64, 4, 0, 0]);
        assert_eq!(out[216..220], *b"abc\0");
        assert_eq!(lengths(220), [64, 0, 0, 0, 0]);
        assert_eq!(out.len(), 284);
    }

    #[test]
    fn a_record_that_cannot_be_said_is_refused_whole() {
        let header = VmaFields::default();
        let mut out = b"before".to_vec();
        let longest = vec![b'x'; 65_528 - 64 - 1];
        for length in [65_528 - 64, 65_532 - 64 - 1, 65_536 - 64 - 1, 131_072] {
            let refused = push_vma(&mut out, &header, None, &vec![b'x'; length]);
            assert_eq!(refused, Err(EncodeError::TooLong { length: align4(64 + length + 1) }));
        }
        let refused = push_vma(&mut out, &header, Some(&VmaStat::default()), &longest);
        assert!(matches!(refused, Err(EncodeError::TooLong { .. })));
        let refused = push_vma(&mut out, &header, None, b"a\0b");
        assert_eq!(refused, Err(EncodeError::NulInName { at: 1 }));
        assert_eq!(out, b"before");
        assert_eq!(push_vma(&mut out, &header, None, &longest), Ok(()));
        assert_eq!(out.len(), 6 + 65_528);
    }
}
