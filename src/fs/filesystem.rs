//! Thin glue between the kernel's FUSE requests and the engine.

use super::handles::{Handles, WaitingRead};
use super::info::Info;
use super::nodes::{self, Nodes};
use super::reads::Reads;
use super::seldom::Seldom;
use crate::source::Source;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const INFO: u64 = 2;
/// What the server has done: for root alone, for it tells of what was hidden.
const METRICS: u64 = 3;

/// Bytes that one READ or WRITE of the kernel carries at most.
const MAX_TRANSFER: u32 = 1024 * 1024;

/// The file system: the interface under its two names, and `info`.
pub struct TaskDiagFs {
    source: Arc<dyn Source>,
    info: Info,
    handles: Handles,
    reads: Arc<Reads>,
    seldom_opened: Seldom,
    seldom_kept: Seldom,
    nodes: Nodes,
    began: SystemTime,
    uid: u32,
    gid: u32,
    /// Who may open the interface.
    mode: u16,
    group: u32,
}

impl TaskDiagFs {
    /// Serves what `source` gives, by `gatherers` threads that gather at once.
    pub fn new(source: Arc<dyn Source>, info: Info, gatherers: usize) -> TaskDiagFs {
        TaskDiagFs {
            handles: Handles::new(info.limits.files, info.limits.files_per_user),
            reads: Arc::new(Reads::new(source.clone(), info.visibility, gatherers)),
            source,
            info,
            seldom_opened: Seldom::default(),
            seldom_kept: Seldom::default(),
            nodes: Nodes::new(),
            began: SystemTime::now(),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            mode: 0o666,
            group: nix::unistd::getegid().as_raw(),
        }
    }

    /// Gives the interface these permission bits (0666 without this) and this group (the daemon's own). Whoever is to use
    /// it has to be let both read and write. They narrow who may open the file and do not widen what a reader sees; the
    /// kernel judges them, where the mount has the option `default_permissions`.
    pub fn open_to(self, mode: u16, group: Option<u32>) -> TaskDiagFs {
        TaskDiagFs { mode: mode & 0o777, group: group.unwrap_or(self.group), ..self }
    }

