//! Tasks as one JSON array of objects.

use super::printer::Printer;
use crate::cli::printable::write_json;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use task_diag::client::{Arguments, OwnedTask, OwnedVma};
use task_diag::protocol::{Groups, NAMESPACE_KINDS, State};

#[derive(Debug, Default)]
pub struct Json {
    began: bool,
}

impl Printer for Json {
    fn task(&mut self, out: &mut dyn Write, task: &OwnedTask) -> io::Result<()> {
        let before = if std::mem::replace(&mut self.began, true) { ",\n " } else { "[" };
        out.write_all(before.as_bytes())?;
        write_json(out, &object(task))
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.began { b"]\n" } else { b"[]\n" })
    }
}

fn object(task: &OwnedTask) -> Value {
    let mut o = Map::new();
    o.insert("pid".into(), task.pid.into());
    o.insert("tgid".into(), task.tgid.into());
    if let Some(b) = &task.base {
        let state = State::try_from(b.state).map(|state| char::from(state.letter()).to_string()).ok();
        o.insert("ppid".into(), b.ppid.into());
        o.insert("tpid".into(), b.tpid.into());
        o.insert("sid".into(), b.sid.into());
        o.insert("pgid".into(), b.pgid.into());
        o.insert("state".into(), state.into());
        o.insert("comm".into(), text(b.comm_bytes()));
    }
    if let Some(c) = &task.credentials {
        let sets = [c.inheritable, c.permitted, c.effective, c.bounding]
            .map(|set| format!("{:016x}", u64::from(set)));
        let [inheritable, permitted, effective, bounding] = sets;
        o.insert(
            "cred".into(),
            json!({
                "uid": c.uid, "euid": c.euid, "suid": c.suid, "fsuid": c.fsuid,
                "gid": c.gid, "egid": c.egid, "sgid": c.sgid, "fsgid": c.fsgid,
                "cap_inheritable": inheritable, "cap_permitted": permitted,
                "cap_effective": effective, "cap_bounding": bounding,
            }),
        );
    }
    if let Some(s) = &task.stat {
        o.insert(
            "stat".into(),
            json!({
                "minflt": s.minflt, "cminflt": s.cminflt, "majflt": s.majflt, "cmajflt": s.cmajflt,
                "utime": s.utime, "stime": s.stime, "cutime": s.cutime, "cstime": s.cstime, "threads": s.threads,
            }),
        );
    }
    if let Some(m) = &task.statm {
        o.insert(
            "statm".into(),
            json!({
                "anon": m.anon, "file": m.file, "shmem": m.shmem, "total_vm": m.total_vm, "total_rss": m.total_rss,
                "hiwater_vm": m.hiwater_vm, "hiwater_rss": m.hiwater_rss, "text": m.text, "lib": m.lib,
                "swap": m.swap, "ptes_bytes": m.ptes, "locked_vm": m.locked_vm, "pinned_vm": m.pinned_vm,
                "data_vm": m.data_vm, "stack_vm": m.stack_vm,
            }),
        );
    }
    if let Some(line) = &task.command_line {
        let words = line.strip_suffix(b"\0").unwrap_or(line).split(|b| *b == 0).map(text).collect();
        o.insert(
            "cmdline".into(),
            if line.is_empty() { Value::Array(Vec::new()) } else { Value::Array(words) },
        );
    }
    if !task.mappings.is_empty() {
        o.insert("maps".into(), task.mappings.iter().map(mapping).collect());
    }
    own(&mut o, task);
    if !task.missing.is_empty() {
        o.insert("missing".into(), names(task.missing));
    }
    Value::Object(o)
}

