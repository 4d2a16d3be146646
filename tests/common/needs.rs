//! What a test needs of the machine. A test that cannot have it says so loudly, and fails where everything ought to
//! be there: in continuous integration.

use std::io::Write;

/// Root's rights and FUSE, for a mount that everyone may read.
#[must_use]
pub fn root_and_fuse() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return missing("root's rights");
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        return missing("/dev/fuse");
    }
    true
}

/// Says that a test is skipped for want of `what`; gives false.
pub fn missing(what: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    assert!(std::env::var_os("CI").is_none(), "{test} needs {what}");
    lacking(what)
}

/// The same of what a machine need not have, in continuous integration neither.
pub fn lacking(what: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    // Not eprintln!, which the test harness keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test} needs {what}");
    false
}
