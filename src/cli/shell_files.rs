//! What shells and `man` want to know of the command line, made from its definition.

use super::Arguments;
use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate, generate_to};
use std::fs;
use std::path::Path;

const NAME: &str = "task-diag";

/// The name for bash: of one with a dash the generator makes two different ones, in its dispatcher and in the cases of that.
const NAME_FOR_BASH: &str = "task_diag";

/// The commands without those that are hidden; what `help COMMAND` says is the page of that command.
fn visible() -> Command {
    let all = Arguments::command();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .subcommands(commands.collect::<Vec<_>>())
}

/// Writes `man1/` and `completions/` below `dir`.
pub fn write(dir: &Path) -> anyhow::Result<()> {
    let (man, completions) = (dir.join("man1"), dir.join("completions"));
    for dir in [&man, &completions] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    for shell in [Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut visible(), NAME, &completions)?;
    }
    fs::write(completions.join(format!("{NAME}.bash")), bash()?)?;
    clap_mangen::generate_to(visible(), &man)?;
    Ok(())
}

fn bash() -> anyhow::Result<String> {
    let mut script = Vec::new();
    generate(Shell::Bash, &mut visible().name(NAME_FOR_BASH), NAME_FOR_BASH, &mut script);
    let line = |line: &str| match line.strip_suffix(NAME_FOR_BASH) {
        Some(complete) if complete.trim_start().starts_with("complete ") => format!("{complete}{NAME}\n"),
        _ => format!("{line}\n"),
    };
    Ok(str::from_utf8(&script)?.lines().map(line).collect())
}
