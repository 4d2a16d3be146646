//! The connection with the kernel: threads that take its requests, one after the other, and hand each to the file system.
//!
//! All that is known of how requests travel stands here and in [`super::filesystem`]: another way than reading
//! `/dev/fuse`, a ring of `io_uring` say, takes another file beside this one.

use super::TaskDiagFs;
use fuser::{Config, Session, SessionACL};
use nix::unistd::geteuid;
use std::io;
use std::os::fd::OwnedFd;

/// Threads that never gather, so that what is cheap is answered at once whatever all others do.
const RECEIVERS: usize = 2;

/// A connection that is ready to be served.
pub(super) struct Connection(Session<TaskDiagFs>);

impl Connection {
    /// Agrees with the kernel, by `device`, on how to go on.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(filesystem: TaskDiagFs, device: OwnedFd) -> io::Result<Connection> {
        let mut config = Config::default();
        let acl = if geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        // Whoever takes a request may gather its answer: that many do, and the others go on taking requests.
        config.n_threads = Some(filesystem.gatherers() + RECEIVERS);
        Ok(Connection(Session::from_fd(filesystem, device, acl, config)?))
    }

    /// Answers until the mount is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn serve(self) -> io::Result<()> {
        match self.0.run() {
            // Whoever unmounts while requests are under way cuts the loops off in the middle.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ECONNABORTED | libc::ENODEV)) => Ok(()),
            outcome => outcome,
        }
    }
}
