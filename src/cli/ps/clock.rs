//! Times as `ps` writes them.

use nix::time::{ClockId, clock_gettime};
use std::fmt::Write;

/// Two clocks read at once: how long the machine has been up, and what time it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Nanoseconds since boot.
    pub since_boot: u64,
    /// Nanoseconds since 1970.
    pub since_epoch: u64,
}

/// Counts from the boot that whoever answers counts from: another one than this process does in a time namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Nanoseconds that this process is ahead.
    pub ahead: i64,
}

impl Clock {
    pub fn since_boot(self) -> u64 {
        nanoseconds(ClockId::CLOCK_BOOTTIME).saturating_add_signed(self.ahead.saturating_neg())
    }

    pub fn now(self) -> Now {
        Now { since_boot: self.since_boot(), since_epoch: nanoseconds(ClockId::CLOCK_REALTIME) }
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that the boot time of this process' time namespace is ahead of the machine's (time_namespaces(7)).
pub fn time_namespace_offset() -> i64 {
    let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let offset = words.into_iter().find_map(|words| match words[..] {
        // Older kernels write the number of the clock.
        ["boottime" | "7", seconds, rest] => {
            seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(rest.parse().ok()?)
        }
        _ => None,
    });
    offset.unwrap_or(0)
}

impl Now {
    /// Seconds since 1970 of a moment that is given in nanoseconds since boot.
    pub fn epoch_seconds(&self, start: u64) -> i64 {
        let boot = self.since_epoch.saturating_sub(self.since_boot);
        // Whole seconds since boot as ps counts them, for the same time in every look.
        (boot / 1_000_000_000 + start / 1_000_000_000) as i64
    }

    /// Clock ticks since such a moment, both counted in whole ticks as the files of /proc have them.
    pub fn elapsed_ticks(&self, start: u64, ticks_per_second: u64) -> u64 {
        let tick = 1_000_000_000 / ticks_per_second;
        (self.since_boot / tick).saturating_sub(start / tick)
    }
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn local(seconds: i64) -> libc::tm {
    // SAFETY: all zeros is a valid tm, whose pointer may be null.
    let mut tm = unsafe { std::mem::zeroed() };
    let seconds = seconds as libc::time_t;
    // SAFETY: both pointers are those of live values; the call keeps neither.
    unsafe { libc::localtime_r(&seconds, &mut tm) };
    tm
}

fn month(tm: &libc::tm) -> &'static str {
    MONTHS.get(tm.tm_mon as usize).copied().unwrap_or_default()
}

/// `lstart`: `Mon Nov 23 07:19:20 2026`.
pub fn whole(text: &mut String, seconds: i64) {
    let tm = local(seconds);
    let (day, year) = (DAYS.get(tm.tm_wday as usize).copied().unwrap_or_default(), 1900 + tm.tm_year);
    let _ = write!(text, "{day} {} {:>2} {} {year}", month(&tm), tm.tm_mday, time_of_day(&tm));
}

/// `start`: the time of the last day, else the month and the day.
pub fn start(text: &mut String, seconds: i64, now: &Now) {
    let tm = local(seconds);
    let _ = if seconds + 86_400 > (now.since_epoch / 1_000_000_000) as i64 {
        write!(text, "{}", time_of_day(&tm))
    } else {
        write!(text, "{} {:02}", month(&tm), tm.tm_mday)
    };
}

/// `start_time`: hour and minute of today, the day of this year, else the year.
pub fn start_time(text: &mut String, seconds: i64, now: &Now) {
    let (tm, today) = (local(seconds), local((now.since_epoch / 1_000_000_000) as i64));
    let _ = if tm.tm_year != today.tm_year {
        write!(text, "{}", 1900 + tm.tm_year)
    } else if tm.tm_yday != today.tm_yday {
        write!(text, "{}{:02}", month(&tm), tm.tm_mday)
    } else {
        write!(text, "{:02}:{:02}", tm.tm_hour, tm.tm_min)
    };
}

fn time_of_day(tm: &libc::tm) -> String {
    format!("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec)
}

/// `time`: `[DD-]HH:MM:SS`.
pub fn cpu_time(text: &mut String, seconds: u64) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    if days > 0 {
        let _ = write!(text, "{days}-");
    }
    let _ = write!(text, "{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
}

/// `etime`: `[[DD-]HH:]MM:SS`.
pub fn elapsed(text: &mut String, seconds: u64) {
    if seconds < 3600 {
        let _ = write!(text, "{:02}:{:02}", seconds / 60, seconds % 60);
    } else {
        cpu_time(text, seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_days_when_they_take_days() {
        let shown = |show: fn(&mut String, u64), seconds| {
            let mut text = String::new();
            show(&mut text, seconds);
            text
        };
        let cpu = [0, 3661, 86_400 * 12 + 59].map(|seconds| shown(cpu_time, seconds));
        assert_eq!(cpu, ["00:00:00", "01:01:01", "12-00:00:59"]);
        let since = [59, 3599, 3600, 86_400].map(|seconds| shown(elapsed, seconds));
        assert_eq!(since, ["00:59", "59:59", "01:00:00", "1-00:00:00"]);
    }

    #[test]
    fn older_starts_are_written_shorter() {
        // Around noon, so that an hour less is the same day in most places.
        let now = Now { since_boot: 0, since_epoch: 1_700_049_600_000_000_000 };
        let seconds = 1_700_049_600;
        let shown = |show: fn(&mut String, i64, &Now), ago: i64| {
            let mut text = String::new();
            show(&mut text, seconds - ago, &now);
            text.len()
        };
        assert_eq!([0, 86_400 * 3, 86_400 * 400].map(|ago| shown(start_time, ago)), [5, 5, 4]);
        assert_eq!([0, 86_400 * 3].map(|ago| shown(start, ago)), [8, 6]);
    }
}
