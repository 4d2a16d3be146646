//! FD: what a process has open.

use super::parts::{head, string};
use crate::protocol::{DecodeError, EncodeError, MAX_PAYLOAD, align4};
use std::iter::FusedIterator;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "FD";

/// The head of a record as it is on the wire: 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct DescriptorHeader {
    /// Position (`pos:` of `/proc/PID/fdinfo/FD`).
    pub pos: u64,
    /// Inode (`ino:` there).
    pub inode: u64,
    /// Number of the descriptor.
    pub fd: u32,
    /// `O_*` (`flags:` there), O_CLOEXEC too.
    pub flags: u32,
    /// Device of the inode.
    pub major: u32,
    /// Device of the inode.
    pub minor: u32,
    /// Bytes of the whole record.
    pub fd_len: u16,
    /// Where the name begins.
    pub name_off: u16,
    /// Bytes of the name with its NUL.
    pub name_len: u16,
    /// A [`DescriptorKind`].
    pub kind: u8,
    /// 0.
    pub pad: u8,
}

const _: () = assert!(size_of::<DescriptorHeader>() == 40);

/// What kind of file stands behind a descriptor: the upper four bits of `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorKind {
    /// None of those below: epoll, eventfd and their like.
    Other,
    /// A pipe or FIFO.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    File,
    /// A symbolic link, opened with O_PATH.
    Link,
    /// A socket.
    Socket,
}

impl From<u8> for DescriptorKind {
    fn from(kind: u8) -> Self {
        match kind {
            1 => Self::Fifo,
            2 => Self::CharacterDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::File,
            10 => Self::Link,
            12 => Self::Socket,
            _ => Self::Other,
        }
    }
}

/// One open descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// Its number.
    pub fd: u32,
    /// The upper four bits of `st_mode`; see [`DescriptorKind`].
    pub kind: u8,
    /// `O_*`, O_CLOEXEC too.
    pub flags: u32,
    /// Position.
    pub pos: u64,
    /// Inode.
    pub inode: u64,
    /// Major number of the inode's device.
    pub major: u32,
    /// Minor number of the inode's device.
    pub minor: u32,
    /// What the link `/proc/PID/fd/FD` reads: raw bytes, without NUL.
    pub name: &'a [u8],
}

impl Descriptor<'_> {
    /// What kind of file stands behind it.
    pub fn kind(&self) -> DescriptorKind {
        self.kind.into()
    }
}

/// The records of a payload. As an iterator it checks each record and ends after an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorList<'a>(&'a [u8]);

impl<'a> DescriptorList<'a> {
    /// The records of a payload, not checked yet.
    pub const fn new(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// The bytes of the records that are left.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn header(list: &[u8]) -> Result<DescriptorHeader, DecodeError> {
    let header: DescriptorHeader = head(NAME, list)?;
    let (len, left) = (usize::from(header.fd_len), list.len());
    if len < size_of::<DescriptorHeader>() || len % 4 != 0 || len > left {
        return Err(DecodeError::RecordLength { attribute: NAME, len, left });
    }
    Ok(header)
}

impl<'a> Iterator for DescriptorList<'a> {
    type Item = Result<Descriptor<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = |list: &'a [u8]| {
            let head = header(list)?;
            let (record, rest) = list.split_at(usize::from(head.fd_len));
            let name = string(NAME, record, head.name_off, head.name_len)?.unwrap_or_default();
            let DescriptorHeader { pos, inode, fd, flags, major, minor, kind, .. } = head;
            Ok((Descriptor { fd, kind, flags, pos, inode, major, minor, name }, rest))
        };
        let (descriptor, rest) = match record(self.0) {
            Ok((descriptor, rest)) => (Ok(descriptor), rest),
            Err(error) => (Err(error), &self.0[..0]),
        };
        self.0 = rest;
        Some(descriptor)
    }
}

impl FusedIterator for DescriptorList<'_> {}

/// Bytes of the first record, or `None` where there is no whole one.
pub fn descriptor_record_len(list: &[u8]) -> Option<usize> {
    Some(header(list).ok()?.fd_len.into())
}

/// Appends one record.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was then.
pub fn push_descriptor(out: &mut Vec<u8>, of: &Descriptor<'_>) -> Result<(), EncodeError> {
    if let Some(at) = memchr::memchr(0, of.name) {
        return Err(EncodeError::NulInName { at });
    }
    let name_off = size_of::<DescriptorHeader>();
    let name_len = if of.name.is_empty() { 0 } else { of.name.len() + 1 };
    let fd_len = align4(name_off + name_len);
    if fd_len > MAX_PAYLOAD {
        return Err(EncodeError::TooLong { length: fd_len });
    }
    let header = DescriptorHeader {
        pos: of.pos,
        inode: of.inode,
        fd: of.fd,
        flags: of.flags,
        major: of.major,
        minor: of.minor,
        fd_len: fd_len as u16,
        name_off: if name_len == 0 { 0 } else { name_off as u16 },
        name_len: name_len as u16,
        kind: of.kind,
        pad: 0,
    };
    out.reserve(fd_len);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(of.name);
    out.extend_from_slice(&[0; 4][..fd_len - name_off - of.name.len()]);
    Ok(())
}
