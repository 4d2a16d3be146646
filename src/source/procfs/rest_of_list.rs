//! The next piece of a long list of mappings, as work for the pool.

use super::gather::with_text;
use super::{MappingFile, ProcfsSource};
use crate::access::{Account, Reader, person};
use crate::proc_files::ProcRoot;
use crate::protocol::Groups;
use crate::source::deadline_pool::{Begin, Outcome, Stop, Work};
use crate::source::reading::Reading;
use crate::source::rest::{Piece, Rest};
use crate::source::{Budget, SourceError};
use crate::task::TaskRecord;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::sync::Arc;

/// Where the list is found.
pub(in crate::source) enum Place {
    Open(Arc<Mutex<MappingFile>>),
    /// In the file `maps`, from this address on.
    #[cfg(feature = "bpf")]
    Address(u64),
}

struct Item {
    root: Arc<ProcRoot>,
    budget: Arc<Budget>,
    account: Account,
    pid: u32,
    tgid: u32,
    owner: u32,
    place: Place,
}

impl Work for Item {
    type Output = nix::Result<Piece>;

    fn target(&self) -> Option<u32> {
        Some(self.tgid)
    }

    fn owner(&self) -> u32 {
        person(&self.root, self.tgid, self.owner)
    }

    fn run(&self, stop: &Stop) -> nix::Result<Piece> {
        let reading = Reading::new(stop, &self.budget, self.account);
        let dir = self.root.task(self.pid)?.within(reading);
        let file = match &self.place {
            Place::Open(file) => file.clone(),
            #[cfg(feature = "bpf")]
            Place::Address(from) => {
                let file = Arc::new(dir.keep("maps")?);
                Arc::new(Mutex::new(MappingFile::new(file, false, *from)))
            }
        };
        let mut open = file.lock();
        let mut mappings = Vec::new();
        let goes_on = with_text(|text| open.read(text, &dir, &mut mappings))?;
        let gone = !goes_on && open.is_gone();
        drop(open);
        Ok(Piece { mappings, rest: goes_on.then_some(Rest::File(file)), missing: Groups::empty(), gone })
    }

    fn weight(piece: &nix::Result<Piece>) -> usize {
        piece.as_ref().map_or(0, |piece| piece.mappings.len())
    }
}

impl ProcfsSource {
    /// The piece at that place, of the task of a record.
    pub(in crate::source) fn piece(
        &self,
        reader: &Reader,
        task: &TaskRecord,
        place: Place,
    ) -> Result<Piece, SourceError> {
        let item = Item {
            root: self.root.clone(),
            budget: self.budget.clone(),
            account: reader.account,
            pid: task.daemons_pid,
            tgid: task.daemons_tgid,
            owner: task.credentials.uid,
            place,
        };
        let begin = Begin { within: self.deadlines.read, bytes: usize::MAX };
        match self.pool.run(vec![item], self.deadlines, begin).pop() {
            Some(Outcome::Done(Ok(piece))) => Ok(piece),
            Some(Outcome::Done(Err(Errno::ENOMEM))) => Err(SourceError::OverBudget(reader.account)),
            Some(Outcome::Done(Err(e))) if crate::proc_files::is_absent(e) => {
                Ok(Piece { gone: true, ..Piece::default() })
            }
            _ => Ok(Piece { missing: Groups::VMA | Groups::VMA_STAT, ..Piece::default() }),
        }
    }
}
