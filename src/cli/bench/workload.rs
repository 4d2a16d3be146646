//! What is measured: a request, and the files of /proc that hold the same.

use task_diag::protocol::{DumpStrategy, Groups};

/// One line of the result.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How to choose it on the command line.
    pub key: &'static str,
    pub strategy: DumpStrategy,
    pub groups: Groups,
    /// Files that a client without the interface reads for each process. `@NAME` is a link, `NAME/` a directory that is listed,
    /// `NAME/@` one whose links are all read, and `fdinfo` all links of `fd` with their files of `fdinfo`.
    pub files: &'static [&'static str],
    /// Files that it reads for each thread.
    pub thread_files: &'static [&'static str],
}

/// In place of files: asked of the kernel process by process.
pub const TASKSTATS: &str = "taskstats (netlink)";

const BASE: Groups = Groups::BASE;

/// The fields that htop 3.2 shows by default and reads at each refresh.
const HTOP: Groups = BASE.union(Groups::CRED).union(Groups::STAT).union(Groups::STATM).union(Groups::SCHED);

/// What process-exporter 0.7 reads of each process when it is asked for metrics, by default; and of each thread.
const EXPORTER: Groups =
    HTOP.union(Groups::IO).union(Groups::FD_COUNT).union(Groups::ROLLUP).union(Groups::MISC);
const EXPORTER_THREADS: Groups =
    HTOP.union(Groups::IO).union(Groups::MISC).union(Groups::CMDLINE).union(Groups::CGROUP);

/// All there are, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    all("base", BASE, &["stat"]),
    all("cred", BASE.union(Groups::CRED), &["status"]),
    all("stat", BASE.union(Groups::STAT), &["stat"]),
    all(
        "light",
        BASE.union(Groups::CRED).union(Groups::STAT).union(Groups::STATM),
        &["stat", "status", "statm"],
    ),
    all("cmdline", BASE.union(Groups::CMDLINE), &["stat", "cmdline"]),
    all("maps", BASE.union(Groups::VMA), &["stat", "maps"]),
    all("smaps", BASE.union(Groups::VMA).union(Groups::VMA_STAT), &["smaps"]),
    Workload {
        strategy: DumpStrategy::AllThreads,
        thread_files: &["stat"],
        ..all("threads", BASE.union(Groups::STAT), &[])
    },
    Workload {
        strategy: DumpStrategy::AllThreads,
        thread_files: &["status"],
        ..all("threads-maps", BASE.union(Groups::VMA), &["maps"])
    },
    all("taskstats", Groups::TASKSTATS, &[TASKSTATS]),
    all("groups", Groups::GROUPS, &["status"]),
    all("sched", Groups::SCHED, &["stat", "status"]),
    all("io", Groups::IO, &["io"]),
    all("cgroup", Groups::CGROUP, &["cgroup"]),
    all("ns", Groups::NS, &["ns/@", "status"]),
    all("files", Groups::FILES, &["@exe", "@cwd", "@root"]),
    all("fd-count", Groups::FD_COUNT, &["fd/", "limits"]),
    all("fd", Groups::FD, &["fdinfo"]),
    all("rollup", Groups::ROLLUP, &["smaps_rollup"]),
    all("environ", Groups::ENVIRON, &["environ"]),
    all(
        "misc",
        Groups::MISC,
        &["oom_score", "oom_score_adj", "loginuid", "sessionid", "wchan", "attr/current"],
    ),
    Workload {
        strategy: DumpStrategy::AllThreads,
        thread_files: &["stat", "statm"],
        ..all("htop", HTOP, &[])
    },
    all("exporter", EXPORTER, &["stat", "status", "io", "wchan", "limits", "fd/", "smaps_rollup"]),
    Workload {
        strategy: DumpStrategy::AllThreads,
        thread_files: &["stat", "status", "io", "wchan", "cmdline", "cgroup"],
        ..all("exporter-threads", EXPORTER_THREADS, &[])
    },
    Workload {
        strategy: DumpStrategy::One,
        ..all(
            "one",
            Groups::NATIVE.difference(Groups::VMA_STAT),
            &["stat", "status", "statm", "cmdline", "maps"],
        )
    },
];

const fn all(key: &'static str, groups: Groups, files: &'static [&'static str]) -> Workload {
    Workload { key, strategy: DumpStrategy::All, groups, files, thread_files: &[] }
}

impl Workload {
    /// What is asked for, as the protocol names it.
    pub fn asked(&self) -> String {
        let groups: Vec<&str> = self.groups.iter_names().map(|(name, _)| name).collect();
        let strategy = match self.strategy {
            DumpStrategy::AllThreads => "ALL_THREAD ",
            DumpStrategy::One => "ONE ",
            _ => "",
        };
        format!("{strategy}{}", groups.join("+"))
    }

    /// What /proc is read for.
    pub fn read(&self) -> String {
        let threads = self.thread_files.iter().map(|file| format!("task/*/{file}"));
        threads.chain(self.files.iter().map(|file| file.to_string())).collect::<Vec<_>>().join("+")
    }
}
