//! What stands in files of a task besides `status` and `stat`: mappings, command line, and the groups from 32 on.

use super::sections::{self, Question};
use crate::proc_files::{TaskDir, TrueName, is_absent, parse_maps, parse_smaps};
use crate::protocol::{EncodeError, Groups};
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
        let groups = question.groups;
        let mut contents = Contents::default();
        if groups.contains(Groups::VMA) {
            match read_mappings(text, dir, groups.contains(Groups::VMA_STAT)) {
                Some(list) => contents.mappings = list,
                None => contents.missing |= groups & (Groups::VMA | Groups::VMA_STAT),
            }
        }
        if groups.contains(Groups::CMDLINE) {
            match dir.read("cmdline", text) {
                Ok(line) => contents.command_line = Some(line.to_vec()),
                // The arguments are said to stand where no memory is.
                Err(Errno::EFAULT) => contents.command_line = Some(Vec::new()),
                Err(e) if is_absent(e) || e == Errno::EACCES => {}
                Err(_) => contents.missing |= Groups::CMDLINE,
            }
        }
        contents.missing |= sections::gather(&mut contents.sections, text, dir, question);
        contents
    }
}

type ParseMappings = fn(&[u8], TrueName, &mut Vec<u8>) -> Result<(), EncodeError>;

/// The mappings of a task in the protocol's form, with their statistics if asked for; empty where there are none or
/// this process may not know them, `None` where they are lost for another reason.
fn read_mappings(text: &mut Vec<u8>, dir: &TaskDir, with_statistics: bool) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    let true_name = |start, end| dir.mapped_file(start, end);
    let (file, parse) =
        if with_statistics { ("smaps", parse_smaps as ParseMappings) } else { ("maps", parse_maps as _) };
    match dir.read_whole(file, text).map(|text| parse(text, &true_name, &mut list)) {
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
