//! One task as it is shown.

use super::clock::Now;
use nix::unistd::{SysconfVar, sysconf};
use task_diag::client::{OwnedTask, TaskRef};
use task_diag::protocol::{Base, Credentials, DecodeError, Groups, Sched, Stat, State, Statm};

/// A task, and the units of its numbers.
#[derive(Clone, Debug)]
pub struct Row {
    pub pid: u32,
    pub tgid: u32,
    pub base: Option<Base>,
    pub credentials: Option<Credentials>,
    pub stat: Option<Stat>,
    pub statm: Option<Statm>,
    pub command_line: Option<Box<[u8]>>,
    pub sched: Option<Sched>,
    /// All of it, if a group was asked for that is seldom shown.
    pub rest: Option<Box<OwnedTask>>,
    pub missing: Groups,
    /// Percent of one processor, since its start or since the look before; `None` where that is not known.
    pub pcpu: Option<f64>,
    /// How deep in the tree, and whether siblings follow at each depth.
    pub branches: Vec<bool>,
    pub page_size: u64,
    pub ticks_per_second: u64,
    /// When it was asked for.
    pub now: Now,
    /// When it had come, in nanoseconds since boot.
    pub came: u64,
}

/// The machine's units, and the time of the look.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    page_size: u64,
    pub ticks_per_second: u64,
    pub now: Now,
}

impl Units {
    pub fn of_this_machine() -> Units {
        let value = |variable| sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
        Units {
            page_size: value(SysconfVar::PAGE_SIZE).unwrap_or(4096),
            ticks_per_second: value(SysconfVar::CLK_TCK).unwrap_or(100).max(1),
            now: Now::default(),
        }
    }

    /// The task as it is shown, of which these groups were asked for.
    pub fn row(self, task: &TaskRef<'_>, groups: Groups) -> Result<Row, DecodeError> {
        let seldom = Groups::OWN.difference(Groups::SCHED);
        Ok(Row {
            pid: task.pid,
            tgid: task.tgid,
            base: task.base().copied(),
            credentials: task.credentials().copied(),
            stat: task.stat().copied(),
            statm: task.statm().copied(),
            command_line: task.command_line().map(Into::into),
            sched: task.sched().copied(),
            rest: groups.intersects(seldom).then(|| task.to_owned()).transpose()?.map(Box::new),
            missing: task.missing(),
            pcpu: None,
            branches: Vec::new(),
            page_size: self.page_size,
            ticks_per_second: self.ticks_per_second,
            now: self.now,
            came: self.now.since_boot,
        })
    }
}

impl Row {
    /// Letter of the state, `?` for one that is not known.
    pub fn state(&self) -> char {
        let state = self.base.and_then(|base| State::try_from(base.state).ok());
        state.map_or('?', |state| state.letter().into())
    }

    pub fn name(&self) -> &[u8] {
        self.base.as_ref().map_or(b"", Base::comm_bytes)
    }

    /// The command line, or the name where there is none.
    pub fn title(&self) -> &[u8] {
        self.command_line.as_deref().filter(|line| !line.is_empty()).unwrap_or(self.name())
    }

    /// A task without memory that is no zombie.
    pub fn is_kernel_thread(&self) -> bool {
        self.statm.is_none() && !matches!(self.state(), 'Z' | 'X')
    }

    /// Processor time in clock ticks.
    pub fn ticks(&self) -> Option<u64> {
        self.stat.map(|stat| stat.utime + stat.stime)
    }
}
