//! `task-diag ps` on a terminal: lines that fit, a screen that is given back whatever ends it, and shares of a processor.

mod common;

use common::ps::{Killed, direct, ps};
use common::zoo::names;
use common::{proc, wait};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A program on a terminal of 60 columns and 10 lines.
struct OnTerminal {
    child: std::process::Child,
    master: File,
    slave: Option<OwnedFd>,
    before: Termios,
    seen: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl OnTerminal {
    fn start(command: &mut Command) -> OnTerminal {
        let size = nix::pty::Winsize { ws_row: 10, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        // A program that holds its own terminal's other end would never see that end go.
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut master = File::from(master);
        let keys = master.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        // All the time, so that nobody waits to write. Ends when nobody has the terminal open any more.
        let reader = std::thread::spawn({
            let seen = seen.clone();
            move || {
                let mut bytes = [0; 1 << 16];
                while let Ok(n @ 1..) = master.read(&mut bytes) {
                    seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
                }
            }
        });
        OnTerminal { child, master: keys, slave: Some(slave), before, seen, reader: Some(reader) }
    }

    fn wait_for(&self, what: &str, enough: impl Fn(&str) -> bool) {
        wait::until(what, || enough(&self.seen.lock().unwrap()));
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Whether keys are as they were before.
    fn is_restored(&self) -> bool {
        tcgetattr(self.slave.as_ref().unwrap()).unwrap() == self.before
    }

    /// Waits for its end; gives all that it wrote, how it ended, and whether the terminal is set as before.
    fn end(mut self) -> (String, ExitStatus, bool) {
        let mut ended = None;
        wait::until("the program ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let restored = self.is_restored();
        drop(self.slave.take());
        self.reader.take().unwrap().join().unwrap();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        (seen, ended.unwrap(), restored)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ends by itself writes to a terminal.
fn written(command: &mut Command) -> String {
    let (text, status, _) = OnTerminal::start(command).end();
    assert!(status.success(), "{status}: {text}");
    text
}

fn frames(seen: &str) -> usize {
    seen.matches("\u{1b}[H").count()
}

#[test]
fn a_terminal_gets_lines_that_fit_and_its_screen_back() {
    let own = std::process::id().to_string();
    // Arguments of many characters.
    let wide = names::long_command_line();
    let pids = format!("{own},{}", wide.pid);
    let text = written(ps(&direct(), &["-p", &pids]).env("NO_COLOR", "1"));
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line.chars().count() <= 60), "{lines:?}");
    assert!(lines.iter().any(|line| line.len() == 60), "{lines:?}");
    let text = written(ps(&direct(), &["-p", &own]).env_remove("NO_COLOR"));
    assert!(text.starts_with("\u{1b}[1m"), "{text:?}");

    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let shown = OnTerminal::start(&mut ps(&direct(), &["--watch", "0.1"]));
        shown.wait_for("three frames", |seen| frames(seen) >= 3);
        shown.send(signal as i32);
        let (text, status, restored) = shown.end();
        assert!(status.success(), "{status}");
        assert!(text.starts_with(ENTER) && text.matches(LEAVE).count() == 1, "{text:?}");
        assert!(text.ends_with(LEAVE) && text.contains("%CPU"), "{text:?}");
        assert!(restored, "keys are echoed again");
        // Ten lines: a heading, eight tasks, and the last without an end.
        let frame = text.split("\u{1b}[H").nth(1).unwrap();
        assert!(frame.matches('\n').count() <= 9, "{frame:?}");
    }
}

/// Those that end a program which knows nothing of them; but for the one that Rust's library ignores.
#[test]
fn whatever_signal_ends_it_the_screen_is_given_back() {
    use Signal::*;
    let own = std::process::id().to_string();
    let named = [
        SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2, SIGALRM, SIGSTKFLT,
        SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSYS,
    ];
    for signal in named.map(|signal| signal as i32).into_iter().chain([libc::SIGRTMIN(), libc::SIGRTMAX()]) {
        let shown = OnTerminal::start(&mut ps(&direct(), &["--watch", "100", "-p", &own, "-o", "pid,rss"]));
        shown.wait_for("a frame", |seen| frames(seen) >= 1);
        shown.send(signal);
        let (text, status, restored) = shown.end();
        assert_eq!(status.signal(), Some(signal), "{text:?}");
        assert!(text.ends_with(LEAVE) && text.matches(LEAVE).count() == 1 && restored, "{signal}: {text:?}");
    }
}

#[test]
fn a_shell_has_the_terminal_while_it_stands_still() {
    let own = std::process::id().to_string();
    let shown = OnTerminal::start(&mut ps(&direct(), &["--watch", "100", "-p", &own, "-o", "pid,rss"]));
    shown.wait_for("a frame", |seen| frames(seen) >= 1);
    let pid = shown.child.id();
    for round in 1..3 {
        shown.send(libc::SIGTSTP);
        wait::until("it stops", || proc::state(pid) == Some(b'T'));
        assert!(shown.is_restored());
        shown.wait_for("the screen is given back", |seen| seen.matches(LEAVE).count() == round);
        let drawn = frames(&shown.seen.lock().unwrap());
        shown.send(libc::SIGCONT);
        shown.wait_for("it draws again", |seen| frames(seen) > drawn);
        let flags = tcgetattr(shown.slave.as_ref().unwrap()).unwrap().local_flags;
        assert!(!flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
    }
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    let (text, status, restored) = shown.end();
    assert!(status.success() && restored && text.ends_with(LEAVE), "{status}: {text:?}");
}

/// Another drawing is no other look, however soon a key asks for it: one thread has no more than a processor, and a
/// busy one has some.
#[test]
fn a_thread_has_no_more_than_a_processor_whatever_is_pressed() {
    let mut busy = Command::new("sh");
    let busy = Killed(busy.args(["-c", "while :; do :; done"]).spawn().unwrap());
    let pid = busy.0.id().to_string();
    let columns = ["--watch", "0.5", "-o", "pid,pcpu,comm", "-p", &pid];
    let mut shown = OnTerminal::start(ps(&direct(), &columns).env("NO_COLOR", "1"));
    shown.wait_for("a frame", |seen| frames(seen) >= 1);
    for _ in 0..120 {
        shown.master.write_all(b" ").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(15));
    }
    shown.wait_for("many frames", |seen| frames(seen) >= 20);
    shown.master.write_all(b"q").unwrap();
    let (text, status, _) = shown.end();
    assert!(status.success(), "{status}");
    let values: Vec<f64> = text
        .split(&format!("{pid} "))
        .skip(1)
        .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert!(values.len() >= 20 && values.iter().all(|value| *value > 0.0 && *value <= 102.0), "{values:?}");
}
