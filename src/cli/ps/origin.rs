//! Who is asked: a mount where there is one, or else this very process.

use super::clock::{Clock, time_namespace_offset};
use super::row::{Row, Units};
use super::{Options, Selected, tree};
use crate::cli::{SourceChoice, open_source};
use anyhow::Context;
use nix::unistd::{getegid, geteuid, getgid, getpid, getuid};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use task_diag::access::Visibility;
use task_diag::client::{Client, ClientError, DEFAULT_PATH, Direct, Mount, Server};
use task_diag::protocol::{DumpStrategy, Groups, Request};
use task_diag::source::Limits;

/// How many ids are asked for at once; up to 64 KiB are taken whole.
const SET_MAX: usize = 16_000;

/// Requests and answers, whoever is at the other end.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

pub struct Origin {
    client: Client<Box<dyn Duplex>>,
    /// For people: who answers.
    pub name: String,
    /// There was nobody at the default path when this began, so that this process answers itself; or there may not be,
    /// and it may.
    may_fall_back: bool,
    /// Whether it knows SET, and whether SUBTREE.
    knows: [bool; 2],
    units: Units,
    clock: Clock,
    /// Where the mount may not show all tasks to this user: the files of /proc, with the user's own rights.
    rest: Option<Box<Origin>>,
    /// Whether who answers, and /proc, show this user every task.
    pub shows_all: bool,
    /// How many tasks of the last look came from there.
    pub from_rest: usize,
}

impl Origin {
    /// A path that was given has to answer. At the default path nobody has to.
    pub fn open(options: &Options) -> anyhow::Result<Origin> {
        if options.direct {
            let chosen = !options.pids.is_empty() || !options.subtree.is_empty();
            return Origin::direct(options.source.unwrap_or(
                match options.watch.is_some() || !chosen && are_many() {
                    true => SourceChoice::Auto,
                    false => SourceChoice::Procfs,
                },
            ));
        }
        let path = options.path.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        match Mount::open(path) {
            Ok(mount) => {
                let server = Server::beside(path);
                let shows_all = server.visibility == "proc" || sees_everything();
                let mut origin = Origin::over(Box::new(mount), path.display().to_string());
                origin.knows =
                    [DumpStrategy::Set, DumpStrategy::Subtree].map(|strategy| server.knows(strategy));
                origin.may_fall_back = options.path.is_none();
                // Without /proc there is nothing else to see.
                origin.rest =
                    (!shows_all).then(|| Origin::direct(SourceChoice::Procfs).ok()).flatten().map(Box::new);
                origin.shows_all = shows_all || origin.rest.is_some();
                Ok(origin)
            }
            Err(source) if options.path.is_none() => Origin::instead_of(&ClientError::Open { source }),
            Err(source) => {
                let error = anyhow::Error::from(ClientError::Open { source });
                Err(error).with_context(|| format!("cannot ask {} (--direct asks no daemon)", path.display()))
            }
        }
    }

    fn instead_of(why: &ClientError) -> anyhow::Result<Origin> {
        log::debug!("gathering in this process, because {DEFAULT_PATH}: {why}");
        Origin::direct(SourceChoice::Procfs)
    }

    fn direct(choice: SourceChoice) -> anyhow::Result<Origin> {
        let (source, proc_root) = open_source(choice, Limits::default())?;
        let name = format!("no daemon, from {}", source.name());
        // Whoever runs this with their own rights may see what /proc shows them. Not so when it has rights of the file's.
        let own_rights = getuid() == geteuid() && getgid() == getegid();
        let visibility = if own_rights { Visibility::Proc } else { Visibility::Ptrace };
        Ok(Origin::over(Box::new(Direct::new(source, proc_root).showing(visibility)), name))
    }

    fn over(transport: Box<dyn Duplex>, name: String) -> Origin {
        let mut origin = Origin {
            client: Client::over(transport),
            name,
            may_fall_back: false,
            knows: [true; 2],
            units: Units::of_this_machine(),
            clock: Clock::default(),
            rest: None,
            shows_all: true,
            from_rest: 0,
        };
        let offset = time_namespace_offset();
        if offset != 0 {
            origin.clock.ahead = origin.distance(offset).unwrap_or(offset);
        }
        origin
    }

    /// How far this process' clock is ahead of the one that answers are given in: `offset`, or not at all where whoever
    /// answers is in the same time namespace. This very process, asked for, tells which.
    fn distance(&mut self, offset: i64) -> Option<i64> {
        let own = Request::one(getpid().as_raw() as u32, Groups::BASE | Groups::SCHED);
        let told = self.client.tasks(own).ok()?.first()?.sched?.start_time;
        let text = std::fs::read("/proc/self/stat").ok()?;
        let behind = text.rsplit(|byte| *byte == b')').next()?;
        let ticks: u64 = str::from_utf8(behind).ok()?.split_whitespace().nth(19)?.parse().ok()?;
        let here = i128::from(ticks) * 1_000_000_000 / i128::from(self.units.ticks_per_second);
        let ahead = here - i128::from(told);
        Some(if ahead.abs() < (ahead - i128::from(offset)).abs() { 0 } else { offset })
    }

