//! What only files tell of tasks that the programs know: read under deadlines.

use crate::access::{Reader, Sight, person};
use crate::proc_files::{ProcRoot, is_absent};
use crate::protocol::{Groups, attribute_id};
use crate::source::bpf::tasks::abi::Batch;
use crate::source::deadline_pool::{Stop, Work};
use crate::source::procfs::{Contents, KnownMisc, Question, with_text};
use crate::source::reading::Reading;
use crate::source::{Budget, HANGING, Sections};
use std::sync::Arc;
use zerocopy::FromBytes;

/// The files of one task.
pub(in crate::source::bpf) struct Item {
    pub root: Arc<ProcRoot>,
    pub budget: Arc<Budget>,
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
        person(&self.root, self.tgid, self.owner)
    }

    fn run(&self, stop: &Stop) -> Contents {
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
                    sums: None,
                };
                let reading = Reading::new(stop, &self.budget, self.reader.account);
                let dir = dir.within(reading.clone());
                let contents = with_text(|text| Contents::read(text, &dir, &question));
                match reading.end(contents.lists_len()) {
                    Ok(share) => Contents { share, ..contents },
                    Err(_) => Contents { refused: true, ..Contents::default() },
                }
            }
            Err(e) if is_absent(e) => Contents::default(),
            Err(_) => Contents { missing: self.groups, ..Contents::default() },
        }
    }

    fn weight(contents: &Contents) -> usize {
        contents.lists_len()
    }
}
