//! `task-diag ps`: a look at processes.

mod cell;
mod clock;
mod column;
mod extension;
mod json;
mod name_cache;
mod origin;
mod row;
mod screen;
mod share;
mod sort;
mod table;
mod tree;
mod watch;

use super::SourceChoice;
use anyhow::Context;
use column::Column;
use name_cache::NameCache;
use nix::unistd::User;
use origin::Origin;
use row::Row;
use share::{Look, Measure};
use sort::SortKey;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use table::Style;
use task_diag::protocol::Groups;

#[derive(Debug, clap::Args)]
#[command(after_help = column::help())]
pub struct Options {
    /// Only these tasks; with --tree also what is below them
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Only these processes and what is below them
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with_all = ["pids", "threads"])]
    subtree: Vec<u32>,
    /// Only tasks of these effective users, by name or number
    #[arg(short, long = "user", value_name = "USER", value_delimiter = ',', value_parser = user)]
    users: Vec<u32>,
    /// Each thread for itself
    #[arg(short = 'L', long)]
    threads: bool,
    /// Children below their parents
    #[arg(short, long)]
    tree: bool,
    /// Columns to show
    #[arg(short = 'o', long = "columns", value_name = "COLUMN", value_delimiter = ',', num_args = 1)]
    columns: Vec<Column>,
    /// Sort by these columns; with - before it, from the largest value down
    #[arg(long, value_name = "[-]COLUMN", value_delimiter = ',', num_args = 1, allow_hyphen_values = true)]
    sort: Vec<SortKey>,
    /// Draw it again every so many seconds, until ctrl-c or q
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, num_args = 0..=1, default_missing_value = "2")]
    watch: Option<Duration>,
    /// One array of objects; bytes that are no UTF-8 come in hexadecimal besides (comm_hex, args_hex)
    #[arg(long, conflicts_with_all = ["tree", "watch"])]
    json: bool,
    /// An object a line
    #[arg(long, conflicts_with_all = ["tree", "json"])]
    ndjson: bool,
    /// File to ask, which has to be there; the default one is asked only if it is
    #[arg(long, value_name = "FILE", conflicts_with = "direct")]
    path: Option<PathBuf>,
    /// Ask no daemon: gather in this very process
    #[arg(long)]
    direct: bool,
    /// Where tasks come from, with --direct
    #[arg(long, value_enum, requires = "direct")]
    source: Option<SourceChoice>,
    /// When to use colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    /// Say on standard error who was asked
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

fn user(text: &str) -> anyhow::Result<u32> {
    match text.parse() {
        Ok(uid) => Ok(uid),
        Err(_) => Ok(User::from_name(text)?.context("no such user")?.uid.as_raw()),
    }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| *time >= Duration::from_millis(50)).context("at least 0.05 seconds")
}

/// Which tasks are asked for.
#[derive(Debug)]
struct Selected {
    pids: Vec<u32>,
    /// The processes of which all is shown that is below them.
    top: Vec<u32>,
    users: Vec<u32>,
    threads: bool,
}

/// What is asked for and how it is shown, the defaults filled in.
#[derive(Debug)]
struct View {
    selected: Selected,
    columns: Vec<Column>,
    sort: Vec<SortKey>,
    groups: Groups,
    tree: bool,
    /// The processes at the top of the tree.
    top: Vec<u32>,
    names: NameCache,
    /// Shares of a processor are those since the look before, not since the start.
    compares: bool,
    before: Option<Look>,
}

