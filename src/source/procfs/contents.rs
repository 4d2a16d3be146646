//! What stands in files of a task besides `status` and `stat`: mappings, command line, and the groups from 32 on.

use super::sections::{self, Question};
use crate::proc_files::{KeptFile, TaskDir, TrueName, is_absent, parse_maps, parse_smaps};
use crate::protocol::{EncodeError, Groups};
use crate::source::Sections;
use nix::errno::Errno;

/// The groups that a task has, out of its files.
#[derive(Debug, Default)]
pub(in crate::source) struct Contents {
    /// Empty where there are none.
    pub mappings: Vec<u8>,
    pub command_line: Option<Vec<u8>>,
    pub sections: Vec<u8>,
    /// What was lost for another reason than that the task has none or that this process may not know.
    pub missing: Groups,
}

impl Contents {
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
                Some(list) => self.mappings = list,
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
    mappings: Option<nix::Result<KeptFile>>,
    pub rollup: Option<nix::Result<KeptFile>>,
    pub environ: Option<nix::Result<KeptFile>>,
}

impl MemoryFiles {
    /// Opens those that these groups stand in.
    pub fn open(dir: &TaskDir, groups: Groups) -> MemoryFiles {
        let file = |asked: Groups, name| groups.contains(asked).then(|| dir.keep(name));
        let mappings = if groups.contains(Groups::VMA_STAT) { "smaps" } else { "maps" };
        MemoryFiles {
            mappings: file(Groups::VMA, mappings),
            rollup: file(Groups::ROLLUP, "smaps_rollup"),
            environ: file(Groups::ENVIRON, "environ"),
        }
    }

    /// Whether any could be opened.
    pub fn any(&self) -> bool {
        self.all().next().is_some()
    }

    fn all(&self) -> impl Iterator<Item = &KeptFile> {
        let files = [&self.mappings, &self.rollup, &self.environ].into_iter().flatten();
        files.filter_map(|file| file.as_ref().ok())
    }

    /// Whether the memory still is, as far as its files tell.
    pub fn is_there(&self, text: &mut Vec<u8>) -> bool {
        self.all().any(|file| file.has_text(text))
    }
}

type ParseMappings = fn(&[u8], TrueName, &mut Vec<u8>) -> Result<(), EncodeError>;

/// The mappings of a task in the protocol's form, with their statistics if asked for; empty where there are none or
/// this process may not know them, `None` where they are lost for another reason.
fn read_mappings(
    text: &mut Vec<u8>,
    dir: &TaskDir,
    file: &nix::Result<KeptFile>,
    with_statistics: bool,
) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    let true_name = |start, end| dir.mapped_file(start, end);
    let parse: ParseMappings = if with_statistics { parse_smaps } else { parse_maps };
    let text = file.as_ref().map_err(|e| *e).and_then(|file| file.read_whole(text));
    match text.map(|text| parse(text, &true_name, &mut list)) {
        Ok(Ok(())) => Some(list),
        // A mapping with a name that no record can hold: the list would lie by leaving it out.
        Ok(Err(e)) => {
            log::warn!("mappings of a task left out: {e}");
            None
        }
        Err(e) if is_absent(e) || e == Errno::EACCES => Some(Vec::new()),
        Err(_) => None,
    }
}
