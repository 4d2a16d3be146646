//! How namespaces lie within each other, asked of the kernel by descriptors that keep them alive (`ioctl_ns(2)`).

use crate::proc_files::TaskDir;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

mod calls {
    nix::ioctl_none_bad!(parent, nix::request_code_none!(0xb7, 2));
    nix::ioctl_read_bad!(owner, nix::request_code_none!(0xb7, 4), libc::uid_t);
}

/// The pid namespace of a reader, where that lies below the daemon's.
#[derive(Debug)]
pub struct PidNamespace {
    /// Held, so that no other namespace gets the number.
    _file: OwnedFd,
    inode: u64,
    /// Levels below the daemon's.
    depth: usize,
}

impl PartialEq for PidNamespace {
    fn eq(&self, other: &PidNamespace) -> bool {
        self.inode == other.inode
    }
}

impl Eq for PidNamespace {}

impl PidNamespace {
    /// The namespace of a task; `None` where it is not below the daemon's, whose inode number is `own`.
    pub(crate) fn below(own: u64, dir: &TaskDir) -> Option<PidNamespace> {
        let file = dir.open_namespace("pid").ok()?;
        let inode = inode(&file)?;
        let mut depth = 0;
        let mut above = parent(&file).ok()?;
        loop {
            depth += 1;
            if self::inode(&above)? == own {
                return Some(PidNamespace { _file: file, inode, depth });
            }
            above = parent(&above).ok()?;
        }
    }

    /// Levels below the daemon's namespace: which number of a task's NSpid is that of this one, if it is within.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether a task that has numbers in so many levels below the daemon's namespace is in this one, or further below.
    pub(crate) fn holds(&self, dir: &TaskDir, levels: usize) -> bool {
        let climb = || {
            let mut file = dir.open_namespace("pid").ok()?;
            for _ in 0..levels.checked_sub(self.depth)? {
                file = parent(&file).ok()?;
            }
            inode(&file)
        };
        climb() == Some(self.inode)
    }
}

/// Levels that the user namespace of a task lies below the one of that inode number; `None` if it does not. Also whether
/// `euid` made the topmost of those levels, and so has every capability in all of them.
pub(crate) fn user_ns_below(above: u64, dir: &TaskDir, euid: u32) -> Option<(usize, bool)> {
    let mut file = dir.open_namespace("user").ok()?;
    let mut levels = 0;
    let mut made = false;
    while inode(&file)? != above {
        let up = parent(&file).ok()?;
        made = owner(&file) == Some(euid);
        (file, levels) = (up, levels + 1);
    }
    Some((levels, made))
}

/// The topmost user namespace that the task's lies in, or is, below the one of that inode number: its inode number, and who
/// made it. `None` where the task is in no namespace below.
pub(crate) fn maker_below(above: u64, dir: &TaskDir) -> Option<(u64, u32)> {
    if dir.namespace("user") == Some(above) {
        return None;
    }
    let mut file = dir.open_namespace("user").ok()?;
    loop {
        let up = parent(&file).ok()?;
        if inode(&up)? == above {
            return Some((inode(&file)?, owner(&file)?));
        }
        file = up;
    }
}

fn inode(file: &OwnedFd) -> Option<u64> {
    nix::sys::stat::fstat(file).ok().map(|stat| stat.st_ino)
}

fn parent(file: &OwnedFd) -> nix::Result<OwnedFd> {
    // SAFETY: takes no argument; the descriptor is open.
    let above = unsafe { calls::parent(file.as_raw_fd()) }?;
    if above < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: a descriptor that has just come to us.
    Ok(unsafe { OwnedFd::from_raw_fd(above) })
}

fn owner(file: &OwnedFd) -> Option<u32> {
    let mut uid = 0;
    // SAFETY: writes a user id to where `uid` stands.
    unsafe { calls::owner(file.as_raw_fd(), &mut uid) }.ok().map(|_| uid)
}
