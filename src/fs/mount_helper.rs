//! fusermount3, the set-user-id program by which ordinary users mount and unmount.

use super::descriptor;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = "fusermount3";

/// Mounts at `dir`; gives the descriptor by which the kernel asks.
pub fn mount(dir: &Path, options: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) = descriptor::inheritable_pair()?;
    let options = format!("fsname=task_diag,noexec,nosuid,nodev,noatime,{options}");
    let mut command = Command::new(PROGRAM);
    command.args(["-o", &options, "--"]).arg(dir).env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    // It sends the descriptor before it ends, so there is no need to listen meanwhile.
    succeeded(command.output()?)?;
    drop(theirs);
    descriptor::receive(&ours)
}

/// Unmounts `dir`, even while files on it are open.
pub fn unmount(dir: &Path) -> io::Result<()> {
    succeeded(Command::new(PROGRAM).args(["-u", "-z", "--"]).arg(dir).output()?)
}

fn succeeded(output: Output) -> io::Result<()> {
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string())),
    }
}
