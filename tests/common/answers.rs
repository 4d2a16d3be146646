//! Answers as bytes, whole and garbled, and the text that `examples/c/task_diag_decode.c` prints of them, made by the
//! library.

use std::fmt::Write;
use task_diag::protocol::{
    Attribute, Base, Capabilities, Credentials, MessageWriter, Messages, Stat, State, Statm, VmFlags,
    VmaFields, VmaStat, attribute_id, push_vma,
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
    put(40, b"from the future");
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
    put(attribute_id::MISSING, &0x24_u64.to_ne_bytes());
    let length = message.finish(false);
    all.extend_from_slice(&buf[..length]);
    all
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

/// A line for each message, attribute and mapping, and for whatever is malformed.
pub fn text(answer: &[u8]) -> String {
    let mut out = String::new();
    for message in Messages::new(answer) {
        let Ok(m) = message else {
            out.push_str("malformed message\n");
            continue;
        };
        let continues = u8::from(m.continues);
        let _ = writeln!(out, "message seq {} pid {} tgid {} continues {continues}", m.seq, m.pid, m.tgid);
        for attribute in m.attributes() {
            match attribute {
                Ok(attribute) => attribute_text(&mut out, attribute),
                Err(_) => out.push_str("malformed attribute\n"),
            }
        }
    }
    out
}

fn attribute_text(out: &mut String, attribute: Attribute) {
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
        Attribute::Cmdline(bytes) => writeln!(out, "cmdline bytes {}", escaped(bytes)),
        Attribute::Missing(mask) => writeln!(out, "missing {mask:x}"),
        other => writeln!(out, "attribute {} bytes {}", other.id(), escaped(other.payload())),
    };
}

fn numbers<const N: usize>(values: [u64; N]) -> String {
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
