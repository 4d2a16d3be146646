//! What can be shown of a task, and how it is called.

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
    Stat,
    User,
    Uid,
    Ruser,
    Ruid,
    Group,
    Gid,
    Pcpu,
    Time,
    Cputimes,
    UserTicks,
    SystemTicks,
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
    (State, "state", &["s"], "S", "R S D T t X Z P I, as in /proc/PID/stat"),
    (
        Stat,
        "stat",
        &[],
        "STAT",
        "the state; < of high priority, N nice, L locked in memory, s leads a session, l many threads, + in the foreground",
    ),
    (User, "user", &["euser"], "USER", "name of the effective user"),
    (Uid, "uid", &["euid"], "UID", "effective user id"),
    (Ruser, "ruser", &[], "RUSER", "name of the real user"),
    (Ruid, "ruid", &[], "RUID", "real user id"),
    (Group, "group", &["egroup"], "GROUP", "name of the effective group"),
    (Gid, "gid", &["egid"], "GID", "effective group id"),
    (
        Pcpu,
        "pcpu",
        &["%cpu"],
        "%CPU",
        "processor time in percent of one processor: since its start; with --watch since the look before",
    ),
    (Time, "time", &["cputime"], "TIME", "processor time, [DD-]HH:MM:SS"),
    (Cputimes, "cputimes", &["times"], "TIME", "processor time in seconds"),
    (UserTicks, "user_ticks", &[], "UTICKS", "time in user mode, in clock ticks"),
    (SystemTicks, "system_ticks", &[], "STICKS", "time in kernel mode, in clock ticks"),
    (Rss, "rss", &["rssize"], "RSS", "resident memory in KiB"),
    (Hwm, "hwm", &[], "HWM", "largest resident memory so far, in KiB"),
    (Vsz, "vsz", &["vsize"], "VSZ", "address space in KiB"),
    (Swap, "swap", &[], "SWAP", "swapped-out memory in KiB"),
    (Threads, "threads", &["nlwp", "thcount"], "THR", "threads of the process"),
    (Minflt, "minflt", &["min_flt"], "MINFLT", "page faults without I/O"),
    (Majflt, "majflt", &["maj_flt"], "MAJFLT", "page faults with I/O"),
    (Comm, "comm", &["ucmd"], "NAME", "name of the task, the 15 bytes of it that the kernel keeps"),
    (Args, "args", &["cmd", "command"], "COMMAND", "command line; [name] without one"),
    (Start, "start", &[], "STARTED", "when it was started: the time of the last day, or the day"),
    (
        StartTime,
        "start_time",
        &["stime"],
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
    (Cgroup, "cgroup", &[], "CGROUP", "control groups but for roots; in JSON all lines of /proc/PID/cgroup"),
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
                | Stat
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
            Stat => Groups::BASE.union(Groups::STAT).union(Groups::STATM).union(Groups::SCHED),
            // The start time tells how long it has been there, and one task from another that has its number.
            Pcpu => Groups::STAT.union(Groups::SCHED),
            Time | Cputimes | UserTicks | SystemTicks | Threads | Minflt | Majflt => Groups::STAT,
            Rss | Hwm | Vsz | Swap => Groups::STATM,
            // Without a command line the name stands there.
            Args => Groups::BASE.union(Groups::CMDLINE).union(Groups::MISSING),
            Start | StartTime | Lstart | StartNs | Etime | Etimes | Ni | Pri | Priority | Rtprio | Cls
            | Psr | Tty | Tpgid | Flag | Nvcsw | Nivcsw | Blkio => Groups::SCHED,
            Rbytes | Wbytes | Rchars | Wchars | Rops | Wops | Wcbytes => Groups::IO,
            Cgroup => Groups::CGROUP,
            Cgroupns | Ipcns | Mntns | Netns | Pidns | Timens | Userns | Utsns | Nspid => Groups::NS,
            Exe | Cwd | Root => Groups::FILES.union(Groups::MISSING),
            Fds | Nofile => Groups::FD_COUNT,
            Pss | Uss | Swappss => Groups::ROLLUP.union(Groups::STATM).union(Groups::MISSING),
            Environ => Groups::ENVIRON.union(Groups::MISSING),
            Oom | Oomadj | Luid | Asession | Wchan | Label => Groups::MISC,
            Nnp | Seccomp | Supgid | Supgrp => Groups::GROUPS,
        }
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
