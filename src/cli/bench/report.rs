//! The result as a table or as JSON.

use super::workload::Workload;
use serde_json::json;
use std::time::Duration;

/// The median times of one workload: /proc first, then each contender.
pub struct Row {
    pub workload: &'static Workload,
    pub tasks: usize,
    pub medians: Vec<Duration>,
}

pub struct Report {
    contenders: Vec<String>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn new(contenders: Vec<String>) -> Report {
        Report { contenders, rows: Vec::new() }
    }

    pub fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            let rows = self.rows.iter().map(|row| {
                let times = self.contenders.iter().zip(&row.medians[1..]);
                json!({
                    "set": row.workload.key, "asked": row.workload.asked(), "read": row.workload.read(),
                    "tasks": row.tasks, "proc_seconds": row.medians[0].as_secs_f64(),
                    "seconds": times.map(|(name, time)| (name.clone(), time.as_secs_f64())).collect::<std::collections::BTreeMap<_, _>>(),
                })
            });
            println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
            return Ok(());
        }
        print!("| asked for | tasks | the same from /proc | ms |");
        self.contenders.iter().for_each(|name| print!(" {name}: ms | faster |"));
        print!("\n|---|--:|---|--:|");
        self.contenders.iter().for_each(|_| print!("--:|--:|"));
        println!();
        for row in &self.rows {
            let walk = row.medians[0];
            print!(
                "| {} | {} | {} | {} |",
                row.workload.asked(),
                row.tasks,
                row.workload.read(),
                millis(walk)
            );
            for time in &row.medians[1..] {
                print!(" {} | {:.1}x |", millis(*time), walk.as_secs_f64() / time.as_secs_f64());
            }
            println!();
        }
        Ok(())
    }
}

fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.3}") } else { format!("{ms:.1}") }
}
