//! An answer being read, and its tasks, borrowed from the client's buffer.

use super::records::{Cgroups, Descriptors, Mappings, Records};
use super::{Client, ClientError, Mount, OwnedTask};
use crate::protocol::{
    Attribute, Base, Credentials, DecodeError, FdCount, Files, Groups, Io, Membership, Messages, Misc,
    Namespaces, Rollup, Sched, Stat, Statm,
};
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::ops::Range;

/// An answer being read.
///
/// Take it by the task ([`Dump::next_task`]) or by the read ([`Dump::next_batch`]), not by both in turns.
#[derive(Debug)]
pub struct Dump<'c, T = Mount> {
    client: &'c mut Client<T>,
    /// What of the client's buffer has been read and not been handed out by task.
    unread: Range<usize>,
    ended: bool,
}

impl<'c, T: Read + Write> Dump<'c, T> {
    pub(super) fn new(client: &'c mut Client<T>) -> Dump<'c, T> {
        Dump { client, unread: 0..0, ended: false }
    }

    /// The messages of one more read; `None` at the end. A buffer too small for the next piece is doubled.
    ///
    /// # Errors
    /// What `read` says; the request is gone then.
    pub fn next_batch(&mut self) -> Result<Option<Messages<'_>>, ClientError> {
        let n = self.fill()?;
        Ok((n > 0).then(|| Messages::new(&self.client.buffer[..n])))
    }

    fn fill(&mut self) -> Result<usize, ClientError> {
        self.unread = 0..0;
        let Client { transport, buffer, .. } = &mut *self.client;
        let n = loop {
            match transport.read(buffer) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                    let doubled = buffer.len().max(64) * 2;
                    buffer.resize(doubled, 0);
                }
                Err(e) => {
                    self.ended = true;
                    return Err(e.into());
                }
            }
        };
        self.ended = n == 0;
        Ok(n)
    }

    /// The next task, whole; `None` at the end. Nothing is copied or allocated, unless the task came in several messages:
    /// these are then joined in a buffer that the client keeps.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use task_diag::{client::Client, proc_files::ProcRoot, source::{Limits, ProcfsSource}};
    /// use task_diag::protocol::{Groups, Request};
    /// # let proc_root = Arc::new(ProcRoot::open("/proc")?);
    /// # let source = Arc::new(ProcfsSource::new(proc_root.clone(), Limits::default()));
    /// # let mut client = Client::direct(source, proc_root);
    /// // `client` is any: that of a mount, or one that asks directly.
    /// let mut dump = client.dump(Request::all(Groups::BASE | Groups::STATM))?;
    /// let mut pages = 0;
    /// while let Some(task) = dump.next_task()? {
    ///     pages += task.statm().map_or(0, |statm| statm.total_rss);
    /// }
    /// assert!(pages > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `read` says, and what is wrong with an answer; the rest of it can't be had then.
    pub fn next_task(&mut self) -> Result<Option<TaskRef<'_>>, ClientError> {
        self.client.joined.clear();
        let whole = loop {
            if self.unread.is_empty() {
                if self.ended {
                    return Ok(None);
                }
                self.unread = 0..self.fill()?;
                if self.unread.is_empty() {
                    if self.client.joined.is_empty() {
                        return Ok(None);
                    }
                    // The end in the middle of a task: what came is what there is.
                    break None;
                }
            }
            let bytes = &self.client.buffer[self.unread.clone()];
            let mut messages = Messages::new(bytes);
            let continues = match messages.next() {
                Some(Ok(message)) => message.continues,
                Some(Err(error)) => {
                    self.unread = 0..0;
                    return Err(error.into());
                }
                None => false,
            };
            let len = messages.position().min(bytes.len());
            let range = self.unread.start..self.unread.start + len;
            self.unread.start = range.end;
            if !continues && self.client.joined.is_empty() {
                break Some(range);
            }
            self.client.joined.extend_from_slice(&self.client.buffer[range]);
            if !continues {
                break None;
            }
        };
        let bytes = match whole {
            Some(range) => &self.client.buffer[range],
            None => &self.client.joined[..],
        };
        Ok(Some(TaskRef::parse(bytes)?))
    }

    /// Reads the rest and forgets it, so that the client can ask again.
    ///
    /// # Errors
    /// What `read` says; the request is gone then, too.
    pub fn discard(mut self) -> Result<(), ClientError> {
        while !self.ended {
            self.fill()?;
        }
        Ok(())
    }
}

