//! What can be wrong with bytes that come in, and with values that should go out.

use thiserror::Error;

/// Why bytes are no response. `at` counts bytes from the beginning of what the iterator was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The netlink header does not fit the bytes.
    #[error("message at byte {at}: {reason}")]
    Header {
        /// Where the message begins.
        at: usize,
        /// What the netlink library says.
        reason: String,
    },
    /// The message has no room for a `struct task_diag_msg`.
    #[error("message at byte {at}: nlmsg_len {length}, but the smallest message is 28 bytes")]
    MessageTooShort {
        /// Where the message begins.
        at: usize,
        /// Its `nlmsg_len`.
        length: usize,
    },
    /// The message is not one of task_diag.
    #[error("message at byte {at}: nlmsg_type {found:#x}, expected 0xd101")]
    MessageType {
        /// Where the message begins.
        at: usize,
        /// Its `nlmsg_type`.
        found: u16,
    },
    /// An attribute's header does not fit the message.
    #[error("attribute at byte {at} of the message's attributes: {reason}")]
    AttributeHeader {
        /// Where the attribute begins, counted from the message's first attribute.
        at: usize,
        /// What the netlink library says.
        reason: String,
    },
    /// An attribute's payload is shorter than its struct.
    #[error("{attribute}: {found} bytes, needs {needed}")]
    PayloadTooShort {
        /// The attribute's name.
        attribute: &'static str,
        /// Bytes there are.
        found: usize,
        /// Bytes there must be.
        needed: usize,
    },
    /// A string or list lies outside its payload or record, or a string does not have its one NUL as the last byte.
    #[error("{attribute}: a part of {len} bytes at byte {off} does not fit")]
    OwnPart {
        /// The attribute's name.
        attribute: &'static str,
        /// Where the part is said to begin.
        off: usize,
        /// Its length.
        len: usize,
    },
    /// A record's length is below that of its head, no multiple of 4 or beyond the list.
    #[error("{attribute}: a record of {len} bytes with {left} bytes left")]
    RecordLength {
        /// The attribute's name.
        attribute: &'static str,
        /// The record's length.
        len: usize,
        /// Bytes from its beginning to the list's end.
        left: usize,
    },
    /// The end of a VMA list holds less than a record.
    #[error("VMA record at byte {at}: {left} bytes left, a record has at least 64")]
    VmaTruncated {
        /// Where the record begins in the list.
        at: usize,
        /// Bytes from there to the list's end.
        left: usize,
    },
    /// `vma_len` is below 64, no multiple of 4 or beyond the list.
    #[error(
        "VMA record at byte {at}: vma_len {vma_len} with {left} bytes left; it must be a multiple of 4 from 64 up"
    )]
    VmaLength {
        /// Where the record begins in the list.
        at: usize,
        /// The record's `vma_len`.
        vma_len: usize,
        /// Bytes from there to the list's end.
        left: usize,
    },
    /// The statistics lie outside the record, or are shorter than 80 bytes.
    #[error(
        "VMA record at byte {at}: stat_off {stat_off} and stat_len {stat_len} do not fit vma_len {vma_len}"
    )]
    VmaStat {
        /// Where the record begins in the list.
        at: usize,
        /// The record's `stat_off`.
        stat_off: usize,
        /// The record's `stat_len`.
        stat_len: usize,
        /// The record's `vma_len`.
        vma_len: usize,
    },
    /// The name lies outside the record.
    #[error(
        "VMA record at byte {at}: name_off {name_off} and name_len {name_len} do not fit vma_len {vma_len}"
    )]
    VmaName {
        /// Where the record begins in the list.
        at: usize,
        /// The record's `name_off`.
        name_off: usize,
        /// The record's `name_len`.
        name_len: usize,
        /// The record's `vma_len`.
        vma_len: usize,
    },
    /// The name does not have its one NUL as the last byte.
    #[error("VMA record at byte {at}: the name's only NUL must be its last byte")]
    VmaNameEnd {
        /// Where the record begins in the list.
        at: usize,
    },
    /// A number that no [`State`](super::State) has.
    #[error("unknown task state {0}")]
    State(u8),
}

impl From<DecodeError> for netlink_packet_core::DecodeError {
    fn from(error: DecodeError) -> Self {
        error.to_string().into()
    }
}

/// Why values cannot be written. Nothing has been written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The buffer is too small; a larger or emptier one would do.
    #[error("{needed} bytes do not fit the {room} bytes left")]
    NoRoom {
        /// Bytes to write, with header and padding.
        needed: usize,
        /// Bytes the buffer has left.
        room: usize,
    },
    /// No buffer would do: the length does not fit an attribute's u16.
    #[error("{length} bytes do not fit one attribute, which holds 65531")]
    TooLong {
        /// Bytes of the payload or VMA record.
        length: usize,
    },
    /// A NUL inside a mapping's name would end it early for the reader.
    #[error("NUL at byte {at} of a mapping's name")]
    NulInName {
        /// Where in the name.
        at: usize,
    },
}
