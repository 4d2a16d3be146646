//! Files of the form `Key: value`, a line each, and what the groups from 32 on take from them.

use super::{decimal, hexadecimal};
use crate::protocol::{FdCount, Io, MembershipHeader, Rollup, Sched};

/// The value of a line that begins with `key` and a colon.
pub(crate) fn field<'t>(text: &'t [u8], key: &str) -> Option<&'t [u8]> {
    let value = |line: &'t [u8]| line.strip_prefix(key.as_bytes())?.strip_prefix(b":");
    text.split(|c| *c == b'\n').find_map(value).map(<[u8]>::trim_ascii)
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number(text: &[u8], key: &str) -> Option<u64> {
    decimal(words(field(text, key)?).next()?)
}

fn numbers(value: &[u8]) -> Option<Vec<u32>> {
    words(value).map(|word| decimal(word).and_then(|n| u32::try_from(n).ok())).collect()
}

/// A number that may be negative.
pub(crate) fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) => decimal(digits)?.try_into().ok().map(|n: i64| -n),
        None => decimal(word)?.try_into().ok(),
    }
}

/// What GROUPS takes from `status`: the head and the supplementary group ids.
pub(crate) fn membership(status: &[u8]) -> Option<(MembershipHeader, Vec<u32>)> {
    let header = MembershipHeader {
        ambient: hexadecimal(field(status, "CapAmb")?)?.into(),
        securebits: u32::MAX,
        no_new_privs: number(status, "NoNewPrivs").unwrap_or(0) as u8,
        seccomp: number(status, "Seccomp").unwrap_or(0) as u8,
        ..MembershipHeader::default()
    };
    Some((header, numbers(field(status, "Groups")?)?))
}

/// The ids of a task in its pid namespaces, from that of the proc filesystem down.
pub(crate) fn ns_pids(status: &[u8]) -> Option<Vec<u32>> {
    numbers(field(status, "NSpid")?)
}

/// What SCHED takes from the line `stat` (by the numbers of proc_pid_stat(5)) and from `status`; `tick` is the length of a clock
/// tick in ns.
pub(crate) fn sched(stat: &[u8], status: &[u8], tick: u64) -> Option<Sched> {
    let rest = &stat[memchr::memrchr(b')', stat)? + 1..];
    let words: Vec<&[u8]> = words(rest).collect();
    let field = |number: usize| signed(words.get(number - 3)?);
    let small = |number: usize| field(number).and_then(|n| i32::try_from(n).ok());
    Some(Sched {
        start_time: (field(22)? as u64).saturating_mul(tick),
        voluntary_switches: self::number(status, "voluntary_ctxt_switches")?,
        involuntary_switches: self::number(status, "nonvoluntary_ctxt_switches")?,
        guest_time: field(43)? as u64,
        children_guest_time: field(44)? as u64,
        blkio_delay: field(42)? as u64,
        flags: field(9)? as u32,
        nice: small(19)?,
        priority: small(18)?,
        rt_priority: field(40)? as u32,
        policy: field(41)? as u32,
        processor: small(39)?,
        tty_nr: small(7)?,
        tpgid: small(8)?,
        exit_signal: small(38)?,
        pad: 0,
    })
}

/// The file `io`.
pub(crate) fn io(text: &[u8]) -> Option<Io> {
    let number = |key| number(text, key);
    Some(Io {
        rchar: number("rchar")?,
        wchar: number("wchar")?,
        syscr: number("syscr")?,
        syscw: number("syscw")?,
        read_bytes: number("read_bytes")?,
        write_bytes: number("write_bytes")?,
        cancelled_write_bytes: number("cancelled_write_bytes")?,
    })
}

/// The line of `limits` that FD_COUNT holds.
pub(crate) fn open_files_limits(text: &[u8]) -> Option<FdCount> {
    let line = text.split(|c| *c == b'\n').find_map(|line| line.strip_prefix(b"Max open files"))?;
    let limit = |word: &[u8]| if word == b"unlimited" { Some(u64::MAX) } else { decimal(word) };
    let mut words = words(line);
    let (soft_limit, hard_limit) = (limit(words.next()?)?, limit(words.next()?)?);
    Some(FdCount { soft_limit, hard_limit, ..FdCount::default() })
}

