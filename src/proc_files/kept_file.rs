//! A file of a task that is held open: to be read again, or because the kernel chose at its opening whose memory it tells of.

use super::{Bounds, STEP, TaskDir, open, read_from};
use nix::errno::Errno;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The open file. `maps`, `smaps`, `smaps_rollup` and `environ` tell of the memory that the task had when they were opened
/// (`proc_mem_open`), whatever it has executed since; once nobody has that memory any more they are empty.
#[derive(Debug)]
pub(crate) struct KeptFile {
    file: OwnedFd,
    bounds: Option<Arc<dyn Bounds>>,
}

impl TaskDir {
    /// Opens a file to keep it.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn keep(&self, name: &str) -> nix::Result<KeptFile> {
        self.step(0)?;
        Ok(KeptFile { file: open(&self.dir, name)?, bounds: self.bounds.clone() })
    }
}

impl KeptFile {
    /// Its text from the beginning, of a file that the kernel makes in one piece.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_from(|rest, at| pread(&self.file, rest, at as i64), buffer, false, self.bounds.as_deref())
    }

    /// What the kernel gives next of a file that it hands over page by page; nothing at the end.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn read_on(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        loop {
            match nix::unistd::read(&self.file, buffer) {
                Err(Errno::EINTR) => continue,
                read => return read,
            }
        }
    }

    /// Lets the next [`KeptFile::read_on`] begin at the beginning.
    ///
    /// # Errors
    /// What `lseek` says.
    pub(crate) fn rewind(&self) -> nix::Result<()> {
        lseek(&self.file, 0, Whence::SeekSet).map(drop)
    }

    /// Whether there is anything to read in it.
    pub(crate) fn has_text(&self, buffer: &mut Vec<u8>) -> bool {
        buffer.resize(buffer.len().max(STEP), 0);
        loop {
            match pread(&self.file, &mut buffer[..1], 0) {
                Err(Errno::EINTR) => continue,
                read => return read.is_ok_and(|n| n > 0),
            }
        }
    }
}
