//! Whose eyes a read has: the credentials of the calling thread, taken at that read.

use super::{Account, CAP_SYS_PTRACE, CAPS_DAC, IdMaps, PidNamespace, Visibility};
use crate::proc_files::{PF_IO_WORKER, PF_KTHREAD, ProcRoot, StatLine, Status, TaskDir};
use nix::errno::Errno;
use std::sync::Arc;
use thiserror::Error;

/// The reader of a dump: the thread that called `read`, as it was when it did.
///
/// Ids are those of the daemon's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Thread id.
    pub tid: u32,
    /// Thread-group id.
    pub tgid: u32,
    /// Effective user id: whoever made a user namespace has every capability in it.
    pub euid: u32,
    /// Filesystem user id.
    pub fsuid: u32,
    /// Filesystem group id.
    pub fsgid: u32,
    /// Effective capabilities, a bit each.
    pub effective: u64,
    /// Inode number of the reader's user namespace.
    pub user_ns: u64,
    /// What ids are called in the reader's user namespace, where that is not the daemon's.
    pub id_maps: Option<Arc<IdMaps>>,
    /// The reader's pid namespace, where that is not the daemon's.
    pub pid_ns: Option<Arc<PidNamespace>>,
    /// The thread reads with other credentials than its own, as far as is known, so that its capabilities do not count.
    pub borrowed_ids: bool,
    /// What is shown of tasks that the reader may not look at.
    pub visibility: Visibility,
    /// Whom it is charged to what the read takes.
    pub account: Account,
}

/// Why a reader's identity could not be established.
#[derive(Debug, Error)]
pub enum CallerError {
    /// The calling thread is not visible from the daemon's pid namespace, or it is gone.
    #[error("the reading thread is not visible in this daemon's pid namespace")]
    Invisible,
    /// The calling thread lives in a namespace that is neither the daemon's nor below it.
    #[error("thread {0} lives in a pid or user namespace that is not below this daemon's")]
    ForeignNamespace(u32),
    /// There was no descriptor or no memory left to find out (`EMFILE`, `ENFILE`, `ENOMEM`).
    #[error("{0}, while the reading thread was looked at")]
    NoRoom(Errno),
}

impl CallerError {
    /// The errno a reader gets: `EACCES`, but for want of room.
    pub fn to_errno(&self) -> i32 {
        match self {
            CallerError::Invisible | CallerError::ForeignNamespace(_) => libc::EACCES,
            CallerError::NoRoom(errno) => *errno as i32,
        }
    }

    /// What it means that the directory or a file of the thread could not be read.
    fn unread(errno: Errno) -> CallerError {
        match errno {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => CallerError::NoRoom(errno),
            _ => CallerError::Invisible,
        }
    }
}

impl Reader {
    /// Takes the snapshot of thread `tid`, which now waits in a system call with the filesystem ids `fsuid` and `fsgid`.
    ///
    /// Where those ids are not the thread's own (a ring with borrowed credentials, say), the reader keeps the ids
    /// and loses every capability, for it is not known which credentials the capabilities belong to. So does a thread
    /// that reads on behalf of another: its own credentials are those which that one had when this one was started.
    pub fn snapshot(proc_root: &ProcRoot, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError> {
        if tid == 0 {
            return Err(CallerError::Invisible);
        }
        let dir = proc_root.task(tid).map_err(CallerError::unread)?;
        let own = proc_root.own_namespaces();
        let inodes = dir.namespace("user").zip(dir.namespace("pid")).ok_or(CallerError::Invisible)?;
        let reader = Self::of(&dir, inodes.0)?;
        let reader = reader.in_namespaces(&dir, inodes, (own.user, own.pid))?.with_ids(fsuid, fsgid);
        match reader.effective != 0 && reads_for_another(&dir) {
            true => Ok(Reader { effective: 0, borrowed_ids: true, ..reader }),
            false => Ok(reader),
        }
    }

    /// The reader with what has to be known of its namespaces (inode numbers of user and pid namespace).
    pub(crate) fn in_namespaces(
        self,
        dir: &TaskDir,
        inodes: (u64, u64),
        own: (u64, u64),
    ) -> Result<Reader, CallerError> {
        let foreign = || CallerError::ForeignNamespace(self.tid);
        let id_maps = match inodes.0 == own.0 {
            true => None,
            false => {
                super::user_ns_below(own.0, dir, self.euid).ok_or_else(foreign)?;
                Some(Arc::new(IdMaps::of(dir)))
            }
        };
        let pid_ns = match inodes.1 == own.1 {
            true => None,
            false => Some(Arc::new(PidNamespace::below(own.1, dir).ok_or_else(foreign)?)),
        };
        Ok(Reader { user_ns: inodes.0, id_maps, pid_ns, ..self })
    }

    /// The reader with the ids of its system call, which count. Its capabilities do only if the ids are its own.
    pub(crate) fn with_ids(self, fsuid: u32, fsgid: u32) -> Reader {
        let borrowed_ids = self.fsuid != fsuid || self.fsgid != fsgid;
        let effective = if borrowed_ids { 0 } else { self.effective };
        Reader { fsuid, fsgid, effective, borrowed_ids, account: Account::User(fsuid), ..self }
    }

    /// The calling thread itself: for dumps made in this very process.
    pub fn current(proc_root: &ProcRoot) -> Result<Reader, CallerError> {
        let dir = proc_root.named("thread-self").map_err(CallerError::unread)?;
        Self::of(&dir, proc_root.own_namespaces().user)
    }

    fn of(dir: &TaskDir, user_ns: u64) -> Result<Reader, CallerError> {
        let mut text = Vec::new();
        let text = dir.read("status", &mut text).map_err(CallerError::unread)?;
        let status = Status::parse(text).ok_or(CallerError::Invisible)?;
        Ok(Reader {
            tid: status.base.pid,
            tgid: status.base.tgid,
            euid: status.credentials.euid,
            fsuid: status.credentials.fsuid,
            fsgid: status.credentials.fsgid,
            effective: status.credentials.effective.into(),
            user_ns,
            account: Account::User(status.credentials.fsuid),
            ..Reader::default()
        })
    }

    /// Whether the reader has CAP_SYS_PTRACE in its own user namespace.
    pub fn may_ptrace(&self) -> bool {
        self.effective & (1 << CAP_SYS_PTRACE) != 0
    }

    /// Whether the reader may open files whose owner it is not, in its own user namespace.
    pub fn opens_any_file(&self) -> bool {
        self.effective & CAPS_DAC != 0
    }

    /// Whether the reader may look at every task there is: CAP_SYS_PTRACE in the initial user namespace.
    pub fn sees_everything(&self) -> bool {
        // The initial user namespace has this inode number on every kernel (PROC_USER_INIT_INO).
        self.user_ns == 0xEFFF_FFFD && self.may_ptrace()
    }
}

/// Whether the task is a thread of the kernel's that makes calls for a ring of io_uring, or may be one.
fn reads_for_another(dir: &TaskDir) -> bool {
    let mut text = Vec::new();
    let line = dir.read("stat", &mut text).ok().and_then(StatLine::parse);
    line.is_none_or(|line| line.flags & (PF_IO_WORKER | PF_KTHREAD) != 0)
}
