//! The command line of the kernel patch's own client, for any file that serves the interface:
//!
//! ```text
//! task_diag_all all -x -q
//! task_diag_all threads -p 1 -c --path /proc/task-diag
//! ```
//!
//! Like that client it sends 44 bytes, the last four of them stray, with arbitrary values in `nlmsg_type`,
//! `nlmsg_flags` and `nlmsg_pid`. Messages are read where they lie in the buffer; nothing is allocated per task.

use clap::{Parser, ValueEnum};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;
use task_diag::client::{Client, DEFAULT_PATH};
use task_diag::protocol::{
    Attribute, Base, Capabilities, Credentials, DumpStrategy, Groups, Message, Request, Stat, State, Statm,
    VmFlags, Vma,
};

/// Asks a task_diag file about tasks.
#[derive(Debug, Parser)]
#[command(name = "task_diag_all", arg_required_else_help = true)]
struct Arguments {
    /// Which tasks
    #[arg(value_enum)]
    command: Command,
    /// File to ask [default: the first there is of /run/task_diag/task_diag, /proc/task-diag, /proc/task_diag]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// File to ask, the other way to say it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    path: Option<PathBuf>,
    /// The task that threads, children and one speak of
    #[arg(
        short,
        long,
        default_value_t = 0,
        hide_default_value = true,
        required_if_eq_any([("command", "threads"), ("command", "children"), ("command", "one")])
    )]
    pid: u32,
    /// Mappings
    #[arg(short)]
    maps: bool,
    /// Mappings with their statistics
    #[arg(short)]
    smaps: bool,
    /// Credentials
    #[arg(short)]
    cred: bool,
    /// Command line
    #[arg(short = 'l')]
    cmdline: bool,
    /// Faults, times, threads, and sizes of memory
    #[arg(short = 'x')]
    stat: bool,
    /// Only count, to measure the time
    #[arg(short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
enum Command {
    /// Every process
    #[value(name = "all")]
    Processes,
    /// Every thread of every process
    #[value(name = "All")]
    AllThreads,
    /// The threads of the process that PID is a thread of
    #[value(name = "threads", alias = "thread")]
    Threads,
    /// The children of exactly the task PID
    #[value(name = "children")]
    Children,
    /// The task PID
    #[value(name = "one")]
    One,
}

impl Arguments {
    fn request(&self) -> Request {
        let strategy = match self.command {
            Command::Processes => DumpStrategy::All,
            Command::AllThreads => DumpStrategy::AllThreads,
            Command::Threads => DumpStrategy::Thread,
            Command::Children => DumpStrategy::Children,
            Command::One => DumpStrategy::One,
        };
        let mut groups = Groups::BASE;
        groups.set(Groups::VMA, self.maps || self.smaps);
        groups.set(Groups::VMA_STAT, self.smaps);
        groups.set(Groups::CRED, self.cred);
        groups.set(Groups::CMDLINE, self.cmdline);
        groups.set(Groups::STAT | Groups::STATM, self.stat);
        Request { groups, strategy, pid: self.pid, ..Request::default() }
    }

    fn file(&self) -> &Path {
        let of_a_patched_kernel = || ["/proc/task-diag", "/proc/task_diag"].map(Path::new);
        let default = || {
            let candidates = [Path::new(DEFAULT_PATH)].into_iter().chain(of_a_patched_kernel());
            candidates.into_iter().find(|path| path.exists()).unwrap_or(Path::new(DEFAULT_PATH))
        };
        self.path.as_deref().or(self.file.as_deref()).unwrap_or_else(default)
    }
}

/// A file that is written to as the patch's own client does, and that counts the bytes it gives.
struct Classical {
    file: File,
    received: Rc<Cell<u64>>,
}

impl Write for Classical {
    fn write(&mut self, request: &[u8]) -> io::Result<usize> {
        let mut bytes = request.to_vec();
        bytes.extend(*b"\xa5\x5a\xa5\x5a");
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..8].fill(0xa5);
        bytes[12..16].fill(0xa5);
        let written = self.file.write(&bytes)?;
        Ok(if written == bytes.len() { request.len() } else { 0 })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Classical {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let received = self.file.read(buf)?;
        self.received.set(self.received.get() + received as u64);
        Ok(received)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output may leave early.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("task_diag_all: {}: {e}", arguments.file().display());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let received = Rc::new(Cell::new(0));
    let file = OpenOptions::new().read(true).write(true).open(arguments.file())?;
    let mut client = Client::over(Classical { file, received: received.clone() });
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut tasks, mut messages) = (0_u64, 0_u64);
    let mut within = false;
    let mut dump = client.dump(arguments.request())?;
    while let Some(batch) = dump.next_batch()? {
        for message in batch {
            let message = message?;
            messages += 1;
            tasks += u64::from(!message.continues);
            if !arguments.quiet {
                show(&mut out, &message, within)?;
            }
            within = message.continues;
        }
    }
    if arguments.quiet {
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        let bytes = received.get();
        writeln!(out, "tasks {tasks} messages {messages} bytes {bytes} milliseconds {milliseconds:.3}")?;
    }
    out.flush()?;
    Ok(())
}