    /// The tasks that were selected. Those that are not there are left out.
    pub fn look(&mut self, selected: &Selected, groups: Groups) -> Result<Vec<Row>, ClientError> {
        match self.ask(selected, groups) {
            // No daemon any more, or one that does not know who this is.
            Err(why) if self.may_fall_back && why.errno().is_some_and(means_nobody) => {
                match Origin::instead_of(&why) {
                    Ok(origin) => *self = origin,
                    Err(_) => return Err(why),
                }
                self.ask(selected, groups)
            }
            outcome => outcome,
        }
    }

    fn ask(&mut self, selected: &Selected, groups: Groups) -> Result<Vec<Row>, ClientError> {
        let [knows_set, knows_subtree] = self.knows;
        let one = |strategy| move |pid: &u32| Request { strategy, pid: *pid, groups, ..Request::default() };
        // Threads of processes that are chosen among all are left out at the end. So is what is below others where not all
        // of it may be seen: a hidden process between them would end the walk.
        let walks = knows_subtree && self.rest.is_none();
        let requests: Vec<Request> = match (&selected.pids[..], &selected.top[..], selected.threads) {
            ([], [], false) => vec![Request::all(groups)],
            ([], top, false) if walks => top.iter().map(one(DumpStrategy::Subtree)).collect(),
            ([], _, false) => vec![Request::all(groups)],
            ([], _, true) => vec![Request::all_threads(groups)],
            (pids, _, false) if knows_set => {
                pids.chunks(SET_MAX).map(|some| Request::set(some, groups)).collect()
            }
            (pids, _, false) => pids.iter().map(one(DumpStrategy::One)).collect(),
            (pids, _, true) => pids.iter().map(one(DumpStrategy::Thread)).collect(),
        };
        let mut rows = self.gather_all(&requests)?;
        if let Some(rest) = &mut self.rest {
            let seen: HashSet<u32> = rows.iter().flat_map(|row| [row.pid, row.tgid]).collect();
            let mut hidden = if selected.pids.is_empty() { processes() } else { selected.pids.clone() };
            hidden.retain(|pid| !seen.contains(pid));
            let requests: Vec<Request> = match selected.threads {
                false => hidden.chunks(SET_MAX).map(|some| Request::set(some, groups)).collect(),
                true => hidden.iter().map(one(DumpStrategy::Thread)).collect(),
            };
            let others = rest.gather_all(&requests)?;
            self.from_rest = others.len();
            rows.extend(others);
            in_order(&mut rows, &selected.pids);
        }
        if !selected.threads {
            // As for ps, a thread's id is no process'.
            rows.retain(|row| row.pid == row.tgid);
        }
        if !selected.top.is_empty() {
            if !walks || selected.threads {
                rows = tree::arrange(rows, &selected.top);
                rows.iter_mut().for_each(|row| row.branches.clear());
            }
            // Of those that are below more than one.
            rows.sort_by_key(|row| row.tgid);
            let mut seen = HashSet::new();
            rows.retain(|row| seen.insert(row.pid));
        }
        let is_of = |uid| selected.users.contains(&uid);
        rows.retain(|row| selected.users.is_empty() || row.credentials.is_some_and(|c| is_of(c.euid)));
        Ok(rows)
    }

    fn gather_all(&mut self, requests: &[Request]) -> Result<Vec<Row>, ClientError> {
        let mut rows = Vec::new();
        for request in requests {
            match self.gather(request.clone(), &mut rows) {
                Err(error) if error.is_no_such_task() => {}
                outcome => outcome?,
            }
        }
        Ok(rows)
    }

    fn gather(&mut self, request: Request, rows: &mut Vec<Row>) -> Result<(), ClientError> {
        let groups = request.groups;
        self.units.now = self.clock.now();
        let mut dump = self.client.dump(request)?;
        while let Some(task) = dump.next_task()? {
            // One that went while it was being sent has nothing left to show.
            if groups.contains(Groups::BASE) && task.base().is_none() && task.missing().is_empty() {
                continue;
            }
            let row = self.units.row(&task, groups)?;
            rows.push(Row { came: self.clock.since_boot(), ..row });
        }
        Ok(())
    }
}

/// All that /proc lists.
fn processes() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Ascending by process, or in the order in which they were asked for.
fn in_order(rows: &mut [Row], pids: &[u32]) {
    let places: HashMap<u32, usize> = pids.iter().enumerate().rev().map(|(at, pid)| (*pid, at)).collect();
    rows.sort_by_key(|row| (places.get(&row.pid).or(places.get(&row.tgid)).copied(), row.tgid));
}

/// Whether the kernel lets this process look at every task: CAP_SYS_PTRACE in the initial user namespace, and no security
/// module that keeps the first process from it, as some do.
fn sees_everything() -> bool {
    // The initial user namespace has this inode number on every kernel (PROC_USER_INIT_INO).
    let is_initial =
        std::fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() == "user:[4026531837]");
    let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_PTRACE).unwrap_or(false);
    is_initial && may && std::fs::read_link("/proc/1/exe").is_ok()
}

/// Whether reading all processes once from /proc takes longer than loading BPF programs does, half a second.
fn are_many() -> bool {
    // The kernel counts each process as a link of the directory.
    std::fs::metadata("/proc").is_ok_and(|proc| proc.nlink() > 15_000)
}

fn means_nobody(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTCONN | libc::ECONNABORTED | libc::EACCES)
}
