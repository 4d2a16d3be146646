//! A process whose memory cannot be read: whoever tries waits until the test lets go.
//!
//! The kernel takes care that a look at a command line never waits for a file system, nor for a userfaultfd: memory
//! that is not there yet and not anonymous is an error, and a fault that would wait is refused. What does hang is the
//! lock of the address space. One thread reads, through `/proc/self/mem`, a page of a file whose file system does not
//! answer: it waits with that lock taken for reading. Another thread wants to map something, so it queues for
//! writing. From then on nobody else gets the lock: `cmdline`, `smaps` and the like of the process hang.

use super::child::{Child, Inside, Stacks, ThreadPlan};
use super::zoo::comm;
use super::{proc, wait};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, Request,
};
use std::ffi::{CString, OsStr};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// Reads and closings that nobody answers; `None` once they are let go.
type Waiting = Arc<Mutex<Option<Vec<Unanswered>>>>;

enum Unanswered {
    Read(ReplyData),
    Close(ReplyEmpty),
}

/// A file system of one file, of one page.
struct Silent {
    waiting: Waiting,
}

const FILE: INodeNo = INodeNo(2);

fn attr(ino: INodeNo) -> FileAttr {
    let directory = ino == INodeNo::ROOT;
    FileAttr {
        ino,
        size: if directory { 0 } else { proc::page_size() },
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if directory { FileType::Directory } else { FileType::RegularFile },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Silent {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.as_encoded_bytes() {
            b"silent" => reply.entry(&Duration::from_secs(60), &attr(FILE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::from_secs(60), &attr(ino));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match &mut *self.waiting.lock().unwrap() {
            Some(waiting) => waiting.push(Unanswered::Read(reply)),
            None => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        match &mut *self.waiting.lock().unwrap() {
            Some(waiting) => waiting.push(Unanswered::Close(reply)),
            None => reply.ok(),
        }
    }
}

/// The process. When dropped its memory is let go, and then it is killed.
pub struct Hung {
    waiting: Waiting,
    child: Child,
    /// Ends after the process that has its file mapped.
    _session: BackgroundSession,
    _place: TempDir,
}

/// Where a hung process has mapped the file: each has a copy of its own.
static ADDRESS: AtomicI64 = AtomicI64::new(0);

/// Looks at the silent page, with the lock taken for reading.
fn look(inside: &Inside, _: usize) {
    // SAFETY: a C string.
    let memory = inside.check(unsafe { libc::open(c"/proc/self/mem".as_ptr(), libc::O_RDONLY) });
    let mut byte = [0u8];
    inside.tell(0, 1);
    // SAFETY: a buffer of one byte.
    unsafe { libc::pread(memory as i32, byte.as_mut_ptr().cast(), 1, ADDRESS.load(SeqCst)) };
}

impl Hung {
    /// A process in the middle of an exec, which waits for the end of closing a file: until then, whoever asks the kernel for
    /// what depends on its rights waits, too.
    pub fn in_exec() -> Hung {
        let (place, waiting, session, path) = Self::silent();
        let child = Child::start_not_waiting(0, |inside| {
            // SAFETY: a C string.
            inside.check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) });
            let arguments = [c"sleep".as_ptr(), c"1000".as_ptr(), std::ptr::null()];
            inside.exec(c"/bin/sleep", &arguments)
        });
        let hung = Hung { waiting, child, _session: session, _place: place };
        wait::until("the file system is asked", || {
            hung.waiting.lock().unwrap().as_ref().is_some_and(|waiting| !waiting.is_empty())
        });
        hung
    }

    fn silent() -> (TempDir, Waiting, BackgroundSession, CString) {
        let place = TempDir::new().unwrap();
        let waiting: Waiting = Arc::new(Mutex::new(Some(Vec::new())));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("silent".into()), MountOption::RO];
        let session = fuser::spawn_mount(Silent { waiting: waiting.clone() }, place.path(), &config).unwrap();
        let path = CString::new(place.path().join("silent").as_os_str().as_encoded_bytes()).unwrap();
        (place, waiting, session, path)
    }

    /// Makes it, and waits until it hangs.
    pub fn new() -> Hung {
        let (place, waiting, session, path) = Self::silent();
        let stacks = Stacks::new(1);
        let plan = ThreadPlan { name: comm(b"looks"), run: look, number: 0 };
        let (page, none) = (proc::page_size() as usize, std::ptr::null_mut());
        let child = Child::start(2, |inside| {
            // SAFETY: a C string; a new mapping of the file.
            let at = unsafe {
                let fd = inside.check(libc::open(path.as_ptr(), libc::O_RDONLY));
                libc::mmap(none, page, libc::PROT_READ, libc::MAP_PRIVATE, fd as i32, 0)
            };
            ADDRESS.store(inside.check(at as i64), SeqCst);
            inside.thread(&stacks, 0, &plan);
            inside.wait_for(0);
            inside.ready();
            inside.wait_for(1);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, which waits for the lock.
            unsafe { libc::mmap(none, page, libc::PROT_READ, flags, -1, 0) };
        });
        let hung = Hung { waiting, child, _session: session, _place: place };
        wait::until("the file system is asked", || {
            hung.waiting.lock().unwrap().as_ref().is_some_and(|waiting| !waiting.is_empty())
        });
        hung.child.board.set(1, 1);
        wait::until("the process hangs", || proc::state(hung.pid()) == Some(b'D'));
        hung
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Answers the file system's readers, with an error: the memory can be read again.
    pub fn let_go(&self) {
        let waiting = self.waiting.lock().unwrap().take();
        for reply in waiting.into_iter().flatten() {
            match reply {
                Unanswered::Read(reply) => reply.error(Errno::EIO),
                Unanswered::Close(reply) => reply.ok(),
            }
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.let_go();
        // Processes of other tests may have come by open files of it, so that it would be busy.
        let _ = nix::mount::umount2(self._place.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}
