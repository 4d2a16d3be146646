//! Writing one message of a response.

use super::{
    ATTRIBUTE_HEADER_LEN, EncodeError, FLAG_CONT, MAX_PAYLOAD, MESSAGE_LEN, TASK_DIAG_CMD_GET, align4,
};
use netlink_packet_core::NLM_F_MULTIPART;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct nlmsghdr`, then `struct task_diag_msg` of the kernel patch.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(super) struct MessageHeader {
    pub(super) nlmsg_len: u32,
    pub(super) nlmsg_type: u16,
    pub(super) nlmsg_flags: u16,
    pub(super) nlmsg_seq: u32,
    pub(super) nlmsg_pid: u32,
    pub(super) pid: u32,
    pub(super) tgid: u32,
    pub(super) flags: u32,
}

const _: () = assert!(size_of::<MessageHeader>() == MESSAGE_LEN);

/// One message under construction, at the beginning of a buffer.
///
/// The header is written by [`finish`](Self::finish): a message not finished leaves a buffer without meaning.
#[derive(Debug)]
#[must_use = "a message is no message before it is finished"]
pub struct MessageWriter<'b> {
    buf: &'b mut [u8],
    len: usize,
    seq: u32,
    pid: u32,
    tgid: u32,
}

impl<'b> MessageWriter<'b> {
    /// Begins the message of the task `pid` in an answer to the request `seq`.
    ///
    /// # Errors
    /// [`EncodeError::NoRoom`] if `buf` has less than [`MESSAGE_LEN`] bytes.
    #[inline]
    pub fn begin(buf: &'b mut [u8], seq: u32, pid: u32, tgid: u32) -> Result<Self, EncodeError> {
        if buf.len() < MESSAGE_LEN {
            return Err(EncodeError::NoRoom { needed: MESSAGE_LEN, room: buf.len() });
        }
        // A message cannot use more than its u32 length can say.
        let usable = buf.len().min(u32::MAX as usize);
        Ok(Self { buf: &mut buf[..usable], len: MESSAGE_LEN, seq, pid, tgid })
    }

    /// Appends an attribute, padded with zeros.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for more than [`MAX_PAYLOAD`] bytes, [`EncodeError::NoRoom`] if header, payload and
    /// padding do not fit. Nothing is written then.
    #[inline]
    pub fn attribute(&mut self, id: u16, payload: &[u8]) -> Result<(), EncodeError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(EncodeError::TooLong { length: payload.len() });
        }
        let length = ATTRIBUTE_HEADER_LEN + payload.len();
        let needed = align4(length);
        let rest = self.buf.get_mut(self.len..).unwrap_or_default();
        let room = rest.len();
        let Some(attribute) = rest.get_mut(..needed) else {
            return Err(EncodeError::NoRoom { needed, room });
        };
        attribute[..2].copy_from_slice(&(length as u16).to_ne_bytes());
        attribute[2..4].copy_from_slice(&id.to_ne_bytes());
        attribute[4..length].copy_from_slice(payload);
        attribute[length..].fill(0);
        self.len += needed;
        Ok(())
    }

    /// The largest payload that [`attribute`](Self::attribute) would take now: [`MAX_PAYLOAD`], or what the buffer
    /// leaves, which is a multiple of 4. 0 says that at best an empty payload fits.
    #[inline]
    pub fn room(&self) -> usize {
        let left = (self.buf.len() - self.len).saturating_sub(ATTRIBUTE_HEADER_LEN);
        (left & !3).min(MAX_PAYLOAD)
    }

    /// Whether there is no attribute yet.
    #[inline]
    pub const fn is_bare(&self) -> bool {
        self.len == MESSAGE_LEN
    }

    /// Writes the header and returns the message's length. `more` says that the task goes on in the next message.
    #[inline]
    pub fn finish(self, more: bool) -> usize {
        let header = MessageHeader {
            nlmsg_len: self.len as u32,
            nlmsg_type: TASK_DIAG_CMD_GET,
            nlmsg_flags: NLM_F_MULTIPART,
            nlmsg_seq: self.seq,
            nlmsg_pid: 0,
            pid: self.pid,
            tgid: self.tgid,
            flags: if more { FLAG_CONT } else { 0 },
        };
        self.buf[..MESSAGE_LEN].copy_from_slice(header.as_bytes());
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_message_is_28_bytes() {
        let mut buf = [0xa5; 32];
        let writer = MessageWriter::begin(&mut buf, 7, 8, 9).unwrap();
        assert!(writer.is_bare());
        assert_eq!(writer.finish(true), 28);
        let header = MessageHeader::read_from_bytes(&buf[..28]).unwrap();
        assert_eq!((header.nlmsg_len, header.nlmsg_type, header.nlmsg_flags), (28, 0xd101, 2));
        assert_eq!((header.nlmsg_seq, header.nlmsg_pid), (7, 0));
        assert_eq!((header.pid, header.tgid, header.flags), (8, 9, 1));
        assert_eq!(buf[28..], [0xa5; 4]);
        let error = MessageWriter::begin(&mut buf[..27], 0, 0, 0).unwrap_err();
        assert_eq!(error, EncodeError::NoRoom { needed: 28, room: 27 });
    }

    #[test]
    fn room_is_the_largest_payload_that_fits() {
        let mut buf = vec![0; 28 + 65_536 + 4];
        for size in (28..60).chain(28 + 65_500..buf.len()) {
            let mut writer = MessageWriter::begin(&mut buf[..size], 0, 0, 0).unwrap();
            let room = writer.room();
            let larger = writer.attribute(1, &vec![1; room + 1]);
            assert!(larger.is_err() && writer.is_bare(), "{size}: {room}");
            if room > 0 {
                assert_eq!(writer.attribute(1, &vec![1; room]), Ok(()));
                assert!(!writer.is_bare());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut buf = [0xa5; 28 + 8];
        let mut writer = MessageWriter::begin(&mut buf, 0, 0, 0).unwrap();
        let refused = writer.attribute(1, &[0; 5]);
        assert_eq!(refused, Err(EncodeError::NoRoom { needed: 12, room: 8 }));
        assert_eq!(writer.attribute(1, &[0xff]), Ok(()));
        assert_eq!(writer.room(), 0);
        let refused = writer.attribute(1, &[]);
        assert_eq!(refused, Err(EncodeError::NoRoom { needed: 4, room: 0 }));
        assert_eq!(writer.finish(false), 36);
        let length = 5_u16.to_ne_bytes();
        let id = 1_u16.to_ne_bytes();
        assert_eq!(buf[28..], [length[0], length[1], id[0], id[1], 0xff, 0, 0, 0]);
    }

    #[test]
    fn the_longest_payload_is_65531_bytes() {
        let mut buf = vec![0; 1 << 18];
        let mut writer = MessageWriter::begin(&mut buf, 0, 0, 0).unwrap();
        assert_eq!(writer.room(), MAX_PAYLOAD);
        for length in [65_532, 65_536, 131_072] {
            let refused = writer.attribute(5, &vec![1; length]);
            assert_eq!(refused, Err(EncodeError::TooLong { length }));
        }
        assert_eq!(writer.attribute(5, &[1; MAX_PAYLOAD]), Ok(()));
        assert_eq!(writer.finish(false), 28 + 65_536);
        assert_eq!(buf[28..30], [0xff, 0xff]);
    }
}
