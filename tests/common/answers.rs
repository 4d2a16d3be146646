//! Answers as bytes, whole and garbled, and the text that `examples/c/task_diag_decode.c` prints of them, made by the
//! library.

use std::fmt::Write;
use task_diag::protocol::{
    Attribute, Base, Capabilities, Cgroup, Credentials, Descriptor, FdCount, Files, Io, Membership,
    MembershipHeader, MessageWriter, Messages, Misc, Namespaces, Rollup, Sched, Stat, State, Statm, VmFlags,
    VmaFields, VmaStat, attribute_id, push_cgroup, push_descriptor, push_files, push_membership, push_misc,
    push_namespaces, push_vma,
};

/// What the kernel's own file answered: see `tests/captures/README.md`.
#[cfg(target_endian = "little")]
pub fn captured() -> Vec<Vec<u8>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let records = files.filter(|path| path.extension().is_some_and(|end| end == "bin"));
    records.map(|path| responses(&std::fs::read(path).unwrap())).collect()
}

/// The recordings are those of a little-endian machine.
#[cfg(target_endian = "big")]
pub fn captured() -> Vec<Vec<u8>> {
    Vec::new()
}

fn responses(mut records: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some((head, rest)) = records.split_at_checked(16) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (bytes, rest) = rest.split_at(word(12) as usize);
        if word(0) == 2 {
            all.extend_from_slice(bytes);
        }
        records = rest;
    }
    all
}

/// Every attribute there is, in odd values, and one that nobody knows; a task in two messages.
pub fn synthetic() -> Vec<u8> {
    let mut buf = vec![0xa5; 4096];
    let mut message = MessageWriter::begin(&mut buf, u32::MAX, 7, 6).unwrap();
    let mut put = |id, payload: &[u8]| message.attribute(id, payload).unwrap();
    let comm = *b"a\\b\xff c(\n)\t'\"\x01xyz";
    let base = Base { tgid: 6, pid: 7, ppid: 5, tpid: 4, sid: 3, pgid: 2, state: 9, comm, pad: [0; 3] };
    put(attribute_id::BASE, Attribute::Base(base).payload());
    let set = |n| Capabilities::from(0x0123_4567_89ab_cdef_u64 << n);
    let credentials = Credentials {
        inheritable: set(0),
        permitted: set(1),
        effective: set(2),
        bounding: set(3),
        uid: 1,
        euid: 2,
        suid: 3,
        fsuid: 4,
        gid: 5,
        egid: 6,
        sgid: 7,
        fsgid: u32::MAX,
    };
    put(attribute_id::CRED, Attribute::Credentials(credentials).payload());
    put(attribute_id::VMA, &mappings());
    put(50, b"from the future");
    let (groups, files) = (groups(), files());
    put(attribute_id::GROUPS, &groups[..17]);
    put(attribute_id::FILES, &files[..13]);
    let length = message.finish(true);
    let mut all = buf[..length].to_vec();
    let mut message = MessageWriter::begin(&mut buf, u32::MAX, 7, 6).unwrap();
    let mut put = |id, payload: &[u8]| message.attribute(id, payload).unwrap();
    put(attribute_id::VMA, &mappings());
    let stat = Stat { minflt: 1, cminflt: 2, cstime: u64::MAX, threads: 9, ..Stat::default() };
    put(attribute_id::STAT, Attribute::Stat(stat).payload());
    let statm = Statm { anon: 1, file: 2, shmem: 3, total_vm: 4, stack_vm: u64::MAX, ..Statm::default() };
    put(attribute_id::STATM, Attribute::Statm(statm).payload());
    put(attribute_id::CMDLINE, b"one\0two \\\0\xfe");
    put(attribute_id::CMDLINE, b"");
    own(&mut put);
    put(attribute_id::GROUPS, &groups[17..]);
    put(attribute_id::FILES, &files[13..]);
    put(attribute_id::MISSING, &0x24_u64.to_ne_bytes());
    let length = message.finish(false);
    all.extend_from_slice(&buf[..length]);
    all
}

