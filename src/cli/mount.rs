//! `task-diag mount DIR`: the daemon.

use super::{LimitOptions, SourceChoice, open_source};
use std::path::PathBuf;
use task_diag::access::Visibility;
use task_diag::fs::{Info, MountOptions, TaskDiagFs, serve};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directory to mount at; made if it is not there
    dir: PathBuf,
    /// Where tasks come from
    #[arg(long, value_enum, default_value_t)]
    source: SourceChoice,
    /// Threads that answer readers
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// What to show of tasks that a reader may not look at: nothing, or what /proc shows of them to everyone
    #[arg(long, value_enum, default_value_t)]
    hidepid: Hidepid,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Hidepid {
    /// Nothing
    #[default]
    Ptrace,
    /// BASE, CRED, STAT, STATM and CMDLINE
    Proc,
}

impl From<Hidepid> for Visibility {
    fn from(hidepid: Hidepid) -> Visibility {
        match hidepid {
            Hidepid::Ptrace => Visibility::Ptrace,
            Hidepid::Proc => Visibility::Proc,
        }
    }
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let limits = options.limits.limits();
    let (source, _) = open_source(options.source, limits)?;
    let name = source.name();
    let filesystem =
        TaskDiagFs::new(source, Info { source: name, limits, visibility: options.hidepid.into() });
    let mount = MountOptions { dir: options.dir, threads: options.threads };
    serve(filesystem, &mount, || {
        log::info!("serving {}/task_diag from {name}", mount.dir.display());
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })?;
    Ok(())
}
