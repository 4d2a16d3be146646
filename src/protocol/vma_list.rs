//! A payload of VMA: records one after another, each with its own length.

use super::{DecodeError, VmFlags, VmaFields, VmaHeader, VmaStat};
use std::iter::FusedIterator;
use zerocopy::FromBytes;

/// One mapping as a list holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vma<'a> {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// What it is and what may be done to it; bits without a name are kept.
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
    /// What of it is resident, if the record says so.
    pub stat: Option<VmaStat>,
    /// The last column of `/proc/PID/maps`: raw bytes, never escaped, without NUL; empty for none.
    pub name: &'a [u8],
}

impl Vma<'_> {
    /// What [`push_vma`](super::push_vma) takes as header.
    pub fn fields(&self) -> VmaFields {
        VmaFields {
            start: self.start,
            end: self.end,
            flags: self.flags,
            pgoff: self.pgoff,
            major: self.major,
            minor: self.minor,
            inode: self.inode,
            generation: self.generation,
        }
    }
}

/// The records of one attribute, in order of address. As an iterator it checks each record and ends after an error.
///
/// Records may be larger than those known here: what follows the known fields is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmaList<'a> {
    list: &'a [u8],
    position: usize,
}

impl<'a> VmaList<'a> {
    /// The records of a payload, not checked yet.
    pub const fn new(list: &'a [u8]) -> Self {
        Self { list, position: 0 }
    }

    /// The bytes of all records, those already read too.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.list
    }
}

impl<'a> Iterator for VmaList<'a> {
    type Item = Result<Vma<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.position;
        let rest = self.list.get(at..).filter(|rest| !rest.is_empty())?;
        let vma = header(rest, at).and_then(|header| {
            self.position += usize::from(header.vma_len);
            body(&header, &rest[..usize::from(header.vma_len)], at)
        });
        if vma.is_err() {
            self.position = self.list.len();
        }
        Some(vma)
    }
}

impl FusedIterator for VmaList<'_> {}

/// Bytes of the first record, or `None` where the list has no whole one with a valid length: where to split a list.
#[inline]
pub fn record_len(list: &[u8]) -> Option<usize> {
    Some(header(list, 0).ok()?.vma_len.into())
}

#[inline]
fn header(rest: &[u8], at: usize) -> Result<VmaHeader, DecodeError> {
    let left = rest.len();
    let (header, _) =
        VmaHeader::read_from_prefix(rest).map_err(|_| DecodeError::VmaTruncated { at, left })?;
    let vma_len = usize::from(header.vma_len);
    if vma_len < size_of::<VmaHeader>() || vma_len % 4 != 0 || vma_len > left {
        return Err(DecodeError::VmaLength { at, vma_len, left });
    }
    Ok(header)
}