/// The groups that the kernel patch does not have, but for those that come in two pieces.
fn own(put: &mut impl FnMut(u16, &[u8])) {
    put(attribute_id::TASKSTATS, &[&14_u16.to_ne_bytes()[..], &[7; 99]].concat());
    let sched = Sched {
        start_time: u64::MAX,
        nice: -20,
        priority: -2,
        tty_nr: 0x8801,
        tpgid: -1,
        ..Sched::default()
    };
    put(attribute_id::SCHED, Attribute::Sched(sched).payload());
    put(attribute_id::IO, Attribute::Io(Io { rchar: 1, write_bytes: u64::MAX, ..Io::default() }).payload());
    let mut list = Vec::new();
    push_cgroup(&mut list, &Cgroup { hierarchy: 0, controllers: b"", path: b"/a slice\xff" }).unwrap();
    push_cgroup(&mut list, &Cgroup { hierarchy: 3, controllers: b"cpu,cpuacct", path: b"/" }).unwrap();
    put(attribute_id::CGROUP, &list);
    put(attribute_id::CGROUP, &list[..0]);
    list.clear();
    push_namespaces(
        &mut list,
        &Namespaces { inodes: [0, 1, 2, 3, 4, 5, 6, 7, 8, u32::MAX], pids: vec![7, 1] },
    );
    put(attribute_id::NS, &list);
    let count = FdCount { open: 3, pad: 0, soft_limit: 1024, hard_limit: u64::MAX };
    put(attribute_id::FD_COUNT, Attribute::FdCount(count).payload());
    list.clear();
    let file = Descriptor {
        fd: 3,
        kind: 8,
        flags: 0o2_100_001,
        pos: 5,
        inode: 6,
        major: 7,
        minor: 8,
        name: b"/x\n",
    };
    push_descriptor(&mut list, &file).unwrap();
    push_descriptor(&mut list, &Descriptor { fd: u32::MAX, kind: 0, name: b"", ..file }).unwrap();
    put(attribute_id::FD, &list);
    let rollup = Rollup { rss: 1, pss: 2, private_hugetlb: 3, swap_pss: u64::MAX, ..Rollup::default() };
    put(attribute_id::ROLLUP, Attribute::Rollup(rollup).payload());
    put(attribute_id::ENVIRON, b"A=1\0B=\xff\0");
    list.clear();
    let misc = Misc {
        oom_score: 666,
        oom_score_adj: -1000,
        loginuid: u32::MAX,
        sessionid: 1,
        wchan: None,
        label: None,
    };
    push_misc(&mut list, &Misc { wchan: Some(b"do_wait"), label: Some(b"unconfined\n"), ..misc }).unwrap();
    put(attribute_id::MISC, &list);
}

fn groups() -> Vec<u8> {
    let header =
        MembershipHeader { securebits: 0x2f, no_new_privs: 1, seccomp: 2, ..MembershipHeader::default() };
    let ambient = Capabilities::from(0x1234_5678_9abc_def0);
    let mut payload = Vec::new();
    push_membership(&mut payload, &MembershipHeader { ambient, ..header }, &[4, 24, u32::MAX]);
    payload
}

fn files() -> Vec<u8> {
    let mut payload = Vec::new();
    let files = Files { exe: Some(b"/bin/x (deleted)"), cwd: Some(b"/"), root: None };
    push_files(&mut payload, &files).unwrap();
    payload
}

fn mappings() -> Vec<u8> {
    let mut list = Vec::new();
    let fields = VmaFields {
        start: 0x1000,
        end: u64::MAX,
        flags: VmFlags::from_bits_retain(u64::MAX >> 1),
        pgoff: 3,
        major: 4,
        minor: 5,
        inode: 6,
        generation: 7,
    };
    let stat = VmaStat { resident: 1, shared_clean: 2, swap: 9, pss: u64::MAX, ..VmaStat::default() };
    push_vma(&mut list, &fields, None, b"").unwrap();
    push_vma(&mut list, &fields, Some(&stat), b"/a file \xff (deleted)").unwrap();
    push_vma(&mut list, &VmaFields::default(), None, b"[heap]").unwrap();
    list
}

/// A sequence of numbers that is always the same (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }
}

/// The answer with some of its bytes changed, most of them in lengths and offsets, and perhaps cut.
pub fn garbled(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len() - 4);
        let odd = [0_u32, 1, 3, 4, 27, 28, 63, 64, 65, 79, 80, 144, 0x3fff, 0x8000, 0xfffc, 0xffff];
        match numbers.below(4) {
            0 => bytes[at] = numbers.below(256) as u8,
            1 => bytes[at] ^= 1 << numbers.below(8),
            2 => {
                let value = odd[numbers.below(odd.len())] as u16;
                bytes[at & !1..][..2].copy_from_slice(&value.to_ne_bytes());
            }
            _ => {
                let value = odd[numbers.below(odd.len())].wrapping_sub(numbers.below(2) as u32);
                bytes[at & !3..][..4].copy_from_slice(&value.to_ne_bytes());
            }
        }
    }
    if numbers.below(4) == 0 {
        bytes.truncate(numbers.below(bytes.len() + 1));
    }
    bytes
}

