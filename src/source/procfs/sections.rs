//! The groups from 32 on, out of the files of a task.

use crate::access::{Reader, Sight};
use crate::proc_files::{ProcRoot, TaskDir, decimal, fields, is_absent, signed};
use crate::protocol::{
    Cgroup, Descriptor, Files, Groups, Misc, NAMESPACE_KINDS, Namespaces, attribute_id, push_cgroup,
    push_descriptor, push_files, push_membership, push_misc, push_namespaces,
};
use crate::source::push_section;
use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::contents::MemoryFiles;
use super::numbers::Numbers;
use super::process_sums::Sums;

/// What of MISC need not be read; all ones for none, as in the protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes)]
pub(in crate::source) struct KnownMisc {
    oom_score_adj: i32,
    loginuid: u32,
    sessionid: u32,
}

/// What is asked of a task's files.
pub(in crate::source) struct Question<'a> {
    pub root: &'a ProcRoot,
    pub reader: &'a Reader,
    /// How much of the task the reader is shown.
    pub seen: Sight,
    pub groups: Groups,
    pub known: Option<KnownMisc>,
    /// Those over the threads of its process, as far as they are known.
    pub sums: Option<&'a Sums>,
}

/// Appends the sections that the task has of the groups asked for; gives those that are lost for another reason than that it
/// has none.
pub(super) fn gather(
    out: &mut Vec<u8>,
    text: &mut Vec<u8>,
    dir: &TaskDir,
    question: &Question<'_>,
    groups: Groups,
) -> Groups {
    let mut lost = Groups::empty();
    // Several groups stand in this one.
    let status = match groups.intersects(IN_STATUS) {
        true => dir.read("status", text).map(<[u8]>::to_vec),
        false => Err(Errno::ENODATA),
    };
    for group in groups {
        let id = group.bits().trailing_zeros() as u16;
        lost |= push(out, group, |out| fill(out, text, dir, &status, question, id));
    }
    lost
}

/// Appends the section of a group; gives the group if it is lost for another reason than that the task has none.
fn push(out: &mut Vec<u8>, group: Groups, fill: impl FnOnce(&mut Vec<u8>) -> nix::Result<()>) -> Groups {
    let begin = out.len();
    let mut outcome = Ok(());
    push_section(out, group.bits().trailing_zeros() as u16, |out| outcome = fill(out));
    let lost = match outcome {
        Ok(()) => return Groups::empty(),
        Err(e) if is_absent(e) || matches!(e, Errno::EACCES | Errno::EPERM | Errno::ENODATA) => {
            Groups::empty()
        }
        Err(_) => group,
    };
    out.truncate(begin);
    lost
}

/// The groups whose files tell of the memory that the task had when they were opened.
pub(super) const OF_MEMORY: Groups = Groups::ROLLUP.union(Groups::ENVIRON);

/// As [`gather`], of such files.
pub(super) fn of_memory(out: &mut Vec<u8>, text: &mut Vec<u8>, files: &MemoryFiles) -> Groups {
    let mut lost = Groups::empty();
    if let Some(file) = &files.rollup {
        lost |= push(out, Groups::ROLLUP, |out| {
            let text = file.as_ref().map_err(|e| *e)?.read(text)?;
            out.extend_from_slice(fields::rollup(text).ok_or(Errno::ENODATA)?.as_bytes());
            Ok(())
        });
    }
    if let Some(file) = &files.environ {
        lost |= push(out, Groups::ENVIRON, |out| {
            out.extend_from_slice(file.as_ref().map_err(|e| *e)?.read(text)?);
            Ok(())
        });
    }
    lost
}

/// The groups that are told by the file `status`, alone or with others.
const IN_STATUS: Groups = Groups::GROUPS.union(Groups::SCHED).union(Groups::NS);

/// Appends the payload of one group; `ENODATA` for none.
fn fill(
    out: &mut Vec<u8>,
    text: &mut Vec<u8>,
    dir: &TaskDir,
    status: &nix::Result<Vec<u8>>,
    question: &Question<'_>,
    id: u16,
) -> nix::Result<()> {
    let Question { root, reader, .. } = question;
    let unreadable = Errno::ENODATA;
    let status = || status.as_deref().map_err(|e| *e);
    match id {
        attribute_id::GROUPS => {
            let (header, gids) = fields::membership(status()?).ok_or(unreadable)?;
            push_membership(out, &header, &gids);
        }
        attribute_id::SCHED => {
            let file = question.sums.map_or("stat", Sums::file_of_sched);
            let mut sched = fields::sched(dir.read(file, text)?, status()?, root.tick()).ok_or(unreadable)?;
            if let Some(sums) = question.sums {
                sums.put_into_sched(&mut sched);
            }
            if let Some(namespace) = &reader.pid_ns
                && sched.tpgid > 0
            {
                // The group's number is that of its leader, who may be gone while the group is not.
                let leader = root.task(sched.tpgid as u32).ok();
                let number = leader.and_then(|dir| Numbers::of(&dir, namespace)).map_or(0, |n| n.pid);
                sched.tpgid = number as i32;
            }
            out.extend_from_slice(sched.as_bytes());
        }
        attribute_id::IO => {
            let known = question.sums.and_then(|sums| sums.io);
            let io = known.map_or_else(|| Ok(fields::io(dir.read("io", text)?)), |io| Ok(Some(io)))?;
            out.extend_from_slice(io.ok_or(unreadable)?.as_bytes());
        }
        attribute_id::CGROUP => cgroups(out, dir.read("cgroup", text)?)?,
        attribute_id::NS => {
            let pids = fields::ns_pids(status()?).ok_or(unreadable)?;
            let skipped = reader.pid_ns.as_ref().map_or(0, |namespace| namespace.depth());
            let inodes = NAMESPACE_KINDS.map(|kind| dir.namespace_link(kind).unwrap_or(0));
            let pids = pids.get(skipped..).unwrap_or_default().to_vec();
            push_namespaces(out, &Namespaces { inodes, pids });
        }
        attribute_id::FILES => {
            let [exe, cwd, top] = ["exe", "cwd", "root"].map(|name| dir.link(name).ok());
            let files = Files { exe: exe.as_deref(), cwd: cwd.as_deref(), root: top.as_deref() };
            push_files(out, &files).map_err(|_| Errno::ENAMETOOLONG)?;
        }
        attribute_id::FD_COUNT => {
            let mut count = fields::open_files_limits(dir.read("limits", text)?).ok_or(unreadable)?;
            count.open = dir.count_of_descriptors()?;
            out.extend_from_slice(count.as_bytes());
        }
        attribute_id::FD => descriptors(out, text, dir)?,
        attribute_id::MISC => misc(out, text, dir, question)?,
        _ => return Err(unreadable),
    }
    Ok(())
}

