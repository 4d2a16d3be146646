//! The real program, serving at a temporary directory for as long as a test wants it.

use super::sources::Source;
use super::wait;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-diag"));
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null());
    command
}

/// Lets whatever `command` starts end, by way of an unmount, with the thread that starts it.
pub fn ends_with_this_thread(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
    command
}

/// Whether something is mounted at `dir`.
pub fn is_mounted(dir: &Path) -> bool {
    let text = std::fs::read("/proc/thread-self/mountinfo").unwrap();
    let dir = dir.as_os_str().as_encoded_bytes();
    text.split(|c| *c == b'\n').any(|line| line.split(|c| *c == b' ').nth(4) == Some(dir))
}

/// A daemon under way. When dropped it is told to end, and has to end well.
pub struct Daemon {
    child: Child,
    place: TempDir,
    ended: Option<ExitStatus>,
    /// A test has seen to its end.
    forsaken: bool,
}

impl Daemon {
    /// Starts one, and waits until it serves. It is patient: no test fails because the machine is slow.
    pub fn start(source: &Source) -> Daemon {
        Self::start_with(source, &["--target-deadline", "100000", "--read-deadline", "100000"])
    }

    /// As [`Daemon::start`], with these arguments alone.
    pub fn start_with(source: &Source, arguments: &[&str]) -> Daemon {
        let place = TempDir::new().unwrap();
        let daemon = Self::start_at(place, program().arg("--source").arg(source.name).args(arguments));
        assert!(daemon.log().contains(&format!(" from {}", source.name)), "{}", daemon.log());
        daemon
    }

    /// Starts `command`, which lacks the `mount` and the directory, in the directory `mnt` of `place`.
    ///
    /// `command` is [`program`] with options of `mount`.
    pub fn start_at(place: TempDir, command: &mut Command) -> Daemon {
        let options: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
        let variables: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k, v?))).collect();
        let log = File::create(place.path().join("log")).unwrap();
        let mut command = program();
        command.envs(variables).arg("mount").arg(place.path().join("mnt")).args(options);
        command.stdout(Stdio::null()).stderr(log);
        let child = ends_with_this_thread(&mut command).spawn().unwrap();
        let mut daemon = Daemon { child, place, ended: None, forsaken: false };
        wait::until("the daemon serves", || {
            assert!(!daemon.has_ended(), "the daemon ended: {}", daemon.log());
            daemon.log().contains("serving")
        });
        daemon
    }

    /// Where it is mounted.
    pub fn dir(&self) -> PathBuf {
        self.place.path().join("mnt")
    }

    /// The file it serves.
    pub fn path(&self) -> PathBuf {
        self.dir().join("task_diag")
    }

    /// The process that was started, which unmounts.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its child, which answers readers.
    pub fn server(&self) -> u32 {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().unwrap_or_else(|_| panic!("one child: {children:?}"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended.is_some()
    }

    /// Sends it `signal` and waits for its end.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        if !self.has_ended() {
            kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        }
        wait::until("the daemon ends", || self.has_ended());
        self.ended.unwrap()
    }

    /// Kills it, so that it cannot unmount, and gives the place back with the dead mount in it.
    pub fn kill(mut self) -> Place {
        self.end_by(Signal::SIGKILL);
        self.forsake()
    }

    /// Waits until it has ended by itself, in the way in which a service manager sees a failure; gives the place back.
    pub fn fail(mut self) -> Place {
        wait::until("the daemon ends", || self.has_ended());
        assert_eq!(self.ended.unwrap().code(), Some(1), "{}", self.log());
        self.forsake()
    }

    fn forsake(mut self) -> Place {
        self.forsaken = true;
        let place = std::mem::replace(&mut self.place, TempDir::new().unwrap());
        Place { place: Some(place) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let status = self.end_by(Signal::SIGTERM);
        let still_mounted = is_mounted(&self.dir());
        if still_mounted {
            // Nothing of the mount may be left for the removal of the directory to walk into.
            let _ = umount2(&self.dir(), MntFlags::MNT_DETACH);
        }
        if !std::thread::panicking() && !self.forsaken {
            assert!(status.success(), "the daemon ended with {status}: {}", self.log());
            assert!(!still_mounted, "the daemon left its mount behind: {}", self.log());
        }
    }
}

/// Where a daemon was that has ended. When dropped it is unmounted.
pub struct Place {
    place: Option<TempDir>,
}

impl Place {
    /// The mount point.
    pub fn dir(&self) -> PathBuf {
        self.place.as_ref().unwrap().path().join("mnt")
    }

    /// Starts another daemon at the same place.
    pub fn start_again(mut self, source: &Source) -> Daemon {
        Daemon::start_at(self.place.take().unwrap(), program().arg("--source").arg(source.name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.place.is_some() {
            let _ = umount2(&self.dir(), MntFlags::MNT_DETACH);
        }
    }
}
