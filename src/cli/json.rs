//! Tasks as one JSON array of objects.

use super::dump::Printer;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use task_diag::client::{OwnedTask, OwnedVma};
use task_diag::protocol::{Groups, State};

#[derive(Debug, Default)]
pub struct Json {
    began: bool,
}

impl Printer for Json {
    fn task(&mut self, out: &mut dyn Write, task: &OwnedTask) -> io::Result<()> {
        let before = if std::mem::replace(&mut self.began, true) { ",\n " } else { "[" };
        out.write_all(before.as_bytes())?;
        serde_json::to_writer(out, &object(task)).map_err(io::Error::from)
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
    if !task.missing.is_empty() {
        o.insert("missing".into(), names(task.missing));
    }
    Value::Object(o)
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
