//! The groups from 32 on: what an answer says of them, and what the files of /proc say, in the same words.

use super::handle::{BUFFER, Handle};
use super::proc::read;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use task_diag::protocol::{
    Attribute, CgroupList, DescriptorList, FdCount, Files, Groups, Io, Membership, Messages, Misc,
    NAMESPACE_KINDS, Namespaces, Request, Rollup, Sched, attribute_id,
};
use zerocopy::FromBytes;

/// All of them but those that other tests hold against something else.
pub const GROUPS: Groups = Groups::OWN.difference(Groups::TASKSTATS);

/// The answer to a request.
pub fn ask(file: &Handle, request: &Request) -> Vec<More> {
    file.request(request);
    More::of(&file.read_to_end(BUFFER).unwrap())
}

/// Looks until the answer is what /proc said before or says after it: what is shared with others moves by itself.
#[track_caller]
pub fn agree(what: &str, mut look: impl FnMut() -> (BTreeMap<u16, String>, [BTreeMap<u16, String>; 2])) {
    let mut open: Option<Vec<u16>> = None;
    let mut last = String::new();
    for _ in 0..40 {
        let (got, [before, after]) = look();
        let ids = open.take().unwrap_or_else(|| (32..44).collect());
        let differs = |id: &u16| got.get(id) != before.get(id) && got.get(id) != after.get(id);
        let left: Vec<u16> = ids.into_iter().filter(differs).collect();
        if left.is_empty() {
            return;
        }
        let id = left[0];
        last = format!("{id}: {:?}\nnot {:?}\nnor {:?}", got.get(&id), before.get(&id), after.get(&id));
        open = Some(left);
    }
    panic!("{what}: {last}");
}

/// The attributes from 32 on of each task of an answer, pieces joined.
#[derive(Debug)]
pub struct More {
    pub pid: u32,
    pub payloads: BTreeMap<u16, Vec<u8>>,
}

impl More {
    /// Reads the messages of an answer.
    #[track_caller]
    pub fn of(reads: &[Vec<u8>]) -> Vec<More> {
        let mut tasks: Vec<More> = Vec::new();
        let mut within = false;
        for message in reads.iter().flat_map(|read| Messages::new(read)) {
            let message = message.unwrap();
            if !std::mem::replace(&mut within, message.continues) {
                tasks.push(More { pid: message.pid, payloads: BTreeMap::new() });
            }
            let task = tasks.last_mut().unwrap();
            assert_eq!(task.pid, message.pid);
            for attribute in message.attributes() {
                let attribute: Attribute = attribute.unwrap();
                if attribute.id() >= 32 {
                    let last = task.payloads.last_key_value().map_or(0, |(id, _)| *id);
                    assert!(attribute.id() >= last, "{} comes after {last}", attribute.id());
                    task.payloads.entry(attribute.id()).or_default().extend_from_slice(attribute.payload());
                }
            }
        }
        assert!(!within, "the last task goes on");
        tasks
    }

    /// A line of each of these groups that the task has.
    #[track_caller]
    pub fn lines(&self, groups: Groups) -> BTreeMap<u16, String> {
        let asked = |id: &u16| Groups::from_bits_retain(1 << id).intersects(groups);
        self.payloads.iter().filter(|(id, _)| asked(id)).map(|(id, bytes)| (*id, line(*id, bytes))).collect()
    }
}