    pub(super) fn source_name(&self) -> &'static str {
        self.source.name()
    }

    /// Threads that gather at once.
    pub(super) fn gatherers(&self) -> usize {
        self.reads.gatherers()
    }

    /// From now on memory is given back to the system where nothing is read any more.
    pub(super) fn give_memory_back(&self) {
        self.reads.give_memory_back();
    }

    pub(super) fn has_taskstats(&self) -> bool {
        self.source.taskstats().is_ok()
    }

    fn attr(&self, node: u64) -> FileAttr {
        let (kind, perm, gid, size) = match node {
            1 => (FileType::Directory, 0o755, self.gid, 0),
            INFO => (FileType::RegularFile, 0o444, self.gid, self.info.text().len() as u64),
            METRICS => (FileType::RegularFile, 0o400, self.gid, 0),
            // The size is always 0, which keeps page-cache readers from even asking.
            _ => (FileType::RegularFile, self.mode, self.group, 0),
        };
        FileAttr {
            ino: INodeNo(node),
            size,
            blocks: 0,
            atime: self.began,
            mtime: self.began,
            ctime: self.began,
            crtime: self.began,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn metrics(&self) -> String {
        let mut text = self.source.counters().exposition();
        for (name, help, value) in [
            ("parked_bytes", "Bytes kept for dumps half read.", self.source.budget().taken()),
            ("open_files", "Files that are open.", self.handles.count()),
        ] {
            let _ = writeln!(
                text,
                "# HELP task_diag_{name} {help}\n# TYPE task_diag_{name} gauge\ntask_diag_{name} {value}"
            );
        }
        text
    }
}

const NO_CACHE: Duration = Duration::ZERO;

impl Filesystem for TaskDiagFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(MAX_TRANSFER);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        // Who has the rights of this process here; users' own namespaces are their own affair.
        let mounts = || req.uid() == self.uid && nodes::is_mounting(req.pid());
        let node = match (parent.0, name.as_encoded_bytes()) {
            (1, b"task_diag") => self.nodes.look_up("task_diag", mounts),
            (1, b"task-diag") => self.nodes.look_up("task-diag", mounts),
            (1, b"info") => INFO,
            (1, b"metrics") => METRICS,
            _ => return reply.error(Errno::ENOENT),
        };
        reply.entry(&NO_CACHE, &self.attr(node), Generation(0));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.nodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_CACHE, &self.attr(ino.0));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Truncation, as by O_TRUNC, and time stamps are accepted and mean nothing.
        match (mode, uid, gid) {
            (None, None, None) => reply.attr(&NO_CACHE, &self.attr(ino.0)),
            _ => reply.error(Errno::EPERM),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let mut flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
        let handle = match ino.0 {
            INFO => u64::MAX,
            METRICS if req.uid() != self.uid => return reply.error(Errno::EACCES),
            METRICS => u64::MAX,
            _ => {
                flags |= FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
                let account = self.source.account(req.pid(), req.uid());
                match self.handles.open(req.uid(), account, self.source.clone()) {
                    Ok(number) => number,
                    Err(e) => {
                        self.source.counters().too_many_files.count();
                        self.seldom_opened.warn(e);
                        return reply.error(Errno::from_i32(e.to_errno()));
                    }
                }
            }
        };
        reply.opened(FileHandle(handle), flags);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if matches!(ino.0, INFO | METRICS) {
            let text = if ino.0 == INFO { self.info.text() } else { self.metrics() };
            let rest = text.as_bytes().get(offset as usize..).unwrap_or_default();
            return reply.data(&rest[..rest.len().min(size as usize)]);
        }
        // Only direct reads name a lock owner. What the page cache asks for (splice, sendfile, a private mapping)
        // would be kept and shown to whoever holds the file later, unjudged.
        if lock_owner.is_none() {
            return reply.error(Errno::EINVAL);
        }
        let Some(handle) = self.handles.get(fh.0) else { return reply.error(Errno::EBADF) };
        let (tid, fsuid) = (req.pid(), req.uid());
        let account = handle.account(fsuid, || self.source.account(tid, fsuid));
        let read = WaitingRead { tid, fsuid, fsgid: req.gid(), size: size as usize, account, reply };
        self.reads.take(handle, read);
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            return reply.error(Errno::EINVAL);
        }
        let Some(handle) = self.handles.get(fh.0) else { return reply.error(Errno::EBADF) };
        let account = handle.account(req.uid(), || self.source.account(req.pid(), req.uid()));
        match handle.transaction.write(account, data) {
            Ok(n) => reply.written(n as u32),
            Err(e) => {
                if e.to_errno() == libc::ENOMEM {
                    self.seldom_kept.warn(&e);
                }
                reply.error(Errno::from_i32(e.to_errno()));
            }
        }
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.handles.close(fh.0);
        self.reads.closed();
        reply.ok();
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::EINVAL);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = [
            (1, FileType::Directory, "."),
            (1, FileType::Directory, ".."),
            (nodes::FIRST, FileType::RegularFile, "task_diag"),
            (nodes::FIRST, FileType::RegularFile, "task-diag"),
            (INFO, FileType::RegularFile, "info"),
            (METRICS, FileType::RegularFile, "metrics"),
        ];
        if ino.0 != 1 {
            return reply.error(Errno::ENOTDIR);
        }
        for (at, (node, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*node), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: fuser::ReplyXattr) {
        // The kernel then asks no more.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: fuser::PollNotifier,
        _events: fuser::PollEvents,
        _flags: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        // The kernel then holds every file for readable and writable, and asks no more.
        reply.error(Errno::ENOSYS);
    }
}
