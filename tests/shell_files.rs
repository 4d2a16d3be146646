//! The man pages and completions that are installed know the command line: bash is asked for what it would offer.

mod common;

use common::daemon::program;
use common::tools;
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;

const HIDDEN: [&str; 2] = ["bench-population", "shell-files"];

fn written() -> TempDir {
    let dir = TempDir::new().unwrap();
    tools::succeeds(program().arg("shell-files").arg(dir.path()));
    dir
}

/// What bash offers for the last of these words.
fn offered(dir: &Path, words: &[&str]) -> BTreeSet<String> {
    let script = r#"
        source "$1"; shift
        [[ $(complete -p task-diag) =~ -F\ ([^ ]+) ]] || exit 3
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        "${BASH_REMATCH[1]}" "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = tools::command("bash");
    bash.args(["--norc", "--noprofile", "-c", script, "bash"]).arg(dir.join("completions/task-diag.bash"));
    let (out, err) = tools::succeeds(bash.args(words));
    assert_eq!(err, "");
    out.split_whitespace().map(str::to_string).collect()
}

/// The words of a help text that begin so.
fn named(help: &str, start: &str) -> BTreeSet<String> {
    let words = help.lines().flat_map(|line| line.trim_start().split([' ', ',']).take(3));
    words
        .filter(|word| word.starts_with(start))
        .map(|word| word.split('[').next().unwrap().to_string())
        .collect()
}

#[test]
fn bash_offers_what_each_command_takes() {
    if !tools::are_there(&["bash"]) {
        return;
    }
    let dir = written();
    let offered = |words: &[&str]| offered(dir.path(), words);
    let commands = offered(&["task-diag", ""]);
    let (help, _) = tools::succeeds(program().arg("--help"));
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let listed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(listed.len() >= 10 && listed.iter().all(|name| commands.contains(*name)), "{commands:?}");
    assert!(HIDDEN.iter().all(|name| !commands.contains(*name)), "{commands:?}");
    for command in listed {
        let (help, _) = tools::succeeds(program().args([command, "--help"]));
        let options = named(&help, "--");
        let found = offered(&["task-diag", command, "--"]);
        assert!(options.len() > 5 && options.is_subset(&found), "{command}: {found:?} lacks {options:?}");
    }
    let set = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(offered(&["task-diag", "ps", "--color", ""]), set(&["auto", "always", "never"]));
    assert_eq!(offered(&["task-diag", "all-threads", "--format", "j"]), set(&["json"]));
    assert_eq!(offered(&["task-diag", "mount", "--hidepid", ""]), set(&["ptrace", "proc"]));
}

#[test]
fn all_know_the_options_and_nobody_what_is_hidden() {
    let dir = written();
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let page = text("man1/task-diag.1");
    assert!(text("man1/task-diag-ps.1").contains("cputimes") && page.contains("task\\-diag\\-mount(1)"));
    for shell in ["task-diag.bash", "_task-diag", "task-diag.fish"] {
        let script = text(&format!("completions/{shell}"));
        assert!(script.contains("ndjson"), "{shell}");
        assert!(HIDDEN.iter().all(|name| !script.contains(name)), "{shell}");
    }
}
