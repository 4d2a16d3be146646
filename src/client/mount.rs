//! The file of a mount, opened anew when its daemon was.

use nix::sys::statfs::{FUSE_SUPER_MAGIC, PROC_SUPER_MAGIC, fstatfs};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The file that a daemon serves, by its path.
///
/// When the daemon ends, whoever has the file open gets `ENOTCONN`, also after another daemon has mounted at the same
/// place. Here the path is then opened again and the request repeated: once for each request, and only while nothing of
/// its answer has been read. Later than that the error comes through, because tasks would come twice; the next request
/// opens the path anew.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    file: File,
    /// The request of which nothing has been read yet.
    unanswered: Option<Vec<u8>>,
}

impl Mount {
    /// Opens the file at `path` for reading and writing.
    ///
    /// # Errors
    /// What `open` says. `InvalidInput` where the file is on neither FUSE nor procfs: a request would be written into it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Mount> {
        let path = path.as_ref().to_path_buf();
        Ok(Mount { file: open(&path)?, path, unanswered: None })
    }

    /// The path that is opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn reopen(&mut self) -> io::Result<()> {
        log::debug!("{} is disconnected; opening it again", self.path.display());
        self.file = open(&self.path)?;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match fstatfs(&file)?.filesystem_type() {
        FUSE_SUPER_MAGIC | PROC_SUPER_MAGIC => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a task_diag file")),
    }
}

/// Whether this error number says that the server has gone: it had before the call, or did during it.
pub(super) fn is_disconnected(errno: i32) -> bool {
    matches!(errno, libc::ENOTCONN | libc::ECONNABORTED)
}

fn was_disconnected<T>(outcome: &io::Result<T>) -> bool {
    outcome.as_ref().is_err_and(|error| error.raw_os_error().is_some_and(is_disconnected))
}

impl Write for Mount {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.unanswered = None;
        let mut outcome = self.file.write(data);
        if was_disconnected(&outcome) {
            self.reopen()?;
            outcome = self.file.write(data);
        } else if outcome.is_ok() {
            self.unanswered = Some(data.to_vec());
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Mount {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let outcome = self.file.read(buf);
        if was_disconnected(&outcome)
            && let Some(request) = self.unanswered.take()
        {
            self.reopen()?;
            self.file.write_all(&request)?;
            return self.file.read(buf);
        }
        if outcome.is_ok() {
            self.unanswered = None;
        }
        outcome
    }
}
