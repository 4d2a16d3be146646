//! What stands in files of a task besides `status` and `stat`: mappings, command line, and the groups from 32 on.

use super::MappingFile;
use super::sections::{self, Question};
use crate::proc_files::{KeptFile, TaskDir, is_absent};
use crate::protocol::Groups;
use crate::source::{Rest, Sections, Share};
use nix::errno::Errno;
use parking_lot::Mutex;
use std::sync::Arc;

/// The groups that a task has, out of its files.
#[derive(Debug, Default)]
pub(in crate::source) struct Contents {
    /// Empty where there are none.
    pub mappings: Vec<u8>,
    /// Where the mappings go on.
    pub rest: Option<Rest>,
    pub command_line: Option<Vec<u8>>,
    pub sections: Vec<u8>,
    /// What was lost for another reason than that the task has none or that this process may not know.
    pub missing: Groups,
    /// What the lists count for.
    pub share: Option<Share>,
    /// The reader's user may not have so much.
    pub refused: bool,
}

impl Contents {
    /// Bytes of its lists.
    #[cfg(feature = "bpf")]
    pub fn lists_len(&self) -> usize {
        self.mappings.len() + self.command_line.as_ref().map_or(0, Vec::len) + self.sections.len()
    }

    /// Reads what is asked of the task of `dir`.
    pub fn read(text: &mut Vec<u8>, dir: &TaskDir, question: &Question<'_>) -> Contents {
        let memory = MemoryFiles::open(dir, question.groups);
        let mut contents = Contents::of_task(text, dir, question);
        contents.add_memory(text, dir, question, &memory);
        contents
    }

    /// Reads what files tell of the task as it is by now.
    pub(super) fn of_task(text: &mut Vec<u8>, dir: &TaskDir, question: &Question<'_>) -> Contents {
        let groups = question.groups;
        let mut contents = Contents::default();
        if groups.contains(Groups::CMDLINE) {
            match dir.read("cmdline", text) {
                Ok(line) => contents.command_line = Some(line.to_vec()),
                // The arguments are said to stand where no memory is.
                Err(Errno::EFAULT) => contents.command_line = Some(Vec::new()),
                Err(e) if is_absent(e) || e == Errno::EACCES => {}
                Err(_) => contents.missing |= Groups::CMDLINE,
            }
        }
        let own = groups & (Groups::OWN - sections::OF_MEMORY);
        contents.missing |= sections::gather(&mut contents.sections, text, dir, question, own);
        contents
    }

    /// Reads what files tell of the memory that the task had when they were opened.
    pub(super) fn add_memory(
        &mut self,
        text: &mut Vec<u8>,
        dir: &TaskDir,
        question: &Question<'_>,
        files: &MemoryFiles,
    ) {
        let groups = question.groups;
        if let Some(file) = &files.mappings {
            match read_mappings(text, dir, file, groups.contains(Groups::VMA_STAT)) {
                Some((list, rest)) => (self.mappings, self.rest) = (list, rest),
                None => self.missing |= groups & (Groups::VMA | Groups::VMA_STAT),
            }
        }
        let mut sections = Vec::new();
        self.missing |= sections::of_memory(&mut sections, text, files);
        if !sections.is_empty() {
            self.sections = Sections::new(&self.sections).merged(Sections::new(&sections));
        }
    }
}

/// Files of the memory of one program, open.
pub(super) struct MemoryFiles {
    mappings: Option<nix::Result<Arc<KeptFile>>>,
    pub rollup: Option<nix::Result<KeptFile>>,
    pub environ: Option<nix::Result<KeptFile>>,
}

impl MemoryFiles {
    /// Opens those that these groups stand in.
    pub fn open(dir: &TaskDir, groups: Groups) -> MemoryFiles {
        let file = |asked: Groups, name| groups.contains(asked).then(|| dir.keep(name));
        let mappings = if groups.contains(Groups::VMA_STAT) { "smaps" } else { "maps" };
        MemoryFiles {
            mappings: file(Groups::VMA, mappings).map(|file| file.map(Arc::new)),
            rollup: file(Groups::ROLLUP, "smaps_rollup"),
            environ: file(Groups::ENVIRON, "environ"),
        }
    }

    /// Whether any could be opened.
    pub fn any(&self) -> bool {
        self.all().next().is_some()
    }

    fn all(&self) -> impl Iterator<Item = &KeptFile> {
        let mappings = self.mappings.iter().flatten().map(|file| &**file);
        mappings.chain([&self.rollup, &self.environ].into_iter().flatten().flatten())
    }

    /// Whether the memory still is, as far as its files tell.
    pub fn is_there(&self, text: &mut Vec<u8>) -> bool {
        self.all().any(|file| file.has_text(text))
    }
}

/// The mappings of a task in the protocol's form, with their statistics if asked for, and where they go on; none where there are
/// none or this process may not know them, `None` where they are lost for another reason.
fn read_mappings(
    text: &mut Vec<u8>,
    dir: &TaskDir,
    file: &nix::Result<Arc<KeptFile>>,
    with_statistics: bool,
) -> Option<(Vec<u8>, Option<Rest>)> {
    let mut list = Vec::new();
    let read = file.clone().and_then(|file| {
        let mut file = MappingFile::new(file, with_statistics, 0);
        Ok((file.read(text, dir, &mut list)?, file))
    });
    match read {
        Ok((goes_on, file)) => Some((list, goes_on.then(|| Rest::File(Arc::new(Mutex::new(file)))))),
        Err(e) if is_absent(e) || e == Errno::EACCES => Some((Vec::new(), None)),
        Err(_) => None,
    }
}
