//! Asking for tasks: the file of a mount, or the engine in this very process, through the same calls.
//!
//! # Asking
//!
//! [`Client::open`] opens the file of a daemon. [`Client::dump`] sends a [`Request`] and gives a [`Dump`], from which tasks
//! are taken one by one without an allocation each:
//!
//! ```no_run
//! use task_diag::client::{Client, DEFAULT_PATH};
//! use task_diag::protocol::{Groups, Request};
//!
//! let mut client = Client::open(DEFAULT_PATH)?;
//! let mut dump = client.dump(Request::all(Groups::BASE | Groups::STAT | Groups::CMDLINE))?;
//! while let Some(task) = dump.next_task()? {
//!     let ticks = task.stat().map_or(0, |stat| stat.utime + stat.stime);
//!     let name = task.base().map(|base| base.comm_bytes().escape_ascii().to_string());
//!     println!("{} {name:?}: {ticks} ticks, {} arguments", task.pid, task.arguments().count());
//! }
//! # Ok::<(), task_diag::client::ClientError>(())
//! ```
//!
//! A group that was not asked for, and one that the task lacks (a kernel thread has no memory), is `None` or empty.
//! [`Client::tasks`] gives the same as [`OwnedTask`]s, which stay. [`Dump::next_batch`] gives the messages as they come, for
//! programs that want nothing joined.
//!
//! # When there is no daemon
//!
//! [`probe`] asks for the caller's own process and says what the server offers, or why nobody answers: [`Absent`] is made
//! for a program that falls back to `/proc` and wants to tell its user what is missing.
//!
//! # When the daemon is restarted
//!
//! A file opened before says `ENOTCONN` from then on. A client made by [`Client::open`] then opens its path again and
//! repeats the request, once, as long as nothing of the answer was handed out; see [`Mount`].

mod direct;
mod dump;
mod mount;
mod owned;
mod probe;
mod records;

pub use direct::Direct;
pub use dump::{Arguments, Dump, TaskRef};
pub use mount::Mount;
pub use owned::{OwnedTask, OwnedVma};
pub use probe::{Absent, Server, probe};
pub use records::{Cgroups, Descriptors, List, Mappings, Records};

use crate::proc_files::ProcRoot;
use crate::protocol::{DecodeError, Request};
use crate::source::Source;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Where a daemon serves the interface unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/task_diag/task_diag";

/// Bytes that a client reads at once unless told otherwise.
pub const DEFAULT_BUFFER: usize = 160 * 1024;

/// Why a dump cannot be had.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The file could not be opened; the message says what that means.
    #[error("{}", meaning_of_open(.source))]
    Open {
        /// What `open` said.
        source: io::Error,
    },
    /// The file refused a request or a read; the message says what that means.
    #[error("{}", meaning(.source))]
    Io {
        /// What the system call said.
        #[from]
        source: io::Error,
    },
    /// The answer is not in the protocol's form.
    #[error("malformed answer: {0}")]
    Decode(#[from] DecodeError),
}

impl ClientError {
    /// The error number of the call that failed; `None` for an answer that is malformed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            ClientError::Open { source } | ClientError::Io { source } => source.raw_os_error(),
            ClientError::Decode(_) => None,
        }
    }

    /// Whether there is no task of the id that ONE, CHILDREN, THREAD or SUBTREE was asked for (`ESRCH`).
    pub fn is_no_such_task(&self) -> bool {
        self.errno() == Some(libc::ESRCH)
    }
}

fn meaning_of_open(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => "no such file; is the task-diag service running?",
        Some(libc::EACCES | libc::EPERM) => {
            "not allowed to open it; permissions or a security module keep this user out, or another user mounted it for \
             themselves alone"
        }
        Some(libc::ENOTCONN | libc::ECONNABORTED) => ENDED,
        Some(libc::EMFILE) => {
            "too many open files: of this process (ulimit -n), or of this user at the service (--files-per-user)"
        }
        Some(libc::ENFILE) => "too many open files: the machine or the service has no more to give",
        _ if error.kind() == io::ErrorKind::InvalidInput => "nothing can be asked of it",
        _ => "it cannot be opened",
    }
}

