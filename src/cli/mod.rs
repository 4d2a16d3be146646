//! The command line.

mod bench;
mod dump;
mod mount;
mod printable;
mod ps;
mod shell_files;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use std::io;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use task_diag::proc_files::ProcRoot;
use task_diag::protocol::{Groups, Request};
#[cfg(feature = "bpf")]
use task_diag::source::BpfSource;
use task_diag::source::{Deadlines, Limits, ProcfsSource, Source};

/// Attributes of many processes in one binary read.
#[derive(Debug, Parser)]
#[command(name = "task-diag", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve DIR/task_diag, in the foreground, until SIGTERM or SIGINT
    Mount(mount::Options),
    /// Look at processes: a table, a tree, a view that is redrawn, or JSON
    Ps(ps::Options),
    /// Show every process
    All(dump::Options),
    /// Show every thread of every process
    AllThreads(dump::Options),
    /// Show the threads of the process that PID is a thread of
    Threads(dump::OfTask),
    /// Show the children of exactly the task PID
    Children(dump::OfTask),
    /// Show the task PID
    One(dump::OfTask),
    /// Show these tasks
    Set(dump::OfTasks),
    /// Show the process of PID, its children, theirs, and so on
    Subtree(dump::OfTask),
    /// Compare the time of dumps with that of reading /proc
    Bench(bench::Options),
    #[command(hide = true)]
    BenchPopulation {
        size: bench::Size,
        #[arg(default_value_t = 0)]
        descriptors: u32,
    },
    /// Load each BPF program and show what the kernel's verifier counted
    #[cfg(feature = "bpf")]
    #[command(hide = true)]
    VerifyPrograms,
    /// Write man pages and completions for shells below DIR
    #[command(hide = true)]
    ShellFiles { dir: PathBuf },
}

/// Runs the command; gives the exit code of one that did its work.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let groups = Groups::empty();
    match arguments.command {
        Command::Ps(options) => return ps::run(&options),
        Command::ShellFiles { dir } => shell_files::write(&dir),
        #[cfg(feature = "bpf")]
        Command::VerifyPrograms => return Ok(verify_programs()),
        Command::Mount(options) => mount::run(options),
        Command::All(options) => dump::run(Request::all(groups), &options),
        Command::AllThreads(options) => dump::run(Request::all_threads(groups), &options),
        Command::Threads(of) => dump::run(Request::threads(of.pid, groups), &of.options),
        Command::Children(of) => dump::run(Request::children(of.pid, groups), &of.options),
        Command::One(of) => dump::run(Request::one(of.pid, groups), &of.options),
        Command::Set(of) => dump::run(Request::set(of.pids, groups), &of.options),
        Command::Subtree(of) => dump::run(Request::subtree(of.pid, groups), &of.options),
        Command::Bench(options) => bench::run(&options),
        Command::BenchPopulation { size, descriptors } => bench::run_population(size, descriptors),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A line a program: the object, its name, instructions, stack and calls; or why the object does not load, which is a failure.
#[cfg(feature = "bpf")]
fn verify_programs() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (object, outcome) in task_diag::source::verify() {
        match outcome {
            Ok(programs) => programs.iter().for_each(|program| {
                println!(
                    "{object} {} {} {} {}",
                    program.name, program.instructions, program.stack, program.calls
                )
            }),
            Err(why) => {
                println!("{object} FAILED {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Whether this is the error of writing to a pipe that nobody reads.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Where tasks come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SourceChoice {
    /// The best that this kernel offers
    #[default]
    Auto,
    /// BPF programs
    Bpf,
    /// The same programs for older kernels, where each load from kernel memory is a call
    BpfIter,
    /// Files of /proc
    Procfs,
}

/// A number of things without which nothing would be answered.
fn at_least_one<T: FromStr<Err = ParseIntError> + PartialEq + Default>(text: &str) -> anyhow::Result<T> {
    let number = text.parse()?;
    anyhow::ensure!(number != T::default(), "it has to be 1 or more");
    Ok(number)
}

/// What readers may cost.
#[derive(Clone, Copy, Debug, clap::Args)]
struct LimitOptions {
    /// Milliseconds to wait for the memory of one task
    #[arg(long, default_value_t = 200, value_name = "MS", value_parser = at_least_one::<u64>)]
    target_deadline: u64,
    /// Milliseconds to wait for memory in one read
    #[arg(long, default_value_t = 2000, value_name = "MS", value_parser = at_least_one::<u64>)]
    read_deadline: u64,
    /// MiB kept for dumps half read
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = at_least_one::<usize>)]
    parked: usize,
    /// MiB kept for dumps half read by one user
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = at_least_one::<usize>)]
    parked_per_user: usize,
    /// Files that may be open at once
    #[arg(long, default_value_t = 65536, value_name = "COUNT", value_parser = at_least_one::<usize>)]
    files: usize,
    /// Files that one user may have open at once
    #[arg(long, default_value_t = 16384, value_name = "COUNT", value_parser = at_least_one::<usize>)]
    files_per_user: usize,
}

