//! Programs of the machine that tests run: compilers, make, Python.

use super::needs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command at the top of the sources, with no settings of the `make` that runs the tests.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).env("LC_ALL", "C");
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "PYTHONPATH", "ASAN_OPTIONS", "UBSAN_OPTIONS"]
    {
        command.env_remove(name);
    }
    command
}

/// Whether all of these programs are there.
#[must_use]
pub fn are_there(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = command(program).arg("--version").output();
        found.is_ok_and(|output| output.status.success()) || needs::missing(program)
    })
}

/// Runs `command`, which has to succeed; gives what it wrote to standard output and to standard error.
#[track_caller]
pub fn succeeds(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    (out, err)
}

/// Standard output and standard error.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A function of `tests/python/check_client.py`, to be given its arguments.
pub fn python_check(python: &str, name: &str) -> Command {
    let mut command = command(python);
    command.env("PYTHONPATH", "examples/python").env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-X", "utf8", "tests/python/check_client.py", name]);
    command
}

/// Builds the examples in C below `place`, with every warning an error and with the sanitizers of the compiler.
#[track_caller]
pub fn build_c_examples(compiler: &str, place: &Path) {
    let flags = "-std=c99 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -g -O1 \
                 -fsanitize=address,undefined -fno-sanitize-recover=all";
    succeeds(
        command("make")
            .args(["--silent", "examples"])
            .arg(format!("CC={compiler}"))
            .arg(format!("CFLAGS={flags}"))
            .arg(format!("EXAMPLES={}", place.display())),
    );
}
