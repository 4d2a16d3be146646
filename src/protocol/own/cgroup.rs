//! CGROUP: where a task stands in each hierarchy of control groups.

use super::parts::{head, push_strings, string};
use crate::protocol::{DecodeError, EncodeError};
use std::iter::FusedIterator;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "CGROUP";

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
struct Header {
    cgroup_len: u16,
    hierarchy: u16,
    controllers_off: u16,
    controllers_len: u16,
    path_off: u16,
    path_len: u16,
}

/// One line of `/proc/PID/cgroup` (`proc_cgroup_show`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup<'a> {
    /// 0 for the unified hierarchy (v2).
    pub hierarchy: u16,
    /// Empty in the unified hierarchy.
    pub controllers: &'a [u8],
    /// In the reader's cgroup namespace.
    pub path: &'a [u8],
}

/// The records of a payload. As an iterator it checks each record and ends after an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupList<'a>(&'a [u8]);

impl<'a> CgroupList<'a> {
    /// The records of a payload, not checked yet.
    pub const fn new(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// The bytes of the records that are left.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for CgroupList<'a> {
    type Item = Result<Cgroup<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = |list: &'a [u8]| {
            let header: Header = head(NAME, list)?;
            let (len, left) = (usize::from(header.cgroup_len), list.len());
            if len < size_of::<Header>() || len % 4 != 0 || len > left {
                return Err(DecodeError::RecordLength { attribute: NAME, len, left });
            }
            let (record, rest) = list.split_at(len);
            let part = |off, len| Ok(string(NAME, record, off, len)?.unwrap_or_default());
            let cgroup = Cgroup {
                hierarchy: header.hierarchy,
                controllers: part(header.controllers_off, header.controllers_len)?,
                path: part(header.path_off, header.path_len)?,
            };
            Ok((cgroup, rest))
        };
        let (cgroup, rest) = match record(self.0) {
            Ok((cgroup, rest)) => (Ok(cgroup), rest),
            Err(error) => (Err(error), &self.0[..0]),
        };
        self.0 = rest;
        Some(cgroup)
    }
}

impl FusedIterator for CgroupList<'_> {}

/// Bytes of the first record, or `None` where there is no whole one.
pub fn cgroup_record_len(list: &[u8]) -> Option<usize> {
    let (header, _) = Header::read_from_prefix(list).ok()?;
    let len = usize::from(header.cgroup_len);
    (len >= size_of::<Header>() && len.is_multiple_of(4) && len <= list.len()).then_some(len)
}

/// Appends one record.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was then.
pub fn push_cgroup(out: &mut Vec<u8>, cgroup: &Cgroup<'_>) -> Result<(), EncodeError> {
    let begin = out.len();
    out.extend_from_slice(&[0; size_of::<Header>()]);
    let [controllers, path] = push_strings(out, begin, [Some(cgroup.controllers), Some(cgroup.path)])?;
    let header = Header {
        cgroup_len: (out.len() - begin) as u16,
        hierarchy: cgroup.hierarchy,
        controllers_off: controllers.0,
        controllers_len: controllers.1,
        path_off: path.0,
        path_len: path.1,
    };
    out[begin..begin + size_of::<Header>()].copy_from_slice(header.as_bytes());
    Ok(())
}
