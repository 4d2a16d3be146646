//! What stands in a column of a task: as a number, as text, and in which order.

use super::column::Column::{self, *};
use super::name_cache::NameCache;
use super::row::Row;
use super::{clock, extension};
use crate::cli::printable::push_printable;
use std::cmp::Ordering;
use std::fmt::Write;

impl Column {
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
            UserTicks => signed(row.stat?.utime),
            SystemTicks => signed(row.stat?.stime),
            Rss => return pages(|statm| statm.total_rss),
            Hwm => return pages(|statm| statm.hiwater_rss.max(statm.total_rss)),
            Vsz => return pages(|statm| statm.total_vm),
            Swap => return pages(|statm| statm.swap),
            Threads => row.stat?.threads.into(),
            Minflt => signed(row.stat?.minflt),
            Majflt => signed(row.stat?.majflt),
            State | Stat | User | Ruser | Group | Pcpu | Comm | Args => return None,
            other => return extension::number(other, row),
        })
    }

    /// Appends what the table shows of `row`: at least `width` characters of it, if there are so many.
    pub fn show(self, text: &mut String, row: &Row, names: &mut NameCache, width: usize) {
        let name = match self {
            State => return text.push(row.state()),
            User => row.credentials.map(|c| names.user(c.euid)),
            Ruser => row.credentials.map(|c| names.user(c.uid)),
            Group => row.credentials.map(|c| names.group(c.egid)),
            Stat => return stat(text, row),
            Comm => return push_printable(text, row.name()),
            Args => return arguments(text, row, width),
            Pcpu => {
                let _ = match row.pcpu {
                    None => write!(text, "-"),
                    // As ps does: no wider than four.
                    Some(percent) if percent >= 99.95 => write!(text, "{percent:.0}"),
                    Some(percent) => write!(text, "{percent:.1}"),
                };
                return;
            }
            Time => match row.ticks() {
                Some(ticks) => return clock::cpu_time(text, ticks / row.ticks_per_second),
                None => None,
            },
            other if other.is_text() || other.is_time() => {
                match extension::push_text(other, text, row, names) {
                    true => return,
                    false => None,
                }
            }
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
    pub fn compare(self, a: &Row, b: &Row, names: &mut NameCache) -> Ordering {
        let user = |names: &mut NameCache, id: Option<u32>| id.map(|id| names.user(id).to_owned());
        match self {
            State | Stat => a.state().cmp(&b.state()),
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
                let name = |names: &mut NameCache, row: &Row| {
                    row.credentials.map(|c| names.group(c.egid).to_owned())
                };
                name(names, a).cmp(&name(names, b))
            }
            Start | StartTime | Lstart => StartNs.compare(a, b, names),
            other if other.is_text() => {
                let mut shown = [String::new(), String::new()];
                let [ours, theirs] = &mut shown;
                extension::push_text(other, ours, a, names);
                extension::push_text(other, theirs, b, names);
                shown[0].cmp(&shown[1])
            }
            _ => self.number(a).cmp(&self.number(b)),
        }
    }
}

/// The letter of the state and the signs behind it, as `ps` writes them.
fn stat(text: &mut String, row: &Row) {
    text.push(row.state());
    let nice = row.sched.map_or(0, |sched| sched.nice);
    let base = row.base.as_ref();
    let signs = [
        (nice < 0, '<'),
        (nice > 0, 'N'),
        (row.statm.is_some_and(|statm| statm.locked_vm > 0), 'L'),
        (base.is_some_and(|base| base.sid == row.tgid), 's'),
        (row.stat.is_some_and(|stat| stat.threads > 1), 'l'),
        (
            base.zip(row.sched).is_some_and(|(base, sched)| i64::from(sched.tpgid) == i64::from(base.pgid)),
            '+',
        ),
    ];
    text.extend(signs.iter().filter(|(holds, _)| *holds).map(|(_, sign)| sign));
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