/// One task of an answer, borrowed from the client's buffer; see [`Dump::next_task`].
#[derive(Clone, Debug)]
pub struct TaskRef<'a> {
    /// Id of the task in the reader's pid namespace.
    pub pid: u32,
    /// Its thread group's id.
    pub tgid: u32,
    base: Option<Base>,
    credentials: Option<Credentials>,
    stat: Option<Stat>,
    statm: Option<Statm>,
    missing: Groups,
    command_line: Option<Cow<'a, [u8]>>,
    sched: Option<Sched>,
    io: Option<Io>,
    fd_count: Option<FdCount>,
    /// Seldom asked for, and large.
    rollup: Option<Box<Rollup>>,
    taskstats: Option<&'a [u8]>,
    namespaces: Option<Namespaces>,
    misc: Option<Misc<'a>>,
    /// Payloads that have been checked.
    membership: Option<Cow<'a, [u8]>>,
    files: Option<Cow<'a, [u8]>>,
    environ: Option<Cow<'a, [u8]>>,
    /// Which of the attributes that are lists have come.
    lists: Groups,
    messages: Messages<'a>,
}

/// Adds a piece to those before.
fn join<'a>(pieces: &mut Option<Cow<'a, [u8]>>, piece: &'a [u8]) {
    match pieces {
        Some(whole) => whole.to_mut().extend_from_slice(piece),
        none => *none = Some(Cow::Borrowed(piece)),
    }
}

impl<'a> TaskRef<'a> {
    /// Reads the message of a task, or all of its messages one behind the other.
    ///
    /// # Errors
    /// What is wrong with them. Records of lists are checked when they are read.
    pub fn parse(messages: &'a [u8]) -> Result<TaskRef<'a>, DecodeError> {
        let mut task = TaskRef {
            pid: 0,
            tgid: 0,
            base: None,
            credentials: None,
            stat: None,
            statm: None,
            missing: Groups::empty(),
            command_line: None,
            sched: None,
            io: None,
            fd_count: None,
            rollup: None,
            taskstats: None,
            namespaces: None,
            misc: None,
            membership: None,
            files: None,
            environ: None,
            lists: Groups::empty(),
            messages: Messages::new(messages),
        };
        for message in task.messages.clone() {
            let message = message?;
            (task.pid, task.tgid) = (message.pid, message.tgid);
            for attribute in message.attributes() {
                match attribute? {
                    Attribute::Base(base) => task.base = Some(base),
                    Attribute::Credentials(credentials) => task.credentials = Some(credentials),
                    Attribute::Stat(stat) => task.stat = Some(stat),
                    Attribute::Statm(statm) => task.statm = Some(statm),
                    Attribute::Missing(mask) => task.missing = Groups::from_bits_retain(mask),
                    Attribute::Cmdline(bytes) => join(&mut task.command_line, bytes),
                    Attribute::Sched(sched) => task.sched = Some(sched),
                    Attribute::Io(io) => task.io = Some(io),
                    Attribute::FdCount(count) => task.fd_count = Some(count),
                    Attribute::Rollup(rollup) => task.rollup = Some(Box::new(rollup)),
                    Attribute::Taskstats(bytes) => task.taskstats = Some(bytes),
                    Attribute::Namespaces(payload) => task.namespaces = Some(Namespaces::parse(payload)?),
                    Attribute::Misc(payload) => task.misc = Some(Misc::parse(payload)?),
                    Attribute::Groups(piece) => join(&mut task.membership, piece),
                    Attribute::Files(piece) => join(&mut task.files, piece),
                    Attribute::Environ(piece) => join(&mut task.environ, piece),
                    Attribute::Cgroup(_) => task.lists |= Groups::CGROUP,
                    Attribute::Descriptors(_) => task.lists |= Groups::FD,
                    Attribute::Vma(_) | Attribute::Unknown { .. } => {}
                }
            }
        }
        task.membership.as_deref().map(Membership::parse).transpose()?;
        task.files.as_deref().map(Files::parse).transpose()?;
        Ok(task)
    }

    /// BASE. `None` if it was not asked for, or the task went while it was being sent; so are the others.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// CRED
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// STAT
    pub fn stat(&self) -> Option<&Stat> {
        self.stat.as_ref()
    }

    /// STATM
    pub fn statm(&self) -> Option<&Statm> {
        self.statm.as_ref()
    }

    /// MISSING: what could not be read in time.
    pub fn missing(&self) -> Groups {
        self.missing
    }

    /// CMDLINE: the bytes of `/proc/PID/cmdline`.
    pub fn command_line(&self) -> Option<&[u8]> {
        self.command_line.as_deref()
    }

    /// CMDLINE, argument by argument; none without a command line.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments::of(self.command_line().unwrap_or_default())
    }