fn line(id: u16, bytes: &[u8]) -> String {
    let mut out = String::new();
    let _ = match id {
        attribute_id::GROUPS => {
            let m = Membership::parse(bytes).unwrap();
            let gids: Vec<u32> = m.gids().collect();
            write!(
                out,
                "{gids:?} {:016x} {} {}",
                u64::from(m.ambient()),
                u8::from(m.no_new_privs()),
                m.seccomp()
            )
        }
        attribute_id::SCHED => {
            let s = Sched::read_from_bytes(bytes).unwrap();
            assert_eq!(s.pad, 0);
            // What moves by itself is left out, and compared for itself.
            write!(
                out,
                "start {} switches {} {} guest {} {} flags {:x} nice {} priority {} rt {} policy {} tty {} {} exit {}",
                s.start_time / 10_000_000,
                s.voluntary_switches,
                s.involuntary_switches,
                s.guest_time,
                s.children_guest_time,
                s.flags,
                s.nice,
                s.priority,
                s.rt_priority,
                s.policy,
                s.tty_nr,
                s.tpgid,
                s.exit_signal
            )
            .and_then(|()| write!(out, " delay {} cpu {}", s.blkio_delay, s.processor))
        }
        attribute_id::IO => {
            let Io { rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes } =
                Io::read_from_bytes(bytes).unwrap();
            write!(
                out,
                "rchar: {rchar}\nwchar: {wchar}\nsyscr: {syscr}\nsyscw: {syscw}\nread_bytes: {read_bytes}\n\
                 write_bytes: {write_bytes}\ncancelled_write_bytes: {cancelled_write_bytes}\n"
            )
        }
        attribute_id::CGROUP => CgroupList::new(bytes).try_for_each(|cgroup| {
            let c = cgroup.unwrap();
            let [controllers, path] = [c.controllers, c.path].map(String::from_utf8_lossy);
            writeln!(out, "{}:{controllers}:{path}", c.hierarchy)
        }),
        attribute_id::NS => {
            let ns = Namespaces::parse(bytes).unwrap();
            write!(out, "{:?} {:?}", ns.inodes, ns.pids)
        }
        attribute_id::FILES => {
            let files = Files::parse(bytes).unwrap();
            let text = |link: Option<&[u8]>| link.map(|link| link.escape_ascii().to_string());
            write!(out, "{:?} {:?} {:?}", text(files.exe), text(files.cwd), text(files.root))
        }
        attribute_id::FD_COUNT => {
            let count = FdCount::read_from_bytes(bytes).unwrap();
            write!(out, "{} {} {}", count.open, count.soft_limit, count.hard_limit)
        }
        attribute_id::FD => DescriptorList::new(bytes).try_for_each(|d| {
            let d = d.unwrap();
            let name = d.name.escape_ascii();
            writeln!(
                out,
                "{} type {} flags {:o} pos {} ino {} dev {}:{} {name}",
                d.fd, d.kind, d.flags, d.pos, d.inode, d.major, d.minor
            )
        }),
        attribute_id::ROLLUP => {
            let r = Rollup::read_from_bytes(bytes).unwrap();
            let values = [
                ("Rss", r.rss),
                ("Pss", r.pss),
                ("Pss_Dirty", r.pss_dirty),
                ("Pss_Anon", r.pss_anon),
                ("Pss_File", r.pss_file),
                ("Pss_Shmem", r.pss_shmem),
                ("Shared_Clean", r.shared_clean),
                ("Shared_Dirty", r.shared_dirty),
                ("Private_Clean", r.private_clean),
                ("Private_Dirty", r.private_dirty),
                ("Referenced", r.referenced),
                ("Anonymous", r.anonymous),
                ("KSM", r.ksm),
                ("LazyFree", r.lazy_free),
                ("AnonHugePages", r.anon_huge_pages),
                ("ShmemPmdMapped", r.shmem_pmd_mapped),
                ("FilePmdMapped", r.file_pmd_mapped),
                ("Shared_Hugetlb", r.shared_hugetlb),
                ("Private_Hugetlb", r.private_hugetlb),
                ("Swap", r.swap),
                ("SwapPss", r.swap_pss),
                ("Locked", r.locked),
            ];
            values.iter().try_for_each(|(key, bytes)| writeln!(out, "{key} {}", bytes / 1024))
        }
        attribute_id::MISC => {
            let m = Misc::parse(bytes).unwrap();
            let text = |part: Option<&[u8]>| part.map(|part| String::from_utf8_lossy(part).into_owned());
            write!(
                out,
                "{} {} {} {} {:?} {:?}",
                m.oom_score,
                m.oom_score_adj,
                m.loginuid,
                m.sessionid,
                text(m.wchan),
                text(m.label)
            )
        }
        _ => write!(out, "{}", bytes.escape_ascii()),
    };
    out
}

/// The same of the files below `/proc/PATH`; `leader` unless it is another thread of a dump of threads.
pub fn expected(path: &str, groups: Groups, leader: bool) -> BTreeMap<u16, String> {
    let groups = if leader { groups } else { groups - Groups::LEADERS };
    let number = |group: Groups| group.bits().trailing_zeros() as u16;
    groups.iter().filter_map(|group| Some((number(group), of_files(path, number(group))?))).collect()
}

fn text(path: &str, name: &str) -> Option<String> {
    read(&format!("{path}/{name}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn link(path: &str, name: &str) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/{path}/{name}")).ok()?;
    Some(target.as_os_str().as_bytes().escape_ascii().to_string())
}

