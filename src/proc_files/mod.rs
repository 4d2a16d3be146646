//! Files of /proc, as bytes: opening them through one directory descriptor a task, and reading what they say.
//!
//! Nothing here is UTF-8: names are whatever bytes a program chose. The root is a parameter, so that tests can
//! feed a made-up one.

mod bounds;
pub(crate) mod fields;
mod kept_file;
mod maps;
mod memoryless;
mod open_file;
mod refusals;
mod stat;
mod status;

pub(crate) use bounds::Bounds;
pub(crate) use fields::signed;
pub(crate) use kept_file::KeptFile;
pub use maps::{Mappings, TrueName, parse_maps, parse_smaps};
pub(crate) use maps::{whole_maps, whole_smaps};
pub(crate) use refusals::{Guard, mix};
pub(crate) use stat::{PF_IO_WORKER, PF_KTHREAD};
pub use stat::{PF_WQ_WORKER, StatLine};
pub(crate) use status::page_size;
pub use status::{NsNumbers, Status};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::read;
use refusals::Refusals;
use std::fmt::Write;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Inode numbers of the namespaces this process lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnNamespaces {
    /// `/proc/self/ns/user`
    pub user: u64,
    /// `/proc/self/ns/pid`
    pub pid: u64,
    /// `/proc/self/ns/cgroup`
    pub cgroup: u64,
}

/// A mounted proc filesystem.
#[derive(Debug)]
pub struct ProcRoot {
    path: PathBuf,
    dir: OwnedFd,
    own: OwnNamespaces,
    shows_undumpable_zombies: OnceLock<Option<bool>>,
    tick: u64,
    labels: bool,
    refusals: Option<Refusals>,
}

