//! `/proc/PID/maps` and `/proc/PID/smaps` (`show_map`, `show_smap`) into the protocol's records of mappings.
//!
//! `PROCMAP_QUERY` (Linux 6.11) tells the same in binary, at a call a mapping: for a whole list that takes a tenth longer
//! than the text with its parsing.

use super::{decimal, hexadecimal};
use crate::protocol::{EncodeError, VmFlags, VmaFields, VmaStat, push_vma};

/// Gives the true name of the file mapped at `start..end`, asked where the text is ambiguous.
pub type TrueName<'a> = &'a dyn Fn(u64, u64) -> Option<Vec<u8>>;

/// A list of mapping records in the protocol's form.
pub type Mappings = Vec<u8>;

/// Appends the mappings of a `maps` text to `out`. A line that is none ends the list.
///
/// Of the flags only read, write, execute and shared can be known from it (`SHARED` for writable mappings only:
/// `maps` prints the same `s` for a shared mapping that may never be written).
///
/// # Errors
/// `EncodeError` where a record would not fit its length field.
pub fn parse_maps(text: &[u8], true_name: TrueName, out: &mut Mappings) -> Result<(), EncodeError> {
    for line in lines(text) {
        let Some(mapping) = Mapping::parse(line) else { break };
        mapping.push(None, true_name, out)?;
    }
    Ok(())
}

/// Appends the mappings of a `smaps` text to `out`, with all flags and statistics.
///
/// # Errors
/// As [`parse_maps`].
pub fn parse_smaps(text: &[u8], true_name: TrueName, out: &mut Mappings) -> Result<(), EncodeError> {
    let mut pending: Option<(Mapping, VmaStat)> = None;
    let mut rest = text;
    loop {
        if let (Some((line, after)), Some((_, stat))) = (rest.split_first_chunk(), &mut pending)
            && plain_statistic(line, stat)
        {
            rest = after;
            continue;
        }
        let Some(line) = next_line(&mut rest) else { break };
        if line.first().is_some_and(is_mapping) {
            if let Some((mapping, stat)) = pending.take() {
                mapping.push(Some(&stat), true_name, out)?;
            }
            let Some(mapping) = Mapping::parse(line) else { break };
            pending = Some((mapping, VmaStat::default()));
        } else if let Some((mapping, stat)) = &mut pending {
            statistic(line, mapping, stat);
        }
    }
    match pending {
        Some((mapping, stat)) => mapping.push(Some(&stat), true_name, out),
        None => Ok(()),
    }
}

/// Bytes of whole mappings in the beginning of a `maps` text.
pub(crate) fn whole_maps(text: &[u8]) -> usize {
    memchr::memrchr(b'\n', text).map_or(0, |at| at + 1)
}

/// Bytes of whole mappings in the beginning of a `smaps` text: up to the last that begins in it.
pub(crate) fn whole_smaps(text: &[u8]) -> usize {
    let begins = |at: &usize| text.get(*at).is_some_and(is_mapping);
    memchr::memrchr_iter(b'\n', text).map(|at| at + 1).find(begins).unwrap_or(0)
}

/// Only a mapping's own line begins with a lower-case hexadecimal digit; the statistics' names are capitalised.
fn is_mapping(first: &u8) -> bool {
    first.is_ascii_digit() || first.is_ascii_lowercase()
}

struct Mapping<'a> {
    fields: VmaFields,
    name: &'a [u8],
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a [u8]) -> Option<Mapping<'a>> {
        let mut words = line.splitn(6, |c| *c == b' ');
        let range = words.next()?;
        let dash = memchr::memchr(b'-', range)?;
        let permissions: &[u8; 4] = words.next()?.try_into().ok()?;
        let pgoff = hexadecimal(words.next()?)?;
        let device = words.next()?;
        let colon = memchr::memchr(b':', device)?;
        let inode = decimal(words.next()?)?;
        let mut flags = VmFlags::empty();
        let [r, w, x, s] = permissions;
        flags.set(VmFlags::READ, *r == b'r');
        flags.set(VmFlags::WRITE, *w == b'w');
        flags.set(VmFlags::EXEC, *x == b'x');
        flags.set(VmFlags::MAYSHARE, *s == b's');
        flags.set(VmFlags::SHARED, *s == b's' && *w == b'w');
        Some(Mapping {
            fields: VmaFields {
                start: hexadecimal(&range[..dash])?,
                end: hexadecimal(&range[dash + 1..])?,
                flags,
                pgoff,
                major: hexadecimal(&device[..colon])? as u32,
                minor: hexadecimal(&device[colon + 1..])? as u32,
                inode,
                generation: 0,
            },
            name: words.next().unwrap_or(b"").trim_ascii_start(),
        })
    }

    fn push(
        &self,
        stat: Option<&VmaStat>,
        true_name: TrueName,
        out: &mut Mappings,
    ) -> Result<(), EncodeError> {
        // The gate page belongs to no process; the interface never lists it.
        if self.name == b"[vsyscall]" {
            return Ok(());
        }
        // A newline in a file name is printed as \012, and so is a name that holds those four characters.
        let name = memchr::memmem::find(self.name, b"\\012")
            .and_then(|_| true_name(self.fields.start, self.fields.end))
            .unwrap_or_default();
        let name = if name.is_empty() { self.name } else { &name };
        push_vma(out, &self.fields, stat, name)
    }
}

