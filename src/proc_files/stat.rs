//! `/proc/PID/stat` and `/proc/PID/task/TID/stat` (`do_task_stat`).

use super::decimal;
use crate::protocol::Stat;

/// Flag of a workqueue's worker (`PF_WQ_WORKER`), whose name /proc decorates.
pub const PF_WQ_WORKER: u64 = 0x20;

/// Flag of a thread that makes calls for a ring of io_uring (`PF_IO_WORKER`).
pub(crate) const PF_IO_WORKER: u64 = 0x10;

/// Flag of the kernel's own threads (`PF_KTHREAD`), which once made those calls.
pub(crate) const PF_KTHREAD: u64 = 0x20_0000;

/// What the line says that no other file does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatLine {
    /// Process group, in the proc mount's pid namespace.
    pub pgid: u32,
    /// Session, in the proc mount's pid namespace.
    pub sid: u32,
    /// `task->flags`
    pub flags: u64,
    /// Faults, times (clock ticks) and the number of threads.
    pub stat: Stat,
}

impl StatLine {
    /// Reads the line; `None` if it is not one.
    pub fn parse(line: &[u8]) -> Option<StatLine> {
        // The name may hold anything, parentheses too, but nothing after it does.
        let rest = &line[memchr::memrchr(b')', line)? + 1..];
        let mut fields = [0u64; 18];
        let mut words = rest.trim_ascii().split(|c| *c == b' ');
        words.next()?;
        for field in &mut fields {
            let word = words.next()?;
            // tty_nr, tpgid, priority and nice may be negative; none of them is wanted here.
            *field = if word.first() == Some(&b'-') { 0 } else { decimal(word)? };
        }
        let [
            _,
            pgid,
            sid,
            _,
            _,
            flags,
            minflt,
            cminflt,
            majflt,
            cmajflt,
            utime,
            stime,
            cutime,
            cstime,
            _,
            _,
            threads,
            _,
        ] = fields;
        Some(StatLine {
            pgid: pgid as u32,
            sid: sid as u32,
            flags,
            stat: Stat {
                minflt,
                cminflt,
                majflt,
                cmajflt,
                utime,
                stime,
                cutime,
                cstime,
                threads: threads as u32,
                ..Stat::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pose_as_fields() {
        let line =
            b"42 (a) R 9 9 9) S 1 41 40 0 -1 4194304 10 20 30 40 50 60 70 80 20 -5 3 0 99 4096 7 rest\n";
        let parsed = StatLine::parse(line).unwrap();
        assert_eq!((parsed.pgid, parsed.sid, parsed.flags), (41, 40, 4194304));
        let s = parsed.stat;
        assert_eq!((s.minflt, s.cminflt, s.majflt, s.cmajflt), (10, 20, 30, 40));
        assert_eq!((s.utime, s.stime, s.cutime, s.cstime, s.threads), (50, 60, 70, 80, 3));
    }

    #[test]
    fn truncated_lines_are_refused() {
        let line = b"42 (a) S 1 41 40 0 -1 4194304 10 20 30 40 50 60 70 80 20 0 3 0";
        assert!(StatLine::parse(line).is_some());
        for end in 0..line.len() - 1 {
            assert!(StatLine::parse(&line[..end]).is_none(), "{end}");
        }
    }
}