impl ProcRoot {
    /// Opens the proc filesystem at `path`, usually `/proc`.
    ///
    /// # Errors
    /// What `open` says when `path` is no directory.
    pub fn open(path: impl AsRef<Path>) -> std::io::Result<ProcRoot> {
        let path = path.as_ref().to_path_buf();
        let dir = File::open(&path)?;
        if !dir.metadata()?.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let inode = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map_or(0, |m| m.ino());
        let own = OwnNamespaces { user: inode("user"), pid: inode("pid"), cgroup: inode("cgroup") };
        Ok(ProcRoot {
            path,
            dir: dir.into(),
            own,
            refusals: Refusals::of(own.user),
            shows_undumpable_zombies: OnceLock::new(),
            tick: 1_000_000_000 / clock_ticks(),
            labels: std::fs::read("/proc/self/attr/current").is_ok(),
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The namespaces of this process.
    pub fn own_namespaces(&self) -> OwnNamespaces {
        self.own
    }

    /// Whether this kernel shows a task that was not dumpable to its user once it has no memory any more; `None` where that
    /// cannot be found out. Asked for the first time it makes three short-lived processes to try: a process that will give
    /// up the right to do so asks before.
    pub fn shows_undumpable_zombies(&self) -> Option<bool> {
        *self.shows_undumpable_zombies.get_or_init(|| memoryless::shows_undumpable_zombies(&self.dir))
    }

    /// Nanoseconds of a clock tick.
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    /// Whether a security module labels tasks: where none does, the file says `EINVAL` of every task.
    pub(crate) fn has_labels(&self) -> bool {
        self.labels
    }

    /// What tells the tasks that a security module keeps from this process; `None` where there is no such module.
    pub(crate) fn guard(&self) -> Option<Guard<'_>> {
        self.refusals.as_ref().map(|refusals| refusals.guard(self.dir.as_fd()))
    }

    /// The thread-group ids of all processes, ascending.
    ///
    /// # Errors
    /// What `opendir` and `readdir` say.
    pub fn processes(&self) -> nix::Result<Vec<u32>> {
        let mut pids = numeric_names(&self.dir, ".")?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// The directory of the task `pid`: a process, or any thread by its own id (`/proc/TID` is not listed, but is there).
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` where there is no such task.
    pub fn task(&self, pid: u32) -> nix::Result<TaskDir> {
        self.named(&pid.to_string())
    }

    /// The directory of the thread `tid` of process `tgid`, whose `stat` speaks of the thread alone.
    ///
    /// # Errors
    /// As [`ProcRoot::task`].
    pub fn thread(&self, tgid: u32, tid: u32) -> nix::Result<TaskDir> {
        let mut path = String::with_capacity(32);
        let _ = write!(path, "{tgid}/task/{tid}");
        self.named(&path).map(|dir| TaskDir { below_process: true, ..dir })
    }

    /// Reads a file of one piece of the task `pid`, by its number alone: for who needs no other file of the task.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn read_by_number<'b>(&self, pid: u32, name: &str, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_file(&self.dir, &format!("{pid}/{name}"), buffer, false, None)
    }

    /// The directory of that name below the root.
    ///
    /// # Errors
    /// As [`ProcRoot::task`].
    pub fn named(&self, path: &str) -> nix::Result<TaskDir> {
        open_directory(&self.dir, path)
    }
}

fn open_directory(from: &OwnedFd, path: &str) -> nix::Result<TaskDir> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(from, path, flags, Mode::empty()).map(|dir| TaskDir { dir, below_process: false, bounds: None })
}

/// One task's directory: whatever is read through it is of that very task, whoever has its number by now.
#[derive(Debug)]
pub struct TaskDir {
    dir: OwnedFd,
    /// It is `TGID/task/TID`, which lacks a few files that `TGID` has (`tid_base_stuff`).
    below_process: bool,
    bounds: Option<Arc<dyn Bounds>>,
}

impl TaskDir {
    /// The same, within bounds.
    pub(crate) fn within(self, bounds: Arc<dyn Bounds>) -> TaskDir {
        TaskDir { bounds: Some(bounds), ..self }
    }

    /// Whether to go on with a buffer that is to grow by so many bytes.
    pub(crate) fn step(&self, growth: usize) -> nix::Result<()> {
        self.bounds.as_ref().map_or(Ok(()), |bounds| bounds.step(growth))
    }

    /// Reads a file that the kernel makes in one piece (`stat`, `status`, `cmdline`): one read, unless it is longer
    /// than the buffer, which grows then. Gives the text.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` when the task is gone, `EACCES` where this process may not read it, `EFBIG` for more than
    /// 8 MiB.
    pub fn read<'b>(&self, name: &str, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_file(&self.dir, name, buffer, false, self.bounds.as_deref())
    }

    /// Reads a file that the kernel hands over page by page (`children`), up to its end.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn read_whole<'b>(&self, name: &str, buffer: &'b mut Vec<u8>) -> nix::Result<&'b [u8]> {
        read_file(&self.dir, name, buffer, true, self.bounds.as_deref())
    }

    /// The ids of this process' threads, the leader first, then in the order of their creation.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn threads(&self) -> nix::Result<Vec<u32>> {
        self.tasks("task")
    }

