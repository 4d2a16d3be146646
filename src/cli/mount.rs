//! `task-diag mount DIR`: the daemon.

use super::{LimitOptions, SourceChoice, at_least_one, open_source};
use anyhow::Context;
use nix::unistd::Group;
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
    /// Reads that are gathered at once; one user's are fewer
    #[arg(long, default_value_t = 8, value_parser = at_least_one::<usize>)]
    threads: usize,
    /// What to show of tasks that a reader may not look at: nothing, or what /proc shows of them to everyone
    #[arg(long, value_enum, default_value_t)]
    hidepid: Hidepid,
    /// Permissions of the file, in octal; whoever is to use it has to be let both read and write
    #[arg(long, default_value = "0666", value_name = "OCTAL", value_parser = mode)]
    mode: u16,
    /// Group of the file, instead of the daemon's own
    #[arg(long, value_name = "NAME|GID", value_parser = group)]
    group: Option<u32>,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Hidepid {
    /// Nothing
    #[default]
    Ptrace,
    /// BASE, CRED, STAT, STATM, CMDLINE, GROUPS, SCHED, CGROUP and MISC
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

fn mode(text: &str) -> anyhow::Result<u16> {
    let mode = u16::from_str_radix(text, 8).context("not an octal number")?;
    anyhow::ensure!(mode <= 0o777, "more than 0777");
    Ok(mode)
}

fn group(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        // The kernel's "no group".
        Ok(u32::MAX) => anyhow::bail!("no such group"),
        Ok(gid) => Ok(gid),
        Err(_) => Ok(Group::from_name(text)?.context("no such group")?.gid.as_raw()),
    }
}

/// Closes what whoever started the daemon left open besides the standard descriptors: it would stay open as long as this runs.
fn close_inherited() -> anyhow::Result<()> {
    // SAFETY: the process has just begun and has opened nothing itself.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    // Before Linux 5.9. One of them is the directory's own, and closed already.
    let names = std::fs::read_dir("/proc/self/fd").context("cannot read /proc/self/fd; is /proc mounted?")?;
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    for fd in
        names.iter().filter_map(|name| name.file_name().to_str()?.parse().ok()).filter(|fd: &i32| *fd > 2)
    {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

pub fn run(options: Options) -> anyhow::Result<()> {
    close_inherited()?;
    let limits = options.limits.limits();
    let mount = MountOptions { dir: options.dir };
    let filesystem = || {
        let (source, proc_root) = open_source(options.source, limits)?;
        // Found out by processes of its own, which whoever answers readers may not make.
        if proc_root.shows_undumpable_zombies().is_none() {
            log::warn!(
                "cannot find out how this kernel guards tasks without memory: users may not be shown zombies of theirs"
            );
        }
        if let Err(why) = source.taskstats() {
            log::info!("no TASKSTATS: {why}");
        }
        let sources = source.sources();
        for (groups, from) in &sources {
            let names: Vec<&str> = groups.iter_names().map(|(name, _)| name).collect();
            log::info!("from {from}: {}", names.join(" "));
        }
        let info = Info {
            source: source.name(),
            sources,
            groups: source.offers(),
            limits,
            visibility: options.hidepid.into(),
        };
        anyhow::Ok(TaskDiagFs::new(source, info, options.threads).open_to(options.mode, options.group))
    };
    serve(&mount, filesystem, || {
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })?;
    Ok(())
}