/// A line as every kernel prints it (`SEQ_PUT_DEC`): a name in 16 columns, a number in 8, ` kB`. False for any other.
fn plain_statistic(line: &[u8; 28], stat: &mut VmaStat) -> bool {
    let (Some(key), Some(number), b" kB\n") =
        (line.first_chunk::<16>(), line[16..24].first_chunk(), &line[24..])
    else {
        return false;
    };
    let mut passed_over = 0;
    let slot = match key {
        b"Rss:            " => &mut stat.resident,
        b"Pss:            " => &mut stat.pss,
        b"Shared_Clean:   " => &mut stat.shared_clean,
        b"Shared_Dirty:   " => &mut stat.shared_dirty,
        b"Private_Clean:  " => &mut stat.private_clean,
        b"Private_Dirty:  " => &mut stat.private_dirty,
        b"Referenced:     " => &mut stat.referenced,
        b"Anonymous:      " => &mut stat.anonymous,
        b"AnonHugePages:  " => &mut stat.anonymous_thp,
        b"Swap:           " => &mut stat.swap,
        b"Size:           " | b"KernelPageSize: " | b"MMUPageSize:    " | b"Pss_Dirty:      " => {
            &mut passed_over
        }
        b"KSM:            " | b"LazyFree:       " | b"ShmemPmdMapped: " | b"FilePmdMapped:  " => {
            &mut passed_over
        }
        b"Shared_Hugetlb: " | b"Private_Hugetlb:" | b"SwapPss:        " | b"Locked:         " => {
            &mut passed_over
        }
        _ => return false,
    };
    let shift = if key.starts_with(b"Pss:") { 10 + 12 } else { 10 };
    *slot = match number {
        b"       0" => 0,
        number => {
            // Blanks alone: a newline ends the line, and with it what this function may judge.
            let blanks = number.iter().take_while(|c| **c == b' ').count();
            let Some(number) = decimal(&number[blanks..]) else { return false };
            number << shift
        }
    };
    true
}

fn statistic(line: &[u8], mapping: &mut Mapping, stat: &mut VmaStat) {
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let slot = match key {
        b"Rss" => &mut stat.resident,
        b"Pss" => &mut stat.pss,
        b"Shared_Clean" => &mut stat.shared_clean,
        b"Shared_Dirty" => &mut stat.shared_dirty,
        b"Private_Clean" => &mut stat.private_clean,
        b"Private_Dirty" => &mut stat.private_dirty,
        b"Referenced" => &mut stat.referenced,
        b"Anonymous" => &mut stat.anonymous,
        b"AnonHugePages" => &mut stat.anonymous_thp,
        b"Swap" => &mut stat.swap,
        b"VmFlags" => {
            mapping.fields.flags = value.split(|c| *c == b' ').map(flag).fold(VmFlags::empty(), |a, b| a | b);
            return;
        }
        _ => return,
    };
    let bytes = value.strip_suffix(b" kB").and_then(decimal).unwrap_or(0) << 10;
    // The protocol's pss is bytes << 12, as the kernel keeps it.
    *slot = if key == b"Pss" { bytes << 12 } else { bytes };
}

