//! What can be shown of a task, and how it is called.

use super::names::Names;
use super::row::Row;
use super::{clock, own};
use crate::cli::printable::push_printable;
use std::cmp::Ordering;
use std::fmt::Write;
use std::str::FromStr;
use task_diag::protocol::Groups;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Pid,
    Tid,
    Ppid,
    Pgid,
    Sid,
    Tracer,
    State,
    User,
    Uid,
    Ruser,
    Ruid,
    Group,
    Gid,
    Pcpu,
    Time,
    Cputimes,
    Utime,
    Stime,
    Rss,
    Hwm,
    Vsz,
    Swap,
    Threads,
    Minflt,
    Majflt,
    Comm,
    Args,
    Start,
    StartTime,
    Lstart,
    StartNs,
    Etime,
    Etimes,
    Ni,
    Pri,
    Priority,
    Rtprio,
    Cls,
    Psr,
    Tty,
    Tpgid,
    Flag,
    Nvcsw,
    Nivcsw,
    Blkio,
    Rbytes,
    Wbytes,
    Rchars,
    Wchars,
    Rops,
    Wops,
    Wcbytes,
    Cgroup,
    Cgroupns,
    Ipcns,
    Mntns,
    Netns,
    Pidns,
    Timens,
    Userns,
    Utsns,
    Nspid,
    Exe,
    Cwd,
    Root,
    Fds,
    Nofile,
    Pss,
    Uss,
    Swappss,
    Oom,
    Oomadj,
    Luid,
    Asession,
    Wchan,
    Label,
    Nnp,
    Seccomp,
    Supgid,
    Supgrp,
    Environ,
}

use Column::*;

