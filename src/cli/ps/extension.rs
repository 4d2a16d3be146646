//! The columns of the groups from 32 on.

use super::clock;
use super::column::Column::{self, *};
use super::name_cache::NameCache;
use super::row::Row;
use crate::cli::printable::push_printable;
use serde_json::Value;
use std::fmt::Write;
use task_diag::client::{Arguments, OwnedTask};
use task_diag::protocol::{Io, NAMESPACE_KINDS, Rollup};

/// Scheduling policies as `ps` writes them, by their numbers.
const CLASSES: [&str; 8] = ["TS", "FF", "RR", "B", "ISO", "IDL", "DLN", "EXT"];

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The value of a column of whole numbers; `None` where the task has none.
pub fn number(column: Column, row: &Row) -> Option<i64> {
    let sched = row.sched.as_ref();
    let rest = row.rest.as_deref();
    let io = |of: fn(&Io) -> u64| rest?.io.as_ref().map(|io| signed(of(io)));
    let kib = |of: fn(&Rollup) -> u64| match rest?.rollup.as_ref() {
        Some(rollup) => Some(signed(of(rollup) / 1024)),
        // A task without memory has none of it.
        None => (row.statm.is_none() && row.missing.is_empty()).then_some(0),
    };
    let namespace = |kind| rest?.namespaces()?.inode(kind).map(i64::from);
    // What is said of the usual and the batch class only.
    let is_nice = |policy| matches!(policy, 0 | 3);
    Some(match column {
        StartNs => signed(sched?.start_time),
        Start | StartTime | Lstart => row.now.epoch_seconds(sched?.start_time),
        Etime | Etimes => signed(elapsed(row)?),
        Ni => sched.filter(|sched| is_nice(sched.policy))?.nice.into(),
        Pri => 39 - i64::from(sched?.priority),
        Priority => sched?.priority.into(),
        Rtprio => sched.filter(|sched| sched.policy != 0)?.rt_priority.into(),
        Psr => sched?.processor.into(),
        Tpgid => sched?.tpgid.into(),
        Flag => (sched?.flags >> 6 & 7).into(),
        Nvcsw => signed(sched?.voluntary_switches),
        Nivcsw => signed(sched?.involuntary_switches),
        Blkio => signed(sched?.blkio_delay),
        Rbytes => return io(|io| io.read_bytes),
        Wbytes => return io(|io| io.write_bytes),
        Rchars => return io(|io| io.rchar),
        Wchars => return io(|io| io.wchar),
        Rops => return io(|io| io.syscr),
        Wops => return io(|io| io.syscw),
        Wcbytes => return io(|io| io.cancelled_write_bytes),
        Cgroupns | Ipcns | Mntns | Netns | Pidns | Timens | Userns | Utsns => {
            let kind = column.name().strip_suffix("ns").filter(|kind| NAMESPACE_KINDS.contains(kind));
            return namespace(kind?);
        }
        Fds => rest?.fd_count?.open.into(),
        Nofile => i64::try_from(rest?.fd_count?.soft_limit).ok()?,
        Pss => return kib(|rollup| rollup.pss),
        Uss => return kib(|r| r.private_clean + r.private_dirty + r.private_hugetlb),
        Swappss => return kib(|rollup| rollup.swap_pss),
        Oom => rest?.misc()?.oom_score.into(),
        Oomadj => rest?.misc()?.oom_score_adj.into(),
        Luid => rest?.misc().filter(|misc| misc.loginuid != u32::MAX)?.loginuid.into(),
        Asession => rest?.misc().filter(|misc| misc.sessionid != u32::MAX)?.sessionid.into(),
        Nnp => rest?.membership()?.no_new_privs().into(),
        Seccomp => rest?.membership()?.seccomp().into(),
        _ => return None,
    })
}

/// Appends the text of a column of text, or of a time; says whether the task has such a thing.
pub fn push_text(column: Column, text: &mut String, row: &Row, names: &mut NameCache) -> bool {
    push(column, text, row, names).is_some()
}