const ENDED: &str = "the service behind this mount has ended; start it again";

fn meaning(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOTCONN | libc::ECONNABORTED) => ENDED,
        Some(libc::ESRCH) => "there is no task of that id",
        Some(libc::EACCES) => "the service cannot tell who this process is; it may live in another namespace",
        Some(libc::EBUSY) => "an earlier request has not been read to its end",
        Some(libc::ENOMEM) => {
            "this user holds too much of dumps half read; end some, or read with larger buffers"
        }
        _ => "cannot exchange requests with the service",
    }
}

/// A place to send requests to.
#[derive(Debug)]
pub struct Client<T = Mount> {
    transport: T,
    buffer: Vec<u8>,
    /// The messages of a task that did not fit one.
    joined: Vec<u8>,
    seq: u32,
}

impl Client<Mount> {
    /// Opens the file that a daemon (or a kernel with the patch) serves.
    ///
    /// # Errors
    /// What `open` says, and `InvalidInput` for a file that no such server stands behind.
    pub fn open(path: impl AsRef<Path>) -> Result<Client<Mount>, ClientError> {
        Mount::open(path).map(Client::over).map_err(|source| ClientError::Open { source })
    }
}

impl Client<Direct> {
    /// Asks `source` in this very process, with the eyes of the thread that asks.
    pub fn direct(source: Arc<dyn Source>, proc_root: Arc<ProcRoot>) -> Client<Direct> {
        Client::over(Direct::new(source, proc_root))
    }
}

impl<T: Read + Write> Client<T> {
    /// A client over anything that takes requests by `write` and gives answers by `read`.
    pub fn over(transport: T) -> Client<T> {
        Client { transport, buffer: vec![0; DEFAULT_BUFFER], joined: Vec::new(), seq: 0 }
    }

    /// Reads with buffers of so many bytes from now on.
    pub fn set_buffer_len(&mut self, len: usize) {
        self.buffer = vec![0; len];
    }

    /// Sends a request; its `seq` is replaced by the client's own count.
    ///
    /// A dump that is dropped before its end leaves the file busy; [`Dump::discard`] reads the rest.
    ///
    /// # Errors
    /// What `write` says, `EBUSY` above all: an earlier dump of this client was not read to its end.
    pub fn dump(&mut self, request: Request) -> Result<Dump<'_, T>, ClientError> {
        self.seq = self.seq.wrapping_add(1);
        let bytes = Request { seq: self.seq, ..request }.to_bytes();
        let written = self.transport.write(&bytes)?;
        if written != bytes.len() {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        Ok(Dump::new(self))
    }

    /// The whole answer, owned, with the pieces of each task joined. Where the server goes away halfway, the request is
    /// repeated once.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use task_diag::{client::Client, proc_files::ProcRoot, source::{Limits, ProcfsSource}};
    /// use task_diag::protocol::{Groups, Request};
    /// # let proc_root = Arc::new(ProcRoot::open("/proc")?);
    /// # let source = Arc::new(ProcfsSource::new(proc_root.clone(), Limits::default()));
    /// # let mut client = Client::direct(source, proc_root);
    /// // `client` is any: that of a mount, or one that asks directly.
    /// let tasks = client.tasks(Request::one(std::process::id(), Groups::BASE | Groups::VMA))?;
    /// assert_eq!(tasks.len(), 1);
    /// assert!(tasks[0].base.is_some() && tasks[0].mappings.iter().any(|vma| vma.name == b"[stack]"));
    /// assert!(tasks[0].stat.is_none(), "was not asked for");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::dump`] and [`Dump::next_batch`].
    pub fn tasks(&mut self, request: Request) -> Result<Vec<OwnedTask>, ClientError> {
        match self.collect(request.clone()) {
            Err(error) if error.errno().is_some_and(mount::is_disconnected) => self.collect(request),
            outcome => outcome,
        }
    }

    fn collect(&mut self, request: Request) -> Result<Vec<OwnedTask>, ClientError> {
        let mut tasks = Vec::new();
        let mut dump = self.dump(request)?;
        while let Some(task) = dump.next_task()? {
            tasks.push(task.to_owned()?);
        }
        Ok(tasks)
    }
}
