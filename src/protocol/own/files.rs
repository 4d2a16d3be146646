//! FILES: the program a process runs, and the directories it works in.

use super::parts::{head, push_strings, string};
use crate::protocol::{DecodeError, EncodeError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "FILES";

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
struct Header([[u16; 2]; 3]);

/// The links `exe`, `cwd` and `root` below `/proc/PID`, as the daemon reads them: raw bytes without NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files<'a> {
    /// The running program; `None` for a task without memory.
    pub exe: Option<&'a [u8]>,
    /// The working directory; `None` for a zombie.
    pub cwd: Option<&'a [u8]>,
    /// The root directory; `None` for a zombie.
    pub root: Option<&'a [u8]>,
}

impl<'a> Files<'a> {
    /// Reads a whole payload: the pieces of all attributes of that number, one behind the other.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(payload: &'a [u8]) -> Result<Files<'a>, DecodeError> {
        let Header(places) = head(NAME, payload)?;
        let [exe, cwd, root] = places.map(|[off, len]| string(NAME, payload, off, len));
        Ok(Files { exe: exe?, cwd: cwd?, root: root? })
    }
}

/// Appends a payload.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was then.
pub fn push_files(out: &mut Vec<u8>, files: &Files<'_>) -> Result<(), EncodeError> {
    let begin = out.len();
    out.extend_from_slice(&[0; size_of::<Header>()]);
    let places = push_strings(out, begin, [files.exe, files.cwd, files.root])?;
    let header = Header(places.map(|(off, len)| [off, len]));
    out[begin..begin + size_of::<Header>()].copy_from_slice(header.as_bytes());
    Ok(())
}
