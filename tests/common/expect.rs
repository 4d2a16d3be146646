//! What an answer must say of a task, according to the files of /proc.

use super::proc::{self, Mapping};
use super::sources::Source;
use std::fmt::Debug;
use task_diag::client::{OwnedTask, OwnedVma};
use task_diag::protocol::{Base, Credentials, Groups, Stat, State, Statm, VmFlags};

/// One task, as /proc has it.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub base: Base,
    pub kernel_thread: bool,
    pub credentials: Credentials,
    pub stat: Stat,
    /// `None` without memory, as the next two.
    pub statm: Option<Statm>,
    pub command_line: Option<Vec<u8>>,
    pub mappings: Option<Vec<Mapping>>,
}

impl Expected {
    /// Reads `path`, which is `PID` or `PID/task/TID`: of the light groups and of those asked for. `None` where the
    /// task went.
    pub fn of(path: &str, groups: Groups) -> Option<Expected> {
        let stat = proc::Stat::of(path)?;
        let status = proc::Status::of(path)?;
        let id = |key| status.number(key) as u32;
        let base = Base {
            tgid: id("Tgid"),
            pid: id("Pid"),
            ppid: stat.field(4) as u32,
            tpid: id("TracerPid"),
            pgid: stat.field(5) as u32,
            sid: stat.field(6) as u32,
            state: State::from_letter(stat.state()).unwrap() as u8,
            comm: comm(&stat),
            ..Base::default()
        };
        let [uid, euid, suid, fsuid] = status.ids("Uid");
        let [gid, egid, sgid, fsgid] = status.ids("Gid");
        let caps = |key| status.caps(key).into();
        let credentials = Credentials {
            inheritable: caps("CapInh"),
            permitted: caps("CapPrm"),
            effective: caps("CapEff"),
            bounding: caps("CapBnd"),
            uid,
            euid,
            suid,
            fsuid,
            gid,
            egid,
            sgid,
            fsgid,
        };
        let has_memory = status.bytes("VmSize").is_some();
        let with = |group| has_memory && groups.contains(group);
        Some(Expected {
            base,
            kernel_thread: stat.is_kernel_thread(),
            credentials,
            stat: times(&stat),
            statm: with(Groups::STATM).then(|| sizes(&status)),
            command_line: match with(Groups::CMDLINE) {
                true => Some(proc::read(&format!("{path}/cmdline"))?),
                false => None,
            },
            mappings: match (with(Groups::VMA), groups.contains(Groups::VMA_STAT)) {
                (true, true) => Some(proc::mappings(&format!("{path}/smaps"))?),
                (true, false) => Some(proc::mappings(&format!("{path}/maps"))?),
                _ => None,
            },
        })
    }
}

/// `task->comm`: /proc decorates those of a work queue's workers. (Their rescuers bear the queue's name, whatever is in it.)
fn comm(stat: &proc::Stat) -> [u8; 16] {
    const PF_WQ_WORKER: u64 = 0x20;
    let mut name = &stat.comm[..];
    if stat.field(9) & PF_WQ_WORKER != 0 && name.starts_with(b"kworker/") && !name.starts_with(b"kworker/R-")
    {
        let end = name.iter().position(|c| matches!(c, b'+' | b'-'));
        name = &name[..end.unwrap_or(name.len())];
    }
    super::zoo::comm(name)
}

fn times(stat: &proc::Stat) -> Stat {
    Stat {
        minflt: stat.field(10),
        cminflt: stat.field(11),
        majflt: stat.field(12),
        cmajflt: stat.field(13),
        utime: stat.field(14),
        stime: stat.field(15),
        cutime: stat.field(16),
        cstime: stat.field(17),
        threads: stat.field(20) as u32,
        ..Stat::default()
    }
}

fn sizes(status: &proc::Status) -> Statm {
    let bytes = |key| status.bytes(key).unwrap();
    let pages = |key| bytes(key) / proc::page_size();
    Statm {
        anon: pages("RssAnon"),
        file: pages("RssFile"),
        shmem: pages("RssShmem"),
        total_vm: pages("VmSize"),
        total_rss: pages("VmRSS"),
        hiwater_vm: pages("VmPeak"),
        hiwater_rss: pages("VmHWM"),
        text: pages("VmExe"),
        lib: pages("VmLib"),
        swap: pages("VmSwap"),
        ptes: bytes("VmPTE"),
        locked_vm: pages("VmLck"),
        pinned_vm: pages("VmPin"),
        data_vm: pages("VmData"),
        stack_vm: pages("VmStk"),
    }
}

