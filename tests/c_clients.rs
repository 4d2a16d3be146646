//! The header and the programs in C: on a real mount, beside the library on whole and on garbled answers under the
//! sanitizers of two compilers, and as they are installed.

mod common;

use common::answers::{self, Numbers};
use common::daemon::Daemon;
use common::handle::{BUFFER, Handle, request};
use common::sources::{Source, sources};
use common::{needs, tools, zoo};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use task_diag::protocol::{DumpStrategy, Groups};
use tempfile::TempDir;

const COMPILERS: [&str; 2] = ["gcc", "clang"];

fn compilers_are_there() -> bool {
    tools::are_there(&["make", "gcc", "clang"])
}

/// The examples, built by one compiler.
fn build(compiler: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    tools::build_c_examples(compiler, place.path());
    place
}

/// What the C program prints of each answer, and whether it calls one malformed.
#[track_caller]
fn decoded(program: &Path, answers: &[Vec<u8>]) -> (Vec<String>, bool) {
    let place = TempDir::new().unwrap();
    let mut command = tools::command(program.to_str().unwrap());
    // A last file that is empty: with one name alone the program prints no names.
    for (n, answer) in answers.iter().map(Vec::as_slice).chain([&[][..]]).enumerate() {
        let path = place.path().join(n.to_string());
        std::fs::write(&path, answer).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let (out, err) = tools::texts(&output);
    assert_eq!(err, "", "{command:?}");
    let status = output.status.code();
    assert!(matches!(status, Some(0 | 1)), "{:?}", output.status);
    let mut texts: Vec<String> = Vec::new();
    for line in out.lines() {
        match line.strip_prefix("file ") {
            Some(_) => texts.push(String::new()),
            None => {
                let text = texts.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert_eq!(texts.pop().as_deref(), Some(""));
    (texts, status == Some(1))
}

#[track_caller]
fn assert_same(program: &Path, answers: &[Vec<u8>]) {
    let (texts, malformed) = decoded(program, answers);
    assert_eq!(texts.len(), answers.len());
    let mut any = false;
    for (n, (text, answer)) in texts.iter().zip(answers).enumerate() {
        let expected = answers::text(answer);
        any |= expected.contains("malformed");
        let differs = text.lines().zip(expected.lines()).find(|(found, wanted)| found != wanted);
        assert!(*text == expected, "answer {n} of {} bytes: {differs:?}", answer.len());
    }
    assert_eq!(malformed, any);
}

#[test]
fn whole_answers_decode_as_in_rust() {
    if !compilers_are_there() || !needs::root_and_fuse() {
        return;
    }
    let _zoo = zoo::all();
    let mut whole = answers::captured();
    whole.push(answers::synthetic());
    for source in sources() {
        let daemon = Daemon::start(source);
        let file = Handle::open(daemon.path());
        let own = nix::unistd::gettid().as_raw() as u32;
        for (strategy, groups, buffer) in [
            (DumpStrategy::Children, Groups::all(), BUFFER),
            (DumpStrategy::Children, Groups::all(), 4096),
            (DumpStrategy::All, Groups::BASE | Groups::CRED | Groups::CMDLINE, BUFFER),
            (DumpStrategy::AllThreads, Groups::BASE | Groups::STAT | Groups::STATM, BUFFER),
            (DumpStrategy::All, Groups::empty(), BUFFER),
        ] {
            file.request(&request(strategy, own, groups));
            whole.push(file.read_to_end(buffer).unwrap().concat());
        }
    }
    assert!(whole.iter().all(|answer| !answers::text(answer).contains("malformed")));
    for compiler in COMPILERS {
        let built = build(compiler);
        assert_same(&built.path().join("task_diag_decode"), &whole);
    }
}

#[test]
fn garbled_answers_decode_as_in_rust() {
    if !compilers_are_there() {
        return;
    }
    let synthetic = answers::synthetic();
    let mut sources = answers::captured();
    sources.retain(|answer| answer.len() < 12_000);
    sources.push(synthetic.clone());
    let mut numbers = Numbers(1);
    let mut garbled: Vec<Vec<u8>> = (0..=synthetic.len()).map(|len| synthetic[..len].to_vec()).collect();
    for n in 0..4000 {
        // Every other one is the one that holds everything.
        let source = if n % 2 == 0 { &synthetic } else { &sources[numbers.below(sources.len())] };
        garbled.push(answers::garbled(source, &mut numbers));
    }
    let malformed = garbled.iter().filter(|answer| answers::text(answer).contains("malformed")).count();
    assert!(malformed > 1000 && malformed < garbled.len(), "{malformed} of {}", garbled.len());
    for compiler in COMPILERS {
        let built = build(compiler);
        for some in garbled.chunks(1000) {
            assert_same(&built.path().join("task_diag_decode"), some);
        }
    }
}

/// That the sanitizers would see it if the C code read a byte too many.
#[test]
fn sanitizers_see_a_byte_too_many() {
    if !compilers_are_there() {
        return;
    }
    let place = TempDir::new().unwrap();
    let source = place.path().join("beyond.c");
    std::fs::write(
        &source,
        "#include \"task_diag.h\"\n#include <stdlib.h>\n\
         int main(void)\n{\n\
         \tunsigned char *answer = calloc(1, 20);\n\
         \tstruct task_diag_bytes bytes = task_diag_bytes_of(answer, 28); /* 8 more than there are */\n\
         \tstruct task_diag_message message;\n\
         \treturn task_diag_next_message(&bytes, &message) > 0;\n}\n",
    )
    .unwrap();
    for compiler in COMPILERS {
        let program = place.path().join("beyond");
        let flags = ["-std=c99", "-fsanitize=address,undefined", "-Iinclude", "-o"];
        tools::succeeds(tools::command(compiler).args(flags).args([&program, &source]));
        let output = tools::command(program.to_str().unwrap()).output().unwrap();
        let (_, err) = tools::texts(&output);
        assert!(err.contains("heap-buffer-overflow"), "{compiler}: {err}");
    }
}

/// Tasks that are listed in a request made by the header, and how it refuses what does not fit.
#[test]
fn listed_tasks_are_asked_for() {
    if !tools::are_there(&["gcc"]) || !needs::root_and_fuse() {
        return;
    }
    let place = TempDir::new().unwrap();
    let source = place.path().join("set.c");
    std::fs::write(
        &source,
        "#include \"task_diag.h\"\n#include <stdio.h>\n#include <stdlib.h>\n\
         int main(int argc, char **argv)\n{\n\
         \tstatic char buffer[TASK_DIAG_BUFFER];\n\
         \tuint32_t pids[3] = { (uint32_t)atoi(argv[2]), 2147483647, (uint32_t)getpid() };\n\
         \tunsigned char request[44 + sizeof(pids)];\n\
         \tsize_t len = task_diag_set_request(request, sizeof(request), TASK_DIAG_SHOW_FILES, pids, 3);\n\
         \tint fd = task_diag_open(argv[1]);\n\
         \tssize_t n;\n\
         \tif (argc != 3 || task_diag_set_request(request, sizeof(request) - 1, 0, pids, 3) != 0 ||\n\
         \t    task_diag_set_request(request, (size_t)-1, 0, pids, TASK_DIAG_SET_MAX + 1) != 0)\n\
         \t\treturn 2;\n\
         \tif (len != sizeof(request) || fd < 0 || task_diag_ask_bytes(fd, request, len) < 0)\n\
         \t\treturn 3;\n\
         \twhile ((n = read(fd, buffer, sizeof(buffer))) > 0) {\n\
         \t\tstruct task_diag_bytes rest = task_diag_bytes_of(buffer, (size_t)n);\n\
         \t\tstruct task_diag_message message;\n\
         \t\tstruct task_diag_attribute attribute;\n\
         \t\tstruct task_diag_places places;\n\
         \t\twhile (task_diag_next_message(&rest, &message) > 0)\n\
         \t\t\twhile (task_diag_next_attribute(&message.attributes, &attribute) > 0)\n\
         \t\t\t\tif (attribute.id == TASK_DIAG_FILES && task_diag_get_files(attribute.payload, &places) > 0)\n\
         \t\t\t\t\tprintf(\"%u %s\\n\", message.pid, places.exe);\n\
         \t}\n\
         \treturn n < 0 ? 4 : 0;\n}\n",
    )
    .unwrap();
    let program = place.path().join("set");
    let flags =
        ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-Iinclude", "-o"];
    tools::succeeds(tools::command("gcc").args(flags).args([&program, &source]));
    let daemon = Daemon::start(&common::sources::PROCFS);
    let own = std::process::id();
    let mut command = tools::command(program.to_str().unwrap());
    let (out, _) = tools::succeeds(command.arg(daemon.path()).arg(own.to_string()));
    let exe = std::env::current_exe().unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0] == format!("{own} {}", exe.display()), "{out}");
    assert!(lines[1].ends_with(program.to_str().unwrap()), "{out}");
}

#[test]
fn header_is_also_valid_cpp() {
    if !tools::are_there(&["clang"]) {
        return;
    }
    let flags = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"];
    // As a source file of its own, so that all of it is looked at; twice, so that the guard is.
    let includes = ["-include", "include/task_diag.h", "-include", "include/task_diag.h", "/dev/null"];
    tools::succeeds(tools::command("clang").args(flags).args(includes));
    for standard in ["c99", "c11", "gnu17"] {
        let flags = ["-x", "c", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-std"];
        let standard = format!("-std={standard}");
        tools::succeeds(tools::command("clang").args(&flags[..7]).arg(standard).args(includes));
    }
}

/// A line of a list: the time in it, in clock ticks, and the words but for the time.
type Line = (u64, Vec<String>);

/// The lines of a list, by process.
fn lines(list: &str) -> HashMap<u32, Line> {
    let lines = list.lines().filter_map(|line| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let pid = words.first()?.parse().ok()?;
        let ticks = words.remove(5).replace('.', "").parse().unwrap();
        Some((pid, (ticks, words)))
    });
    lines.collect()
}

fn agree(asked: Option<&Line>, read: Option<&Line>, source: &Source) -> bool {
    let (Some((asked_ticks, asked)), Some((read_ticks, read))) = (asked, read) else { return false };
    asked == read && asked_ticks.abs_diff(*read_ticks) <= source.ticks
}

#[test]
fn ps_says_the_same_with_and_without_a_daemon() {
    if !compilers_are_there() || !needs::root_and_fuse() {
        return;
    }
    let zoo = zoo::all();
    let built = build("gcc");
    let ps = built.path().join("task_diag_ps");
    let ps = ps.to_str().unwrap();
    for source in sources() {
        let daemon = Daemon::start(source);
        let path = daemon.path();
        // What is shared with others comes and goes: they are compared until they agree.
        let mut differences = Vec::new();
        for _ in 0..20 {
            let (asked, said) = tools::succeeds(tools::command(ps).arg(&path));
            assert_eq!(said, format!("task_diag_ps: asked {}\n", path.display()));
            let (read, said) = tools::succeeds(tools::command(ps).arg("/nowhere/task_diag"));
            let reason = "no task-diag daemon serves here";
            assert!(said.contains(reason) && said.ends_with("reading /proc\n"), "{said}");
            let (asked, read) = (lines(&asked), lines(&read));
            assert!(asked.len() > zoo.len() && asked.contains_key(&std::process::id()));
            let both = zoo.iter().map(|animal| (animal.name, asked.get(&animal.pid), read.get(&animal.pid)));
            let differing = both.filter(|(_, asked, read)| !agree(*asked, *read, source));
            differences = differing.map(|different| format!("{different:?}")).collect();
            if differences.is_empty() {
                break;
            }
        }
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

/// `task_diag_ps -i` under way.
struct Ps {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Ps {
    fn start(built: &TempDir, daemon: &Daemon) -> Ps {
        let mut command = tools::command(built.path().join("task_diag_ps").to_str().unwrap());
        command.arg("-i").arg(daemon.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Ps { child, output }
    }

    /// Reads a list, in which this process stands.
    #[track_caller]
    fn list(&mut self) {
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            assert!(self.output.read_line(&mut text).unwrap() > 0, "ps ended: {text}");
        }
        assert!(lines(&text).contains_key(&std::process::id()), "{text}");
    }

    /// Asks for another list.
    #[track_caller]
    fn another(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.list();
    }

    /// Ends it; gives what it said about where the lists came from.
    fn said(self) -> Vec<String> {
        let output = self.child.wait_with_output().unwrap();
        let (_, said) = tools::texts(&output);
        assert!(output.status.success(), "{said}");
        said.lines().map(str::to_string).collect()
    }
}

#[test]
fn ps_outlives_its_daemon() {
    if !compilers_are_there() || !needs::root_and_fuse() {
        return;
    }
    let built = build("clang");
    for source in sources() {
        let daemon = Daemon::start(source);
        let asked = format!("task_diag_ps: asked {}", daemon.path().display());
        let again = "task_diag_ps: the daemon behind this file has ended; opening it again";
        let mut ps = Ps::start(&built, &daemon);
        ps.list();
        let dead = daemon.kill();
        ps.another();
        let daemon = dead.start_again(source);
        ps.another();
        // And started again between two lists.
        let _daemon = daemon.kill().start_again(source);
        ps.another();
        let said = ps.said();
        assert_eq!(said.len(), 6, "{said:#?}");
        assert_eq!([&said[0], &said[3], &said[5]], [&asked; 3]);
        assert_eq!([&said[1], &said[4]], [again; 2]);
        assert!(said[2].ends_with("reading /proc") && said[2].contains("has ended"), "{said:#?}");
    }
}

/// A file that only looks like the interface is not written to.
#[test]
fn other_files_are_refused() {
    if !compilers_are_there() {
        return;
    }
    let built = build("gcc");
    let ps = built.path().join("task_diag_ps");
    let place = TempDir::new().unwrap();
    let ordinary = place.path().join("ordinary");
    std::fs::write(&ordinary, "text").unwrap();
    for path in [ordinary.as_path(), Path::new("/dev/null"), place.path()] {
        let (_, said) = tools::succeeds(tools::command(ps.to_str().unwrap()).arg(path));
        assert!(said.ends_with("reading /proc\n"), "{said}");
        if !path.is_dir() {
            assert!(said.contains("does not speak the protocol"), "{said}");
        }
    }
    assert_eq!(std::fs::read(&ordinary).unwrap(), b"text");
}

#[test]
fn installed_header_is_found_by_pkg_config() {
    if !tools::are_there(&["make", "gcc", "pkg-config"]) {
        return;
    }
    let place = TempDir::new().unwrap();
    let make = |target: &str| {
        let mut command = tools::command("make");
        command.args(["--silent", target]).arg(format!("PREFIX={}", place.path().display()));
        command.arg(format!("BINARY={}", env!("CARGO_BIN_EXE_task-diag")));
        tools::succeeds(&mut command)
    };
    make("install");
    let pkg_config = |question: &str| {
        let mut command = tools::command("pkg-config");
        command.env("PKG_CONFIG_PATH", place.path().join("share/pkgconfig"));
        tools::succeeds(command.args([question, "task_diag"])).0.trim().to_string()
    };
    assert_eq!(pkg_config("--modversion"), env!("CARGO_PKG_VERSION"));
    let include = format!("-I{}", place.path().join("include").display());
    assert_eq!(pkg_config("--cflags"), include);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c/task_diag_ps.c");
    let mut gcc = tools::command("gcc");
    gcc.current_dir(place.path()).arg("-fsyntax-only").arg(include).arg(source);
    tools::succeeds(&mut gcc);
    assert!(place.path().join("share/doc/task-diag/protocol.md").exists());
    make("uninstall");
    assert_eq!(files_below(place.path()), Vec::<PathBuf>::new());
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