/// A line for each message, attribute and record of a list, and for whatever is malformed.
pub fn text(answer: &[u8]) -> String {
    let mut out = String::new();
    let mut joined = Joined::default();
    for message in Messages::new(answer) {
        let Ok(m) = message else {
            out.push_str("malformed message\n");
            continue;
        };
        let continues = u8::from(m.continues);
        let _ = writeln!(out, "message seq {} pid {} tgid {} continues {continues}", m.seq, m.pid, m.tgid);
        for attribute in m.attributes() {
            let line = attribute.ok().and_then(|attribute| attribute_text(&mut out, &mut joined, attribute));
            if line.is_none() {
                out.push_str("malformed attribute\n");
                break;
            }
        }
        if !m.continues {
            joined.show(&mut out);
        }
    }
    joined.show(&mut out);
    out
}

/// What came of the attributes that are understood only as a whole.
#[derive(Default)]
struct Joined {
    groups: Option<Vec<u8>>,
    files: Option<Vec<u8>>,
}

impl Joined {
    fn show(&mut self, out: &mut String) {
        if let Some(payload) = self.groups.take() {
            match Membership::parse(&payload) {
                Ok(m) => {
                    let ambient = u64::from(m.ambient());
                    let securebits = m.securebits().unwrap_or(u32::MAX);
                    let gids = words(&m.gids().collect::<Vec<_>>());
                    let (no_new_privs, seccomp) = (payload[12], m.seccomp());
                    let rights = format!("no_new_privs {no_new_privs} seccomp {seccomp}");
                    let _ = writeln!(
                        out,
                        "groups ambient {ambient:016x} securebits {securebits:x} {rights} gids{gids}"
                    );
                }
                Err(_) => out.push_str("malformed groups\n"),
            }
        }
        if let Some(payload) = self.files.take() {
            match Files::parse(&payload) {
                Ok(files) => {
                    let [exe, cwd, root] =
                        [files.exe, files.cwd, files.root].map(|path| escaped(path.unwrap_or_default()));
                    let _ = writeln!(out, "files exe {exe} cwd {cwd} root {root}");
                }
                Err(_) => out.push_str("malformed files\n"),
            }
        }
    }
}

