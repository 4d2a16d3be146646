//! A population of sleeping processes to measure with.

use anyhow::{Context, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pause, pipe};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

/// `PROCESSESxTHREADS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub processes: u32,
    pub threads: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (processes, threads) = text.split_once('x').unwrap_or((text, "1"));
        match (processes.parse(), threads.parse()) {
            (Ok(processes), Ok(threads)) if processes > 0 && threads > 0 => Ok(Size { processes, threads }),
            _ => Err("expected PROCESSES or PROCESSESxTHREADS, as in 10000x5".into()),
        }
    }
}

const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// Processes that sleep until this is dropped.
pub struct Population {
    parent: Child,
    pid_max_before: Option<String>,
}

impl Population {
    /// Makes them, raising `kernel.pid_max` where it is too low.
    pub fn spawn(size: Size, descriptors: u32) -> anyhow::Result<Population> {
        let before = std::fs::read_to_string(PID_MAX).context("cannot read kernel.pid_max")?;
        let needed = u64::from(size.processes) * u64::from(size.threads) + 20_000;
        let mut pid_max_before = None;
        if before.trim().parse::<u64>().is_ok_and(|max| max < needed) {
            std::fs::write(PID_MAX, needed.to_string())
                .with_context(|| format!("cannot raise kernel.pid_max to {needed}; run as root"))?;
            pid_max_before = Some(before);
        }
        // From here on the drop of the population puts the limit back.
        let parent = Command::new(std::env::current_exe()?)
            .args([
                "bench-population",
                &format!("{}x{}", size.processes, size.threads),
                &descriptors.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let parent = match parent {
            Ok(parent) => parent,
            Err(e) => {
                restore(&pid_max_before);
                return Err(e.into());
            }
        };
        let mut population = Population { parent, pid_max_before };
        let mut ready = [0];
        let stdout = population.parent.stdout.as_mut().context("no pipe from the population")?;
        ensure!(stdout.read(&mut ready)? == 1, "the population could not be made");
        Ok(population)
    }

    /// One of the processes.
    pub fn parent(&self) -> u32 {
        self.parent.id()
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        // The end of its input tells the parent to end all, itself last.
        drop(self.parent.stdin.take());
        if let Err(e) = self.parent.wait() {
            log::warn!("the population did not end: {e}");
        }
        restore(&self.pid_max_before);
    }
}

fn restore(pid_max: &Option<String>) {
    if let Some(before) = pid_max
        && let Err(e) = std::fs::write(PID_MAX, before)
    {
        log::warn!("cannot put kernel.pid_max back to {}: {e}", before.trim());
    }
}

/// The body of the population's parent: a process of its own, with a single thread.
pub fn run(size: Size, descriptors: u32) -> anyhow::Result<()> {
    let mut children = Vec::new();
    let made = (0..size.processes).try_for_each(|_| {
        children.push(child(size.threads, descriptors)?);
        anyhow::Ok(())
    });
    if made.is_ok() {
        std::io::stdout().write_all(b".")?;
        std::io::stdout().flush()?;
        let mut end = Vec::new();
        std::io::stdin().read_to_end(&mut end)?;
    }
    for pid in &children {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    for pid in &children {
        let _ = waitpid(*pid, None);
    }
    made
}

fn child(threads: u32, descriptors: u32) -> anyhow::Result<Pid> {
    // SAFETY: this process has one thread, so its child may do what any process may.
    match unsafe { fork() }.context("cannot fork; is a limit on processes too low?")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let files: nix::Result<Vec<OwnedFd>> = (0..descriptors).map(open_one).collect();
            let _files = files.context("cannot open files; is a limit too low?")?;
            for _ in 1..threads {
                let small = std::thread::Builder::new().stack_size(16 * 1024);
                if small
                    .spawn(|| {
                        loop {
                            pause()
                        }
                    })
                    .is_err()
                {
                    bail!("cannot start a thread; is a limit too low?");
                }
            }
            loop {
                pause();
            }
        }
    }
}

/// A descriptor of some kind.
fn open_one(number: u32) -> nix::Result<OwnedFd> {
    let open = |path| open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    match number % 5 {
        0 => open("/proc/self/exe"),
        1 => open("/dev/null"),
        2 => pipe().map(|(read, _)| read),
        3 => socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None),
        _ => EventFd::new().map(OwnedFd::from),
    }
}