/// Name, other names, heading, what it is.
const COLUMNS: &[(Column, &str, &[&str], &str, &str)] = &[
    (Pid, "pid", &["tgid"], "PID", "process id"),
    (Tid, "tid", &["lwp", "spid"], "TID", "thread id"),
    (Ppid, "ppid", &[], "PPID", "process id of the parent"),
    (Pgid, "pgid", &["pgrp"], "PGID", "process group"),
    (Sid, "sid", &["sess"], "SID", "session"),
    (Tracer, "tracer", &["tpid"], "TRACER", "thread id of the tracer, 0 without one"),
    (State, "state", &["s", "stat"], "S", "R S D T t X Z P I, as in /proc/PID/stat"),
    (User, "user", &["euser"], "USER", "name of the effective user"),
    (Uid, "uid", &["euid"], "UID", "effective user id"),
    (Ruser, "ruser", &[], "RUSER", "name of the real user"),
    (Ruid, "ruid", &[], "RUID", "real user id"),
    (Group, "group", &["egroup"], "GROUP", "name of the effective group"),
    (Gid, "gid", &["egid"], "GID", "effective group id"),
    (Pcpu, "pcpu", &["%cpu", "cpu"], "%CPU", "processor time between two looks, in percent of one processor"),
    (Time, "time", &["cputime"], "TIME", "processor time, [DD-]HH:MM:SS"),
    (Cputimes, "cputimes", &["times"], "TIME", "processor time in seconds"),
    (Utime, "utime", &[], "UTIME", "time in user mode, in clock ticks"),
    (Stime, "stime", &[], "STIME", "time in kernel mode, in clock ticks"),
    (Rss, "rss", &["rssize"], "RSS", "resident memory in KiB"),
    (Hwm, "hwm", &[], "HWM", "largest resident memory so far, in KiB"),
    (Vsz, "vsz", &["vsize"], "VSZ", "address space in KiB"),
    (Swap, "swap", &[], "SWAP", "swapped-out memory in KiB"),
    (Threads, "threads", &["nlwp", "thcount"], "THR", "threads of the process"),
    (Minflt, "minflt", &["min_flt"], "MINFLT", "page faults without I/O"),
    (Majflt, "majflt", &["maj_flt"], "MAJFLT", "page faults with I/O"),
    (Comm, "comm", &["ucmd"], "NAME", "name of the task"),
    (Args, "args", &["cmd", "command"], "COMMAND", "command line; [name] without one"),
    (Start, "start", &[], "STARTED", "when it was started: the time of the last day, or the day"),
    (
        StartTime,
        "start_time",
        &[],
        "START",
        "when it was started: hour and minute of today, or the day, or the year",
    ),
    (Lstart, "lstart", &[], "STARTED", "when it was started, in full"),
    (StartNs, "start_ns", &[], "START_NS", "when it was started, in nanoseconds since boot"),
    (Etime, "etime", &[], "ELAPSED", "time since its start, [[DD-]HH:]MM:SS"),
    (Etimes, "etimes", &[], "ELAPSED", "time since its start in seconds"),
    (Ni, "ni", &["nice"], "NI", "nice value, -20 to 19"),
    (Pri, "pri", &[], "PRI", "priority: the higher the sooner"),
    (Priority, "priority", &[], "PRI", "priority as in /proc/PID/stat: the lower the sooner"),
    (Rtprio, "rtprio", &[], "RTPRIO", "real-time priority"),
    (Cls, "cls", &["class", "policy"], "CLS", "scheduling class: TS FF RR B ISO IDL DLN EXT"),
    (Psr, "psr", &[], "PSR", "processor that it ran on last"),
    (Tty, "tty", &["tt", "tname"], "TT", "controlling terminal, ? without one"),
    (Tpgid, "tpgid", &[], "TPGID", "process group in the foreground of its terminal"),
    (
        Flag,
        "f",
        &["flag", "flags"],
        "F",
        "1: forked and ran no other program, 4: used rights of the superuser",
    ),
    (Nvcsw, "nvcsw", &[], "NVCSW", "voluntary context switches of the very thread"),
    (Nivcsw, "nivcsw", &[], "NIVCSW", "involuntary context switches of the very thread"),
    (Blkio, "blkio", &[], "BLKIO", "clock ticks waited for block I/O; 0 unless delay accounting is on"),
    (Rbytes, "rbytes", &[], "RBYTES", "bytes read from storage"),
    (Wbytes, "wbytes", &[], "WBYTES", "bytes written to storage"),
    (Rchars, "rchars", &[], "RCHARS", "bytes read by calls, from wherever"),
    (Wchars, "wchars", &[], "WCHARS", "bytes written by calls"),
    (Rops, "rops", &[], "ROPS", "calls that read"),
    (Wops, "wops", &[], "WOPS", "calls that write"),
    (Wcbytes, "wcbytes", &[], "WCBYTES", "bytes that were not written to storage after all"),
    (Cgroup, "cgroup", &[], "CGROUP", "control groups, the lines of /proc/PID/cgroup"),
    (Cgroupns, "cgroupns", &[], "CGROUPNS", "inode of the cgroup namespace"),
    (Ipcns, "ipcns", &[], "IPCNS", "inode of the IPC namespace"),
    (Mntns, "mntns", &[], "MNTNS", "inode of the mount namespace"),
    (Netns, "netns", &[], "NETNS", "inode of the network namespace"),
    (Pidns, "pidns", &[], "PIDNS", "inode of the pid namespace"),
    (Timens, "timens", &[], "TIMENS", "inode of the time namespace"),
    (Userns, "userns", &[], "USERNS", "inode of the user namespace"),
    (Utsns, "utsns", &[], "UTSNS", "inode of the UTS namespace"),
    (Nspid, "nspid", &[], "NSPID", "its ids, from the reader's pid namespace down to its own"),
    (Exe, "exe", &[], "EXE", "the running program"),
    (Cwd, "cwd", &[], "CWD", "working directory"),
    (Root, "root", &[], "ROOT", "root directory"),
    (Fds, "fds", &["nfds"], "FDS", "open file descriptors"),
    (Nofile, "nofile", &[], "NOFILE", "how many there may be"),
    (Pss, "pss", &[], "PSS", "proportional share of resident memory in KiB"),
    (Uss, "uss", &[], "USS", "resident memory of its own in KiB"),
    (Swappss, "swap_pss", &[], "SWAPPSS", "proportional share of swapped-out memory in KiB"),
    (Oom, "oom", &[], "OOM", "how likely it is killed when memory runs out"),
    (Oomadj, "oomadj", &[], "OOMADJ", "what is added to that"),
    (Luid, "luid", &[], "LUID", "user id of the login"),
    (Asession, "sessionid", &[], "SESSIONID", "session of the audit system"),
    (Wchan, "wchan", &[], "WCHAN", "where it sleeps in the kernel"),
    (Label, "label", &["context"], "LABEL", "what a security module calls it"),
    (Nnp, "nnp", &[], "NNP", "1 if no program that it runs gives it more rights"),
    (Seccomp, "seccomp", &[], "SECCOMP", "0 without, 1 strict, 2 filters"),
    (Supgid, "supgid", &[], "SUPGID", "supplementary group ids"),
    (Supgrp, "supgrp", &[], "SUPGRP", "names of supplementary groups"),
    (Environ, "environ", &["env"], "ENVIRON", "environment"),
];

