//! The mount itself: how it is made, known again, and taken away.

use super::mount_helper;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

const NAME: &str = "task_diag";
const DEVICE: &str = "/dev/fuse";

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The directory to mount at; made if it is not there.
    pub dir: PathBuf,
}

/// Why there is no mount. The messages say what to do.
#[derive(Debug, Error)]
pub enum MountError {
    /// The directory cannot be made.
    #[error("cannot make the directory {}: {error}", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a file.
    #[error("{} is not a directory; name one to mount at", .0.display())]
    NotADirectory(PathBuf),
    /// A living daemon serves there.
    #[error("{} already has a task_diag mount that answers; stop its daemon first, or mount elsewhere", .0.display())]
    AlreadyServed(PathBuf),
    /// What does not answer there is none of this program's mounts.
    #[error("the mount at {} is another program's, and does not answer; unmount it first, or mount elsewhere", .0.display())]
    AnothersDeadMount(PathBuf),
    /// What a killed daemon left there cannot be unmounted.
    #[error("a dead mount at {} cannot be cleared: {error}; run: fusermount3 -uz {}", .dir.display(), .dir.display())]
    DeadMount {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel has no FUSE.
    #[error("/dev/fuse is not there; load the module (modprobe fuse), or give the container the device")]
    NoFuse,
    /// Not allowed to mount.
    #[error("not allowed to mount at {}: {error}; {}", .dir.display(), if *.root { "root needs CAP_SYS_ADMIN, /dev/fuse, and a security module that lets it mount" } else { "run as root, or let this user open /dev/fuse, install fusermount3 (package fuse3) and own the directory" })]
    NotAllowed {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
        /// It was root that tried.
        root: bool,
    },
    /// The process that answers readers could not begin, and says why.
    #[error("{0}")]
    Server(String),
    /// The process that answers readers came to an end that nobody asked for. It is unmounted.
    #[error("the process that answers readers {0}")]
    ServerEnded(String),
    /// Anything else that the system says.
    #[error("cannot serve at {}: {error}", .dir.display())]
    Other {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Makes the directory and clears away what a killed daemon left there.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, MountError> {
    // Each round takes one layer of dead mounts off, or waits for one to be dead.
    for round in 0..16 {
        match std::fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => return Err(MountError::NotADirectory(dir.into())),
            Ok(_) => {
                let dir =
                    dir.canonicalize().map_err(|error| MountError::Directory { dir: dir.into(), error })?;
                match topmost(&dir) {
                    Ok(Some(mount)) if mount.ours => {}
                    _ => {
                        if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
                            log::warn!(
                                "{} is not empty: what is in it is hidden until this is unmounted",
                                dir.display()
                            );
                        }
                        return Ok(dir);
                    }
                }
                // What answers may be the child of a daemon that was killed just now, and about to follow it.
                if round >= 4 {
                    return Err(MountError::AlreadyServed(dir));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            // Aborted: it died while it was asked.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) => {
                let failed = |error| MountError::DeadMount { dir: dir.into(), error };
                let place = without_asking(dir).map_err(failed)?;
                if !topmost(&place).map_err(failed)?.is_some_and(|mount| mount.ours) {
                    return Err(MountError::AnothersDeadMount(place));
                }
                unmount(&place).map_err(failed)?;
                log::warn!("cleared a dead mount at {}", dir.display());
            }
            Err(_) => {
                std::fs::create_dir_all(dir).map_err(|error| match error.raw_os_error() {
                    Some(libc::ENOTDIR | libc::EEXIST) => MountError::NotADirectory(dir.into()),
                    _ => MountError::Directory { dir: dir.into(), error },
                })?;
            }
        }
    }
    Err(MountError::DeadMount { dir: dir.into(), error: Errno::EBUSY.into() })
}

/// The path of a directory without symbolic links, where the directory itself does not answer.
fn without_asking(dir: &Path) -> io::Result<PathBuf> {
    let mut dir = dir.to_path_buf();
    for _ in 0..40 {
        let Some(name) = dir.file_name() else { break };
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        dir = above.canonicalize()?.join(name);
        match std::fs::read_link(&dir) {
            Ok(target) => dir = dir.with_file_name("").join(target),
            Err(_) => return Ok(dir),
        }
    }
    Err(Errno::ELOOP.into())
}

/// A mount that was made here.
#[derive(Debug)]
pub(super) struct Mounted {
    dir: PathBuf,
    /// Major and minor number, as mountinfo shows them: no other mount has them while this one is there.
    device: Vec<u8>,
}

impl Mounted {
    /// Mounts at `dir`, which [`prepare`] gave. Whoever has the descriptor answers.
    pub fn new(dir: &Path) -> Result<(Mounted, OwnedFd), MountError> {
        let privileged = nix::unistd::geteuid().is_root();
        let not_allowed = |error| MountError::NotAllowed { dir: dir.into(), error, root: privileged };
        let other = |error| MountError::Other { dir: dir.into(), error };
        if !Path::new(DEVICE).exists() {
            return Err(MountError::NoFuse);
        }
        let mounted = match mount(dir, privileged) {
            // Whoever mounts as an ordinary user needs the set-user-id program.
            Err(Errno::EPERM) if !privileged => {
                mount_helper::mount(dir, &options(privileged)).map_err(not_allowed)?
            }
            Err(e @ (Errno::EPERM | Errno::EACCES | Errno::ENOENT)) => return Err(not_allowed(e.into())),
            outcome => outcome.map_err(|e| other(e.into()))?,
        };
        match topmost(dir) {
            Ok(Some(mount)) if mount.ours => Ok((Mounted { dir: dir.into(), device: mount.device }, mounted)),
            outcome => {
                let _ = unmount(dir);
                Err(other(outcome.err().unwrap_or_else(|| io::Error::other("the mount is not to be seen"))))
            }
        }
    }

    /// Whether it still is what is mounted there.
    pub fn is_there(&self) -> bool {
        // What cannot be known counts as there: a mount too many does more harm than an unmount that fails.
        topmost(&self.dir).map_or(true, |found| found.is_some_and(|mount| mount.device == self.device))
    }

    /// Takes it away, even while files on it are open. One that is gone already, or hidden by another, is left alone.
    pub fn unmount(&self) -> io::Result<()> {
        if self.is_there() { unmount(&self.dir) } else { Ok(()) }
    }
}

/// What the kernel, and fusermount3, is told besides the descriptor.
fn options(privileged: bool) -> String {
    // Whoever mounts as an ordinary user serves himself alone: others could be let in only by an administrator's
    // leave (user_allow_other), and would see no more than this user does.
    let others = if privileged { ",allow_other" } else { "" };
    format!("subtype={NAME},default_permissions{others}")
}

fn mount(dir: &Path, privileged: bool) -> Result<OwnedFd, Errno> {
    let device = open(DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let fd = device.as_raw_fd();
    let data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},{}", options(privileged));
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    nix::mount::mount(Some(NAME), dir, Some("fuse"), flags, Some(data.as_str()))?;
    Ok(device)
}

/// Takes the topmost mount off `dir`.
fn unmount(dir: &Path) -> io::Result<()> {
    match umount2(dir, MntFlags::MNT_DETACH) {
        Err(Errno::EPERM) => mount_helper::unmount(dir),
        other => Ok(other?),
    }
}

struct Topmost {
    device: Vec<u8>,
    /// It is one of this program's.
    ours: bool,
}

/// What is mounted at exactly `dir`, on top of whatever else is.
fn topmost(dir: &Path) -> io::Result<Option<Topmost>> {
    // Bytes: somebody's mount point may be anything.
    let mountinfo = std::fs::read("/proc/thread-self/mountinfo")?;
    let dir = escaped(dir.as_os_str().as_bytes());
    // id, parent, device, root, mount point, options, any number of others, "-", type, source
    let found = mountinfo.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = fields.nth(2)?;
        (fields.nth(1)? == dir).then_some((device, fields))
    });
    Ok(found.map(|(device, mut fields)| {
        fields.find(|field| *field == b"-");
        let is_fuse = fields.next().is_some_and(|kind| kind.starts_with(b"fuse"));
        Topmost { device: device.into(), ours: is_fuse && fields.next() == Some(NAME.as_bytes()) }
    }))
}

/// A path as mountinfo writes it.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => bytes.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => bytes.push(*byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_mountinfo_writes_them() {
        assert_eq!(escaped(b"/mnt"), b"/mnt");
        assert_eq!(escaped(b"/a b\\c\td\ne\xff"), b"/a\\040b\\134c\\011d\\012e\xff");
    }

    #[test]
    fn what_is_mounted_is_found() {
        let proc = topmost(Path::new("/proc")).unwrap().unwrap();
        assert!(!proc.ours && proc.device.contains(&b':'));
        assert!(topmost(Path::new("/proc/self")).unwrap().is_none());
    }
}
