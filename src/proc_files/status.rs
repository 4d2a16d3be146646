//! `/proc/PID/status` (`proc_pid_status`): alone it holds BASE, CRED and STATM.

use super::{decimal, hexadecimal};
use crate::protocol::{Base, Capabilities, Credentials, State, Statm};

/// What `status` says of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Ids, state and name. Without `has_sessions` its `sid` and `pgid` are 0.
    pub base: Base,
    /// User and group ids, and four capability sets.
    pub credentials: Credentials,
    /// Sizes of the memory in pages; all 0 without `has_memory`.
    pub statm: Statm,
    /// The task has memory of its own (`get_task_mm`).
    pub has_memory: bool,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// The file has NSpgid and NSsid (a kernel with pid namespaces).
    pub has_sessions: bool,
}

impl Status {
    /// Reads the text; `None` if it lacks what every kernel writes (name, state, ids).
    pub fn parse(text: &[u8]) -> Option<Status> {
        let page = page_size();
        let mut s = Status::default();
        let mut name: &[u8] = b"";
        let mut threads = false;
        let (mut uids, mut gids) = (None, None);
        for line in text.split(|c| *c == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let value = line[colon + 1..].trim_ascii();
            let number = || first_number(value);
            let pages = || kilobytes(value).map(|kb| (kb << 10) / page);
            match &line[..colon] {
                // The tab after the colon is the kernel's; any other white space belongs to the name.
                b"Name" => name = line[colon + 1..].strip_prefix(b"\t")?,
                b"State" => s.base.state = State::from_letter(*value.first()?)? as u8,
                b"Tgid" => s.base.tgid = number()?,
                b"Pid" => s.base.pid = number()?,
                b"PPid" => s.base.ppid = number()?,
                b"TracerPid" => s.base.tpid = number()?,
                b"Uid" => uids = four_numbers(value),
                b"Gid" => gids = four_numbers(value),
                b"NSpgid" => s.base.pgid = number()?,
                b"NSsid" => {
                    s.base.sid = number()?;
                    s.has_sessions = true;
                }
                b"Kthread" => s.kernel_thread = value == b"1",
                b"VmPeak" => s.statm.hiwater_vm = pages()?,
                b"VmSize" => {
                    s.has_memory = true;
                    s.statm.total_vm = pages()?;
                }
                b"VmLck" => s.statm.locked_vm = pages()?,
                b"VmPin" => s.statm.pinned_vm = pages()?,
                b"VmHWM" => s.statm.hiwater_rss = pages()?,
                b"VmRSS" => s.statm.total_rss = pages()?,
                b"RssAnon" => s.statm.anon = pages()?,
                b"RssFile" => s.statm.file = pages()?,
                b"RssShmem" => s.statm.shmem = pages()?,
                b"VmData" => s.statm.data_vm = pages()?,
                b"VmStk" => s.statm.stack_vm = pages()?,
                b"VmExe" => s.statm.text = pages()?,
                b"VmLib" => s.statm.lib = pages()?,
                b"VmPTE" => s.statm.ptes = kilobytes(value)? << 10,
                b"VmSwap" => s.statm.swap = pages()?,
                b"Threads" => threads = true,
                b"CapInh" => s.credentials.inheritable = capabilities(value)?,
                b"CapPrm" => s.credentials.permitted = capabilities(value)?,
                b"CapEff" => s.credentials.effective = capabilities(value)?,
                b"CapBnd" => {
                    s.credentials.bounding = capabilities(value)?;
                    break;
                }
                _ => {}
            }
        }
        if !threads || s.base.pid == 0 {
            return None;
        }
        let c = &mut s.credentials;
        [c.uid, c.euid, c.suid, c.fsuid] = uids?;
        [c.gid, c.egid, c.sgid, c.fsgid] = gids?;
        // Older kernels do not say which tasks are kernel threads: those are kthreadd's children and itself.
        s.kernel_thread |= !s.has_memory && (s.base.ppid == 2 || s.base.pid == 2);
        s.base.comm = raw_comm(name, s.kernel_thread);
        Some(s)
    }
}

/// What a task is called at one level of pid namespaces below that of the proc filesystem; 0 for what is outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NsNumbers {
    /// NSpid
    pub pid: u32,
    /// NStgid
    pub tgid: u32,
    /// NSpgid
    pub pgid: u32,
    /// NSsid
    pub sid: u32,
    /// How many levels below it the task has numbers in.
    pub levels: usize,
}

impl NsNumbers {
    /// Reads them out of `status`; `None` where the task has none so far down.
    pub fn parse(text: &[u8], depth: usize) -> Option<NsNumbers> {
        let mut numbers = NsNumbers::default();
        for line in text.split(|c| *c == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let column = || line[colon + 1..].split(|c| *c == b'\t').filter(|word| !word.is_empty());
            let number = || column().nth(depth).and_then(decimal).map_or(0, |n| n as u32);
            match &line[..colon] {
                b"NStgid" => numbers.tgid = number(),
                b"NSpid" => (numbers.pid, numbers.levels) = (number(), column().count().saturating_sub(1)),
                b"NSpgid" => numbers.pgid = number(),
                b"NSsid" => {
                    numbers.sid = number();
                    break;
                }
                _ => {}
            }
        }
        (numbers.pid != 0).then_some(numbers)
    }
}

