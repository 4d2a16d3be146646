//! What shells and `man` want to know of the command line, made from its definition.

use super::Arguments;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use std::fs;
use std::path::Path;

/// Writes `man1/` and `completions/` below `dir`.
pub fn write(dir: &Path) -> anyhow::Result<()> {
    let (man, completions) = (dir.join("man1"), dir.join("completions"));
    for dir in [&man, &completions] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // What `help COMMAND` says is the page of that command.
    let mut command = Arguments::command().disable_help_subcommand(true);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "task-diag", &completions)?;
    }
    clap_mangen::generate_to(command, &man)?;
    Ok(())
}
