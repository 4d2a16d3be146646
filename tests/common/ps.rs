//! `task-diag ps` as tests call it.

use super::daemon::program;
use super::tools;
use std::process::Command;

/// `ps` with arguments, over `way`: options that choose who is asked.
pub fn ps(way: &[String], arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("ps").args(way).args(arguments);
    command
}

/// The options that ask nobody.
pub fn direct() -> Vec<String> {
    ["--direct", "--source", "procfs"].map(str::to_string).to_vec()
}

/// The lines of a table without its heading.
pub fn lines(arguments: &[&str]) -> Vec<String> {
    let (out, _) = tools::succeeds(&mut ps(&direct(), arguments));
    out.lines().skip(1).map(|line| line.trim().to_string()).collect()
}

/// A program that does not outlive this.
pub struct Killed(pub std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
