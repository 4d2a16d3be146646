//! Tasks as lines for people.

use super::printer::Printer;
use crate::cli::printable::printable;
use std::io::{self, Write};
use task_diag::client::{Arguments, OwnedTask, OwnedVma};
use task_diag::protocol::{Groups, NAMESPACE_KINDS, State, VmFlags};

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
        own(out, task)?;
        if !task.missing.is_empty() {
            writeln!(out, "        not read in time: {}", names(task.missing))?;
        }
        task.mappings.iter().try_for_each(|vma| mapping(out, vma))
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// The groups that the kernel patch does not have: a line each, and one for each descriptor and control group.
fn own(out: &mut dyn Write, task: &OwnedTask) -> io::Result<()> {
    let known = |number: u32| if number == u32::MAX { "-".to_string() } else { number.to_string() };
    let words = |numbers: &[u32]| numbers.iter().map(|n| format!(" {n}")).collect::<String>();
    let or_none = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-".to_string(), printable);
    if let Some(m) = task.membership() {
        let gids = words(&m.gids().collect::<Vec<_>>());
        let (ambient, no_new_privs) = (u64::from(m.ambient()), u8::from(m.no_new_privs()));
        writeln!(
            out,
            "        groups:{gids}  cap: amb {ambient:016x}  securebits {}  no_new_privs {no_new_privs} seccomp {}",
            m.securebits().map_or_else(|| "-".to_string(), |bits| format!("{bits:x}")),
            m.seccomp()
        )?;
    }
    if let Some(s) = &task.sched {
        writeln!(
            out,
            "        start {}.{:09}  nice {} priority {} rt {} policy {} processor {} flags {:x}  tty {} tpgid {} \
             exit signal {}",
            s.start_time / 1_000_000_000,
            s.start_time % 1_000_000_000,
            s.nice,
            s.priority,
            s.rt_priority,
            s.policy,
            s.processor,
            s.flags,
            s.tty_nr,
            s.tpgid,
            s.exit_signal
        )?;
        writeln!(
            out,
            "        switches: voluntary {} involuntary {}  guest {} {}  blkio {}",
            s.voluntary_switches, s.involuntary_switches, s.guest_time, s.children_guest_time, s.blkio_delay
        )?;
    }
    if let Some(i) = &task.io {
        writeln!(
            out,
            "        io: rchar {} wchar {} syscr {} syscw {} read {} written {} cancelled {}",
            i.rchar, i.wchar, i.syscr, i.syscw, i.read_bytes, i.write_bytes, i.cancelled_write_bytes
        )?;
    }
    for c in task.cgroups().into_iter().flatten().flatten() {
        writeln!(out, "        cgroup: {}:{}:{}", c.hierarchy, printable(c.controllers), printable(c.path))?;
    }
    if let Some(n) = task.namespaces() {
        let inodes = NAMESPACE_KINDS.iter().zip(n.inodes).map(|(kind, inode)| format!(" {kind} {inode}"));
        writeln!(out, "        ns:{}  pids{}", inodes.collect::<String>(), words(&n.pids))?;
    }
    if let Some(f) = task.files() {
        writeln!(out, "        exe {}  cwd {}  root {}", or_none(f.exe), or_none(f.cwd), or_none(f.root))?;
    }
    if let Some(c) = &task.fd_count {
        let [soft, hard] = [c.soft_limit, c.hard_limit]
            .map(|limit| if limit == u64::MAX { "unlimited".to_string() } else { limit.to_string() });
        writeln!(out, "        fds: {} of {soft}, {hard}", c.open)?;
    }
    for d in task.descriptors().into_iter().flatten().flatten() {
        let place = format!("{:02x}:{:02x} {}", d.major, d.minor, d.inode);
        writeln!(
            out,
            "        fd {}: flags {:o} pos {} {place} {}",
            d.fd,
            d.flags,
            d.pos,
            printable(d.name)
        )?;
    }
    if let Some(r) = &task.rollup {
        writeln!(
            out,
            "        kB: rss {} pss {} (anon {} file {} shmem {} dirty {}) shared {}+{} private {}+{} referenced {} \
             anonymous {} huge {} locked {} swap {} swap-pss {}",
            r.rss / 1024,
            r.pss / 1024,
            r.pss_anon / 1024,
            r.pss_file / 1024,
            r.pss_shmem / 1024,
            r.pss_dirty / 1024,
            r.shared_clean / 1024,
            r.shared_dirty / 1024,
            r.private_clean / 1024,
            r.private_dirty / 1024,
            r.referenced / 1024,
            r.anonymous / 1024,
            r.anon_huge_pages / 1024,
            r.locked / 1024,
            r.swap / 1024,
            r.swap_pss / 1024
        )?;
    }
    if let Some(variables) = task.environ() {
        let words: Vec<String> = Arguments::of(variables).map(printable).collect();
        writeln!(out, "        environ: {}", words.join(" "))?;
    }
    if let Some(m) = task.misc() {
        let login = format!("login {} session {}", known(m.loginuid), known(m.sessionid));
        let place = format!("wchan {} label {}", or_none(m.wchan), or_none(m.label));
        writeln!(out, "        oom {} {:+}  {login}  {place}", m.oom_score, m.oom_score_adj)?;
    }
    if let Some(stats) = task.taskstats() {
        let hex: String = stats.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "        taskstats: {hex}")?;
    }
    Ok(())
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
