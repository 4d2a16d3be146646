//! An answer being read, and its tasks, borrowed from the client's buffer.

use super::{Client, ClientError, Mount, OwnedTask};
use crate::protocol::{
    Attribute, Base, Credentials, DecodeError, Groups, Messages, Stat, Statm, Vma, VmaList,
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
    messages: Messages<'a>,
}

impl<'a> TaskRef<'a> {
    /// Reads the message of a task, or all of its messages one behind the other.
    ///
    /// # Errors
    /// What is wrong with them. Records of mappings are checked when they are read.
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
                    Attribute::Cmdline(bytes) => match &mut task.command_line {
                        Some(line) => line.to_mut().extend_from_slice(bytes),
                        none => *none = Some(Cow::Borrowed(bytes)),
                    },
                    _ => {}
                }
            }
        }
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
        Mappings { messages: self.messages.clone(), attributes: None, list: VmaList::default() }
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

/// The mappings of a task, over all the attributes that hold them. Ends after an error.
#[derive(Clone, Debug)]
pub struct Mappings<'a> {
    messages: Messages<'a>,
    attributes: Option<crate::protocol::Attributes<'a>>,
    list: VmaList<'a>,
}

impl<'a> Iterator for Mappings<'a> {
    type Item = Result<Vma<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(vma) = self.list.next() {
                return Some(vma);
            }
            match self.attributes.as_mut().and_then(Iterator::next) {
                Some(Ok(Attribute::Vma(list))) => self.list = list,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => match self.messages.next()? {
                    Ok(message) => self.attributes = Some(message.attributes()),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}