/// One message; `within` says that it goes on with the task of the one before.
fn show(out: &mut dyn Write, message: &Message, within: bool) -> Result<(), Box<dyn std::error::Error>> {
    if !within {
        writeln!(out, "pid {} tgid {}", message.pid, message.tgid)?;
    }
    for attribute in message.attributes() {
        match attribute? {
            Attribute::Base(base) => show_base(out, &base)?,
            Attribute::Credentials(credentials) => show_credentials(out, &credentials)?,
            Attribute::Stat(stat) => show_stat(out, &stat)?,
            Attribute::Statm(statm) => show_statm(out, &statm)?,
            Attribute::Cmdline(bytes) => writeln!(out, "    cmdline {}", bytes.escape_ascii())?,
            Attribute::Missing(mask) => writeln!(out, "    missing {mask:#x}")?,
            Attribute::Vma(list) => {
                for vma in list {
                    show_vma(out, &vma?)?;
                }
            }
            other => writeln!(out, "    attribute {}: {} bytes", other.id(), other.payload().len())?,
        }
    }
    Ok(())
}

fn show_base(out: &mut dyn Write, base: &Base) -> io::Result<()> {
    let state = State::try_from(base.state).map_or('?', |state| char::from(state.letter()));
    let Base { ppid, tpid, sid, pgid, .. } = base;
    let comm = base.comm_bytes().escape_ascii();
    writeln!(out, "    ppid {ppid} tpid {tpid} sid {sid} pgid {pgid} state {state} comm {comm}")
}

fn show_credentials(out: &mut dyn Write, credentials: &Credentials) -> io::Result<()> {
    let Credentials { uid, euid, suid, fsuid, gid, egid, sgid, fsgid, .. } = credentials;
    let set = |set: Capabilities| u64::from(set);
    writeln!(out, "    uid {uid} {euid} {suid} {fsuid} gid {gid} {egid} {sgid} {fsgid}")?;
    writeln!(
        out,
        "    inheritable {:016x} permitted {:016x} effective {:016x} bounding {:016x}",
        set(credentials.inheritable),
        set(credentials.permitted),
        set(credentials.effective),
        set(credentials.bounding)
    )
}

fn show_stat(out: &mut dyn Write, stat: &Stat) -> io::Result<()> {
    let Stat { minflt, cminflt, majflt, cmajflt, utime, stime, cutime, cstime, threads, .. } = stat;
    writeln!(out, "    minflt {minflt} cminflt {cminflt} majflt {majflt} cmajflt {cmajflt}")?;
    writeln!(out, "    utime {utime} stime {stime} cutime {cutime} cstime {cstime} threads {threads}")
}

fn show_statm(out: &mut dyn Write, statm: &Statm) -> io::Result<()> {
    let Statm { anon, file, shmem, swap, ptes, text, lib, .. } = statm;
    let Statm { total_vm, total_rss, hiwater_vm, hiwater_rss, .. } = statm;
    let Statm { locked_vm, pinned_vm, data_vm, stack_vm, .. } = statm;
    writeln!(out, "    anon {anon} file {file} shmem {shmem} swap {swap} ptes {ptes} text {text} lib {lib}")?;
    writeln!(out, "    vm {total_vm} rss {total_rss} hiwater_vm {hiwater_vm} hiwater_rss {hiwater_rss}")?;
    writeln!(out, "    locked {locked_vm} pinned {pinned_vm} data {data_vm} stack {stack_vm}")
}

fn show_vma(out: &mut dyn Write, vma: &Vma) -> io::Result<()> {
    let letter = |flag, letter| if vma.flags.contains(flag) { letter } else { '-' };
    let Vma { start, end, pgoff, major, minor, inode, .. } = vma;
    writeln!(
        out,
        "    {start:012x}-{end:012x} {}{}{}{} {pgoff:08x} {major:02x}:{minor:02x} {inode} {}",
        letter(VmFlags::READ, 'r'),
        letter(VmFlags::WRITE, 'w'),
        letter(VmFlags::EXEC, 'x'),
        // What /proc calls shared is what may be.
        if vma.flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' },
        vma.name.escape_ascii()
    )?;
    let Some(stat) = vma.stat else { return Ok(()) };
    writeln!(
        out,
        "        resident {} pss {} shared {}+{} private {}+{} referenced {} anonymous {} thp {} swap {}",
        stat.resident,
        stat.pss >> 12,
        stat.shared_clean,
        stat.shared_dirty,
        stat.private_clean,
        stat.private_dirty,
        stat.referenced,
        stat.anonymous,
        stat.anonymous_thp,
        stat.swap
    )
}
