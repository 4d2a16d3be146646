//! `task-diag`: the daemon, and the commands that ask it.

mod cli;

use clap::Parser;
use std::process::ExitCode;

/// The soft limit is kept low for programs that use select(2), which this one does not.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("cannot raise the limit of open files: {e}");
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("info,fuser=error,fuser::reply=off"),
    )
    .format_timestamp(None)
    .init();
    raise_descriptor_limit();
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        // Whoever reads our output may leave early.
        Err(e) if cli::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("task-diag: {e:#}");
            ExitCode::FAILURE
        }
    }
}
