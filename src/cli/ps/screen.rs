//! The terminal while a view is redrawn on it.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};
use terminal_size::{Height, Width, terminal_size};

/// Columns and lines of the terminal.
pub fn size() -> (usize, usize) {
    match terminal_size() {
        Some((Width(columns), Height(lines))) if columns > 0 && lines > 0 => (columns.into(), lines.into()),
        _ => (80, 24),
    }
}

/// No line wraps: one that is as wide as the terminal would take two.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The keyboard as it is to be put back, while the screen is taken; a pointer, as a handler of signals may load that.
static TAKEN: AtomicPtr<Option<libc::termios>> = AtomicPtr::new(std::ptr::null_mut());

/// Signals that the kernel sends for what the program did, which no descriptor tells of.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
];

/// The alternate screen without a cursor, and keys that come at once and are not echoed. Dropping it puts back what was; so
/// does a panic, before it says anything, and a signal that ends the program at once.
pub struct Screen {
    keyboard: Option<Termios>,
}

impl Screen {
    pub fn enter() -> io::Result<Screen> {
        put_back_at_faults();
        let keyboard = if io::stdin().is_terminal() { Some(tcgetattr(io::stdin())?) } else { None };
        let screen = Screen { keyboard };
        // Kept for good: a handler may be looking at it.
        TAKEN.store(Box::leak(Box::new(screen.keyboard.clone().map(libc::termios::from))), SeqCst);
        screen.take()?;
        Ok(screen)
    }

    /// Takes it once more, from whoever had it while the program stood still.
    pub fn take(&self) -> io::Result<()> {
        if let Some(before) = &self.keyboard {
            let mut raw = before.clone();
            raw.local_flags -= LocalFlags::ICANON | LocalFlags::ECHO;
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        }
        let mut out = io::stdout().lock();
        out.write_all(ENTER)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put_back();
    }
}

/// Gives the terminal back if it is taken. Async-signal-safe.
fn put_back() {
    let taken = TAKEN.swap(std::ptr::null_mut(), SeqCst);
    // SAFETY: a pointer that is not null is that of a value that is never freed.
    let Some(keyboard) = (unsafe { taken.as_ref() }) else { return };
    // The terminal may be gone.
    // SAFETY: the bytes of a constant.
    unsafe { libc::write(libc::STDOUT_FILENO, LEAVE.as_ptr().cast(), LEAVE.len()) };
    if let Some(keyboard) = keyboard {
        // SAFETY: a termios that tcgetattr has filled.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, keyboard) };
    }
}

/// The signal ends the program as it would have without this handler.
extern "C" fn at_fault(signal: libc::c_int) {
    put_back();
    // SAFETY: both are async-signal-safe; the default action of each of these signals is to end the process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn put_back_at_faults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            put_back();
            say(panic);
        }));
        let action = SigAction::new(SigHandler::Handler(at_fault), SaFlags::SA_ONSTACK, SigSet::empty());
        for signal in FAULTS {
            // SAFETY: the handler calls what is async-signal-safe alone.
            let _ = unsafe { sigaction(signal, &action) };
        }
    });
}

/// Ends by a signal, so that whoever started this program is told.
pub fn end_by(signal: libc::c_int) -> io::Error {
    // SAFETY: the default action, and then the signal, which was blocked.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
    // For one whose default action ends nothing.
    io::Error::other(format!("signal {signal}"))
}

/// Stops until the shell goes on with it.
pub fn stop() -> nix::Result<()> {
    raise(Signal::SIGSTOP)
}