/// The lines of `smaps_rollup` in their order, each with its place among the fields of [`Rollup`].
const ROLLUP: [(&[u8], usize); 22] = [
    (b"Rss", 0),
    (b"Pss", 1),
    (b"Pss_Dirty", 2),
    (b"Pss_Anon", 3),
    (b"Pss_File", 4),
    (b"Pss_Shmem", 5),
    (b"Shared_Clean", 6),
    (b"Shared_Dirty", 7),
    (b"Private_Clean", 8),
    (b"Private_Dirty", 9),
    (b"Referenced", 10),
    (b"Anonymous", 11),
    (b"KSM", 12),
    (b"LazyFree", 13),
    (b"AnonHugePages", 14),
    (b"ShmemPmdMapped", 16),
    (b"FilePmdMapped", 17),
    (b"Shared_Hugetlb", 18),
    (b"Private_Hugetlb", 19),
    (b"Swap", 20),
    (b"SwapPss", 21),
    (b"Locked", 15),
];

/// The file `smaps_rollup`. Lines that a kernel does not write are 0.
pub(crate) fn rollup(text: &[u8]) -> Option<Rollup> {
    let mut bytes = [0_u64; 22];
    let mut next = 0;
    // The first line is that of an address range.
    for line in text.split(|c| *c == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let Some(found) = ROLLUP[next..].iter().position(|(key, _)| *key == &line[..colon]) else { continue };
        next += found + 1;
        bytes[ROLLUP[next - 1].1] =
            decimal(line[colon + 1..].strip_suffix(b" kB")?.trim_ascii_start())? << 10;
    }
    (next > 0).then(|| zerocopy::transmute!(bytes))
}

/// Position, flags and inode of an open descriptor, from its `fdinfo`.
pub(crate) fn fdinfo(text: &[u8]) -> Option<(u64, u32, u64)> {
    let flags = std::str::from_utf8(field(text, "flags")?).ok()?;
    let pos = signed(field(text, "pos")?)? as u64;
    Some((pos, u32::from_str_radix(flags, 8).ok()?, number(text, "ino").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_key() {
        let status =
            b"Name:\tGroups: 7\nGroups:\t4 24 \nNSpid:\t5\t1\nCapAmb:\t0000000000000400\nNoNewPrivs:\t1\n";
        let (header, gids) = membership(status).unwrap();
        assert_eq!((header.no_new_privs, header.seccomp, gids), (1, 0, vec![4, 24]));
        assert_eq!(u64::from(header.ambient), 0x400);
        assert_eq!(ns_pids(status), Some(vec![5, 1]));
        assert_eq!(membership(b"Groups:\t\nCapAmb:\t0\n").unwrap().1, [0_u32; 0]);
        assert_eq!(membership(b"Groups:\tx\nCapAmb:\t0\n"), None);
        assert_eq!(
            fdinfo(b"pos:\t-1\nflags:\t0100002\nmnt_id:\t1\nino:\t7\n"),
            Some((u64::MAX, 0o100_002, 7))
        );
        let limits = b"Max open files            1024                 unlimited            files     \n";
        let expected = FdCount { soft_limit: 1024, hard_limit: u64::MAX, ..FdCount::default() };
        assert_eq!(open_files_limits(limits), Some(expected));
        let rollup =
            rollup(b"1-2 ---p 00000000 00:00 0  [rollup]\nRss:    12 kB\nNew:  1 kB\nSwapPss:  3 kB\n")
                .unwrap();
        assert_eq!((rollup.rss, rollup.pss, rollup.swap_pss), (12 << 10, 0, 3 << 10));
        assert_eq!(super::rollup(b""), None);
    }

    #[test]
    fn the_line_of_stat_by_its_numbers() {
        let numbers: Vec<String> =
            (4..=52).map(|n| if n == 8 { "-1".into() } else { n.to_string() }).collect();
        let line = format!("1 (a) b) S {}\n", numbers.join(" "));
        let switches = b"voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n";
        let sched = sched(line.as_bytes(), switches, 10).unwrap();
        assert_eq!((sched.start_time, sched.voluntary_switches, sched.involuntary_switches), (220, 5, 6));
        assert_eq!((sched.flags, sched.priority, sched.nice, sched.tty_nr, sched.tpgid), (9, 18, 19, 7, -1));
        assert_eq!((sched.exit_signal, sched.processor, sched.rt_priority, sched.policy), (38, 39, 40, 41));
        assert_eq!((sched.blkio_delay, sched.guest_time, sched.children_guest_time), (42, 43, 44));
        assert_eq!(super::sched(b"1 (a) S 1", switches, 10), None);
    }
}