/// `record` is exactly `header.vma_len` bytes.
fn body<'a>(header: &VmaHeader, record: &'a [u8], at: usize) -> Result<Vma<'a>, DecodeError> {
    let vma_len = record.len();
    let part = |off: u16, len: u16| {
        let (off, len) = (usize::from(off), usize::from(len));
        let part = record.get(off..off + len);
        part.filter(|_| off >= size_of::<VmaHeader>())
    };
    let stat = match header.stat_len {
        0 => None,
        len => {
            let bytes = part(header.stat_off, len);
            let stat = bytes.and_then(|bytes| VmaStat::read_from_prefix(bytes).ok());
            let (stat, _) = stat.ok_or(DecodeError::VmaStat {
                at,
                stat_off: header.stat_off.into(),
                stat_len: len.into(),
                vma_len,
            })?;
            Some(stat)
        }
    };
    let name: &[u8] = match header.name_len {
        0 => &[],
        len => part(header.name_off, len).ok_or(DecodeError::VmaName {
            at,
            name_off: header.name_off.into(),
            name_len: len.into(),
            vma_len,
        })?,
    };
    let name = match name.split_last() {
        None => name,
        Some((0, name)) if !name.contains(&0) => name,
        Some(_) => return Err(DecodeError::VmaNameEnd { at }),
    };
    Ok(Vma {
        start: header.start,
        end: header.end,
        flags: VmFlags::from_bits_retain(header.vm_flags),
        pgoff: header.pgoff,
        major: header.major,
        minor: header.minor,
        inode: header.inode,
        generation: header.generation,
        stat,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::super::strategies;
    use super::*;
    use crate::protocol::{align4, push_vma};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// A record with statistics and the name `ab`, its head changed and its end lengthened.
    fn record(change: impl FnOnce(&mut VmaHeader), more: usize) -> Vec<u8> {
        let mut out = Vec::new();
        push_vma(&mut out, &VmaFields::default(), Some(&VmaStat::default()), b"ab").unwrap();
        out.resize(out.len() + more, 0xee);
        let (mut header, _) = VmaHeader::read_from_prefix(&out).unwrap();
        change(&mut header);
        out[..64].copy_from_slice(header.as_bytes());
        out
    }

    fn error(change: impl FnOnce(&mut VmaHeader)) -> DecodeError {
        let bytes = record(change, 0);
        let mut list = VmaList::new(&bytes);
        let error = list.next().unwrap().unwrap_err();
        assert_eq!(list.next(), None);
        error
    }

    #[test]
    fn what_leaves_the_record_is_refused() {
        let stat = |off, len| error(|header| (header.stat_off, header.stat_len) = (off, len)).to_string();
        for (off, len) in [(0, 80), (60, 80), (64, 79), (64, 85), (69, 80), (65535, 65535)] {
            let expected =
                format!("VMA record at byte 0: stat_off {off} and stat_len {len} do not fit vma_len 148");
            assert_eq!(stat(off, len), expected);
        }
        for (off, len) in [(0, 3), (63, 3), (144, 5), (148, 1), (65535, 65535)] {
            let found = error(|header| (header.name_off, header.name_len) = (off, len));
            assert!(matches!(found, DecodeError::VmaName { at: 0, .. }), "{found}");
        }
        for len in [1, 2, 4] {
            let found = error(|header| header.name_len = len);
            assert_eq!(found, DecodeError::VmaNameEnd { at: 0 });
        }
        for vma_len in [0, 4, 60, 63, 65, 146, 152, 65535] {
            let found = error(|header| header.vma_len = vma_len);
            let vma_len = vma_len.into();
            assert_eq!(found, DecodeError::VmaLength { at: 0, vma_len, left: 148 });
        }
    }

    #[test]
    fn what_is_unknown_is_skipped() {
        let mut bytes = record(|header| header.vma_len += 8, 8);
        bytes.extend(record(|header| (header.stat_len, header.name_len) = (0, 0), 0));
        bytes.extend(record(|header| header.stat_len = 84, 0));
        bytes.extend([0; 63]);
        let mut list = VmaList::new(&bytes);
        assert_eq!(list.next().unwrap().unwrap().name, b"ab");
        let bare = list.next().unwrap().unwrap();
        assert_eq!((bare.stat, bare.name), (None, &b""[..]));
        assert_eq!(list.next().unwrap().unwrap().stat, Some(VmaStat::default()));
        let truncated = DecodeError::VmaTruncated { at: 452, left: 63 };
        assert_eq!(list.next(), Some(Err(truncated)));
        assert_eq!(list.next(), None);
    }

    proptest! {
        #[test]
        fn any_list_comes_back_and_splits(mappings in vec(strategies::mapping(), 0..9)) {
            let bytes = strategies::list(&mappings);
            let mut rest = &bytes[..];
            let mut found = VmaList::new(&bytes);
            for (fields, stat, name) in &mappings {
                let vma = found.next().unwrap().unwrap();
                prop_assert_eq!((&vma.fields(), &vma.stat, vma.name), (fields, stat, &name[..]));
                rest = &rest[record_len(rest).unwrap()..];
            }
            prop_assert_eq!(found.next(), None);
            prop_assert_eq!(record_len(rest), None);
            prop_assert_eq!(found.as_bytes(), &bytes[..]);
        }

        #[test]
        fn any_bytes_end(
            mappings in vec(strategies::mapping(), 0..4),
            noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut: prop::sample::Index,
        ) {
            let mut bytes = strategies::list(&mappings);
            for (index, byte) in noise {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            prop_assert!(VmaList::new(&bytes).count() <= bytes.len() / 64 + 1);
            prop_assert!(record_len(&bytes).is_none_or(|len| len <= bytes.len() && len == align4(len)));
        }
    }
}
