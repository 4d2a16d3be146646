//! The result as a table or as JSON.

use super::workload::Workload;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The median times of one workload: /proc first, then each contender.
pub struct Row {
    pub workload: &'static Workload,
    pub tasks: usize,
    pub medians: Vec<Duration>,
    /// The times of each contender with several readers at once, where that was measured and can be.
    pub together: Vec<Option<Duration>>,
}

/// What was measured with one population.
pub struct Report {
    pub contenders: Vec<String>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn new(contenders: Vec<String>) -> Report {
        Report { contenders, rows: Vec::new() }
    }
}

/// Prints all of them.
pub fn print(reports: &[Report], as_json: bool, readers: usize) -> anyhow::Result<()> {
    if as_json {
        let rows: Vec<Value> = reports.iter().flat_map(|r| r.rows.iter().map(|row| object(r, row))).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let contenders = &reports[0].contenders;
    print!("| asked for | tasks | the same from /proc | ms |");
    contenders.iter().for_each(|name| print!(" {name}: ms | faster |"));
    print!("\n|---|--:|---|--:|");
    contenders.iter().for_each(|_| print!("--:|--:|"));
    println!();
    for row in reports.iter().flat_map(|report| &report.rows) {
        let walk = row.medians[0];
        print!("| {} | {} | {} | {} |", row.workload.asked(), row.tasks, row.workload.read(), millis(walk));
        for time in &row.medians[1..] {
            print!(" {} | {:.1}x |", millis(*time), walk.as_secs_f64() / time.as_secs_f64());
        }
        println!();
    }
    for row in reports.iter().flat_map(|report| &report.rows) {
        for ((name, one), all) in contenders.iter().zip(&row.medians[1..]).zip(&row.together) {
            if let Some(all) = all {
                let times = all.as_secs_f64() / one.as_secs_f64();
                println!(
                    "{} by {readers} readers at once, {name}: {} ms, {times:.1} times as long as by one",
                    row.workload.asked(),
                    millis(*all)
                );
            }
        }
    }
    Ok(())
}

fn object(report: &Report, row: &Row) -> Value {
    let seconds = |times: &mut dyn Iterator<Item = Option<Duration>>| -> Map<String, Value> {
        let named = report.contenders.iter().zip(times);
        named.filter_map(|(name, time)| Some((name.clone(), time?.as_secs_f64().into()))).collect()
    };
    json!({
        "set": row.workload.key, "asked": row.workload.asked(), "read": row.workload.read(), "tasks": row.tasks,
        "proc_seconds": row.medians[0].as_secs_f64(),
        "seconds": seconds(&mut row.medians[1..].iter().copied().map(Some)),
        "seconds_together": seconds(&mut row.together.iter().copied()),
    })
}

fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.3}") } else { format!("{ms:.1}") }
}
