//! The wire format of `/proc/task-diag`: requests, messages, attributes and the fixed structs in them.
//!
//! Integers are native-endian and nothing is aligned to more than 4 bytes, so everything here copies in and out of
//! byte slices. The module does no I/O, and no input makes it panic.
//!
//! The layout up to STAT is that of the kernel patch's public header; [`attribute_id`] says what is this project's own.

mod attribute;
mod base;
#[cfg(all(test, target_endian = "little"))]
mod captures;
mod credentials;
mod decode;
mod error;
mod groups;
mod message;
mod own;
mod owned_attribute;
mod request;
mod stat;
mod statm;
#[cfg(test)]
mod strategies;
mod vma;
mod vma_list;

pub use attribute::Attribute;
pub use base::{Base, State};
pub use credentials::{Capabilities, Credentials};
pub use decode::{Attributes, Message, Messages};
pub use error::{DecodeError, EncodeError};
pub use groups::{Groups, attribute_id};
pub use message::MessageWriter;
pub use own::*;
pub use owned_attribute::OwnedAttribute;
pub use request::{DumpStrategy, MOST_LISTED, Request, RequestError};
pub use stat::Stat;
pub use statm::Statm;
pub use vma::{VmFlags, VmaFields, VmaHeader, VmaStat, push_vma};
pub use vma_list::{Vma, VmaList, record_len};

/// `nlmsg_type` of every message of a response (`TASK_DIAG_CMD_GET` of the kernel patch).
pub const TASK_DIAG_CMD_GET: u16 = 0xd101;

/// Bytes of a `struct nlmsghdr`.
pub const NLMSG_HEADER_LEN: usize = 16;

/// Bytes of a message without attributes: `struct nlmsghdr` and `struct task_diag_msg`.
pub const MESSAGE_LEN: usize = 28;

/// Bytes of a `struct nlattr`.
pub const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Bytes that fit one attribute: its length, a u16, counts the header too.
pub const MAX_PAYLOAD: usize = u16::MAX as usize - ATTRIBUTE_HEADER_LEN;

/// Bit of `task_diag_msg.flags`: the task goes on in the next message (`TASK_DIAG_FLAG_CONT` of the kernel patch).
pub const FLAG_CONT: u32 = 1;

/// `len` rounded up to the 4 bytes to which messages, attributes and VMA records are padded.
///
/// A length that no slice can have (within 3 of `usize::MAX`) wraps to 0.
pub const fn align4(len: usize) -> usize {
    len.wrapping_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_round_up_to_four() {
        assert_eq!([0, 1, 3, 4, 5].map(align4), [0, 4, 4, 4, 8]);
        assert_eq!(align4(usize::MAX), 0);
        assert_eq!(MAX_PAYLOAD, 65_531);
    }
}
