//! Tasks as a table that fits.

use super::column::Column;
use super::name_cache::NameCache;
use super::row::Row;
use super::tree;
use std::io::{self, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a table is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Cells of a line; `None` for whole lines.
    pub width: Option<usize>,
    /// Lines of tasks; `None` for all.
    pub height: Option<usize>,
    pub colour: bool,
    /// Branches before the command.
    pub tree: bool,
}

const RESET: &str = "\x1b[0m";

/// Writes a heading and a line for each task, each ended by `end`.
pub fn write(
    out: &mut dyn Write,
    rows: &[Row],
    columns: &[Column],
    names: &mut NameCache,
    style: Style,
    end: &str,
) -> io::Result<()> {
    let shown = &rows[..rows.len().min(style.height.unwrap_or(usize::MAX))];
    // Branches stand before the command, or before whatever is the last.
    let command = columns.iter().rposition(|column| matches!(column, Column::Args | Column::Comm));
    let trunk = command.or(columns.len().checked_sub(1)).filter(|_| style.tree);
    let mut cells = Cells::default();
    columns.iter().for_each(|column| cells.push(|text| text.push_str(column.heading())));
    let limit = style.width.unwrap_or(usize::MAX);
    for row in shown {
        for (at, column) in columns.iter().enumerate() {
            cells.push(|text| {
                if Some(at) == trunk {
                    tree::draw(text, &row.branches);
                }
                column.show(text, row, names, limit);
            });
        }
    }
    let widths = cells.widths(columns.len(), limit);
    let mut line = String::new();
    for (n, cells) in cells.all().chunks(columns.len().max(1)).enumerate() {
        line.clear();
        for (at, ((cell, column), width)) in cells.iter().zip(columns).zip(&widths).enumerate() {
            if at > 0 {
                line.push(' ');
            }
            let pad = width.saturating_sub(cell.width);
            let is_last = at + 1 == columns.len();
            if column.is_text() {
                let fits = is_last || style.width.is_none();
                line.push_str(if fits { cell.text } else { cut(cell.text, *width) });
                if !is_last {
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            } else {
                line.extend(std::iter::repeat_n(' ', pad));
                line.push_str(cell.text);
            }
        }
        let whole = cut(&line, limit);
        let colour = match n.checked_sub(1).map(|n| &shown[n]) {
            _ if !style.colour => "",
            None => "\x1b[1m",
            Some(row) => colour_of(row),
        };
        let reset = if colour.is_empty() { "" } else { RESET };
        write!(out, "{colour}{whole}{reset}{end}")?;
    }
    Ok(())
}

/// By what it does: what needs no look is plain.
fn colour_of(row: &Row) -> &'static str {
    match row.state() {
        'R' => "\x1b[32m",
        'D' => "\x1b[31m",
        'Z' | 'X' => "\x1b[35m",
        'T' | 't' => "\x1b[33m",
        _ if row.command_line.is_none() && row.is_kernel_thread() => "\x1b[2m",
        _ => "",
    }
}

/// As much of `line` as `limit` cells hold.
pub fn cut(line: &str, limit: usize) -> &str {
    if line.len() <= limit {
        return line;
    }
    let mut used = 0;
    for (at, c) in line.char_indices() {
        used += c.width().unwrap_or(0);
        if used > limit {
            return &line[..at];
        }
    }
    line
}

/// The text of all cells, one behind the other.
#[derive(Default)]
struct Cells {
    text: String,
    /// Where each ends, and how wide it is.
    ends: Vec<(usize, usize)>,
}

struct Cell<'a> {
    text: &'a str,
    width: usize,
}

impl Cells {
    fn push(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        let cell = &self.text[start..];
        let width = if cell.is_ascii() { cell.len() } else { cell.width() };
        self.ends.push((self.text.len(), width));
    }

    /// The widest of each column. None takes more than a third of the line, so that others have room; nor, where lines are
    /// whole, much space for the sake of one long text.
    fn widths(&self, columns: usize, limit: usize) -> Vec<usize> {
        let mut widths = vec![0; columns];
        for (at, (_, width)) in self.ends.iter().enumerate() {
            let widest = &mut widths[at % columns];
            *widest = (*widest).max(*width);
        }
        widths.iter().map(|width| (*width).min((limit / 3).clamp(8, 64))).collect()
    }

    fn all(&self) -> Vec<Cell<'_>> {
        let mut start = 0;
        let cell = |(end, width): &(usize, usize)| {
            let text = &self.text[start..*end];
            start = *end;
            Cell { text, width: *width }
        };
        self.ends.iter().map(cell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_what_a_terminal_shows() {
        assert_eq!(cut("abcdef", 4), "abcd");
        assert_eq!(cut("abc", 4), "abc");
        assert_eq!(cut("\u{e9}\u{e9}\u{e9}", 2), "\u{e9}\u{e9}");
        // Two cells wide each.
        assert_eq!(cut("\u{4e2d}\u{6587}", 3), "\u{4e2d}");
    }
}
