//! `task-diag bench`: the interface against reading /proc, in interleaved rounds of one run.

mod contender;
mod plot;
mod population;
mod report;
mod taskstats;
mod walk;
mod workload;

use contender::Contender;
use population::Population;
pub use population::{Size, run as run_population};
use report::{Report, Row};
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use workload::{WORKLOADS, Workload};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Measure with so many sleeping processes of so many threads, made for the purpose, one population after the
    /// other; else with the machine as it is
    #[arg(long, value_name = "PROCESSES[xTHREADS]", value_delimiter = ',')]
    spawn: Vec<Size>,
    /// Let each of those processes have so many more files open: files, pipes, sockets and the like in turn
    #[arg(long, default_value_t = 0, value_name = "COUNT", requires = "spawn")]
    descriptors: u32,
    /// Ask this file; else a mount of each source is made for the purpose
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// Sources to mount
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_values_t = contender::SOURCES.map(String::from))]
    sources: Vec<String>,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What to measure
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "base,cred,stat,light,cmdline,maps,smaps,threads,one"
    )]
    sets: Vec<String>,
    /// Bytes of a read
    #[arg(long, default_value_t = 160 * 1024)]
    buffer: usize,
    /// Also measure the engine without any mount
    #[arg(long)]
    direct: bool,
    /// Also measure so many readers of the same at once
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the time of the first set over the number of tasks of all populations
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let workloads = options.sets.iter().map(|key| find(key)).collect::<anyhow::Result<Vec<_>>>()?;
    let populations = match options.spawn.as_slice() {
        [] => vec![None],
        sizes => sizes.iter().copied().map(Some).collect(),
    };
    let mut reports = Vec::new();
    for size in populations {
        let population = size.map(|size| Population::spawn(size, options.descriptors)).transpose()?;
        let pid = population.as_ref().map_or_else(std::process::id, Population::parent);
        let mut contenders = contender::all(options)?;
        let mut report = Report::new(contenders.iter().map(|c| c.name.clone()).collect());
        for workload in &workloads {
            let mut row = measure(workload, &mut contenders, pid, options.rounds)?;
            if options.readers > 1 {
                let ask = |contender: &Contender| together(contender, workload, pid, options);
                row.together = contenders.iter().map(ask).collect::<anyhow::Result<_>>()?;
            }
            report.rows.push(row);
        }
        reports.push(report);
    }
    if let Some(file) = &options.plot {
        std::fs::write(file, plot::picture(&reports, 0))?;
    }
    report::print(&reports, options.json, options.readers)
}

/// The median time in which several readers at once have each read a whole answer.
fn together(
    contender: &Contender,
    workload: &Workload,
    pid: u32,
    options: &Options,
) -> anyhow::Result<Option<Duration>> {
    let Some(path) = &contender.path else { return Ok(None) };
    let mut times = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let start = Barrier::new(options.readers + 1);
        let took = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..options.readers)
                .map(|_| {
                    scope.spawn(|| {
                        let reader = Contender::at(path, "reader", options.buffer);
                        start.wait();
                        reader?.dump(workload, pid)
                    })
                })
                .collect();
            start.wait();
            let began = Instant::now();
            for reader in readers {
                reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            }
            anyhow::Ok(began.elapsed())
        });
        times.push(took?);
    }
    Ok(Some(median(times)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn find(key: &str) -> anyhow::Result<&'static Workload> {
    let known = || WORKLOADS.iter().map(|w| w.key).collect::<Vec<_>>().join(", ");
    WORKLOADS
        .iter()
        .find(|w| w.key == key)
        .ok_or_else(|| anyhow::anyhow!("nothing called '{key}' to measure; there are: {}", known()))
}

/// Short workloads are repeated within a round, so that a clock's grain and a wake-up's jitter do not decide.
const SHORTEST: Duration = Duration::from_millis(20);

fn measure(
    workload: &'static Workload,
    contenders: &mut [Contender],
    pid: u32,
    rounds: usize,
) -> anyhow::Result<Row> {
    let mut times = vec![Vec::new(); contenders.len() + 1];
    let mut tasks = 0;
    // The first round warms caches and is not counted.
    for round in 0..=rounds.max(1) {
        let mut took = |at: usize, run: &mut dyn FnMut() -> anyhow::Result<()>| {
            let began = Instant::now();
            let mut repeats = 0;
            while repeats == 0 || began.elapsed() < SHORTEST {
                run()?;
                repeats += 1;
            }
            if round > 0 {
                times[at].push(began.elapsed() / repeats);
            }
            anyhow::Ok(())
        };
        // Each comes right after a walk, so that none finds the caches as another one like it has left them.
        for at in 0..contenders.len().max(1) {
            took(0, &mut || {
                tasks = walk::walk(workload, pid)?;
                Ok(())
            })?;
            if let Some(contender) = contenders.get_mut(at) {
                took(at + 1, &mut || contender.dump(workload, pid).map(drop))?;
            }
        }
    }
    Ok(Row { workload, tasks, medians: times.into_iter().map(median).collect(), together: Vec::new() })
}