    /// VMA, with VMA_STAT where asked for, in order of address.
    pub fn mappings(&self) -> Mappings<'a> {
        Records::new(self.messages.clone())
    }

    /// TASKSTATS: the kernel's `struct taskstats`, which begins with a u16, its version.
    pub fn taskstats(&self) -> Option<&'a [u8]> {
        self.taskstats
    }

    /// GROUPS
    pub fn membership(&self) -> Option<Membership<'_>> {
        Membership::parse(self.membership.as_deref()?).ok()
    }

    /// SCHED
    pub fn sched(&self) -> Option<&Sched> {
        self.sched.as_ref()
    }

    /// IO
    pub fn io(&self) -> Option<&Io> {
        self.io.as_ref()
    }

    /// CGROUP; `None` if it did not come.
    pub fn cgroups(&self) -> Option<Cgroups<'a>> {
        self.lists.contains(Groups::CGROUP).then(|| Records::new(self.messages.clone()))
    }

    /// NS
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.namespaces.as_ref()
    }

    /// FILES
    pub fn files(&self) -> Option<Files<'_>> {
        Files::parse(self.files.as_deref()?).ok()
    }

    /// FD_COUNT
    pub fn fd_count(&self) -> Option<&FdCount> {
        self.fd_count.as_ref()
    }

    /// FD, ascending; `None` if it did not come.
    pub fn descriptors(&self) -> Option<Descriptors<'a>> {
        self.lists.contains(Groups::FD).then(|| Records::new(self.messages.clone()))
    }

    /// ROLLUP
    pub fn rollup(&self) -> Option<&Rollup> {
        self.rollup.as_deref()
    }

    /// ENVIRON: the bytes of `/proc/PID/environ`.
    pub fn environ(&self) -> Option<&[u8]> {
        self.environ.as_deref()
    }

    /// MISC
    pub fn misc(&self) -> Option<&Misc<'a>> {
        self.misc.as_ref()
    }

    /// The task's messages as they came.
    pub fn messages(&self) -> Messages<'a> {
        self.messages.clone()
    }

    /// A copy that stays.
    ///
    /// # Errors
    /// What is wrong with the mappings.
    pub fn to_owned(&self) -> Result<OwnedTask, DecodeError> {
        OwnedTask::try_from(self)
    }
}

/// The arguments of a command line: what stands between its NULs, the last of which may lack.
///
/// ```
/// use task_diag::client::Arguments;
/// assert!(Arguments::of(b"sh\0-c\0\0").eq([&b"sh"[..], b"-c", b""]));
/// assert!(Arguments::of(b"nginx: worker").eq([b"nginx: worker"]));
/// assert_eq!(Arguments::of(b"").next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Arguments<'a>(Option<&'a [u8]>);

impl<'a> Arguments<'a> {
    /// Those of the bytes of `/proc/PID/cmdline`.
    pub fn of(command_line: &'a [u8]) -> Arguments<'a> {
        let ended = command_line.strip_suffix(b"\0").unwrap_or(command_line);
        Arguments((!command_line.is_empty()).then_some(ended))
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        match memchr::memchr(0, rest) {
            Some(at) => {
                self.0 = Some(&rest[at + 1..]);
                Some(&rest[..at])
            }
            None => self.0.take(),
        }
    }
}
