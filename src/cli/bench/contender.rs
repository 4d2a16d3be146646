//! Whoever answers a request: mounts of each source, the engine alone, a kernel that has the interface itself.

use super::Options;
use super::workload::Workload;
use crate::cli::{SourceChoice, open_source};
use anyhow::Context;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use task_diag::client::{Client, ClientError};
use task_diag::protocol::Request;
use task_diag::source::Limits;

/// One that answers.
pub struct Contender {
    pub name: String,
    /// The file that others can open, too.
    pub path: Option<PathBuf>,
    ask: Box<dyn FnMut(Request) -> Result<usize, ClientError>>,
    /// The daemon that was started for it.
    _mount: Option<Mount>,
}

impl Contender {
    /// Reads one answer to its end; gives the bytes.
    pub fn dump(&mut self, workload: &Workload, pid: u32) -> anyhow::Result<usize> {
        let request =
            Request { strategy: workload.strategy, groups: workload.groups, pid, ..Request::default() };
        (self.ask)(request).with_context(|| format!("{} did not answer", self.name))
    }

    /// Whoever answers at `path`.
    pub fn at(path: &Path, name: &str, buffer: usize) -> anyhow::Result<Contender> {
        let contender = Contender::new(name, Client::open(path)?, buffer);
        Ok(Contender { path: Some(path.into()), ..contender })
    }

    fn new<T: Read + Write + 'static>(name: &str, mut client: Client<T>, buffer: usize) -> Self {
        client.set_buffer_len(buffer);
        let ask = move |request| {
            let mut bytes = 0;
            let mut dump = client.dump(request)?;
            while let Some(messages) = dump.next_batch()? {
                bytes += messages.as_bytes().len();
            }
            Ok(bytes)
        };
        Contender { name: name.into(), path: None, ask: Box::new(ask), _mount: None }
    }
}

/// Those to compare: the file at `path`, or else a mount of every source; and what else there is.
pub fn all(options: &Options) -> anyhow::Result<Vec<Contender>> {
    let (path, buffer) = (options.path.as_deref(), options.buffer);
    let mut found = Vec::new();
    match path {
        Some(path) => found.push(Contender::at(path, "mount", buffer)?),
        None => {
            for name in &options.sources {
                match Mount::new(name) {
                    Ok(mount) => {
                        let path = mount.dir.join("task_diag");
                        let contender = Contender::at(&path, &format!("mount {name}"), buffer)?;
                        found.push(Contender { _mount: Some(mount), ..contender });
                    }
                    Err(e) => log::warn!("no mount of source {name}: {e:#}"),
                }
            }
        }
    }
    if options.direct {
        let (source, proc_root) = open_source(SourceChoice::Auto, Limits::default())?;
        let name = format!("direct {}", source.name());
        found.push(Contender::new(&name, Client::direct(source, proc_root), buffer));
    }
    for path in ["/proc/task-diag", "/proc/task_diag"] {
        if let Ok(kernel) = Contender::at(Path::new(path), "kernel", buffer) {
            found.push(kernel);
        }
    }
    Ok(found)
}

/// All that this program was built with.
#[cfg(feature = "bpf")]
pub const SOURCES: [&str; 3] = ["bpf", "bpf-iter", "procfs"];
/// All that this program was built with.
#[cfg(not(feature = "bpf"))]
pub const SOURCES: [&str; 1] = ["procfs"];

/// A daemon in a directory of its own.
struct Mount {
    daemon: Child,
    dir: PathBuf,
}

impl Mount {
    fn new(source: &str) -> anyhow::Result<Mount> {
        let dir = std::env::temp_dir().join(format!("task-diag-bench.{}.{source}", std::process::id()));
        let daemon = Command::new(std::env::current_exe()?)
            .arg("mount")
            .arg(&dir)
            .args(["--source", source])
            .env("RUST_LOG", "warn,fuser=off")
            .stdin(Stdio::null())
            .spawn()?;
        let mut mount = Mount { daemon, dir };
        let patience = Instant::now() + Duration::from_secs(20);
        while !mount.dir.join("info").exists() {
            if let Some(status) = mount.daemon.try_wait()? {
                anyhow::bail!("the daemon ended: {status}");
            }
            anyhow::ensure!(Instant::now() < patience, "the daemon does not serve");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(mount)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir(&self.dir);
    }
}
