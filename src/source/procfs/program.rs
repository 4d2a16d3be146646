//! Whether a task ran one program all the while that its files were read.
//!
//! No file of /proc says how often a task has called exec, and all that tells two programs apart comes again where one is
//! run a second time. What an exec cannot do without is a page fault, on the new program's stack; and the faults of a
//! process, those of its threads that ended too, are only ever added to. And it ends all other threads before it begins.

use crate::proc_files::{KeptFile, ProcRoot, Status, TaskDir, decimal};
use nix::errno::Errno;

/// What tells of an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The task is its process' leader: a fault, of any thread, may be one.
    Process,
    /// The same below `task` of the process' directory.
    Leader,
    /// The task is another thread: it would have ended.
    Thread,
}

impl Whose {
    /// What a directory, named for a process or a thread of one, is of.
    pub fn of(root: &ProcRoot, tid: u32) -> Whose {
        let mut text = Vec::new();
        let status = root.read_by_number(tid, "status", &mut text).ok().and_then(Status::parse);
        match status.is_some_and(|status| status.base.tgid != tid) {
            true => Whose::Thread,
            false => Whose::Process,
        }
    }
}

/// What is known of the programs since a watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// There was one.
    One,
    /// There may have been others, that look the same.
    Unknown,
    /// There was another.
    Several,
}

/// A look at a task, to be compared with a later one.
#[derive(Debug)]
pub(super) struct Watch {
    whose: Whose,
    stat: Option<(KeptFile, Line)>,
    /// Another thread of the process: while it is there, there was no exec.
    witness: Option<TaskDir>,
}

/// What matters of the line `stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    faults: u64,
    threads: u64,
    /// Where the stack, the arguments and the environment begin and end, which is as chance would have it but for a
    /// personality without it.
    place: [u64; 5],
}

impl Watch {
    /// Begins; `again` if that was in vain before.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn begin(text: &mut Vec<u8>, dir: &TaskDir, whose: Whose, again: bool) -> nix::Result<Watch> {
        let (name, tasks) = match whose {
            Whose::Process => ("stat", "task"),
            Whose::Leader => ("../../stat", ".."),
            Whose::Thread => return Ok(Watch { whose, stat: None, witness: None }),
        };
        let file = dir.keep(name)?;
        let line = Line::parse(file.read(text)?).ok_or(Errno::ESRCH)?;
        let mut witness = None;
        if again && line.threads > 1 {
            // The oldest of them is the last to end.
            let other = dir.tasks(tasks)?.get(1).copied();
            witness = other.and_then(|tid| dir.below(&format!("{tasks}/{tid}")).ok());
        }
        Ok(Watch { whose, stat: Some((file, line)), witness })
    }

    /// What it goes by.
    pub fn whose(&self) -> Whose {
        self.whose
    }

    /// What there was since then.
    ///
    /// # Errors
    /// As [`TaskDir::read`].
    pub fn programs(&self, text: &mut Vec<u8>, dir: &TaskDir) -> nix::Result<Programs> {
        let Some((file, before)) = &self.stat else {
            debug_assert_eq!(self.whose, Whose::Thread);
            return if lives(text, dir) { Ok(Programs::One) } else { Err(Errno::ESRCH) };
        };
        let now = Line::parse(file.read(text)?).ok_or(Errno::ESRCH)?;
        let mut witnessed = || self.witness.as_ref().is_some_and(|thread| lives(text, thread));
        Ok(match now.place == before.place {
            true if now.faults == before.faults || witnessed() => Programs::One,
            true => Programs::Unknown,
            false => Programs::Several,
        })
    }
}

/// Whether a thread has not ended yet.
fn lives(text: &mut Vec<u8>, dir: &TaskDir) -> bool {
    const ENDED: [u8; 2] = [5, 6];
    let status = dir.read("status", text).ok().and_then(Status::parse);
    status.is_some_and(|status| !ENDED.contains(&status.base.state))
}

impl Line {
    fn parse(text: &[u8]) -> Option<Line> {
        let rest = &text[memchr::memrchr(b')', text)? + 1..];
        let mut line = Line::default();
        // proc(5) counts from the process' id, which is 1; the state, after the name, is 3.
        for (word, nth) in rest.trim_ascii().split(|c| *c == b' ').zip(3..) {
            match nth {
                10 | 12 => line.faults = line.faults.wrapping_add(decimal(word)?),
                20 => line.threads = decimal(word)?,
                28 => line.place[0] = decimal(word)?,
                48..=51 => line.place[nth - 47] = decimal(word)?,
                _ => {}
            }
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn the_same_program_again_is_another() {
        let root = ProcRoot::open("/proc").unwrap();
        // Without chance in the layout everything comes again.
        let script = "echo; read word; exec setarch -R sh -c \"$0\" \"$0\"";
        let mut child = Command::new("setarch")
            .args(["-R", "sh", "-c", script, script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut input = child.stdin.take().unwrap();
        let dir = root.task(child.id()).unwrap();
        let (mut text, mut line) = (Vec::new(), String::new());
        out.read_line(&mut line).unwrap();
        let settled = || {
            let mut text = Vec::new();
            let state = |text: &[u8]| Status::parse(text).unwrap().base.state;
            while state(dir.read("status", &mut text).unwrap()) != 1 {
                std::thread::yield_now();
            }
        };
        settled();
        let watch = Watch::begin(&mut text, &dir, Whose::Process, false).unwrap();
        assert_eq!(watch.programs(&mut text, &dir).unwrap(), Programs::One);
        input.write_all(b"\n").unwrap();
        out.read_line(&mut line).unwrap();
        settled();
        assert_ne!(watch.programs(&mut text, &dir).unwrap(), Programs::One);
        drop(input);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn of_many_threads_one_that_lives_is_proof() {
        let root = ProcRoot::open("/proc").unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv().is_ok());
        let dir = root.task(std::process::id()).unwrap();
        let mut text = Vec::new();
        let watch = Watch::begin(&mut text, &dir, Whose::Process, true).unwrap();
        // A fault, and many of them.
        std::hint::black_box(vec![1_u8; 64 << 20]);
        assert_eq!(watch.programs(&mut text, &dir).unwrap(), Programs::One);
        drop(stop);
        thread.join().unwrap();
    }
}