/// The two-letter names of `show_smap_vma_flags`.
fn flag(letters: &[u8]) -> VmFlags {
    match letters {
        b"rd" => VmFlags::READ,
        b"wr" => VmFlags::WRITE,
        b"ex" => VmFlags::EXEC,
        b"sh" => VmFlags::SHARED,
        b"mr" => VmFlags::MAYREAD,
        b"mw" => VmFlags::MAYWRITE,
        b"me" => VmFlags::MAYEXEC,
        b"ms" => VmFlags::MAYSHARE,
        b"gd" => VmFlags::GROWSDOWN,
        b"pf" => VmFlags::PFNMAP,
        b"dw" => VmFlags::DENYWRITE,
        b"mp" => VmFlags::MPX,
        b"lo" => VmFlags::LOCKED,
        b"io" => VmFlags::IO,
        b"sr" => VmFlags::SEQ_READ,
        b"rr" => VmFlags::RAND_READ,
        b"dc" => VmFlags::DONTCOPY,
        b"de" => VmFlags::DONTEXPAND,
        b"ac" => VmFlags::ACCOUNT,
        b"nr" => VmFlags::NORESERVE,
        b"ht" => VmFlags::HUGETLB,
        b"ar" => VmFlags::ARCH_1,
        b"dd" => VmFlags::DONTDUMP,
        b"sd" => VmFlags::SOFTDIRTY,
        b"mm" => VmFlags::MIXEDMAP,
        b"hg" => VmFlags::HUGEPAGE,
        b"nh" => VmFlags::NOHUGEPAGE,
        b"mg" => VmFlags::MERGEABLE,
        _ => VmFlags::empty(),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || next_line(&mut rest))
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or(b"");
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::VmaList;

    const SMAPS: &str = "00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus daemon (deleted)\n\
        Size: 328 kB\nKernelPageSize: 4 kB\nRss: 12 kB\nPss: 3 kB\nPss_Dirty: 1 kB\nShared_Clean: 4 kB\nShared_Dirty: 8 kB\n\
        Private_Clean: 16 kB\nPrivate_Dirty: 20 kB\nReferenced: 24 kB\nAnonymous: 28 kB\nKSM: 0 kB\nLazyFree: 0 kB\n\
        AnonHugePages: 2048 kB\nSwap: 32 kB\nSwapPss: 32 kB\nTHPeligible: 0\nVmFlags: rd ex mr mw me sd \n\
        7f0000000000-7f0000001000 rw-s 00000000 00:05 7 \nRss: 0 kB\nVmFlags: rd wr sh mr mw me ms \n\
        7ffc0000000-7ffc0001000 r-xp 00000000 00:00 0                  [vdso]\nVmFlags: rd ex\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0        [vsyscall]\nVmFlags: ex\n";

    /// Lines of the kernel's own form and any other mean the same.
    #[test]
    fn columns_do_not_matter() {
        let mut in_columns = String::new();
        for line in SMAPS.lines() {
            match line
                .trim_start()
                .split_once(": ")
                .and_then(|(key, rest)| Some((key, rest.strip_suffix(" kB")?)))
            {
                Some((key, number)) => in_columns += &format!("{:<16}{number:>8} kB\n", format!("{key}:")),
                None => in_columns += &format!("{}\n", line.trim_start()),
            }
        }
        assert!(in_columns.contains("\nRss:                  12 kB\n"));
        let parse = |text: &str| {
            let mut out = Vec::new();
            parse_smaps(text.as_bytes(), &|_, _| None, &mut out).unwrap();
            out
        };
        assert_eq!(parse(&in_columns), parse(SMAPS));
        let mut stat = VmaStat::default();
        assert!(!plain_statistic(b"Rss:                  1x kB\n", &mut stat));
        assert!(!plain_statistic(b"Rss:                 1\n kB\n\n", &mut stat));
        assert!(!plain_statistic(b"Rss:                  \n1 kB\n", &mut stat));
        assert_eq!(stat, VmaStat::default());
    }

    #[test]
    fn smaps_fields() {
        let mut out = Vec::new();
        parse_smaps(SMAPS.as_bytes(), &|_, _| None, &mut out).unwrap();
        let list: Vec<_> = VmaList::new(&out).map(Result::unwrap).collect();
        assert_eq!(list.len(), 3);
        let stat = list[0].stat.unwrap();
        assert_eq!(list[0].name, b"/usr/bin/dbus daemon (deleted)");
        assert_eq!((stat.resident, stat.pss, stat.swap), (12 * 1024, (3 * 1024) << 12, 32 * 1024));
        assert_eq!((stat.shared_dirty, stat.anonymous_thp), (8 * 1024, 2048 * 1024));
        assert_eq!((list[1].name, list[2].name), (&b""[..], &b"[vdso]"[..]));
    }

    #[test]
    fn an_ambiguous_name_is_asked_for() {
        let line = b"1000-2000 r--p 00000000 08:02 5      /tmp/a\\012b\n";
        let mut out = Vec::new();
        parse_maps(
            line,
            &|start, end| (start == 0x1000 && end == 0x2000).then(|| b"/tmp/a\nb".to_vec()),
            &mut out,
        )
        .unwrap();
        assert_eq!(VmaList::new(&out).next().unwrap().unwrap().name, b"/tmp/a\nb");
    }

    #[test]
    fn a_text_is_cut_between_mappings() {
        let all = parsed(SMAPS);
        for end in 0..SMAPS.len() {
            let whole = whole_smaps(&SMAPS.as_bytes()[..end]);
            assert!(whole <= end);
            assert_eq!([parsed(&SMAPS[..whole]), parsed(&SMAPS[whole..])].concat(), all);
        }
        assert_eq!((whole_maps(b"a\nb"), whole_maps(b"a")), (2, 0));
    }

    fn parsed(smaps: &str) -> Vec<u8> {
        let mut out = Vec::new();
        parse_smaps(smaps.as_bytes(), &|_, _| None, &mut out).unwrap();
        out
    }

    #[test]
    fn any_bytes_are_borne() {
        let huge = SMAPS
            .replace("Rss: 12 kB", "Rss: 99999999999999999 kB")
            .replace("Pss: 3 kB", "Pss: 99999999999999999 kB");
        parse_smaps(huge.as_bytes(), &|_, _| None, &mut Vec::new()).unwrap();
        for end in 0..SMAPS.len() {
            let mut bad = SMAPS.as_bytes().to_vec();
            bad[end] = 0xff;
            for text in [&SMAPS.as_bytes()[..end], &bad] {
                let mut out = Vec::new();
                let _ = parse_smaps(text, &|_, _| None, &mut out);
                let _ = parse_maps(text, &|_, _| None, &mut out);
            }
        }
    }
}