impl View {
    fn new(options: &Options) -> View {
        use Column::{Args, Comm, Pcpu, Pid, Ppid, Rss, StartTime, State, Threads, Tid, Time, User, Vsz};
        let is_json = options.json || options.ndjson;
        let columns = match &options.columns[..] {
            [] if is_json => {
                Column::ALL().into_iter().filter(|column| *column != Pcpu && column.is_cheap()).collect()
            }
            [] if options.threads && options.watch.is_some() => {
                vec![User, Pid, Tid, State, Pcpu, Time, Rss, Comm, Args]
            }
            [] if options.threads => vec![User, Pid, Tid, State, Time, Rss, Comm, Args],
            [] if options.watch.is_some() => vec![User, Pid, State, Pcpu, Time, Rss, Vsz, Threads, Args],
            [] => vec![User, Pid, Ppid, State, StartTime, Time, Rss, Vsz, Threads, Args],
            chosen => chosen.to_vec(),
        };
        let sort = match &options.sort[..] {
            [] if options.watch.is_some() && !options.tree && !is_json && columns.contains(&Pcpu) => {
                [Pcpu, Time].map(|column| SortKey { column, descending: true }).to_vec()
            }
            chosen => chosen.to_vec(),
        };
        let needed = columns.iter().chain(sort.iter().map(|key| &key.column));
        let has_shares = needed.clone().any(|column| *column == Pcpu);
        let groups = needed.fold(Groups::BASE, |all, column| all | column.groups());
        let of_users = if options.users.is_empty() { Groups::empty() } else { Groups::CRED };
        let top = if options.tree && options.subtree.is_empty() { &options.pids } else { &options.subtree };
        View {
            selected: Selected {
                pids: if options.tree { Vec::new() } else { options.pids.clone() },
                top: top.clone(),
                users: options.users.clone(),
                threads: options.threads,
            },
            columns,
            sort,
            groups: groups | of_users,
            tree: options.tree,
            top: top.clone(),
            names: NameCache::default(),
            compares: options.watch.is_some() && has_shares,
            before: None,
        }
    }

    /// Looks, and puts what is there in order.
    fn look(&mut self, origin: &mut Origin) -> anyhow::Result<Vec<Row>> {
        let mut rows =
            origin.look(&self.selected, self.groups).with_context(|| format!("asking {}", origin.name))?;
        if self.compares {
            if let Some(before) = &self.before {
                before.compare(&mut rows, Measure::of_this_machine(self.selected.threads));
            }
            self.before = Some(Look::of(&rows));
        } else {
            share::since_start(&mut rows);
        }
        sort::sort(&mut rows, &self.sort, &mut self.names);
        Ok(if self.tree { tree::arrange(rows, &self.top) } else { rows })
    }
}

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut view = View::new(options);
    if let Some(interval) = options.watch {
        return watch::run(options, view, interval);
    }
    let mut origin = Origin::open(options)?;
    let rows = view.look(&mut origin)?;
    let on_terminal = io::stdout().is_terminal();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    if options.json || options.ndjson {
        write_json(&mut out, &rows, &mut view, options.ndjson)?;
    } else {
        let style = Style {
            width: on_terminal.then(|| screen::size().0),
            height: None,
            colour: in_colour(options.color, on_terminal),
            tree: view.tree,
        };
        table::write(&mut out, &rows, &view.columns, &mut view.names, style, "\n")?;
        if on_terminal {
            let footer = footer(&rows, &origin, options.threads);
            let (dim, reset) = if style.colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            writeln!(out, "{dim}{}{reset}", table::cut(&footer, style.width.unwrap_or(usize::MAX)))?;
        }
    }
    out.flush()?;
    if options.verbose && !(on_terminal && !options.json && !options.ndjson) {
        eprintln!("task-diag: {}", footer(&rows, &origin, options.threads));
    }
    // As ps does for --pid and --user that nobody is.
    Ok(if rows.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write_json(out: &mut dyn Write, rows: &[Row], view: &mut View, lines: bool) -> io::Result<()> {
    let (begin, between, end) = if lines { ("", "\n", "\n") } else { ("[", ",\n ", "]\n") };
    out.write_all(begin.as_bytes())?;
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            out.write_all(between.as_bytes())?;
        }
        json::object(out, row, &view.columns, &mut view.names)?;
    }
    if !(lines && rows.is_empty()) {
        out.write_all(end.as_bytes())?;
    }
    out.flush()
}

fn footer(rows: &[Row], origin: &Origin, threads: bool) -> String {
    let kind = match (rows.len(), threads) {
        (1, false) => "process",
        (_, false) => "processes",
        (1, true) => "thread",
        (_, true) => "threads",
    };
    let late = rows.iter().filter(|row| !row.missing.is_empty()).count();
    let late =
        if late > 0 { format!(", {late} with memory that could not be read in time") } else { String::new() };
    let rest = match origin.from_rest {
        0 if origin.shows_all => String::new(),
        0 => ", which may not show this user all".to_string(),
        n => format!(", which does not show this user all; {n} of them from /proc"),
    };
    format!("{} {kind}{late}; {}{rest}", rows.len(), origin.name)
}

fn in_colour(choice: Colour, on_terminal: bool) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            on_terminal && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}
