//! Tasks as lines for people.

use super::dump::Printer;
use super::printable::printable;
use std::io::{self, Write};
use task_diag::client::{OwnedTask, OwnedVma};
use task_diag::protocol::{Groups, State, VmFlags};

#[derive(Debug, Default)]
pub struct Table {
    began: bool,
}

impl Printer for Table {
    fn task(&mut self, out: &mut dyn Write, task: &OwnedTask) -> io::Result<()> {
        if !std::mem::replace(&mut self.began, true) {
            writeln!(
                out,
                "{:>7} {:>7} {:>7} {:>7} {:>7} {:>7} S COMMAND",
                "TGID", "PID", "PPID", "TRACER", "PGID", "SID"
            )?;
        }
        match &task.base {
            Some(b) => {
                let state = State::try_from(b.state).map_or('?', |state| char::from(state.letter()));
                let name = printable(b.comm_bytes());
                writeln!(
                    out,
                    "{:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {state} {name}",
                    b.tgid, b.pid, b.ppid, b.tpid, b.pgid, b.sid
                )?;
            }
            // It went, or may not be seen any more, while it was being sent.
            None => writeln!(out, "{:>7} {:>7}", task.tgid, task.pid)?,
        }
        if let Some(line) = &task.command_line {
            let line: Vec<u8> = line.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect();
            writeln!(out, "        cmdline: {}", printable(line.trim_ascii_end()))?;
        }
        if let Some(c) = &task.credentials {
            writeln!(
                out,
                "        uid: {} {} {} {}  gid: {} {} {} {}",
                c.uid, c.euid, c.suid, c.fsuid, c.gid, c.egid, c.sgid, c.fsgid
            )?;
            let [inheritable, permitted, effective, bounding] =
                [c.inheritable, c.permitted, c.effective, c.bounding].map(u64::from);
            writeln!(
                out,
                "        cap: inh {inheritable:016x} prm {permitted:016x} eff {effective:016x} bnd {bounding:016x}"
            )?;
        }
        if let Some(s) = &task.stat {
            writeln!(
                out,
                "        minflt {} cminflt {} majflt {} cmajflt {} utime {} stime {} cutime {} cstime {} threads {}",
                s.minflt, s.cminflt, s.majflt, s.cmajflt, s.utime, s.stime, s.cutime, s.cstime, s.threads
            )?;
        }
        if let Some(m) = &task.statm {
            writeln!(
                out,
                "        pages: anon {} file {} shmem {} total {} rss {} peak {} peak-rss {} text {} lib {} swap {} \
                 locked {} pinned {} data {} stack {}  ptes {} bytes",
                m.anon,
                m.file,
                m.shmem,
                m.total_vm,
                m.total_rss,
                m.hiwater_vm,
                m.hiwater_rss,
                m.text,
                m.lib,
                m.swap,
                m.locked_vm,
                m.pinned_vm,
                m.data_vm,
                m.stack_vm,
                m.ptes
            )?;
        }
        if !task.missing.is_empty() {
            writeln!(out, "        not read in time: {}", names(task.missing))?;
        }
        task.mappings.iter().try_for_each(|vma| mapping(out, vma))
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn mapping(out: &mut dyn Write, vma: &OwnedVma) -> io::Result<()> {
    let letter = |flag, letter| if vma.flags.contains(flag) { letter } else { '-' };
    let (major, minor) = vma.device;
    writeln!(
        out,
        "        {:08x}-{:08x} {}{}{}{} {:08x} {major:02x}:{minor:02x} {} {}",
        vma.start,
        vma.end,
        letter(VmFlags::READ, 'r'),
        letter(VmFlags::WRITE, 'w'),
        letter(VmFlags::EXEC, 'x'),
        if vma.flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' },
        vma.pgoff,
        vma.inode,
        printable(&vma.name)
    )?;
    let Some(s) = vma.stat else { return Ok(()) };
    writeln!(
        out,
        "            kB: rss {} pss {} shared {}+{} private {}+{} referenced {} anonymous {} huge {} swap {}",
        s.resident / 1024,
        (s.pss >> 12) / 1024,
        s.shared_clean / 1024,
        s.shared_dirty / 1024,
        s.private_clean / 1024,
        s.private_dirty / 1024,
        s.referenced / 1024,
        s.anonymous / 1024,
        s.anonymous_thp / 1024,
        s.swap / 1024
    )
}

fn names(groups: Groups) -> String {
    groups.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}
