//! Tasks as objects for programs.

use super::column::Column;
use super::extension;
use super::name_cache::NameCache;
use super::row::Row;
use crate::cli::printable::write_json;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};
use task_diag::client::Arguments;

/// One object. Its keys are the columns' names, its numbers are in the columns' units; `null` is what the task lacks.
///
/// `comm` is text and `args` an array of texts. Where these alone do not give the bytes back (a byte that is no UTF-8,
/// which becomes U+FFFD in the text, or arguments that do not end with a NUL), `comm_hex` and `args_hex` have all of them.
pub fn object(out: &mut dyn Write, row: &Row, columns: &[Column], names: &mut NameCache) -> io::Result<()> {
    let mut before = '{';
    let mut field = |out: &mut dyn Write, name: &str, value: Value| {
        write!(out, "{before}\"{name}\":")?;
        before = ',';
        write_json(out, &value)
    };
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].contains(column) {
            // A key comes once.
            continue;
        }
        let name = column.name();
        match column {
            Column::Comm => {
                let bytes = row.name();
                field(out, name, if row.base.is_some() { text(bytes) } else { Value::Null })?;
                if str::from_utf8(bytes).is_err() {
                    field(out, "comm_hex", hex(bytes))?;
                }
            }
            Column::Args => {
                let Some(line) = row.command_line.as_deref() else {
                    field(out, name, Value::Null)?;
                    continue;
                };
                field(out, name, Arguments::of(line).map(text).collect())?;
                let is_told = line.is_empty() || line.ends_with(b"\0") && str::from_utf8(line).is_ok();
                if !is_told {
                    field(out, "args_hex", hex(line))?;
                }
            }
            Column::Exe | Column::Cwd | Column::Root | Column::Wchan | Column::Label => {
                let bytes = extension::bytes(*column, row);
                field(out, name, bytes.as_deref().map_or(Value::Null, text))?;
                if let Some(bytes) = bytes.filter(|bytes| str::from_utf8(bytes).is_err()) {
                    field(out, &format!("{name}_hex"), hex(&bytes))?;
                }
            }
            Column::Cgroup | Column::Environ | Column::Supgid | Column::Supgrp | Column::Nspid => {
                field(out, name, extension::array(*column, row, names))?;
            }
            Column::Tty => {
                let device = row.sched.as_ref().map_or(0, |sched| sched.tty_nr);
                field(out, name, if device == 0 { Value::Null } else { names.terminal(device).into() })?;
            }
            Column::Pcpu => field(out, name, row.pcpu.map(|percent| (percent * 10.0).round() / 10.0).into())?,
            column => match column.number(row) {
                Some(number) if !column.is_text() && !column.is_time() => field(out, name, number.into())?,
                None if !column.is_text() => field(out, name, Value::Null)?,
                _ => {
                    let mut shown = String::new();
                    column.show(&mut shown, row, names, usize::MAX);
                    field(out, name, shown.into())?;
                }
            },
        }
    }
    if !row.missing.is_empty() {
        field(out, "missing", row.missing.iter_names().map(|(name, _)| name).collect())?;
    }
    out.write_all(b"}")
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn hex(bytes: &[u8]) -> Value {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}
