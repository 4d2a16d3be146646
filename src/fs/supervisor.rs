//! Two processes: a child that answers readers and can do little else, and its parent, which keeps the right to unmount
//! and does nothing with what readers send.

use super::mount::{Mounted, prepare};
use super::privileges::{self, SUPERVISOR};
use super::{MountError, MountOptions, TaskDiagFs, descriptor, server};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, geteuid, getpid};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// How long the child may take to end by itself once it is unmounted; it does not while someone holds a file open.
const PATIENCE: Duration = Duration::from_millis(300);

/// What ends the daemon, by way of an unmount.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Mounts, and serves what `filesystem` makes until SIGTERM, SIGINT or SIGHUP, or until someone unmounts it. `ready` is
/// called once readers are answered.
///
/// The process forks: `filesystem` runs in the child, which then gives up all privileges but those needed to read, for
/// good, and answers. It ends when its parent does. When the child ends first, by whatever cause, the mount is taken
/// away at once, so that readers get errors rather than wait.
///
/// # Errors
/// [`MountError`]: before anything is served, or when the child ended though nobody asked it to.
pub fn serve<E: Display>(
    options: &MountOptions,
    filesystem: impl FnOnce() -> Result<TaskDiagFs, E>,
    ready: impl FnOnce(),
) -> Result<(), MountError> {
    let dir = prepare(&options.dir)?;
    let other = |error: io::Error| MountError::Other { dir: dir.clone(), error };
    let os = |error: Errno| other(error.into());
    privileges::alone().map_err(other)?;
    // From here on a signal ends the daemon by way of an unmount, whenever it comes.
    let mut signals: SigSet = ENDING.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().map_err(os)?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(os)?;
    let (ours, theirs) = UnixDatagram::pair().map_err(other)?;
    let parent = getpid();
    // SAFETY: this process has no other thread, so that the child finds no lock held by one that is not there.
    let pid = match unsafe { fork() }.map_err(os)? {
        ForkResult::Child => {
            drop((signals, ours));
            server::run(parent, &ENDING, &theirs, &dir, filesystem);
        }
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    let mut server = Server { pid, socket: ours, signals, ended: false };
    let asked_to_end = |signal: Signal| log::info!("{signal}: {} is unmounted", dir.display());

    match server.wait(None).map_err(other)? {
        News::Prepared => {}
        News::Failed(why) => return Err(MountError::Server(why)),
        News::Signal(signal) => {
            asked_to_end(signal);
            return Ok(());
        }
        News::Ended(status) => return Err(MountError::ServerEnded(describe(status))),
        News::Serving | News::Nothing => return Err(MountError::ServerEnded("lost its way".into())),
    }
    let (mounted, device) = Mounted::new(&dir)?;
    let guard = UnmountOnDrop(&mounted);
    descriptor::send(&server.socket, device.as_fd()).map_err(other)?;
    // With the child's copy the connection ends, and every reader knows.
    drop::<OwnedFd>(device);
    privileges::keep(SUPERVISOR).map_err(other)?;
    // For an ordinary user a set-user-id program unmounts.
    if geteuid().is_root() {
        set_no_new_privs().map_err(os)?;
    }
    let mut ready = Some(ready);
    loop {
        match server.wait(None).map_err(other)? {
            News::Serving => ready.take().into_iter().for_each(|ready| ready()),
            News::Failed(why) => return Err(MountError::Server(why)),
            News::Signal(signal) => {
                mounted.unmount().map_err(other)?;
                std::mem::forget(guard);
                asked_to_end(signal);
                // Readers in the middle of a read get their answer if it comes soon.
                let until = Instant::now() + PATIENCE;
                while !matches!(server.wait(Some(until)).map_err(other)?, News::Ended(_) | News::Nothing) {}
                return Ok(());
            }
            News::Ended(status) if status == WaitStatus::Exited(pid, 0) && !mounted.is_there() => {
                log::info!("{} is unmounted", dir.display());
                return Ok(());
            }
            News::Ended(status) => return Err(MountError::ServerEnded(describe(status))),
            News::Prepared | News::Nothing => {}
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, 0) => "was cut off from its mount".into(),
        WaitStatus::Exited(_, code) => format!("ended with exit code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
        status => format!("ended: {status:?}"),
    }
}

/// Leaves no mount behind, whatever goes wrong.
struct UnmountOnDrop<'a>(&'a Mounted);

impl Drop for UnmountOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.0.unmount() {
            log::error!("cannot unmount: {e}");
        }
    }
}

/// The child, seen from its parent. When dropped it is killed.
struct Server {
    pid: Pid,
    socket: UnixDatagram,
    signals: SignalFd,
    ended: bool,
}

/// What a parent hears.
enum News {
    /// The child has all it needs but the mount.
    Prepared,
    /// It answers readers.
    Serving,
    /// It will not, and says why.
    Failed(String),
    /// It is gone.
    Ended(WaitStatus),
    /// Somebody wants the daemon to end.
    Signal(Signal),
    /// Time is up.
    Nothing,
}

impl Server {
    /// Waits for news, in the order in which they matter.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<News> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
            });
            let mut files = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut files, timeout) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(News::Nothing),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
            if files[0].any() == Some(true) {
                let mut message = [0; 4096];
                let n = self.socket.recv(&mut message)?;
                return Ok(match message[..n].split_first() {
                    Some((&server::PREPARED, _)) => News::Prepared,
                    Some((&server::SERVING, _)) => News::Serving,
                    Some((_, why)) => News::Failed(String::from_utf8_lossy(why).into_owned()),
                    None => continue,
                });
            }
            let signal =
                self.signals.read_signal()?.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok());
            match signal {
                // Otherwise it stopped or went on, or this was the end of fusermount3.
                Some(Signal::SIGCHLD) => {
                    let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?;
                    if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                        self.ended = true;
                        return Ok(News::Ended(status));
                    }
                }
                Some(signal) => return Ok(News::Signal(signal)),
                None => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}
