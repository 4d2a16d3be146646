//! Reading /proc as a client without the interface does: list, then open, read, close.

use super::taskstats::Kernel;
use super::workload::{TASKSTATS, Workload};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::Mode;
use nix::unistd::read;
use std::fmt::Write;
use task_diag::protocol::DumpStrategy;

/// Reads what the workload's files say of every task, or of `pid` alone. Gives the number of tasks.
pub fn walk(workload: &Workload, pid: u32) -> anyhow::Result<usize> {
    let kernel = workload.files.contains(&TASKSTATS).then(Kernel::new).transpose()?;
    let mut walk = Walk { path: String::new(), buffer: vec![0; 128 * 1024], kernel };
    if workload.strategy == DumpStrategy::One {
        walk.files(&format!("/proc/{pid}"), workload.files);
        return Ok(1);
    }
    let mut tasks = 0;
    for process in numbers("/proc")? {
        if let Some(kernel) = &mut walk.kernel {
            kernel.process(process)?;
            tasks += 1;
            continue;
        }
        let dir = format!("/proc/{process}");
        walk.files(&dir, workload.files);
        if workload.thread_files.is_empty() {
            tasks += 1;
            continue;
        }
        for thread in numbers(&format!("{dir}/task")).unwrap_or_default() {
            walk.files(&format!("{dir}/task/{thread}"), workload.thread_files);
            tasks += 1;
        }
    }
    Ok(tasks)
}

struct Walk {
    path: String,
    buffer: Vec<u8>,
    kernel: Option<Kernel>,
}

impl Walk {
    /// Reads each file to its end; a task that went has none.
    fn files(&mut self, dir: &str, names: &[&str]) {
        for name in names {
            self.path.clear();
            if let Some(link) = name.strip_prefix('@') {
                let _ = write!(self.path, "{dir}/{link}");
                let _ = readlink(self.path.as_str());
                continue;
            }
            if let Some(listed) = name.strip_suffix("/@") {
                self.links(&format!("{dir}/{listed}"));
                continue;
            }
            if let Some(listed) = name.strip_suffix('/') {
                let _ = std::fs::read_dir(format!("{dir}/{listed}")).map(Iterator::count);
                continue;
            }
            if *name == "fdinfo" {
                for fd in self.links(&format!("{dir}/fd")) {
                    self.files(&format!("{dir}/fdinfo"), &[fd.as_str()]);
                }
                continue;
            }
            let _ = write!(self.path, "{dir}/{name}");
            let Ok(file) = open(self.path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
                continue;
            };
            // maps and its like come in pieces; the others whole, and a client knows that.
            let pieces = name.ends_with("maps") || *name == "environ";
            loop {
                match read(&file, &mut self.buffer) {
                    Ok(n) if n > 0 && pieces => {}
                    Err(Errno::EINTR) => {}
                    _ => break,
                }
            }
        }
    }
}

impl Walk {
    /// Reads all links of a directory; gives their names.
    fn links(&mut self, dir: &str) -> Vec<String> {
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        for name in &names {
            self.path.clear();
            let _ = write!(self.path, "{dir}/{name}");
            let _ = readlink(self.path.as_str());
        }
        names
    }
}

fn numbers(dir: &str) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push(number);
        }
    }
    Ok(found)
}