/// `None` for what is malformed as a whole.
fn attribute_text(out: &mut String, joined: &mut Joined, attribute: Attribute) -> Option<()> {
    let _ = match attribute {
        Attribute::Base(b) => {
            let letter = State::try_from(b.state).map_or('?', |state| state.letter().into());
            let Base { tgid, pid, ppid, tpid, sid, pgid, state, .. } = b;
            let comm = escaped(b.comm_bytes());
            let ids = format!("tgid {tgid} pid {pid} ppid {ppid} tpid {tpid} sid {sid} pgid {pgid}");
            writeln!(out, "base {ids} state {state} {letter} comm {comm}")
        }
        Attribute::Credentials(c) => {
            let uids = numbers([c.uid, c.euid, c.suid, c.fsuid].map(u64::from));
            let gids = numbers([c.gid, c.egid, c.sgid, c.fsgid].map(u64::from));
            let sets = [c.inheritable, c.permitted, c.effective, c.bounding].map(u64::from);
            let [inheritable, permitted, effective, bounding] = sets.map(|set| format!("{set:016x}"));
            let sets = format!("inheritable {inheritable} permitted {permitted} effective {effective}");
            writeln!(out, "creds uid{uids} gid{gids} {sets} bounding {bounding}")
        }
        Attribute::Vma(list) => {
            for vma in list {
                let Ok(v) = vma else {
                    out.push_str("malformed mapping\n");
                    continue;
                };
                let place = format!("{:x}-{:x} flags {:x} pgoff {}", v.start, v.end, v.flags.bits(), v.pgoff);
                let file =
                    format!("device {}:{} inode {} generation {}", v.major, v.minor, v.inode, v.generation);
                let _ = writeln!(out, "mapping {place} {file} name {}", escaped(v.name));
                if let Some(s) = v.stat {
                    let shared =
                        [s.resident, s.shared_clean, s.shared_dirty, s.private_clean, s.private_dirty];
                    let rest = [s.referenced, s.anonymous, s.anonymous_thp, s.swap, s.pss];
                    let _ = writeln!(out, "mapping_stat{}{}", numbers(shared), numbers(rest));
                }
            }
            Ok(())
        }
        Attribute::Stat(s) => {
            let faults = numbers([s.minflt, s.cminflt, s.majflt, s.cmajflt]);
            let times = numbers([s.utime, s.stime, s.cutime, s.cstime]);
            writeln!(out, "stat{faults}{times} threads {}", s.threads)
        }
        Attribute::Statm(m) => {
            let resident = numbers([m.anon, m.file, m.shmem, m.total_vm, m.total_rss, m.hiwater_vm]);
            let rest = numbers([m.hiwater_rss, m.text, m.lib, m.swap, m.ptes, m.locked_vm]);
            writeln!(out, "statm{resident}{rest}{}", numbers([m.pinned_vm, m.data_vm, m.stack_vm]))
        }
        Attribute::Taskstats(bytes) => writeln!(out, "taskstats bytes {}", escaped(bytes)),
        Attribute::Groups(bytes) => {
            joined.groups.get_or_insert_default().extend_from_slice(bytes);
            Ok(())
        }
        Attribute::Sched(s) => {
            let times = numbers([s.start_time, s.voluntary_switches, s.involuntary_switches]);
            let times = times + &numbers([s.guest_time, s.children_guest_time, s.blkio_delay]);
            let Sched {
                flags,
                nice,
                priority,
                rt_priority,
                policy,
                processor,
                tty_nr,
                tpgid,
                exit_signal,
                ..
            } = s;
            let how = format!("flags {flags:x} nice {nice} priority {priority} rt_priority {rt_priority}");
            let place = format!("policy {policy} processor {processor} tty_nr {tty_nr} tpgid {tpgid}");
            writeln!(out, "sched{times} {how} {place} exit_signal {exit_signal}")
        }
        Attribute::Io(i) => {
            let bytes = numbers([i.read_bytes, i.write_bytes, i.cancelled_write_bytes]);
            writeln!(out, "io{}{bytes}", numbers([i.rchar, i.wchar, i.syscr, i.syscw]))
        }
        Attribute::Cgroup(list) => {
            for cgroup in list {
                let _ = match cgroup {
                    Ok(Cgroup { hierarchy, controllers, path }) => {
                        let (controllers, path) = (escaped(controllers), escaped(path));
                        writeln!(out, "cgroup {hierarchy} controllers {controllers} path {path}")
                    }
                    Err(_) => writeln!(out, "malformed cgroup"),
                };
            }
            Ok(())
        }
        Attribute::Namespaces(payload) => {
            let Namespaces { inodes, pids } = Namespaces::parse(payload).ok()?;
            writeln!(out, "ns inodes{} pids{}", numbers(inodes.map(u64::from)), words(&pids))
        }
        Attribute::Files(bytes) => {
            joined.files.get_or_insert_default().extend_from_slice(bytes);
            Ok(())
        }
        Attribute::FdCount(c) => {
            writeln!(out, "fd_count {} limits {} {}", c.open, c.soft_limit, c.hard_limit)
        }
        Attribute::Descriptors(list) => {
            for descriptor in list {
                let Ok(Descriptor { fd, kind, flags, pos, inode, major, minor, name }) = descriptor else {
                    out.push_str("malformed fd\n");
                    continue;
                };
                let place = format!("device {major}:{minor} inode {inode} name {}", escaped(name));
                let _ = writeln!(out, "fd {fd} pos {pos} flags {flags:o} type {kind} {place}");
            }
            Ok(())
        }
        Attribute::Rollup(r) => {
            let pss = numbers([r.rss, r.pss, r.pss_dirty, r.pss_anon, r.pss_file, r.pss_shmem]);
            let written = numbers([r.shared_clean, r.shared_dirty, r.private_clean, r.private_dirty]);
            let kinds = numbers([r.referenced, r.anonymous, r.ksm, r.lazy_free, r.anon_huge_pages, r.locked]);
            let huge = numbers([r.shmem_pmd_mapped, r.file_pmd_mapped, r.shared_hugetlb, r.private_hugetlb]);
            writeln!(out, "rollup{pss}{written}{kinds}{huge}{}", numbers([r.swap, r.swap_pss]))
        }
        Attribute::Environ(bytes) => writeln!(out, "environ bytes {}", escaped(bytes)),
        Attribute::Misc(payload) => {
            let m = Misc::parse(payload).ok()?;
            let [wchan, label] = [m.wchan, m.label].map(|text| escaped(text.unwrap_or_default()));
            let score = format!("oom_score {} oom_score_adj {}", m.oom_score, m.oom_score_adj);
            let login = format!("loginuid {} sessionid {}", m.loginuid, m.sessionid);
            writeln!(out, "misc {score} {login} wchan {wchan} label {label}")
        }
        Attribute::Cmdline(bytes) => writeln!(out, "cmdline bytes {}", escaped(bytes)),
        Attribute::Missing(mask) => writeln!(out, "missing {mask:x}"),
        other => writeln!(out, "attribute {} bytes {}", other.id(), escaped(other.payload())),
    };
    Some(())
}

fn numbers<const N: usize>(values: [u64; N]) -> String {
    values.iter().map(|value| format!(" {value}")).collect()
}

fn words(values: &[u32]) -> String {
    values.iter().map(|value| format!(" {value}")).collect()
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'!'..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}").unwrap(),
        }
    }
    text
}