/// The columns with their names, for the end of the help.
pub fn help() -> String {
    let mut text = String::from("Columns, with other names of theirs:\n");
    for (_, name, others, _, what) in COLUMNS {
        let names = std::iter::once(name).chain(others.iter()).copied().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "  {names:20} {what}");
    }
    text
}

impl FromStr for Column {
    type Err = String;

    fn from_str(name: &str) -> Result<Column, String> {
        let found = COLUMNS.iter().find(|(_, own, others, ..)| *own == name || others.contains(&name));
        found.map(|(column, ..)| *column).ok_or_else(|| format!("there is no column {name}; see --help"))
    }
}

impl Column {
    pub const ALL: fn() -> Vec<Column> = || COLUMNS.iter().map(|(column, ..)| *column).collect();

    fn entry(self) -> &'static (Column, &'static str, &'static [&'static str], &'static str, &'static str) {
        // In the order of the enum; a test holds it there.
        &COLUMNS[self as usize]
    }

    /// Its name, as `-o` and JSON have it.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn heading(self) -> &'static str {
        self.entry().3
    }

    /// Text stands to the left of its column, numbers to the right.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            State
                | User
                | Ruser
                | Group
                | Comm
                | Args
                | Start
                | StartTime
                | Lstart
                | Cls
                | Tty
                | Cgroup
                | Nspid
                | Exe
                | Cwd
                | Root
                | Wchan
                | Label
                | Supgid
                | Supgrp
                | Environ
        )
    }

    /// Whether its number is shown as a time.
    pub fn is_time(self) -> bool {
        matches!(self, Time | Etime)
    }

    /// Whether every task has it at hand, so that it costs little to show.
    pub fn is_cheap(self) -> bool {
        (Groups::NATIVE | Groups::SCHED | Groups::MISSING).contains(self.groups())
    }

    /// The groups that it takes.
    pub fn groups(self) -> Groups {
        match self {
            Pid | Tid => Groups::empty(),
            Ppid | Pgid | Sid | Tracer | State | Comm => Groups::BASE,
            User | Uid | Ruser | Ruid | Group | Gid => Groups::CRED,
            Pcpu | Time | Cputimes | Utime | Stime | Threads | Minflt | Majflt => Groups::STAT,
            Rss | Hwm | Vsz | Swap => Groups::STATM,
            // Without a command line the name stands there.
            Args => Groups::BASE.union(Groups::CMDLINE).union(Groups::MISSING),
            other => own::groups(other),
        }
    }

    /// The value of a column of whole numbers; `None` where the task has none.
    pub fn number(self, row: &Row) -> Option<i64> {
        let pages = |of: fn(&task_diag::protocol::Statm) -> u64| {
            // A task without memory has none of it.
            i64::try_from(row.statm.as_ref().map_or(0, of) * row.page_size / 1024).ok()
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let base = row.base.as_ref();
        Some(match self {
            Pid => row.tgid.into(),
            Tid => row.pid.into(),
            Ppid => base?.ppid.into(),
            Pgid => base?.pgid.into(),
            Sid => base?.sid.into(),
            Tracer => base?.tpid.into(),
            Uid => row.credentials?.euid.into(),
            Ruid => row.credentials?.uid.into(),
            Gid => row.credentials?.egid.into(),
            Cputimes | Time => signed(row.ticks()? / row.ticks_per_second),
            Utime => signed(row.stat?.utime),
            Stime => signed(row.stat?.stime),
            Rss => return pages(|statm| statm.total_rss),
            Hwm => return pages(|statm| statm.hiwater_rss.max(statm.total_rss)),
            Vsz => return pages(|statm| statm.total_vm),
            Swap => return pages(|statm| statm.swap),
            Threads => row.stat?.threads.into(),
            Minflt => signed(row.stat?.minflt),
            Majflt => signed(row.stat?.majflt),
            State | User | Ruser | Group | Pcpu | Comm | Args => return None,
            other => return own::number(other, row),
        })
    }

    /// Appends what the table shows of `row`: at least `width` characters of it, if there are so many.
    pub fn show(self, text: &mut String, row: &Row, names: &mut Names, width: usize) {
        let name = match self {
            State => return text.push(row.state()),
            User => row.credentials.map(|c| names.user(c.euid)),
            Ruser => row.credentials.map(|c| names.user(c.uid)),
            Group => row.credentials.map(|c| names.group(c.egid)),
            Comm => return push_printable(text, row.name()),
            Args => return arguments(text, row, width),
            Pcpu => {
                let _ = row.pcpu.map(|percent| write!(text, "{percent:.1}"));
                return if row.pcpu.is_none() {
                    text.push('-')
                };
            }
            Time => match row.ticks() {
                Some(ticks) => return clock::cpu_time(text, ticks / row.ticks_per_second),
                None => None,
            },
            other if other.is_text() || other.is_time() => match own::push_text(other, text, row, names) {
                true => return,
                false => None,
            },
            _ => match self.number(row) {
                Some(number) => {
                    let _ = write!(text, "{number}");
                    return;
                }
                None => None,
            },
        };
        text.push_str(name.unwrap_or("-"));
    }

    /// The order of two tasks by this column, ascending.
    pub fn compare(self, a: &Row, b: &Row, names: &mut Names) -> Ordering {
        let user = |names: &mut Names, id: Option<u32>| id.map(|id| names.user(id).to_owned());
        match self {
            State => a.state().cmp(&b.state()),
            Comm => a.name().cmp(b.name()),
            Args => a.title().cmp(b.title()),
            Pcpu => a.pcpu.unwrap_or(-1.0).total_cmp(&b.pcpu.unwrap_or(-1.0)),
            Time | Cputimes => a.ticks().cmp(&b.ticks()),
            User => {
                user(names, a.credentials.map(|c| c.euid)).cmp(&user(names, b.credentials.map(|c| c.euid)))
            }
            Ruser => {
                user(names, a.credentials.map(|c| c.uid)).cmp(&user(names, b.credentials.map(|c| c.uid)))
            }
            Group => {
                let name =
                    |names: &mut Names, row: &Row| row.credentials.map(|c| names.group(c.egid).to_owned());
                name(names, a).cmp(&name(names, b))
            }
            Start | StartTime | Lstart => StartNs.compare(a, b, names),
            other if other.is_text() => {
                let mut shown = [String::new(), String::new()];
                let [ours, theirs] = &mut shown;
                own::push_text(other, ours, a, names);
                own::push_text(other, theirs, b, names);
                shown[0].cmp(&shown[1])
            }
            _ => self.number(a).cmp(&self.number(b)),
        }
    }
}

/// The command line with spaces for its NULs, or the name in brackets where there is none.
fn arguments(text: &mut String, row: &Row, width: usize) {
    let line = row.command_line.as_deref().unwrap_or_default();
    let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    if end == 0 {
        text.push('[');
        push_printable(text, row.name());
        return text.push_str(if row.state() == 'Z' { "] <defunct>" } else { "]" });
    }
    // A character takes four bytes at most, and may have no width with another two behind it.
    let line = &line[..end.min(width.saturating_mul(8))];
    let mut words = line.split(|byte| *byte == 0);
    push_printable(text, words.next().unwrap_or_default());
    for word in words {
        text.push(' ');
        push_printable(text, word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_their_places_and_are_known_by_each_name() {
        for (at, (column, name, others, ..)) in COLUMNS.iter().enumerate() {
            assert_eq!(*column as usize, at);
            assert_eq!(column.name(), *name);
            for name in others.iter().chain([name]) {
                assert_eq!(name.parse(), Ok(*column));
            }
        }
        assert!("nothing".parse::<Column>().is_err());
    }
}
