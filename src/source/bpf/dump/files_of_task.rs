//! What only files tell of tasks that the programs know: read under deadlines.

use crate::access::{Reader, Sight};
use crate::proc_files::{ProcRoot, is_absent};
use crate::protocol::{Groups, attribute_id};
use crate::source::bpf::tasks::abi::Batch;
use crate::source::deadline_pool::Work;
use crate::source::procfs::{Contents, KnownMisc, Question, with_text};
use crate::source::{HANGING, Sections};
use std::sync::Arc;
use zerocopy::FromBytes;

/// The files of one task.
pub(in crate::source::bpf) struct Item {
    pub root: Arc<ProcRoot>,
    pub reader: Arc<Reader>,
    pub pid: u32,
    pub tgid: u32,
    pub per_thread: bool,
    pub owner: u32,
    pub seen: Sight,
    pub groups: Groups,
    pub known: Option<KnownMisc>,
}

/// What the program told of MISC.
pub fn known_misc(batch: Batch<'_>, at: usize) -> Option<KnownMisc> {
    let part = Sections::new(batch.sections(at)?).part(attribute_id::MISC)?;
    KnownMisc::read_from_bytes(part).ok()
}

impl Work for Item {
    type Output = Contents;

    fn target(&self) -> Option<u32> {
        self.groups.intersects(HANGING).then_some(self.tgid)
    }

    fn owner(&self) -> u32 {
        self.owner
    }

    fn run(&self) -> Contents {
        let dir = match self.per_thread {
            true => self.root.thread(self.tgid, self.pid),
            false => self.root.task(self.pid),
        };
        match dir {
            Ok(dir) => {
                let question = Question {
                    root: &self.root,
                    reader: &self.reader,
                    seen: self.seen,
                    groups: self.groups,
                    known: self.known,
                };
                with_text(|text| Contents::read(text, &dir, &question))
            }
            Err(e) if is_absent(e) => Contents::default(),
            Err(_) => Contents { missing: self.groups, ..Contents::default() },
        }
    }
}
