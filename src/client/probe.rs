//! Whether somebody answers, and why not.

use super::{Client, ClientError, Mount};
use crate::protocol::{DumpStrategy, Groups, Request};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the interface cannot be used. What a program does then is read `/proc`.
#[derive(Debug, Error)]
pub enum Absent {
    /// There is no such file (`ENOENT`, `ENOTDIR`): no daemon runs, or it is mounted elsewhere.
    #[error("{} is not there; no task-diag service is mounted at it", .0.display())]
    NotMounted(PathBuf),
    /// There is a mount, and its daemon has ended (`ENOTCONN`). A restart heals it.
    #[error("the service behind {} has ended", .0.display())]
    Dead(PathBuf),
    /// The file's permissions, or those of a security module, keep this process out (`EACCES`, `EPERM`).
    #[error("no permission to open {}", .0.display())]
    NotPermitted(PathBuf),
    /// The server answers others, but cannot tell who this process is (`EACCES` from a read): it lives in a namespace that
    /// the server doesn't know.
    #[error("the service behind {} cannot tell who this process is; it may live in another namespace", .0.display())]
    Unidentified(PathBuf),
    /// Something else is there.
    #[error("{} is not a task_diag file", .0.display())]
    NotTaskDiag(PathBuf),
    /// Anything else that a call said.
    #[error("{}: {error}", .path.display())]
    Failed {
        /// Which file.
        path: PathBuf,
        /// What the call said.
        error: io::Error,
    },
}

/// What a server says of itself, in the file `info` beside its interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Version of the daemon; empty for a server without `info`, as a kernel with the patch.
    pub version: String,
    /// Where its tasks come from: `bpf`, `bpf-iter` or `procfs`.
    pub source: String,
    /// Who answers for each group, by its name: `bpf`, `bpf-iter`, `procfs` or `taskstats`; empty for servers that do not say.
    pub sources: BTreeMap<String, String>,
    /// The groups that it offers, by name and number of the bit; those that this library does not know too.
    pub groups: BTreeMap<String, u32>,
    /// The strategies that it offers, by name and number, in the same way.
    pub strategies: BTreeMap<String, u32>,
    /// `ptrace`, or `proc` where everyone is shown what `/proc` shows everyone.
    pub visibility: String,
}

/// `NAME=NUMBER`, separated by blanks.
fn numbered(text: &str) -> BTreeMap<String, u32> {
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, number)| Some((name.into(), number.parse().ok()?))).collect()
}

impl Server {
    /// What the file `info` beside the interface at `path` says; nothing where there is none.
    pub fn beside(path: &Path) -> Server {
        Server::parse(&std::fs::read_to_string(path.with_file_name("info")).unwrap_or_default())
    }

    fn parse(text: &str) -> Server {
        let mut server = Server::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(": ")) {
            match key {
                "version" => server.version = value.into(),
                "source" => server.source = value.into(),
                "sources" => {
                    let pairs = value.split(' ').filter_map(|pair| pair.split_once('='));
                    server.sources = pairs.map(|(name, source)| (name.into(), source.into())).collect();
                }
                "visibility" => server.visibility = value.into(),
                "groups" => server.groups = numbered(value),
                "strategies" => server.strategies = numbered(value),
                _ => {}
            }
        }
        server
    }

    /// Whether all of `groups` are offered. A server without `info` is taken to offer what the kernel patch has.
    pub fn offers(&self, groups: Groups) -> bool {
        if self.groups.is_empty() {
            return Groups::NATIVE.contains(groups);
        }
        let offered =
            self.groups.values().filter_map(|bit| 1_u64.checked_shl(*bit)).fold(0, |all, bit| all | bit);
        offered & groups.bits() == groups.bits()
    }

    /// Whether it knows this way to ask. What the kernel patch has all of them have.
    pub fn knows(&self, strategy: DumpStrategy) -> bool {
        let number = strategy as u32;
        number <= DumpStrategy::Thread as u32 || self.strategies.values().any(|known| *known == number)
    }
}

/// Asks the file at `path` for this very process. Gives what the server says of itself, or why there is no answer.
///
/// ```
/// use task_diag::client::{Absent, probe};
/// match probe("/run/task_diag/task_diag") {
///     Ok(server) => println!("task_diag {} by {}", server.version, server.source),
///     Err(why) => println!("reading /proc instead: {why}"),
/// }
/// assert!(matches!(probe("/nowhere/task_diag"), Err(Absent::NotMounted(_))));
/// ```
///
/// # Errors
/// Every [`Absent`].
pub fn probe(path: impl AsRef<Path>) -> Result<Server, Absent> {
    let path = path.as_ref();
    let absent = |error: io::Error, within: bool| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Absent::NotMounted(path.into()),
        Some(errno) if super::mount::is_disconnected(errno) => Absent::Dead(path.into()),
        Some(libc::EACCES | libc::EPERM) if within => Absent::Unidentified(path.into()),
        Some(libc::EACCES | libc::EPERM) => Absent::NotPermitted(path.into()),
        // A file of another kind, on another filesystem, on FUSE without our protocol, or without a memory of requests.
        Some(libc::EISDIR | libc::EINVAL | libc::ENOTTY | libc::EOPNOTSUPP | libc::ENXIO) => {
            Absent::NotTaskDiag(path.into())
        }
        _ if error.kind() == io::ErrorKind::InvalidInput => Absent::NotTaskDiag(path.into()),
        _ => Absent::Failed { path: path.into(), error },
    };
    let mut client = Client::over(Mount::open(path).map_err(|error| absent(error, false))?);
    let own = std::process::id();
    match client.tasks(Request::one(own, Groups::BASE)) {
        Ok(tasks) if tasks.len() == 1 && tasks[0].tgid == own => {}
        Ok(_) | Err(ClientError::Decode(_)) => return Err(Absent::NotTaskDiag(path.into())),
        Err(ClientError::Open { source } | ClientError::Io { source }) => return Err(absent(source, true)),
    }
    Ok(Server::beside(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_whatever_else_it_says() {
        let text = "version: 1.2\nprotocol: 1\nsource: bpf\ngroups: BASE=0 STAT=4 NEWER=45\nstrategies: ALL=0 SET=16\nvisibility: proc\nx\nsources: BASE=bpf VMA_STAT=procfs\n";
        let server = Server::parse(text);
        assert_eq!((&server.version[..], &server.source[..], &server.visibility[..]), ("1.2", "bpf", "proc"));
        assert_eq!(server.groups.get("NEWER"), Some(&45));
        assert_eq!(server.sources.get("VMA_STAT").map(String::as_str), Some("procfs"));
        assert!(server.offers(Groups::BASE | Groups::STAT) && !server.offers(Groups::BASE | Groups::VMA));
        assert!(server.knows(DumpStrategy::Set) && !server.knows(DumpStrategy::Subtree));
        assert!(server.knows(DumpStrategy::Thread) && !Server::default().knows(DumpStrategy::Set));
        assert!(Server::default().offers(Groups::NATIVE) && !Server::default().offers(Groups::MISSING));
    }

    #[test]
    fn other_files_are_not_written_to() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("task_diag");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(probe(&file), Err(Absent::NotTaskDiag(_))));
        assert!(matches!(probe(dir.path()), Err(Absent::NotTaskDiag(_))));
        assert!(matches!(probe(file.join("x")), Err(Absent::NotMounted(_))));
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
