//! What a process may be called: by `comm`, and by its command line.

use super::{Animal, comm};
use crate::common::child::Child;
use crate::common::proc;
use std::ffi::{CString, c_long};
use std::ptr::null;

pub fn all() -> Vec<Animal> {
    vec![
        odd_name(),
        long_command_line(),
        empty_first_argument(),
        script_as_argument(),
        long_title(),
        short_title(),
        empty_title(),
        no_command_line(),
    ]
}

/// A name that breaks a parser of `stat`, a parser of lines and a decoder of UTF-8.
pub const ODD_NAME: &[u8] = b"a) R 1 \\\n\xff\xc3(\x01";

pub fn odd_name() -> Animal {
    let name = comm(ODD_NAME);
    let child = Child::start(0, |inside| {
        inside.must(inside.set_name(&name));
    });
    Animal::new("odd name", b'S', child)
}

/// A shell that has stopped itself, with arguments of its own after those of the shell.
fn shell(name: &'static str, zeroth: &str, more: impl Iterator<Item = String>) -> Animal {
    let shells = [zeroth, "-c", "kill -STOP $$", "sh"].map(str::to_string);
    let strings: Vec<CString> = shells.into_iter().chain(more).map(|s| CString::new(s).unwrap()).collect();
    let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
    pointers.push(null());
    let child = Child::start_not_waiting(0, |inside| inside.exec(c"/bin/sh", &pointers));
    Animal::new(name, b'T', child)
}

/// Arguments of more than 300 KiB, as many as five attributes.
pub fn long_command_line() -> Animal {
    let arguments = (0..3000).map(|n| format!("{n:04}-{}", "x".repeat(100 + n % 7)));
    shell("long command line", "sh", arguments)
}

/// A command line that begins with a NUL.
pub fn empty_first_argument() -> Animal {
    shell("empty first argument", "", ["".to_string(), "last".to_string()].into_iter())
}

/// Lines, control characters and bytes that are no text within an argument.
pub fn script_as_argument() -> Animal {
    shell("script as argument", "sh", ["one\n\ttwo\n\n\x1b[1m \u{e9}\x7f\n".to_string()].into_iter())
}

/// Where this process', and so its children's, arguments and environment stand.
struct Strings {
    arguments: std::ops::Range<u64>,
    environment: std::ops::Range<u64>,
}

impl Strings {
    fn own() -> Strings {
        let stat = proc::Stat::of("self").unwrap();
        let [start, end, env_start, env_end] = [48, 49, 50, 51].map(|field| stat.field(field));
        assert!(start < end && end == env_start && env_start + 16 < env_end, "an environment to write into");
        Strings { arguments: start..end, environment: env_start..env_end }
    }
}

/// Writes over a child's own arguments (and environment).
fn write_over(range: std::ops::Range<u64>, byte: u8) {
    for address in range {
        // SAFETY: strings at the top of the child's own stack, which nothing in the child uses.
        unsafe { (address as *mut u8).write_volatile(byte) };
    }
}

/// Has written its title over the arguments and on into the environment, as setproctitle does.
pub fn long_title() -> Animal {
    let strings = Strings::own();
    let child = Child::start(0, |_| {
        write_over(strings.arguments.clone(), b't');
        write_over(strings.environment.start..strings.environment.start + 7, b'e');
        write_over(strings.environment.start + 7..strings.environment.start + 8, 0);
    });
    Animal::new("long title", b'S', child)
}

/// Has written its title over some of the arguments, without a NUL as their last byte.
pub fn short_title() -> Animal {
    let strings = Strings::own();
    let child = Child::start(0, |_| {
        let all = strings.arguments.clone();
        write_over(all.start..all.start + 3, b's');
        write_over(all.start + 3..all.end - 1, 0);
        write_over(all.end - 1..all.end, b'.');
    });
    Animal::new("short title", b'S', child)
}

/// Has written NULs over its arguments.
pub fn empty_title() -> Animal {
    let strings = Strings::own();
    let child = Child::start(0, |_| write_over(strings.arguments.clone(), 0));
    Animal::new("empty title", b'S', child)
}

/// Has given back the memory that held its arguments: the command line is there, and empty.
pub fn no_command_line() -> Animal {
    let strings = Strings::own();
    let page = proc::page_size();
    let (start, end) = (strings.arguments.start / page * page, strings.arguments.end.div_ceil(page) * page);
    let child = Child::start(0, |inside| {
        inside.call(libc::SYS_munmap, [start as c_long, (end - start) as c_long, 0]);
    });
    Animal::new("no command line", b'S', child)
}