/// The groups that the kernel patch does not have.
fn own(o: &mut Map<String, Value>, task: &OwnedTask) {
    let mut put = |name: &str, value: Value| o.insert(name.into(), value);
    let known = |number: u32| (number != u32::MAX).then_some(number);
    if let Some(m) = task.membership() {
        let ambient = format!("{:016x}", u64::from(m.ambient()));
        let gids: Vec<u32> = m.gids().collect();
        put(
            "groups",
            json!({
                "gids": gids, "cap_ambient": ambient, "securebits": m.securebits(),
                "no_new_privs": m.no_new_privs(), "seccomp": m.seccomp(),
            }),
        );
    }
    if let Some(s) = &task.sched {
        put(
            "sched",
            json!({
                "start_time_ns": s.start_time, "voluntary_switches": s.voluntary_switches,
                "involuntary_switches": s.involuntary_switches, "guest_time": s.guest_time,
                "children_guest_time": s.children_guest_time, "blkio_delay": s.blkio_delay, "flags": s.flags,
                "nice": s.nice, "priority": s.priority, "rt_priority": s.rt_priority, "policy": s.policy,
                "processor": s.processor, "tty_nr": s.tty_nr, "tpgid": s.tpgid, "exit_signal": s.exit_signal,
            }),
        );
    }
    if let Some(i) = &task.io {
        put(
            "io",
            json!({
                "rchar": i.rchar, "wchar": i.wchar, "syscr": i.syscr, "syscw": i.syscw, "read_bytes": i.read_bytes,
                "write_bytes": i.write_bytes, "cancelled_write_bytes": i.cancelled_write_bytes,
            }),
        );
    }
    if let Some(list) = task.cgroups() {
        let cgroups = list.flatten().map(
            |c| json!({ "hierarchy": c.hierarchy, "controllers": text(c.controllers), "path": text(c.path) }),
        );
        put("cgroup", cgroups.collect());
    }
    if let Some(n) = task.namespaces() {
        let inodes: Map<String, Value> =
            NAMESPACE_KINDS.iter().map(|kind| ((*kind).into(), n.inode(kind).into())).collect();
        put("ns", json!({ "inodes": inodes, "pids": n.pids }));
    }
    if let Some(f) = task.files() {
        let [exe, cwd, root] = [f.exe, f.cwd, f.root].map(|path| path.map_or(Value::Null, text));
        put("files", json!({ "exe": exe, "cwd": cwd, "root": root }));
    }
    if let Some(c) = &task.fd_count {
        let [soft, hard] = [c.soft_limit, c.hard_limit].map(|limit| (limit != u64::MAX).then_some(limit));
        put("fd_count", json!({ "open": c.open, "soft_limit": soft, "hard_limit": hard }));
    }
    if let Some(list) = task.descriptors() {
        let descriptors = list.flatten().map(|d| {
            json!({
                "fd": d.fd, "type": d.kind, "flags": format!("{:o}", d.flags), "pos": d.pos, "inode": d.inode,
                "major": d.major, "minor": d.minor, "name": text(d.name),
            })
        });
        put("fd", descriptors.collect());
    }
    if let Some(r) = &task.rollup {
        put(
            "rollup",
            json!({
                "rss": r.rss, "pss": r.pss, "pss_dirty": r.pss_dirty, "pss_anon": r.pss_anon, "pss_file": r.pss_file,
                "pss_shmem": r.pss_shmem, "shared_clean": r.shared_clean, "shared_dirty": r.shared_dirty,
                "private_clean": r.private_clean, "private_dirty": r.private_dirty, "referenced": r.referenced,
                "anonymous": r.anonymous, "ksm": r.ksm, "lazy_free": r.lazy_free, "anon_huge_pages": r.anon_huge_pages,
                "locked": r.locked, "shmem_pmd_mapped": r.shmem_pmd_mapped, "file_pmd_mapped": r.file_pmd_mapped,
                "shared_hugetlb": r.shared_hugetlb, "private_hugetlb": r.private_hugetlb, "swap": r.swap,
                "swap_pss": r.swap_pss,
            }),
        );
    }
    if let Some(variables) = task.environ() {
        put("environ", Arguments::of(variables).map(text).collect());
    }
    if let Some(m) = task.misc() {
        let [wchan, label] = [m.wchan, m.label].map(|bytes| bytes.map_or(Value::Null, text));
        put(
            "misc",
            json!({
                "oom_score": m.oom_score, "oom_score_adj": m.oom_score_adj, "loginuid": known(m.loginuid),
                "sessionid": known(m.sessionid), "wchan": wchan, "label": label,
            }),
        );
    }
    if let Some(stats) = task.taskstats() {
        let hex: String = stats.iter().map(|byte| format!("{byte:02x}")).collect();
        put("taskstats", hex.into());
    }
}

fn mapping(vma: &OwnedVma) -> Value {
    let flags: Vec<&str> = vma.flags.iter_names().map(|(name, _)| name).collect();
    let mut o = json!({
        "start": format!("{:x}", vma.start), "end": format!("{:x}", vma.end), "flags": flags, "pgoff": vma.pgoff,
        "major": vma.device.0, "minor": vma.device.1, "inode": vma.inode, "generation": vma.generation,
        "name": text(&vma.name),
    });
    if let Some(s) = vma.stat {
        o["stat"] = json!({
            "resident": s.resident, "pss": s.pss >> 12, "shared_clean": s.shared_clean,
            "shared_dirty": s.shared_dirty, "private_clean": s.private_clean, "private_dirty": s.private_dirty,
            "referenced": s.referenced, "anonymous": s.anonymous, "anonymous_thp": s.anonymous_thp, "swap": s.swap,
        });
    }
    o
}

fn names(groups: Groups) -> Value {
    groups.iter_names().map(|(name, _)| name).collect()
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}