/// `task->comm` from the name that /proc shows: escapes undone, and for kernel threads the decoration taken off.
fn raw_comm(shown: &[u8], kernel_thread: bool) -> [u8; 16] {
    const WORKER: &[u8] = b"kworker/";
    let mut comm = [0; 16];
    let mut bytes = shown.iter().copied().peekable();
    for (at, slot) in comm[..15].iter_mut().enumerate() {
        let Some(byte) = bytes.next() else { break };
        let decoration = kernel_thread
            && at > WORKER.len()
            && matches!(byte, b'+' | b'-')
            && shown.starts_with(WORKER)
            && !shown.starts_with(b"kworker/R-");
        if decoration {
            break;
        }
        *slot = match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => {
                bytes.next();
                b'\n'
            }
            (b'\\', Some(b'\\')) => {
                bytes.next();
                b'\\'
            }
            _ => byte,
        };
    }
    comm
}

fn first_number(value: &[u8]) -> Option<u32> {
    let end = value.iter().position(|c| !c.is_ascii_digit()).unwrap_or(value.len());
    decimal(&value[..end]).map(|n| n as u32)
}

fn kilobytes(value: &[u8]) -> Option<u64> {
    decimal(value.strip_suffix(b"kB")?.trim_ascii())
}

fn capabilities(value: &[u8]) -> Option<Capabilities> {
    hexadecimal(value).map(Capabilities::from)
}

fn four_numbers(value: &[u8]) -> Option<[u32; 4]> {
    let mut out = [0; 4];
    let mut words = value.split(|c| *c == b'\t');
    for slot in &mut out {
        *slot = decimal(words.next()?)? as u32;
    }
    Some(out)
}

/// Bytes in a page of this machine.
pub(crate) fn page_size() -> u64 {
    use std::sync::OnceLock;
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| {
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |n| n as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\todd\\nna) \\\\x\nUmask:\t0022\nState:\tt (tracing stop)\nTgid:\t50\nNgid:\t0\nPid:\t51\nPPid:\t7\n\
        TracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t256\nGroups:\t0 1 \nNStgid:\t50\t3\nNSpid:\t51\t4\n\
        NSpgid:\t40\t0\nNSsid:\t41\t0\nKthread:\t0\nVmPeak:\t    80 kB\nVmSize:\t    40 kB\nVmLck:\t 4 kB\nVmPin:\t 8 kB\n\
        VmHWM:\t 36 kB\nVmRSS:\t 32 kB\nRssAnon:\t 12 kB\nRssFile:\t 16 kB\nRssShmem:\t 4 kB\nVmData:\t 20 kB\n\
        VmStk:\t 132 kB\nVmExe:\t 24 kB\nVmLib:\t 28 kB\nVmPTE:\t 44 kB\nVmSwap:\t 48 kB\nThreads:\t2\nSigQ:\t0/1\n\
        CapInh:\t0000000000000001\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000002\nCapBnd:\t0000000300000004\nrest:\n";

    #[test]
    fn every_field() {
        let s = Status::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(s.base.comm_bytes(), b"odd\nna) \\x");
        let b = s.base;
        assert_eq!((b.tgid, b.pid, b.ppid, b.tpid, b.pgid, b.sid), (50, 51, 7, 9, 40, 41));
        assert_eq!(b.state, State::from_letter(b't').unwrap() as u8);
        let c = s.credentials;
        assert_eq!((c.uid, c.euid, c.suid, c.fsuid), (1, 2, 3, 4));
        assert_eq!((c.gid, c.egid, c.sgid, c.fsgid), (5, 6, 7, 8));
        assert_eq!(u64::from(c.permitted), 0x1ff_ffff_ffff);
        assert_eq!(u64::from(c.bounding), 3 << 32 | 4);
        let m = s.statm;
        let all = [
            m.anon,
            m.file,
            m.shmem,
            m.total_vm,
            m.total_rss,
            m.hiwater_vm,
            m.hiwater_rss,
            m.text,
            m.lib,
            m.swap,
        ];
        assert_eq!(all, [3, 4, 1, 10, 8, 20, 9, 6, 7, 12].map(|pages| pages * 4096 / page_size()));
        assert_eq!(m.ptes, 44 * 1024);
        assert!(s.has_memory && s.has_sessions && !s.kernel_thread);
    }

    #[test]
    fn kernel_names_lose_their_decoration() {
        for (shown, raw) in [
            ("kworker/0:1-events", "kworker/0:1"),
            ("kworker/u8:3+flush-8:0", "kworker/u8:3"),
            ("kworker/R-rcu_gp", "kworker/R-rcu_g"),
            ("pool_workqueue_release", "pool_workqueue_"),
            ("ksoftirqd/0", "ksoftirqd/0"),
        ] {
            assert_eq!(raw_comm(shown.as_bytes(), true).split(|b| *b == 0).next().unwrap(), raw.as_bytes());
        }
        assert_eq!(&raw_comm(b"kworker/0:1-mine", false)[..15], b"kworker/0:1-min");
    }

    #[test]
    fn any_bytes_are_borne() {
        let huge = TEXT.replace(" 44 kB", " 99999999999999999 kB").replace(" 48 kB", " 99999999999999999 kB");
        assert!(Status::parse(huge.as_bytes()).is_some());
        for end in 0..TEXT.len() {
            let _ = Status::parse(&TEXT.as_bytes()[..end]);
            let mut bad = TEXT.as_bytes().to_vec();
            bad[end] = 0xff;
            let _ = Status::parse(&bad);
        }
    }
}
