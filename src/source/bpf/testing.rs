//! What the tests of these programs have in common.

use std::fmt::Display;
use std::io::Write;
use std::process::Child;

/// A child that ends with its test.
pub(super) struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was loaded; or else says loudly that `test` is skipped, which in CI is a failure.
pub(crate) fn available<T>(test: &str, loaded: Result<T, impl Display>) -> Option<T> {
    let why = match loaded {
        Ok(loaded) => return Some(loaded),
        Err(why) => why,
    };
    assert!(std::env::var_os("CI").is_none(), "no BPF: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no BPF: {why}");
    None
}