/// The lines of `cgroup`: `HIERARCHY:CONTROLLERS:PATH`.
fn cgroups(out: &mut Vec<u8>, text: &[u8]) -> nix::Result<()> {
    for line in text.split(|c| *c == b'\n').filter(|line| !line.is_empty()) {
        let mut parts = line.splitn(3, |c| *c == b':');
        let mut part = || parts.next().ok_or(Errno::ENODATA);
        let hierarchy = decimal(part()?).and_then(|n| u16::try_from(n).ok()).ok_or(Errno::ENODATA)?;
        let cgroup = Cgroup { hierarchy, controllers: part()?, path: part()? };
        push_cgroup(out, &cgroup).map_err(|_| Errno::ENAMETOOLONG)?;
    }
    Ok(())
}

/// Bytes of a list of descriptors: what takes more (a hundred thousand with usual names do not) is not told.
pub(in crate::source) const LONGEST_LIST: usize = 8 << 20;

/// What the process has open. A descriptor that is closed meanwhile is none.
fn descriptors(out: &mut Vec<u8>, text: &mut Vec<u8>, dir: &TaskDir) -> nix::Result<()> {
    let most = out.len() + LONGEST_LIST;
    for fd in dir.descriptors()? {
        let one = |text: &mut Vec<u8>| {
            let name = match dir.link(&format!("fd/{fd}")) {
                // It is open all the same, and has the rest.
                Err(e) if !is_absent(e) => Vec::new(),
                name => name?,
            };
            let (pos, flags, inode) =
                fields::fdinfo(dir.read(&format!("fdinfo/{fd}"), text)?).ok_or(Errno::ENODATA)?;
            let file = dir.open_file(fd)?;
            Ok((name, pos, flags, inode, file))
        };
        if out.len() > most {
            return Err(Errno::EFBIG);
        }
        match one(text) {
            Ok((name, pos, flags, inode, file)) => {
                let inode = if inode == 0 { file.inode } else { inode };
                let (kind, major, minor) = (file.kind, file.major, file.minor);
                let of = Descriptor { fd, kind, flags, pos, inode, major, minor, name: &name };
                push_descriptor(out, &of).map_err(|_| Errno::ENAMETOOLONG)?;
            }
            Err(e) if is_absent(e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn misc(out: &mut Vec<u8>, text: &mut Vec<u8>, dir: &TaskDir, question: &Question<'_>) -> nix::Result<()> {
    let mut number = |name: &str| match dir.read(name, text) {
        Ok(value) => Ok(signed(value.trim_ascii())),
        // A kernel without the audit system.
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    };
    let oom_score = number("oom_score")?.ok_or(Errno::ESRCH)? as i32;
    let KnownMisc { oom_score_adj, loginuid, sessionid } = match question.known {
        Some(known) => known,
        None => KnownMisc {
            oom_score_adj: number("oom_score_adj")?.ok_or(Errno::ESRCH)? as i32,
            loginuid: number("loginuid")?.map_or(u32::MAX, |n| n as u32),
            sessionid: number("sessionid")?.map_or(u32::MAX, |n| n as u32),
        },
    };
    let wchan = match question.seen >= Sight::Looking {
        true => dir.read("wchan", text).ok().map(<[u8]>::to_vec),
        false => None,
    };
    let wchan = wchan.filter(|name| *name != b"0" && !name.is_empty());
    let label = question.root.has_labels().then(|| dir.read("attr/current", text).ok()).flatten();
    let end = |label: &[u8]| label.iter().rposition(|c| !matches!(c, b'\0' | b'\n')).map_or(0, |at| at + 1);
    let label = label.map(|label| label[..end(label)].to_vec()).filter(|label| !label.is_empty());
    let misc = Misc {
        oom_score,
        oom_score_adj,
        loginuid,
        sessionid,
        wchan: wchan.as_deref(),
        label: label.as_deref(),
    };
    push_misc(out, &misc).map_err(|_| Errno::ENAMETOOLONG)
}