fn push(column: Column, text: &mut String, row: &Row, names: &mut NameCache) -> Option<()> {
    let start = || Some(row.now.epoch_seconds(row.sched.as_ref()?.start_time));
    let rest = row.rest.as_deref();
    match column {
        Lstart => clock::whole(text, start()?),
        Start => clock::start(text, start()?, &row.now),
        StartTime => clock::start_time(text, start()?, &row.now),
        Etime => clock::elapsed(text, elapsed(row)?),
        Cls => text.push_str(CLASSES.get(row.sched.as_ref()?.policy as usize).copied().unwrap_or("?")),
        Tty => text.push_str(names.terminal(row.sched.as_ref()?.tty_nr)),
        Exe | Cwd | Root | Wchan | Label => push_printable(text, &bytes(column, row)?),
        Cgroup => {
            // As ps does, without those at the root of their hierarchy.
            let mut lines = cgroups(rest?)?;
            lines.retain(|line| !line.ends_with(b":/"));
            lines.first()?;
            list(text, lines.iter(), |text, line| push_printable(text, line));
        }
        Nspid => list(text, rest?.namespaces()?.pids.iter(), |text, pid| {
            let _ = write!(text, "{pid}");
        }),
        Supgid | Supgrp => {
            let membership = rest?.membership()?;
            membership.gids().next()?;
            list(text, membership.gids(), |text, gid| match column {
                Supgid => {
                    let _ = write!(text, "{gid}");
                }
                _ => text.push_str(names.group(gid)),
            });
        }
        Environ => {
            let variables = rest?.environ()?;
            let end = variables.iter().rposition(|byte| *byte != 0)? + 1;
            let line: Vec<u8> =
                variables[..end].iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
            push_printable(text, &line);
        }
        _ => return None,
    }
    Some(())
}

/// Whole seconds since its start.
fn elapsed(row: &Row) -> Option<u64> {
    Some(row.now.elapsed_ticks(row.sched?.start_time, row.ticks_per_second) / row.ticks_per_second)
}

/// The bytes of a column that has no other form.
pub fn bytes(column: Column, row: &Row) -> Option<Vec<u8>> {
    let rest = row.rest.as_deref()?;
    let bytes = match column {
        Exe => rest.files()?.exe,
        Cwd => rest.files()?.cwd,
        Root => rest.files()?.root,
        Wchan => rest.misc()?.wchan,
        Label => rest.misc()?.label,
        _ => None,
    };
    bytes.map(<[u8]>::to_vec)
}

/// The list of a column that is one, for programs.
pub fn array(column: Column, row: &Row, names: &mut NameCache) -> Value {
    let Some(rest) = row.rest.as_deref() else { return Value::Null };
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let list = match column {
        Cgroup => cgroups(rest).map(|lines| lines.iter().map(|line| text(line)).collect()),
        Environ => rest.environ().map(|variables| Arguments::of(variables).map(text).collect()),
        Nspid => rest.namespaces().map(|namespaces| Value::from(namespaces.pids)),
        Supgid => rest.membership().map(|membership| membership.gids().map(Value::from).collect()),
        Supgrp => rest
            .membership()
            .map(|membership| membership.gids().map(|gid| Value::from(names.group(gid))).collect()),
        _ => None,
    };
    list.unwrap_or_default()
}

fn list<T>(text: &mut String, items: impl Iterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
    for (n, item) in items.enumerate() {
        if n > 0 {
            text.push(',');
        }
        push(text, item);
    }
}

/// The lines of `/proc/PID/cgroup`.
fn cgroups(task: &OwnedTask) -> Option<Vec<Vec<u8>>> {
    let line = |cgroup: task_diag::protocol::Cgroup<'_>| {
        [format!("{}:", cgroup.hierarchy).as_bytes(), cgroup.controllers, b":", cgroup.path].concat()
    };
    task.cgroups()?.map(|cgroup| cgroup.ok().map(line)).collect()
}