/// Where an answer to a request for `groups` differs from /proc; empty if nowhere.
pub fn differences(got: &OwnedTask, want: &Expected, groups: Groups, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut same = |what: &str, got: &dyn Debug, want: &dyn Debug| {
        let (got, want) = (format!("{got:?}"), format!("{want:?}"));
        if got != want {
            found.push(format!("{what}:\n  got  {got:.2000}\n  want {want:.2000}"));
        }
    };
    let asked = |group| groups.contains(group);
    same("ids", &(got.pid, got.tgid), &(want.base.pid, want.base.tgid));
    same("BASE", &got.base, &asked(Groups::BASE).then_some(want.base));
    same("CRED", &got.credentials, &asked(Groups::CRED).then_some(want.credentials));
    let stat = got.stat.map(|stat| near(stat, &want.stat, source.ticks));
    same("STAT", &stat, &asked(Groups::STAT).then_some(want.stat));
    same("STATM", &got.statm, &want.statm);
    same("CMDLINE", &got.command_line, &want.command_line);
    same("MISSING", &got.missing, &Groups::empty());
    let mappings = want.mappings.as_deref().unwrap_or_default();
    same("number of mappings", &got.mappings.len(), &mappings.len());
    for (got, want) in got.mappings.iter().zip(mappings) {
        compare_mapping(got, want, asked(Groups::VMA_STAT), source, &mut same);
    }
    found
}

/// `got`, with those times that are near enough to the expected ones set to them.
fn near(got: Stat, want: &Stat, ticks: u64) -> Stat {
    let time = |got: u64, want: u64| if got.abs_diff(want) <= ticks { want } else { got };
    Stat {
        utime: time(got.utime, want.utime),
        stime: time(got.stime, want.stime),
        cutime: time(got.cutime, want.cutime),
        cstime: time(got.cstime, want.cstime),
        ..got
    }
}

fn compare_mapping(
    got: &OwnedVma,
    want: &Mapping,
    with_statistics: bool,
    source: &Source,
    same: &mut dyn FnMut(&str, &dyn Debug, &dyn Debug),
) {
    let at = format!("mapping {:x}", want.start);
    same(
        &at,
        &(got.start, got.end, got.pgoff, got.device, got.inode),
        &(want.start, want.end, want.pgoff, want.device, want.inode),
    );
    same(&format!("name of {at}"), &text(&escaped(&got.name)), &text(&want.name));
    if !source.knows_generation || want.inode == 0 {
        same(&format!("generation of {at}"), &got.generation, &0);
    }
    let flags = got.flags;
    let letter = |flag, letter: u8| if flags.contains(flag) { letter } else { b'-' };
    let shared = if flags.contains(VmFlags::MAYSHARE) { b's' } else { b'p' };
    let permissions =
        [letter(VmFlags::READ, b'r'), letter(VmFlags::WRITE, b'w'), letter(VmFlags::EXEC, b'x'), shared];
    same(&format!("permissions of {at}"), &text(&permissions), &text(&want.permissions));
    if with_statistics {
        same(
            &format!("flags of {at}"),
            &flags,
            &want.flags.iter().map(|word| flag(word)).collect::<VmFlags>(),
        );
        same(&format!("statistics of {at}"), &got.stat, &Some(statistics(want)));
    } else {
        same(&format!("statistics of {at}"), &got.stat.is_some(), &false);
        if !source.knows_all_flags {
            let known = VmFlags::READ | VmFlags::WRITE | VmFlags::EXEC | VmFlags::SHARED | VmFlags::MAYSHARE;
            same(&format!("flags of {at}"), &(flags - known), &VmFlags::empty());
        }
    }
}

fn statistics(mapping: &Mapping) -> task_diag::protocol::VmaStat {
    let bytes = |name: &str| mapping.sizes[name];
    task_diag::protocol::VmaStat {
        resident: bytes("Rss"),
        shared_clean: bytes("Shared_Clean"),
        shared_dirty: bytes("Shared_Dirty"),
        private_clean: bytes("Private_Clean"),
        private_dirty: bytes("Private_Dirty"),
        referenced: bytes("Referenced"),
        anonymous: bytes("Anonymous"),
        anonymous_thp: bytes("AnonHugePages"),
        swap: bytes("Swap"),
        pss: bytes("Pss") << 12,
    }
}

/// The protocol's bit for a word of `VmFlags`; none for words that it has no bit for.
fn flag(word: &str) -> VmFlags {
    const WORDS: &[(&str, u64)] = &[
        ("rd", 0x1),
        ("wr", 0x2),
        ("ex", 0x4),
        ("sh", 0x8),
        ("mr", 0x10),
        ("mw", 0x20),
        ("me", 0x40),
        ("ms", 0x80),
        ("gd", 0x100),
        ("pf", 0x200),
        ("dw", 0x400),
        ("mp", 0x800),
        ("lo", 0x1000),
        ("io", 0x2000),
        ("sr", 0x4000),
        ("rr", 0x8000),
        ("dc", 0x1_0000),
        ("de", 0x2_0000),
        ("ac", 0x4_0000),
        ("nr", 0x8_0000),
        ("ht", 0x10_0000),
        ("ar", 0x20_0000),
        ("dd", 0x40_0000),
        ("sd", 0x80_0000),
        ("mm", 0x100_0000),
        ("hg", 0x200_0000),
        ("nh", 0x400_0000),
        ("mg", 0x800_0000),
    ];
    let bits = WORDS.iter().find(|(known, _)| *known == word).map_or(0, |(_, bits)| *bits);
    VmFlags::from_bits_retain(bits)
}

/// What the kernel's text forms make of a name. The zoo knows the true names of what cannot be told apart there.
fn escaped(name: &[u8]) -> Vec<u8> {
    name.iter().flat_map(|c| if *c == b'\n' { b"\\012".to_vec() } else { vec![*c] }).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
