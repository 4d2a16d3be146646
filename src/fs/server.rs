//! The child: makes ready, gives up its privileges, and answers.

use super::privileges::{self, SERVER, TASKSTATS};
use super::session::Connection;
use super::{TaskDiagFs, descriptor, syscall_filter};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{Pid, getppid};
use std::fmt::Display;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// The first byte of what it tells its parent; any other is followed by why it gives up.
pub const PREPARED: u8 = b'p';
/// As above.
pub const SERVING: u8 = b's';
const FAILED: u8 = b'f';

/// Answers until the mount is gone, and ends the process.
pub fn run<E: Display>(
    parent: Pid,
    ending: &[Signal],
    socket: &UnixDatagram,
    dir: &Path,
    filesystem: impl FnOnce() -> Result<TaskDiagFs, E>,
) -> ! {
    let outcome = begin(parent, ending)
        .map_err(|e| e.to_string())
        .and_then(|()| filesystem().map_err(|e| format!("{e:#}")))
        .and_then(|filesystem| {
            answer(filesystem, socket, dir).map_err(|e| format!("cannot serve at {}: {e}", dir.display()))
        });
    if let Err(why) = &outcome {
        // Where the parent is gone, so is this process in a moment.
        let _ = socket.send(&[&[FAILED], &why.as_bytes()[..why.len().min(4000)]].concat());
    }
    std::process::exit(outcome.is_err().into());
}

fn begin(parent: Pid, ending: &[Signal]) -> io::Result<()> {
    // Nobody would unmount for a child without its parent.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::Error::other("the parent has ended"));
    }
    // A terminal and service managers send these to all processes: it is for the parent to unmount first.
    for ending in ending {
        // SAFETY: no handler is installed.
        unsafe { signal(*ending, SigHandler::SigIgn) }?;
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

fn answer(filesystem: TaskDiagFs, socket: &UnixDatagram, dir: &Path) -> io::Result<()> {
    // Threads started from here on inherit what is left.
    privileges::alone()?;
    let kept = [SERVER, if filesystem.has_taskstats() { &[TASKSTATS] } else { &[] }].concat();
    privileges::keep(&kept)?;
    prctl::set_no_new_privs()?;
    syscall_filter::install()?;
    let from = filesystem.source_name();
    socket.send(&[PREPARED])?;
    let device = descriptor::receive(socket)?;
    filesystem.give_memory_back();
    let connection = Connection::begin(filesystem, device)?;
    log::info!("serving {}/task_diag from {from}", dir.display());
    socket.send(&[SERVING])?;
    connection.serve()
}
