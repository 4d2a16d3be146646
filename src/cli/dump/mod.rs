//! The dump commands: a request, and its answer as a table or as JSON.

mod json;
mod printer;
mod table;

use super::{SourceChoice, open_source};
use anyhow::Context;
use clap::ValueEnum;
use printer::Printer;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use task_diag::client::{Client, DEFAULT_PATH};
use task_diag::protocol::{DumpStrategy, Groups, Request};
use task_diag::source::Limits;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Show the mappings
    #[arg(long)]
    maps: bool,
    /// Show the mappings with their statistics
    #[arg(long)]
    smaps: bool,
    /// Show user and group ids and capabilities
    #[arg(long)]
    cred: bool,
    /// Show faults, times and the number of threads
    #[arg(long)]
    stat: bool,
    /// Show the sizes of the memory
    #[arg(long)]
    statm: bool,
    /// Show the command line
    #[arg(long)]
    cmdline: bool,
    /// Show supplementary groups, ambient capabilities, no_new_privs, seccomp
    #[arg(long)]
    groups: bool,
    /// Show the time of start, scheduling, context switches and the terminal
    #[arg(long)]
    sched: bool,
    /// Show what was read and written
    #[arg(long)]
    io: bool,
    /// Show the control groups
    #[arg(long)]
    cgroup: bool,
    /// Show the namespaces
    #[arg(long)]
    ns: bool,
    /// Show the program, the working directory and the root
    #[arg(long)]
    files: bool,
    /// Show the number of open descriptors and their limit
    #[arg(long)]
    fd_count: bool,
    /// Show the open descriptors
    #[arg(long)]
    fd: bool,
    /// Show the memory, summed up over all mappings
    #[arg(long)]
    rollup: bool,
    /// Show the environment
    #[arg(long)]
    environ: bool,
    /// Show OOM scores, login, where it sleeps, its label
    #[arg(long)]
    misc: bool,
    /// Show the kernel's taskstats, in hexadecimal
    #[arg(long)]
    taskstats: bool,
    /// File to ask
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "direct")]
    path: PathBuf,
    /// Ask no daemon: gather in this very process
    #[arg(long)]
    direct: bool,
    /// Where tasks come from, with --direct
    #[arg(long, value_enum, requires = "direct")]
    source: Option<SourceChoice>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub struct OfTask {
    /// Id of a task (any thread's)
    pub pid: u32,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Debug, clap::Args)]
pub struct OfTasks {
    /// Ids of tasks (any thread's)
    #[arg(required = true, value_name = "PID")]
    pub pids: Vec<u32>,
    #[command(flatten)]
    pub options: Options,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people
    #[default]
    Table,
    /// One array of objects; bytes that are no UTF-8 are replaced
    Json,
}

impl Options {
    fn groups(&self) -> Groups {
        let asked = [
            (self.maps || self.smaps, Groups::VMA),
            (self.smaps, Groups::VMA_STAT),
            (self.cred, Groups::CRED),
            (self.stat, Groups::STAT),
            (self.statm, Groups::STATM),
            (self.cmdline, Groups::CMDLINE),
            (self.groups, Groups::GROUPS),
            (self.sched, Groups::SCHED),
            (self.io, Groups::IO),
            (self.cgroup, Groups::CGROUP),
            (self.ns, Groups::NS),
            (self.files, Groups::FILES),
            (self.fd_count, Groups::FD_COUNT),
            (self.fd, Groups::FD),
            (self.rollup, Groups::ROLLUP),
            (self.environ, Groups::ENVIRON),
            (self.misc, Groups::MISC),
            (self.taskstats, Groups::TASKSTATS),
        ];
        let chosen = asked.iter().filter(|(wanted, _)| *wanted).map(|(_, group)| *group);
        chosen.fold(Groups::BASE | Groups::MISSING, |all, group| all | group)
    }
}

/// Shows the tasks of `request`, and of them what the options ask for.
pub fn run(request: Request, options: &Options) -> anyhow::Result<()> {
    let request = Request { groups: options.groups(), ..request };
    if options.direct {
        let choice = options.source.unwrap_or(match request.strategy {
            DumpStrategy::All | DumpStrategy::AllThreads => SourceChoice::Auto,
            // Loading BPF programs takes longer than reading the files of some tasks.
            _ => SourceChoice::Procfs,
        });
        let (source, proc_root) = open_source(choice, Limits::default())?;
        return show(Client::direct(source, proc_root), request, options.format);
    }
    let client = Client::open(&options.path)
        .with_context(|| format!("cannot ask {} (--direct asks no daemon)", options.path.display()))?;
    show(client, request, options.format)
}

fn show<T: Read + Write>(mut client: Client<T>, request: Request, format: Format) -> anyhow::Result<()> {
    let (strategy, pid) = (request.strategy, request.pid);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut printer: Box<dyn Printer> = match format {
        Format::Table => Box::new(table::Table::default()),
        Format::Json => Box::new(json::Json::default()),
    };
    let mut shown = 0_usize;
    let mut dump = client.dump(request)?;
    while let Some(task) = dump.next_task()? {
        printer.task(&mut out, &task.to_owned()?)?;
        shown += 1;
    }
    printer.end(&mut out)?;
    out.flush()?;
    let is_hidden = shown == 0
        && match strategy {
            DumpStrategy::One | DumpStrategy::Thread | DumpStrategy::Subtree => true,
            // It may have none.
            DumpStrategy::Children => client.tasks(Request::one(pid, Groups::empty()))?.is_empty(),
            DumpStrategy::Set => anyhow::bail!("none of these tasks is there, or none may be seen"),
            DumpStrategy::All | DumpStrategy::AllThreads => false,
        };
    anyhow::ensure!(!is_hidden, "task {pid} is there, and may not be seen by this user");
    Ok(())
}