fn of_files(path: &str, id: u16) -> Option<String> {
    let mut out = String::new();
    match id {
        attribute_id::GROUPS => {
            let status = text(path, "status")?;
            let value = |key| value(&status, key);
            let gids: Vec<u32> =
                value("Groups")?.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
            let _ =
                write!(out, "{gids:?} {} {} {}", value("CapAmb")?, value("NoNewPrivs")?, value("Seccomp")?);
        }
        attribute_id::SCHED => {
            let (stat, status) = (text(path, "stat")?, text(path, "status")?);
            let words: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
            let field = |number: usize| words[number - 3];
            let switches = |key| value(&status, key).unwrap();
            let flags: u32 = field(9).parse().unwrap();
            let _ = write!(
                out,
                "start {} switches {} {} guest {} {} flags {flags:x} nice {} priority {} rt {} policy {} tty {} {} exit {}",
                field(22),
                switches("voluntary_ctxt_switches"),
                switches("nonvoluntary_ctxt_switches"),
                field(43),
                field(44),
                field(19),
                field(18),
                field(40),
                field(41),
                field(7),
                field(8),
                field(38)
            );
            let _ = write!(out, " delay {} cpu {}", field(42), field(39));
        }
        attribute_id::IO => out = text(path, "io")?,
        attribute_id::CGROUP => out = text(path, "cgroup")?,
        attribute_id::NS => {
            let inode = |kind: &&str| -> u32 {
                let link = link(path, &format!("ns/{kind}")).unwrap_or_default();
                link.split(['[', ']']).nth(1).map_or(0, |digits| digits.parse().unwrap())
            };
            let inodes: Vec<u32> = NAMESPACE_KINDS.iter().map(inode).collect();
            let status = text(path, "status")?;
            let pids: Vec<u32> =
                value(&status, "NSpid")?.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            let _ = write!(out, "{inodes:?} {pids:?}");
        }
        attribute_id::FILES => {
            let [exe, cwd, root] = ["exe", "cwd", "root"].map(|name| link(path, name));
            let _ = write!(out, "{exe:?} {cwd:?} {root:?}");
        }
        attribute_id::FD_COUNT => {
            let limits = text(path, "limits")?;
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
            let mut words = line.split_whitespace().map(|word| match word {
                "unlimited" => u64::MAX,
                digits => digits.parse().unwrap(),
            });
            let open = std::fs::read_dir(format!("/proc/{path}/fd")).ok()?.count();
            let _ = write!(out, "{open} {} {}", words.next()?, words.next()?);
        }
        attribute_id::FD => {
            let mut fds: Vec<u32> = std::fs::read_dir(format!("/proc/{path}/fd"))
                .ok()?
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .collect();
            fds.sort_unstable();
            for fd in fds {
                let info = text(path, &format!("fdinfo/{fd}"))?;
                let flags = value(&info, "flags")?.trim_start_matches('0');
                let flags = if flags.is_empty() { "0" } else { flags };
                let meta = std::fs::metadata(format!("/proc/{path}/fd/{fd}")).ok()?;
                let device = meta.dev();
                // In `fdinfo` since Linux 5.14.
                let inode = value(&info, "ino").map_or(meta.ino(), |inode| inode.parse().unwrap());
                let _ = writeln!(
                    out,
                    "{fd} type {} flags {flags} pos {} ino {inode} dev {}:{} {}",
                    meta.mode() >> 12,
                    value(&info, "pos")?,
                    nix::sys::stat::major(device),
                    nix::sys::stat::minor(device),
                    link(path, &format!("fd/{fd}"))?
                );
            }
        }
        attribute_id::ROLLUP => {
            let rollup = text(path, "smaps_rollup")?;
            for line in rollup.lines().skip(1) {
                let mut words = line.split_whitespace();
                let _ = writeln!(out, "{} {}", words.next()?.trim_end_matches(':'), words.next()?);
            }
        }
        attribute_id::ENVIRON => out = read(&format!("{path}/environ"))?.escape_ascii().to_string(),
        attribute_id::MISC => {
            let number = |name| text(path, name).map(|text| text.trim().to_string());
            let label =
                text(path, "attr/current").map(|label| label.trim_end_matches(['\0', '\n']).to_string());
            let label = label.filter(|label| !label.is_empty());
            let wchan = text(path, "wchan").filter(|name| name != "0");
            let _ = write!(
                out,
                "{} {} {} {} {wchan:?} {label:?}",
                number("oom_score")?,
                number("oom_score_adj")?,
                number("loginuid")?,
                number("sessionid")?
            );
        }
        _ => return None,
    }
    Some(out)
}
