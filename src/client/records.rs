//! Lists that may be spread over several attributes and messages.

use crate::protocol::{Attribute, Attributes, CgroupList, DecodeError, DescriptorList, Messages, VmaList};

/// A list of records that is an attribute, or a part of one.
pub trait List<'a>: Iterator + Default {
    /// The list of that attribute, if it is one of this kind.
    fn of(attribute: Attribute<'a>) -> Option<Self>;
}

impl<'a> List<'a> for VmaList<'a> {
    fn of(attribute: Attribute<'a>) -> Option<Self> {
        if let Attribute::Vma(list) = attribute { Some(list) } else { None }
    }
}

impl<'a> List<'a> for CgroupList<'a> {
    fn of(attribute: Attribute<'a>) -> Option<Self> {
        if let Attribute::Cgroup(list) = attribute { Some(list) } else { None }
    }
}

impl<'a> List<'a> for DescriptorList<'a> {
    fn of(attribute: Attribute<'a>) -> Option<Self> {
        if let Attribute::Descriptors(list) = attribute { Some(list) } else { None }
    }
}

/// The records of a task, over all the attributes that hold them. Ends after an error.
#[derive(Clone, Debug)]
pub struct Records<'a, L> {
    messages: Messages<'a>,
    attributes: Option<Attributes<'a>>,
    list: L,
}

/// The mappings of a task.
pub type Mappings<'a> = Records<'a, VmaList<'a>>;

/// The control groups of a task, one in each hierarchy.
pub type Cgroups<'a> = Records<'a, CgroupList<'a>>;

/// The open descriptors of a task.
pub type Descriptors<'a> = Records<'a, DescriptorList<'a>>;

impl<'a, L: List<'a>> Records<'a, L> {
    pub(super) fn new(messages: Messages<'a>) -> Self {
        Records { messages, attributes: None, list: L::default() }
    }
}

impl<'a, T, L: List<'a> + Iterator<Item = Result<T, DecodeError>>> Iterator for Records<'a, L> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.list.next() {
                return Some(record);
            }
            match self.attributes.as_mut().and_then(Iterator::next) {
                Some(Ok(attribute)) => self.list = L::of(attribute).unwrap_or_default(),
                Some(Err(error)) => return Some(Err(error)),
                None => match self.messages.next()? {
                    Ok(message) => self.attributes = Some(message.attributes()),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}
