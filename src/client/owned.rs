//! A task of an answer that stays: everything copied, the pieces of lists joined.

use super::TaskRef;
use crate::protocol::{
    Attribute, Base, Credentials, DecodeError, Groups, Message, Stat, Statm, VmFlags, Vma, VmaStat,
};

/// One task of an answer; groups not asked for, and those that the task lacks, are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedTask {
    /// Id of the task in the reader's pid namespace.
    pub pid: u32,
    /// Its thread group's id.
    pub tgid: u32,
    /// BASE
    pub base: Option<Base>,
    /// CRED
    pub credentials: Option<Credentials>,
    /// VMA, with VMA_STAT where asked for.
    pub mappings: Vec<OwnedVma>,
    /// STAT
    pub stat: Option<Stat>,
    /// STATM
    pub statm: Option<Statm>,
    /// CMDLINE: the arguments, each ended by a NUL.
    pub command_line: Option<Vec<u8>>,
    /// MISSING: what could not be read in time.
    pub missing: Groups,
}

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedVma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// The protocol's flags.
    pub flags: VmFlags,
    /// Offset in the file, in bytes.
    pub pgoff: u64,
    /// Device of the file.
    pub device: (u32, u32),
    /// Inode of the file.
    pub inode: u64,
    /// Generation of the inode; 0 where the server cannot know it.
    pub generation: u32,
    /// Name, without its NUL.
    pub name: Vec<u8>,
    /// VMA_STAT
    pub stat: Option<VmaStat>,
}

impl From<Vma<'_>> for OwnedVma {
    fn from(vma: Vma<'_>) -> OwnedVma {
        OwnedVma {
            start: vma.start,
            end: vma.end,
            flags: vma.flags,
            pgoff: vma.pgoff,
            device: (vma.major, vma.minor),
            inode: vma.inode,
            generation: vma.generation,
            name: vma.name.to_vec(),
            stat: vma.stat,
        }
    }
}

impl TryFrom<&TaskRef<'_>> for OwnedTask {
    type Error = DecodeError;

    fn try_from(task: &TaskRef<'_>) -> Result<OwnedTask, DecodeError> {
        Ok(OwnedTask {
            pid: task.pid,
            tgid: task.tgid,
            base: task.base().copied(),
            credentials: task.credentials().copied(),
            mappings: task.mappings().map(|vma| Ok(vma?.into())).collect::<Result<_, DecodeError>>()?,
            stat: task.stat().copied(),
            statm: task.statm().copied(),
            command_line: task.command_line().map(<[u8]>::to_vec),
            missing: task.missing(),
        })
    }
}

impl OwnedTask {
    /// Adds what one message says of this task.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn add(&mut self, message: &Message<'_>) -> Result<(), DecodeError> {
        for attribute in message.attributes() {
            match attribute? {
                Attribute::Base(base) => self.base = Some(base),
                Attribute::Credentials(credentials) => self.credentials = Some(credentials),
                Attribute::Stat(stat) => self.stat = Some(stat),
                Attribute::Statm(statm) => self.statm = Some(statm),
                Attribute::Cmdline(bytes) => {
                    self.command_line.get_or_insert_default().extend_from_slice(bytes)
                }
                Attribute::Missing(mask) => self.missing = Groups::from_bits_retain(mask),
                Attribute::Vma(list) => {
                    for vma in list {
                        self.mappings.push(vma?.into());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
