//! A task of an answer that stays: everything copied, the pieces of lists joined.

use super::TaskRef;
use crate::protocol::{
    Attribute, Base, CgroupList, Credentials, DecodeError, DescriptorList, FdCount, Files, Groups, Io,
    Membership, Message, Misc, Namespaces, Rollup, Sched, Stat, Statm, VmFlags, Vma, VmaStat, attribute_id,
};
use std::collections::BTreeMap;

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
    /// SCHED
    pub sched: Option<Sched>,
    /// IO
    pub io: Option<Io>,
    /// FD_COUNT
    pub fd_count: Option<FdCount>,
    /// ROLLUP
    pub rollup: Option<Rollup>,
    /// The payloads of the other attributes from 32 on by their numbers, pieces joined; there is a method to read each.
    pub payloads: BTreeMap<u16, Vec<u8>>,
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
        let mut owned = OwnedTask { pid: task.pid, tgid: task.tgid, ..OwnedTask::default() };
        for message in task.messages() {
            owned.add(&message?)?;
        }
        Ok(owned)
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
                Attribute::Sched(sched) => self.sched = Some(sched),
                Attribute::Io(io) => self.io = Some(io),
                Attribute::FdCount(count) => self.fd_count = Some(count),
                Attribute::Rollup(rollup) => self.rollup = Some(rollup),
                Attribute::Unknown { .. } => {}
                Attribute::Cgroup(list) => {
                    list.clone().try_for_each(|cgroup| cgroup.map(drop))?;
                    self.keep(attribute_id::CGROUP, list.as_bytes());
                }
                Attribute::Descriptors(list) => {
                    list.clone().try_for_each(|descriptor| descriptor.map(drop))?;
                    self.keep(attribute_id::FD, list.as_bytes());
                }
                other => self.keep(other.id(), other.payload()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, id: u16, piece: &[u8]) {
        self.payloads.entry(id).or_default().extend_from_slice(piece);
    }

    fn payload(&self, id: u16) -> Option<&[u8]> {
        self.payloads.get(&id).map(Vec::as_slice)
    }

    /// TASKSTATS: the kernel's `struct taskstats`, which begins with a u16, its version.
    pub fn taskstats(&self) -> Option<&[u8]> {
        self.payload(attribute_id::TASKSTATS)
    }

    /// GROUPS; `None` for one that is malformed, too, as with the others that are views.
    pub fn membership(&self) -> Option<Membership<'_>> {
        Membership::parse(self.payload(attribute_id::GROUPS)?).ok()
    }

    /// CGROUP
    pub fn cgroups(&self) -> Option<CgroupList<'_>> {
        self.payload(attribute_id::CGROUP).map(CgroupList::new)
    }

    /// NS
    pub fn namespaces(&self) -> Option<Namespaces> {
        Namespaces::parse(self.payload(attribute_id::NS)?).ok()
    }

    /// FILES
    pub fn files(&self) -> Option<Files<'_>> {
        Files::parse(self.payload(attribute_id::FILES)?).ok()
    }

    /// FD, ascending.
    pub fn descriptors(&self) -> Option<DescriptorList<'_>> {
        self.payload(attribute_id::FD).map(DescriptorList::new)
    }

    /// ENVIRON: the bytes of `/proc/PID/environ`.
    pub fn environ(&self) -> Option<&[u8]> {
        self.payload(attribute_id::ENVIRON)
    }

    /// MISC
    pub fn misc(&self) -> Option<Misc<'_>> {
        Misc::parse(self.payload(attribute_id::MISC)?).ok()
    }
}
