//! The engine in this very process, behind `read` and `write`.

use crate::access::{Account, CallerError, Reader, Visibility};
use crate::engine::{EngineError, Transaction};
use crate::proc_files::ProcRoot;
use crate::source::Source;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Answers as a daemon would, without one: with the rights of this process, for the thread that reads.
pub struct Direct {
    transaction: Transaction,
    proc_root: Arc<ProcRoot>,
    visibility: Visibility,
}

impl Direct {
    /// Asks `source`, which looks at `proc_root`.
    pub fn new(source: Arc<dyn Source>, proc_root: Arc<ProcRoot>) -> Direct {
        Direct { transaction: Transaction::new(source), proc_root, visibility: Visibility::default() }
    }

    /// What to show of tasks that this thread may not look at. [`Visibility::Proc`] gives nothing away where the process
    /// has no more rights than its user: that user can read the same from `/proc`.
    #[must_use]
    pub fn showing(self, visibility: Visibility) -> Direct {
        Direct { visibility, ..self }
    }

    fn current(&self) -> Result<Reader, CallerError> {
        Ok(Reader { visibility: self.visibility, ..Reader::current(&self.proc_root)? })
    }
}

impl Read for Direct {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.transaction.read(|| self.current(), buf).map_err(as_io)
    }
}

impl Write for Direct {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.transaction.write(Account::User(nix::unistd::geteuid().as_raw()), data).map_err(as_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_io(error: EngineError) -> io::Error {
    io::Error::from_raw_os_error(error.to_errno())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DumpStrategy, Groups, Request};
    use crate::source::{Limits, ProcfsSource};

    #[cfg(feature = "bpf")]
    fn bpf(proc_root: &Arc<ProcRoot>) -> Option<Arc<dyn Source>> {
        let loaded = crate::source::BpfSource::load(proc_root.clone(), Limits::default());
        crate::source::available("empty buffers", loaded).map(|source| Arc::new(source) as _)
    }

    #[cfg(not(feature = "bpf"))]
    fn bpf(_: &Arc<ProcRoot>) -> Option<Arc<dyn Source>> {
        None
    }

    #[test]
    fn an_empty_buffer_loses_nothing() {
        let proc_root = Arc::new(ProcRoot::open("/proc").unwrap());
        let procfs = ProcfsSource::new(proc_root.clone(), Limits::default());
        let sources = [Some(Arc::new(procfs) as Arc<dyn Source>), bpf(&proc_root)];
        for source in sources.into_iter().flatten() {
            let mut file = Direct::new(source, proc_root.clone());
            let request = Request { strategy: DumpStrategy::All, groups: Groups::BASE, ..Request::default() };
            file.write_all(&request.to_bytes()).unwrap();
            let mut buffer = [0; 4096];
            for _ in 0..2 {
                assert_eq!(file.read(&mut []).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
                assert!(file.read(&mut buffer[..100]).unwrap() > 0);
            }
            while file.read(&mut buffer).unwrap() > 0 {}
            assert_eq!(file.read(&mut []).unwrap(), 0);
        }
    }
}
