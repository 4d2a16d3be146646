//! Open descriptors of a task: its directories `fd` and `fdinfo`.

use super::{TaskDir, numeric_names};
use nix::errno::Errno;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// What stands behind a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenFile {
    /// The upper four bits of `st_mode`.
    pub kind: u8,
    pub inode: u64,
    pub major: u32,
    pub minor: u32,
}

impl TaskDir {
    /// The numbers of the open descriptors, ascending.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn descriptors(&self) -> nix::Result<Vec<u32>> {
        let mut numbers = numeric_names(&self.dir, "fd")?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// How many descriptors are open: the size of the directory says it, since Linux 6.2.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn count_of_descriptors(&self) -> nix::Result<u32> {
        match nix::sys::stat::fstatat(&self.dir, "fd", nix::fcntl::AtFlags::empty())?.st_size {
            0 => Ok(numeric_names(&self.dir, "fd")?.len() as u32),
            count => Ok(count as u32),
        }
    }

    /// The file behind a descriptor, as the kernel has it at hand: a file system that hangs is not asked.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn open_file(&self, fd: u32) -> nix::Result<OpenFile> {
        let path = CString::new(format!("fd/{fd}")).map_err(|_| Errno::EINVAL)?;
        let mut found = MaybeUninit::<libc::statx>::zeroed();
        let wanted = libc::STATX_TYPE | libc::STATX_INO;
        // SAFETY: the path ends with a NUL, and the kernel writes a struct statx to where one has room.
        let found = unsafe {
            let flags = libc::AT_STATX_DONT_SYNC;
            Errno::result(libc::statx(
                self.dir.as_raw_fd(),
                path.as_ptr(),
                flags,
                wanted,
                found.as_mut_ptr(),
            ))?;
            found.assume_init()
        };
        Ok(OpenFile {
            kind: (found.stx_mode >> 12) as u8,
            inode: found.stx_ino,
            major: found.stx_dev_major,
            minor: found.stx_dev_minor,
        })
    }
}
