//! The terminal while a view is redrawn on it.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use terminal_size::{Height, Width, terminal_size};

/// Columns and lines of the terminal.
pub fn size() -> (usize, usize) {
    match terminal_size() {
        Some((Width(columns), Height(lines))) if columns > 0 && lines > 0 => (columns.into(), lines.into()),
        _ => (80, 24),
    }
}

/// The alternate screen without a cursor, and keys that come at once and are not echoed. Dropping it puts back what was.
pub struct Screen {
    keyboard: Option<Termios>,
}

impl Screen {
    pub fn enter() -> io::Result<Screen> {
        let mut keyboard = None;
        if io::stdin().is_terminal() {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.local_flags -= LocalFlags::ICANON | LocalFlags::ECHO;
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
            keyboard = Some(before);
        }
        let screen = Screen { keyboard };
        // No line wraps: one that is as wide as the terminal would take two.
        write_now("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = write_now("\x1b[?7h\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.keyboard {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

fn write_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
