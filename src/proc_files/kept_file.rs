//! A file of a task that is held open: to be read again, or because the kernel chose at its opening whose memory it tells of.

use super::{LONGEST_LIST, LONGEST_PIECE, STEP, TaskDir, open, read_from};
use nix::errno::Errno;
use nix::sys::uio::pread;
use std::os::fd::OwnedFd;

/// The open file. `maps`, `smaps`, `smaps_rollup` and `environ` tell of the memory that the task had when they were opened
/// (`proc_mem_open`), whatever it has executed since; once nobody has that memory any more they are empty.
#[derive(Debug)]
pub(crate) struct KeptFile(OwnedFd);

impl TaskDir {
    /// Opens a file to keep it.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn keep(&self, name: &str) -> nix::Result<KeptFile> {
        open(&self.dir, name).map(KeptFile)
    }
}

impl KeptFile {
    /// Its text from the beginning, of a file that the kernel makes in one piece.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_from(|rest, at| pread(&self.0, rest, at as i64), buffer, false, LONGEST_PIECE)
    }

    /// The same of one that the kernel hands over page by page.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn read_whole<'b>(&self, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_from(|rest, at| pread(&self.0, rest, at as i64), buffer, true, LONGEST_LIST)
    }

    /// Whether there is anything to read in it.
    pub(crate) fn has_text(&self, buffer: &mut Vec<u8>) -> bool {
        buffer.resize(buffer.len().max(STEP), 0);
        loop {
            match pread(&self.0, &mut buffer[..1], 0) {
                Err(Errno::EINTR) => continue,
                read => return read.is_ok_and(|n| n > 0),
            }
        }
    }
}
