//! Whose eyes a read has: the credentials of the calling thread, taken at that read.

use super::CAP_SYS_PTRACE;
use crate::proc_files::{ProcRoot, Status, TaskDir};
use thiserror::Error;

/// The reader of a dump: the thread that called `read`, as it was when it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Thread id, in the daemon's pid namespace.
    pub tid: u32,
    /// Thread-group id, in the daemon's pid namespace.
    pub tgid: u32,
    /// Effective user id, in the daemon's user namespace: who owns the user namespaces that it made.
    pub euid: u32,
    /// Filesystem user id, in the daemon's user namespace.
    pub fsuid: u32,
    /// Filesystem group id, in the daemon's user namespace.
    pub fsgid: u32,
    /// Effective capabilities, a bit each.
    pub effective: u64,
    /// Inode number of the reader's user namespace.
    pub user_ns: u64,
    /// The filesystem ids are not the thread's own, so that its capabilities do not count.
    pub borrowed_ids: bool,
}

/// Why a reader's identity could not be established.
#[derive(Debug, Error)]
pub enum CallerError {
    /// The calling thread is not visible from the daemon's pid namespace, or it is gone.
    #[error("the reading thread is not visible in this daemon's pid namespace")]
    Invisible,
    /// The calling thread lives in another pid or user namespace.
    #[error("thread {0} lives in another pid or user namespace than this daemon")]
    ForeignNamespace(u32),
}

impl CallerError {
    /// The errno a reader gets: always `EACCES`.
    pub fn to_errno(&self) -> i32 {
        match self {
            CallerError::Invisible | CallerError::ForeignNamespace(_) => libc::EACCES,
        }
    }
}

impl Reader {
    /// Takes the snapshot of thread `tid`, which now waits in a system call with the filesystem ids `fsuid` and `fsgid`.
    ///
    /// Where those ids are not the thread's own (a ring with borrowed credentials, say), the reader keeps the ids
    /// and loses every capability, for it is not known which credentials the capabilities belong to.
    pub fn snapshot(proc_root: &ProcRoot, tid: u32, fsuid: u32, fsgid: u32) -> Result<Reader, CallerError> {
        if tid == 0 {
            return Err(CallerError::Invisible);
        }
        let dir = proc_root.task(tid).map_err(|_| CallerError::Invisible)?;
        let (user_ns, pid_ns) = (dir.namespace("user"), dir.namespace("pid"));
        let own = proc_root.own_namespaces();
        if user_ns != Some(own.user) || pid_ns != Some(own.pid) {
            return Err(CallerError::ForeignNamespace(tid));
        }
        let reader = Self::of(&dir, own.user).ok_or(CallerError::Invisible)?;
        Ok(reader.with_ids(fsuid, fsgid))
    }

    /// The reader with the ids of its system call, which count. Its capabilities do only if the ids are its own.
    pub(crate) fn with_ids(self, fsuid: u32, fsgid: u32) -> Reader {
        let borrowed_ids = self.fsuid != fsuid || self.fsgid != fsgid;
        let effective = if borrowed_ids { 0 } else { self.effective };
        Reader { fsuid, fsgid, effective, borrowed_ids, ..self }
    }

    /// The calling thread itself: for dumps made in this very process.
    pub fn current(proc_root: &ProcRoot) -> Result<Reader, CallerError> {
        let dir = proc_root.named("thread-self").map_err(|_| CallerError::Invisible)?;
        Self::of(&dir, proc_root.own_namespaces().user).ok_or(CallerError::Invisible)
    }

    fn of(dir: &TaskDir, user_ns: u64) -> Option<Reader> {
        let mut text = Vec::new();
        let status = Status::parse(dir.read("status", &mut text).ok()?)?;
        Some(Reader {
            tid: status.base.pid,
            tgid: status.base.tgid,
            euid: status.credentials.euid,
            fsuid: status.credentials.fsuid,
            fsgid: status.credentials.fsgid,
            effective: status.credentials.effective.into(),
            user_ns,
            borrowed_ids: false,
        })
    }

    /// Whether the reader may look at every task there is: CAP_SYS_PTRACE in the initial user namespace.
    pub fn sees_everything(&self) -> bool {
        // The initial user namespace has this inode number on every kernel (PROC_USER_INIT_INO).
        self.user_ns == 0xEFFF_FFFD && self.effective & (1 << CAP_SYS_PTRACE) != 0
    }
}