impl LimitOptions {
    fn limits(self) -> Limits {
        Limits {
            deadlines: Deadlines {
                target: Duration::from_millis(self.target_deadline),
                read: Duration::from_millis(self.read_deadline),
            },
            parked: self.parked.saturating_mul(1 << 20),
            parked_per_user: self.parked_per_user.saturating_mul(1 << 20),
            files: self.files,
            files_per_user: self.files_per_user,
        }
    }
}

/// Opens /proc, which has to be that of this process' own pid namespace: another one calls tasks by other numbers.
fn open_proc() -> anyhow::Result<ProcRoot> {
    let root = match ProcRoot::open("/proc") {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(error).context("cannot open /proc; is it mounted?");
        }
        Err(error) => return Err(error).context("cannot open /proc"),
    };
    let status = std::fs::read("/proc/self/status").map_err(|error| match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
            anyhow::Error::from(error).context("cannot read /proc/self/status")
        }
        _ => anyhow::anyhow!(
            "/proc does not show this process ({error}); mount the /proc of this pid namespace"
        ),
    })?;
    // From the namespace of the mount down to that of the process: one where both are the same.
    let levels = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:"));
    if levels.is_some_and(|levels| levels.trim_ascii().split(u8::is_ascii_whitespace).count() > 1) {
        anyhow::bail!(
            "/proc is that of another pid namespace; mount the one of this (mount -t proc proc /proc)"
        );
    }
    Ok(root)
}

/// What loading BPF programs takes of /proc is not there where that is mounted with subset=pid, see proc(5).
#[cfg(feature = "bpf")]
fn subset() -> &'static str {
    match Path::new("/proc/version").exists() {
        true => "",
        false => "; /proc is mounted with subset=pid, without what loading them takes",
    }
}

fn open_source(choice: SourceChoice, limits: Limits) -> anyhow::Result<(Arc<dyn Source>, Arc<ProcRoot>)> {
    let proc_root = Arc::new(open_proc()?);
    let procfs = || Arc::new(ProcfsSource::new(proc_root.clone(), limits));
    #[cfg(feature = "bpf")]
    let no_bpf = || format!("cannot load BPF programs{}", subset());
    let source: Arc<dyn Source> = match choice {
        SourceChoice::Procfs => procfs(),
        #[cfg(feature = "bpf")]
        SourceChoice::Bpf => Arc::new(BpfSource::load(proc_root.clone(), limits).with_context(no_bpf)?),
        #[cfg(feature = "bpf")]
        SourceChoice::BpfIter => {
            Arc::new(BpfSource::load_probing(proc_root.clone(), limits).with_context(no_bpf)?)
        }
        #[cfg(not(feature = "bpf"))]
        SourceChoice::Bpf | SourceChoice::BpfIter => {
            anyhow::bail!("this program was built without the BPF sources")
        }
        #[cfg(feature = "bpf")]
        SourceChoice::Auto => match BpfSource::load(proc_root.clone(), limits) {
            Ok(source) => Arc::new(source),
            Err(why) => match BpfSource::load_probing(proc_root.clone(), limits) {
                Ok(source) => {
                    log::warn!(
                        "source {}, which is slower than bpf, because {why}{}",
                        source.name(),
                        subset()
                    );
                    Arc::new(source)
                }
                Err(neither) => {
                    log::warn!("source procfs, which is slower, because {why}; and {neither}{}", subset());
                    procfs()
                }
            },
        },
        #[cfg(not(feature = "bpf"))]
        SourceChoice::Auto => procfs(),
    };
    Ok((source, proc_root))
}
