//! A view that is drawn again and again.

use super::screen::{self, Screen};
use super::table::{self, Style};
use super::{BETWEEN_LOOKS, Options, Origin, Row, View, footer, in_colour, write_json};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What ended a wait.
#[derive(PartialEq, Eq)]
enum Event {
    Time,
    /// Draw again, now.
    Redraw,
    /// Ctrl-z: the shell wants its terminal.
    Suspend,
    Quit,
}

/// What may happen while waiting.
struct Events {
    signals: SignalFd,
    keys: bool,
}

impl Events {
    /// Signals come by descriptor from now on, in every thread that is started later.
    fn new() -> anyhow::Result<Events> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGWINCH,
            Signal::SIGTSTP,
            Signal::SIGCONT,
        ] {
            set.add(signal);
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
                return Ok(match Signal::try_from(signal.ssi_signo as i32) {
                    Ok(Signal::SIGTSTP) => Event::Suspend,
                    Ok(Signal::SIGWINCH | Signal::SIGCONT) => Event::Redraw,
                    _ => Event::Quit,
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
    if view.compares() && events.wait(Instant::now() + BETWEEN_LOOKS.min(interval))? == Event::Quit {
        return Ok(ExitCode::SUCCESS);
    }
    let mut screen = if on_terminal { Some(Screen::enter()?) } else { None };
    let mut next = Instant::now();
    if view.compares() {
        looked = view.look(&mut origin);
    }
    loop {
        next = (next + interval).max(Instant::now());
        match (&looked, on_terminal) {
            (_, true) => draw(&looked, &mut view, &origin, options)?,
            (Ok(rows), false) => print(rows, &mut view, options)?,
            (Err(_), false) => {}
        }
        if let (Err(error), false) = (looked, on_terminal) {
            return Err(error);
        }
        loop {
            match events.wait(next)? {
                Event::Time | Event::Redraw => break,
                Event::Quit => return Ok(ExitCode::SUCCESS),
                Event::Suspend => {
                    drop(screen.take());
                    raise(Signal::SIGSTOP)?;
                    screen = if on_terminal { Some(Screen::enter()?) } else { None };
                }
            }
        }
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
