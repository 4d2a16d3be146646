//! One open file of the mount, through plain system calls: what a client written in C would see.

use super::wire;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use task_diag::client::OwnedTask;
use task_diag::protocol::{DumpStrategy, Groups, Request};

/// Bytes for each read unless a test has a reason for others.
pub const BUFFER: usize = 160 * 1024;

/// An open file.
#[derive(Debug)]
pub struct Handle(pub OwnedFd);

impl Handle {
    /// Opens `path` as clients do.
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> Handle {
        Self::open_with(path, OFlag::O_RDWR).unwrap()
    }

    /// Opens `path` with other flags.
    pub fn open_with(path: impl AsRef<Path>, flags: OFlag) -> Result<Handle, Errno> {
        nix::fcntl::open(path.as_ref(), flags | OFlag::O_CLOEXEC, Mode::empty()).map(Handle)
    }

    /// `write(2)`
    pub fn write(&self, data: &[u8]) -> Result<usize, Errno> {
        nix::unistd::write(&self.0, data)
    }

    /// Writes a request, which is taken whole.
    #[track_caller]
    pub fn request(&self, request: &Request) {
        let bytes = request.to_bytes();
        assert_eq!(self.write(&bytes), Ok(bytes.len()));
    }

    /// `read(2)` into `buffer` bytes.
    pub fn read(&self, buffer: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; buffer];
        let n = nix::unistd::read(&self.0, &mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Reads to the end of a dump; gives what each read gave. Buffers that are too small are doubled.
    pub fn read_to_end(&self, buffer: usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut reads = Vec::new();
        let mut bytes = vec![0; buffer];
        loop {
            match nix::unistd::read(&self.0, &mut bytes) {
                Ok(0) => return Ok(reads),
                Ok(n) => reads.push(bytes[..n].to_vec()),
                Err(Errno::EMSGSIZE) => bytes.resize(bytes.len() * 2, 0),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// A whole transaction, its answer checked byte for byte.
    #[track_caller]
    pub fn dump(&self, request: &Request) -> Result<Vec<OwnedTask>, Errno> {
        self.dump_with(request, BUFFER)
    }

    /// As [`Handle::dump`], with buffers of so many bytes.
    #[track_caller]
    pub fn dump_with(&self, request: &Request, buffer: usize) -> Result<Vec<OwnedTask>, Errno> {
        self.request(request);
        Ok(wire::tasks(&self.read_to_end(buffer)?, request.seq))
    }

    /// Asks for one task and expects it: that this file still answers as it should.
    #[track_caller]
    pub fn answers(&self, pid: u32) {
        let tasks = self.dump(&one(pid, Groups::BASE)).unwrap();
        assert_eq!(tasks.iter().map(|t| t.pid).collect::<Vec<_>>(), [pid]);
        assert_eq!(tasks[0].base.unwrap().pid, pid);
    }

    /// The descriptor.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A request for one task.
pub fn one(pid: u32, groups: Groups) -> Request {
    Request { seq: 0x5eed_0001, groups, strategy: DumpStrategy::One, pid, pids: Vec::new() }
}

/// A request by strategy.
pub fn request(strategy: DumpStrategy, pid: u32, groups: Groups) -> Request {
    Request { seq: 0x5eed_0002, groups, strategy, pid, pids: Vec::new() }
}
