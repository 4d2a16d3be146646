//! A view that is drawn again and again.

use super::screen::{self, Screen};
use super::table::{self, Style};
use super::{Options, Origin, Row, View, footer, in_colour, write_json};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time between the first two looks that shares of a processor take, at most.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// What ended a wait.
enum Event {
    Time,
    /// Draw again what was seen, now.
    Redraw,
    /// The program goes on after it stood still; others may have had the terminal.
    Continued,
    /// Ctrl-z: the shell wants its terminal.
    Suspend,
    Quit,
    /// A signal that ends a program which knows nothing of it.
    End(libc::c_int),
}

/// What may happen while waiting.
struct Events {
    signals: SignalFd,
    keys: bool,
}

impl Events {
    /// Signals come by descriptor from now on, in every thread that is started later. Those that are not told so: of what the
    /// program itself did wrong; those that stop a job which uses a terminal that is not its own; and those that mean nothing.
    fn new() -> anyhow::Result<Events> {
        let mut set = SigSet::all();
        for signal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGABRT,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGCHLD,
            Signal::SIGURG,
            // A pipe that nobody reads is an error of writing.
            Signal::SIGPIPE,
        ] {
            set.remove(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        Ok(Events { signals: SignalFd::with_flags(&set, flags)?, keys: on_terminal })
    }

    fn wait(&mut self, until: Instant) -> anyhow::Result<Event> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Event::Time);
            }
            // Rounded up, so that the last part of a millisecond is not spent polling.
            let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
            let stdin = io::stdin();
            let mut ready = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if self.keys {
                ready.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut ready, left) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_key = ready.get(1).is_some_and(|fd| fd.any() == Some(true));
            if let Some(signal) = self.signals.read_signal()? {
                let number = signal.ssi_signo as i32;
                return Ok(match Signal::try_from(number) {
                    Ok(Signal::SIGTSTP) => Event::Suspend,
                    Ok(Signal::SIGWINCH) => Event::Redraw,
                    Ok(Signal::SIGCONT) => Event::Continued,
                    Ok(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP) => Event::Quit,
                    _ => Event::End(number),
                });
            }
            if is_key {
                let mut keys = [0; 32];
                // Straight from the descriptor: what a buffer kept, poll would not know of.
                let n = match nix::unistd::read(&stdin, &mut keys) {
                    Err(nix::errno::Errno::EINTR) => continue,
                    outcome => outcome.unwrap_or(0),
                };
                match &keys[..n] {
                    [] => self.keys = false,
                    keys if keys.iter().any(|key| b"qQ\x04".contains(key)) => return Ok(Event::Quit),
                    _ => return Ok(Event::Redraw),
                }
            }
        }
    }
}

/// Looks every `interval` until it is told to end.
pub fn run(options: &Options, mut view: View, interval: Duration) -> anyhow::Result<ExitCode> {
    let on_terminal = io::stdout().is_terminal() && !options.ndjson;
    // Before any other thread is there, which would get the signals.
    let mut events = Events::new()?;
    let mut origin = Origin::open(options)?;
    // What can't be had at all is said on the screen that stays.
    let mut looked = Ok(view.look(&mut origin)?);
    let mut screen = if on_terminal { Some(Screen::enter()?) } else { None };
    // A share of the processor takes a second look.
    let mut is_first = view.compares;
    let mut next = Instant::now();
    loop {
        next = (next + if is_first { BETWEEN_LOOKS.min(interval) } else { interval }).max(Instant::now());
        match looked {
            _ if is_first || on_terminal => {}
            Ok(ref rows) => print(rows, &mut view, options)?,
            Err(error) => return Err(error),
        }
        loop {
            if on_terminal && !is_first {
                draw(&looked, &mut view, &origin, options)?;
            }
            match events.wait(next)? {
                Event::Time => break,
                Event::Redraw => {}
                Event::Continued => screen.iter().try_for_each(Screen::take)?,
                Event::Quit => return Ok(ExitCode::SUCCESS),
                Event::Suspend => {
                    drop(screen.take());
                    screen::stop()?;
                    screen = if on_terminal { Some(Screen::enter()?) } else { None };
                }
                Event::End(signal) => {
                    drop(screen);
                    return Err(screen::end_by(signal).into());
                }
            }
        }
        is_first = false;
        looked = view.look(&mut origin);
    }
}

/// One screen, written at once so that nothing flickers.
fn draw(
    looked: &anyhow::Result<Vec<Row>>,
    view: &mut View,
    origin: &Origin,
    options: &Options,
) -> io::Result<()> {
    const END: &str = "\x1b[K\n";
    let (width, height) = screen::size();
    let style = Style {
        width: Some(width),
        height: Some(height.saturating_sub(2)),
        colour: in_colour(options.color, true),
        tree: view.tree,
    };
    let mut frame = b"\x1b[H".to_vec();
    let footer = match looked {
        Ok(rows) => {
            table::write(&mut frame, rows, &view.columns, &mut view.names, style, END)?;
            footer(rows, origin, options.threads)
        }
        // A daemon that is restarted is back soon.
        Err(error) => format!("{error:#}; trying again"),
    };
    let (dim, reset) = if style.colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    write!(frame, "\x1b[J\x1b[{height};1H{dim}{}{reset}\x1b[K", table::cut(&footer, width))?;
    let mut out = io::stdout().lock();
    out.write_all(&frame)?;
    out.flush()
}

/// One table, with an empty line behind it, or one object a line.
fn print(rows: &[Row], view: &mut View, options: &Options) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if options.ndjson {
        return write_json(&mut out, rows, view, true);
    }
    let style = Style { width: None, height: None, colour: in_colour(options.color, false), tree: view.tree };
    table::write(&mut out, rows, &view.columns, &mut view.names, style, "\n")?;
    out.write_all(b"\n")?;
    out.flush()
}
