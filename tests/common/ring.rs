//! A ring of io_uring: system calls made by other threads than the one that asks for them, with whose credentials the
//! kernel says.

use super::needs;
use io_uring::{IoUring, opcode, squeue, types};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Which thread makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The one that asks for them, where they need not wait.
    Asking,
    /// One of the kernel's, started with the credentials that the asking thread had then.
    Worker,
    /// One of the kernel's that looks for what is asked for, with the credentials of who made the ring.
    Poller,
}

pub struct Ring(IoUring, By);

impl Ring {
    /// A ring of the calling thread.
    pub fn new(by: By) -> Ring {
        let mut builder = IoUring::builder();
        if by == By::Poller {
            builder.setup_sqpoll(50);
        }
        Ring(builder.build(4).unwrap(), by)
    }

    /// Whether this machine has rings at all.
    #[must_use]
    pub fn is_there() -> bool {
        match IoUring::new(4) {
            Ok(_) => true,
            Err(e) => needs::missing(&format!("io_uring ({e}; kernel.io_uring_disabled is to be 0)")),
        }
    }

    /// Keeps the credentials of the calling thread for later calls; gives their number.
    pub fn keep_credentials(&self) -> u16 {
        self.0.submitter().register_personality().unwrap()
    }

    fn call(&mut self, entry: squeue::Entry, credentials: u16) -> Result<i32, Errno> {
        let flags = if self.1 == By::Worker { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        let entry = entry.personality(credentials).flags(flags);
        // SAFETY: what the entry points to outlives the call, which waits for its end.
        unsafe { self.0.submission().push(&entry) }.unwrap();
        self.0.submit_and_wait(1).unwrap();
        let result = self.0.completion().next().expect("a completion").result();
        if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(result) }
    }

    /// `pread(2)`, with the credentials of that number, or those of the ring's user for 0. At offset 0: the kernel takes
    /// what lies behind the bytes written for the end of the file.
    pub fn read(&mut self, fd: RawFd, into: &mut [u8], credentials: u16) -> Result<usize, Errno> {
        let entry = opcode::Read::new(types::Fd(fd), into.as_mut_ptr(), into.len() as u32);
        self.call(entry.build(), credentials).map(|n| n as usize)
    }

    /// `open(2)` for reading.
    pub fn open(&mut self, path: &str, credentials: u16) -> Result<OwnedFd, Errno> {
        let path = CString::new(path).unwrap();
        let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_RDONLY);
        let fd = self.call(entry.build(), credentials)?;
        // SAFETY: a descriptor that is new, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
