//! Who is asked: a mount where there is one, or else this very process.

use super::row::{Row, Units};
use super::{Options, Selected};
use crate::cli::{SourceChoice, open_source};
use anyhow::Context;
use nix::unistd::{getegid, geteuid, getgid, getuid};
use std::io::{Read, Write};
use std::path::Path;
use task_diag::access::Visibility;
use task_diag::client::{Client, ClientError, DEFAULT_PATH, Direct, Mount};
use task_diag::protocol::{DumpStrategy, Groups, Request};
use task_diag::source::Limits;

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
        let mut rows = Vec::new();
        let strategies = match (&selected.pids[..], selected.threads) {
            ([], false) => vec![(DumpStrategy::All, 0)],
            ([], true) => vec![(DumpStrategy::AllThreads, 0)],
            (pids, false) => pids.iter().map(|pid| (DumpStrategy::One, *pid)).collect(),
            (pids, true) => pids.iter().map(|pid| (DumpStrategy::Thread, *pid)).collect(),
        };
        for (strategy, pid) in strategies {
            let request = Request { strategy, pid, groups, ..Request::default() };
            match self.gather(request, &mut rows, selected) {
                Err(error) if error.is_no_such_task() => {}
                outcome => outcome?,
            }
        }
        Ok(rows)
    }

    fn gather(
        &mut self,
        request: Request,
        rows: &mut Vec<Row>,
        selected: &Selected,
    ) -> Result<(), ClientError> {
        let with_base = request.groups.contains(Groups::BASE);
        let mut dump = self.client.dump(request)?;
        while let Some(task) = dump.next_task()? {
            // One that went while it was being sent has nothing left to show.
            if with_base && task.base().is_none() {
                continue;
            }
            let is_of = |uid| selected.users.is_empty() || selected.users.contains(&uid);
            if selected.users.is_empty() || task.credentials().is_some_and(|c| is_of(c.euid)) {
                rows.push(self.units.row(&task));
            }
        }
        Ok(())
    }
}

fn means_nobody(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTCONN | libc::ECONNABORTED | libc::EACCES)
}
