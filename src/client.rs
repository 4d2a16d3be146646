//! Asking for tasks: the file of a mount, or the engine in this very process, through the same calls.

use crate::access::{CallerError, Reader};
use crate::engine::{EngineError, Transaction};
use crate::proc_files::ProcRoot;
use crate::protocol::{
    Attribute, Base, Credentials, DecodeError, Groups, Message, Messages, Request, Stat, Statm, VmFlags,
    VmaStat,
};
use crate::source::Source;
use std::fs::{File, OpenOptions};
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

fn meaning(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file; is the task-diag service running?",
        Some(libc::ENOTCONN) => "the service behind this mount has ended; start it again",
        Some(libc::ESRCH) => "there is no task of that id",
        Some(libc::EACCES) => "not allowed; the reader may live in another namespace than the service",
        Some(libc::EBUSY) => "an earlier request has not been read to its end",
        _ => "cannot exchange requests with the service",
    }
}

/// A place to send requests to.
#[derive(Debug)]
pub struct Client<T = File> {
    transport: T,
    buffer: Vec<u8>,
    seq: u32,
}

impl Client<File> {
    /// Opens the file that a daemon (or a kernel with the patch) serves.
    ///
    /// # Errors
    /// What `open` says.
    pub fn open(path: impl AsRef<Path>) -> Result<Client<File>, ClientError> {
        Ok(Client::over(OpenOptions::new().read(true).write(true).open(path)?))
    }
}

impl Client<Direct> {
    /// Asks `source` in this very process, with the eyes of the thread that asks.
    pub fn direct(source: Arc<dyn Source>, proc_root: Arc<ProcRoot>) -> Client<Direct> {
        Client::over(Direct { transaction: Transaction::new(source), proc_root })
    }
}

impl<T: Read + Write> Client<T> {
    /// A client over anything that takes requests by `write` and gives answers by `read`.
    pub fn over(transport: T) -> Client<T> {
        Client { transport, buffer: vec![0; DEFAULT_BUFFER], seq: 0 }
    }

    /// Reads with buffers of so many bytes from now on.
    pub fn set_buffer_len(&mut self, len: usize) {
        self.buffer = vec![0; len];
    }

    /// Sends a request; its `seq` is replaced by the client's own count.
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
        Ok(Dump { client: self })
    }

    /// The whole answer, owned, with the pieces of each task joined.
    ///
    /// # Errors
    /// As [`Client::dump`] and [`Dump::next_batch`].
    pub fn tasks(&mut self, request: Request) -> Result<Vec<OwnedTask>, ClientError> {
        let mut tasks = Vec::new();
        let mut dump = self.dump(request)?;
        let mut unfinished = false;
        while let Some(messages) = dump.next_batch()? {
            for message in messages {
                let message = message?;
                if !unfinished {
                    tasks.push(OwnedTask { pid: message.pid, tgid: message.tgid, ..OwnedTask::default() });
                }
                if let Some(task) = tasks.last_mut() {
                    task.add(&message)?;
                }
                unfinished = message.continues;
            }
        }
        Ok(tasks)
    }
}

/// An answer being read.
#[derive(Debug)]
pub struct Dump<'c, T = File> {
    client: &'c mut Client<T>,
}

impl<T: Read + Write> Dump<'_, T> {
    /// The messages of one more read; `None` at the end. A buffer too small for the next piece is doubled.
    ///
    /// # Errors
    /// What `read` says; the request is gone then.
    pub fn next_batch(&mut self) -> Result<Option<Messages<'_>>, ClientError> {
        let Client { transport, buffer, .. } = &mut *self.client;
        let n = loop {
            match transport.read(buffer) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                    let doubled = buffer.len().max(64) * 2;
                    buffer.resize(doubled, 0);
                }
                Err(e) => return Err(e.into()),
            }
        };
        Ok((n > 0).then(|| Messages::new(&buffer[..n])))
    }
}

/// The engine in this very process, behind `read` and `write`.
pub struct Direct {
    transaction: Transaction,
    proc_root: Arc<ProcRoot>,
}

impl Direct {
    fn current(&self) -> Result<Reader, CallerError> {
        Reader::current(&self.proc_root)
    }
}

impl Read for Direct {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.transaction.read(|| self.current(), buf).map_err(as_io)
    }
}

impl Write for Direct {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.transaction.write(data).map_err(as_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_io(error: EngineError) -> io::Error {
    io::Error::from_raw_os_error(error.to_errno())
}

/// One task of an answer; groups not asked for, and those that the task lacks, are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedTask {
    /// Id of the task in the reader's pid namespace.
    pub pid: u32,
    /// Its thread group's id.
    pub tgid: u32,
    /// BASE
    pub base: Option<Base>,
    /// CRED
    pub credentials: Option<Credentials>,
    /// VMA, with VMA_STAT where asked for.
    pub mappings: Vec<OwnedVma>,
    /// STAT
    pub stat: Option<Stat>,
    /// STATM
    pub statm: Option<Statm>,
    /// CMDLINE: the arguments, each ended by a NUL.
    pub command_line: Option<Vec<u8>>,
    /// MISSING: what could not be read in time.
    pub missing: Groups,
}

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedVma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// The protocol's flags.
    pub flags: VmFlags,
    /// Offset in the file, in bytes.
    pub pgoff: u64,
    /// Device of the file.
    pub device: (u32, u32),
    /// Inode of the file.
    pub inode: u64,
    /// Generation of the inode; 0 where the server cannot know it.
    pub generation: u32,
    /// Name, without its NUL.
    pub name: Vec<u8>,
    /// VMA_STAT
    pub stat: Option<VmaStat>,
}

impl OwnedTask {
    /// Adds what one message says of this task.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn add(&mut self, message: &Message<'_>) -> Result<(), DecodeError> {
        for attribute in message.attributes() {
            match attribute? {
                Attribute::Base(base) => self.base = Some(base),
                Attribute::Credentials(credentials) => self.credentials = Some(credentials),
                Attribute::Stat(stat) => self.stat = Some(stat),
                Attribute::Statm(statm) => self.statm = Some(statm),
                Attribute::Cmdline(bytes) => {
                    self.command_line.get_or_insert_default().extend_from_slice(bytes)
                }
                Attribute::Missing(mask) => self.missing = Groups::from_bits_retain(mask),
                Attribute::Vma(list) => {
                    for vma in list {
                        let vma = vma?;
                        self.mappings.push(OwnedVma {
                            start: vma.start,
                            end: vma.end,
                            flags: vma.flags,
                            pgoff: vma.pgoff,
                            device: (vma.major, vma.minor),
                            inode: vma.inode,
                            generation: vma.generation,
                            name: vma.name.to_vec(),
                            stat: vma.stat,
                        });
                    }
                }
                Attribute::Unknown { .. } => {}
            }
        }
        Ok(())
    }
}
