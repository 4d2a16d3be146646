//! Who is asked: a mount where there is one, or else this very process.

use super::clock::Now;
use super::row::{Row, Units};
use super::{Options, Selected, tree};
use crate::cli::{SourceChoice, open_source};
use anyhow::Context;
use nix::unistd::{getegid, geteuid, getgid, getuid};
use std::collections::HashSet;
use std::io::{Read, Write};
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
}

impl Origin {
    /// A path that was given has to answer. At the default path nobody has to.
    pub fn open(options: &Options) -> anyhow::Result<Origin> {
        if options.direct {
            return Origin::direct(options.source.unwrap_or(SourceChoice::Auto));
        }
        let path = options.path.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        match Mount::open(path) {
            Ok(mount) => Ok(Origin {
                client: Client::over(Box::new(mount)),
                name: path.display().to_string(),
                may_fall_back: options.path.is_none(),
                knows: if options.pids.is_empty() && options.subtree.is_empty() {
                    [false; 2]
                } else {
                    let server = Server::beside(path);
                    [DumpStrategy::Set, DumpStrategy::Subtree].map(|strategy| server.knows(strategy))
                },
                units: Units::of_this_machine(),
            }),
            Err(error) if options.path.is_none() => Origin::instead_of(&error.into()),
            Err(error) => {
                let error = anyhow::Error::from(ClientError::from(error));
                Err(error).with_context(|| format!("cannot ask {} (--direct asks no daemon)", path.display()))
            }
        }
    }

    /// Files of /proc: loading BPF programs takes longer than reading some thousand processes once.
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
        let direct = Direct::new(source, proc_root).showing(visibility);
        Ok(Origin {
            client: Client::over(Box::new(direct)),
            name,
            may_fall_back: false,
            knows: [true; 2],
            units: Units::of_this_machine(),
        })
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
        self.units.now = Now::read();
        let [knows_set, knows_subtree] = self.knows;
        let one = |strategy| move |pid: &u32| Request { strategy, pid: *pid, groups, ..Request::default() };
        // Threads of processes that are chosen among all are left out at the end.
        let requests: Vec<Request> = match (&selected.pids[..], &selected.top[..], selected.threads) {
            ([], [], false) => vec![Request::all(groups)],
            ([], top, false) if knows_subtree => top.iter().map(one(DumpStrategy::Subtree)).collect(),
            ([], _, false) => vec![Request::all(groups)],
            ([], _, true) => vec![Request::all_threads(groups)],
            (pids, _, false) if knows_set => {
                pids.chunks(SET_MAX).map(|some| Request::set(some, groups)).collect()
            }
            (pids, _, false) => pids.iter().map(one(DumpStrategy::One)).collect(),
            (pids, _, true) => pids.iter().map(one(DumpStrategy::Thread)).collect(),
        };
        let mut rows = Vec::new();
        for request in requests {
            match self.gather(request, &mut rows) {
                Err(error) if error.is_no_such_task() => {}
                outcome => outcome?,
            }
        }
        if !selected.top.is_empty() {
            if !knows_subtree || selected.threads {
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

    fn gather(&mut self, request: Request, rows: &mut Vec<Row>) -> Result<(), ClientError> {
        let groups = request.groups;
        let mut dump = self.client.dump(request)?;
        while let Some(task) = dump.next_task()? {
            // One that went while it was being sent has nothing left to show.
            if groups.contains(Groups::BASE) && task.base().is_none() {
                continue;
            }
            rows.push(self.units.row(&task, groups)?);
        }
        Ok(())
    }
}

fn means_nobody(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTCONN | libc::ECONNABORTED | libc::EACCES)
}