    /// The same, where the directory of them is called so from here.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn tasks(&self, path: &str) -> nix::Result<Vec<u32>> {
        numeric_names(&self.dir, path)
    }

    /// The directory of another task, by its way from here.
    ///
    /// # Errors
    /// As [`ProcRoot::task`].
    pub(crate) fn below(&self, path: &str) -> nix::Result<TaskDir> {
        open_directory(&self.dir, path)
    }

    /// Inode number of the task's namespace of that kind (`pid`, `user`, ...), where this process may know it.
    pub fn namespace(&self, kind: &str) -> Option<u64> {
        self.namespace_link(kind).map(u64::from)
    }

    /// The number that the link of a namespace bears; some kinds have two links.
    pub(crate) fn namespace_link(&self, link: &str) -> Option<u32> {
        let text = self.link(&format!("ns/{link}")).ok()?;
        let digits = &text[memchr::memchr(b'[', &text)? + 1..];
        decimal(digits.strip_suffix(b"]")?).and_then(|inode| inode.try_into().ok())
    }

    /// What a link of the task says, as raw bytes.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn link(&self, name: &str) -> nix::Result<Vec<u8>> {
        self.step(0)?;
        Ok(readlinkat(&self.dir, name)?.as_bytes().to_vec())
    }

    /// A descriptor of the task's namespace of that kind.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub(crate) fn open_namespace(&self, kind: &str) -> nix::Result<OwnedFd> {
        openat(&self.dir, format!("ns/{kind}").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// The owner that /proc gives the task's files: its effective ids if the task is dumpable, root's if not
    /// (`task_dump_owner`). Without memory it is root's, until Linux 7.2 remembers in `exec_state` what it was.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn owner_of_files(&self) -> nix::Result<(u32, u32)> {
        let stat = fstatat(&self.dir, "status", AtFlags::empty())?;
        Ok((stat.st_uid, stat.st_gid))
    }

    /// The true name of the file mapped at `start..end`, where the kernel's text forms cannot be told apart.
    pub fn mapped_file(&self, start: u64, end: u64) -> Option<Vec<u8>> {
        let process = if self.below_process { "../../" } else { "" };
        self.link(&format!("{process}map_files/{start:x}-{end:x}")).ok()
    }
}

/// Clock ticks in a second.
pub(crate) fn clock_ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Bytes of a file that comes in one piece. A program's arguments end far below, but a process may declare any of its
/// memory to be them.
pub(crate) const LONGEST_PIECE: usize = 8 << 20;

/// Whether this error says that there is no such task, rather than that it cannot be looked at.
pub(crate) fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ESRCH)
}

/// Bytes of a buffer that count for nobody.
const FREE: usize = 1 << 20;

fn read_file<'b>(
    dir: &OwnedFd,
    path: &str,
    buffer: &'b mut Vec<u8>,
    to_the_end: bool,
    bounds: Option<&dyn Bounds>,
) -> nix::Result<&'b [u8]> {
    let file = open(dir, path)?;
    read_from(|rest, _| read(&file, rest), buffer, to_the_end, bounds)
}

const STEP: usize = 16 * 1024;

fn open(dir: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
    openat(dir, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Fills the buffer by calls of `read`, which is told how far the file was read before.
fn read_from<'b>(
    read: impl Fn(&mut [u8], usize) -> nix::Result<usize>,
    buffer: &'b mut Vec<u8>,
    to_the_end: bool,
    bounds: Option<&dyn Bounds>,
) -> nix::Result<&'b [u8]> {
    let mut len = 0;
    loop {
        let before = buffer.len();
        let needed = if before < len + STEP { (len + STEP).max(len * 2) } else { before };
        if let Some(bounds) = bounds {
            bounds.step(needed.max(FREE) - before.max(FREE))?;
        }
        if needed > before {
            buffer.resize(needed, 0);
        }
        let n = match read(&mut buffer[len..], len) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        len += n;
        if len > LONGEST_PIECE {
            *buffer = Vec::new();
            return Err(Errno::EFBIG);
        }
        if n == 0 || (!to_the_end && len < buffer.len()) {
            return Ok(&buffer[..len]);
        }
    }
}

fn numeric_names(dir: &impl AsFd, below: &str) -> nix::Result<Vec<u32>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(dir, below, flags, Mode::empty())?.iter() {
        if let Some(n) = decimal(entry?.file_name().to_bytes()) {
            names.push(n as u32);
        }
    }
    Ok(names)
}

/// The number that these bytes spell, if they are nothing but decimal digits.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, c| match c {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(c - b'0')),
        _ => None,
    })
}

/// The number that these bytes spell, if they are nothing but hexadecimal digits.
pub(crate) fn hexadecimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0u64, |n, c| Some(n << 4 | u64::from((*c as char).to_digit(16)?)))
}
