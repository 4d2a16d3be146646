//! Mounting, serving, and going away again.

use super::TaskDiagFs;
use fuser::{Config, MountOption, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

const NAME: &str = "task_diag";

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The directory to mount at; made if it is not there.
    pub dir: PathBuf,
    /// Threads that take requests from the kernel.
    pub threads: usize,
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
    #[error(
        "not allowed to mount at {}: {error}; run as root, or let this user open /dev/fuse, install fusermount3 (package fuse3) and own the directory", .dir.display()
    )]
    NotAllowed {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Anything else that the system says.
    #[error("cannot serve at {}: {error}", .dir.display())]
    Other {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Mounts `filesystem` and serves it until SIGTERM, SIGINT or SIGHUP, or until someone unmounts it. `ready` is called
/// once readers are answered.
///
/// # Errors
/// [`MountError`], before anything is served.
pub fn serve(filesystem: TaskDiagFs, options: &MountOptions, ready: impl FnOnce()) -> Result<(), MountError> {
    let dir = prepare(&options.dir)?;
    let other = |error| MountError::Other { dir: dir.clone(), error };
    // From here on a signal ends the daemon by way of an unmount, whenever it comes.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(other)?;
    let session = mount(filesystem, &dir, options)?;
    let mounted = dir.clone();
    let ending = Arc::new(AtomicBool::new(false));
    let ends = ending.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                log::info!("signal {signal}: unmounting {}", mounted.display());
                ends.store(true, Ordering::SeqCst);
                if let Err(e) = unmount(&mounted) {
                    log::error!("cannot unmount {}: {e}", mounted.display());
                    std::process::exit(1);
                }
                // The session ends by itself unless someone holds a file open; those get ENOTCONN from now on.
                std::thread::sleep(Duration::from_millis(300));
                std::process::exit(0);
            }
        })
        .map_err(other)?;
    ready();
    match session.run() {
        // Whoever unmounts while requests are under way cuts the loops off in the middle.
        Err(_) if ending.load(Ordering::SeqCst) => {}
        Err(e) if matches!(e.raw_os_error(), Some(libc::ECONNABORTED | libc::ENODEV)) => {}
        outcome => outcome.map_err(other)?,
    }
    log::info!("{} is unmounted", dir.display());
    Ok(())
}

/// Makes the directory and clears away what a killed daemon left there.
fn prepare(dir: &Path) -> Result<PathBuf, MountError> {
    // Each round takes one layer of dead mounts off.
    for _ in 0..16 {
        match std::fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => return Err(MountError::NotADirectory(dir.into())),
            Ok(_) => {
                let dir =
                    dir.canonicalize().map_err(|error| MountError::Directory { dir: dir.into(), error })?;
                return match is_ours(&dir) {
                    true => Err(MountError::AlreadyServed(dir)),
                    false => Ok(dir),
                };
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {
                unmount(dir).map_err(|error| MountError::DeadMount { dir: dir.into(), error })?;
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

/// Whether a mount of this program covers `dir`.
fn is_ours(dir: &Path) -> bool {
    let mounts = procfs::process::Process::myself().and_then(|me| me.mountinfo());
    mounts.is_ok_and(|mounts| {
        let last = mounts.into_iter().rfind(|mount| mount.mount_point == dir);
        last.is_some_and(|mount| {
            mount.fs_type.starts_with("fuse") && mount.mount_source.as_deref() == Some(NAME)
        })
    })
}

fn mount(
    filesystem: TaskDiagFs,
    dir: &Path,
    options: &MountOptions,
) -> Result<Session<TaskDiagFs>, MountError> {
    if !Path::new("/dev/fuse").exists() {
        return Err(MountError::NoFuse);
    }
    let privileged = nix::unistd::geteuid().is_root();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(NAME.into()),
        MountOption::Subtype(NAME.into()),
        MountOption::DefaultPermissions,
        MountOption::NoExec,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
    ];
    // Whoever mounts as an ordinary user serves himself alone: others could be let in only by an administrator's
    // leave (user_allow_other), and would see no more than this user does.
    config.acl = if privileged { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = true;
    Session::new(filesystem, dir, &config).map_err(|error| {
        let dir = dir.to_path_buf();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
                MountError::NotAllowed { dir, error }
            }
            io::ErrorKind::Other if !privileged => MountError::NotAllowed { dir, error },
            _ => MountError::Other { dir, error },
        }
    })
}

/// Takes the topmost mount off `dir`, even while files on it are open.
fn unmount(dir: &Path) -> io::Result<()> {
    match umount2(dir, MntFlags::MNT_DETACH) {
        Err(Errno::EPERM) => {
            let output = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(dir).output()?;
            match output.status.success() {
                true => Ok(()),
                false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string())),
            }
        }
        other => Ok(other?),
    }
}
