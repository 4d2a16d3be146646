//! `task-diag mount DIR`: the daemon.

use super::{LimitOptions, SourceChoice, open_source};
use std::path::PathBuf;
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
    #[command(flatten)]
    limits: LimitOptions,
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let limits = options.limits.limits();
    let (source, _) = open_source(options.source, limits)?;
    let name = source.name();
    let filesystem = TaskDiagFs::new(source, Info { source: name, limits });
    let mount = MountOptions { dir: options.dir, threads: options.threads };
    serve(filesystem, &mount, || {
        log::info!("serving {}/task_diag from {name}", mount.dir.display());
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })?;
    Ok(())
}
