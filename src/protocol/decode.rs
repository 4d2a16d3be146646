//! Reading a response: its messages, and their attributes.

use super::message::MessageHeader;
use super::{ATTRIBUTE_HEADER_LEN, Attribute, DecodeError, FLAG_CONT, TASK_DIAG_CMD_GET, align4};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use std::iter::FusedIterator;
use zerocopy::FromBytes;

/// One task, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_seq` of the request.
    pub seq: u32,
    /// The task's thread id.
    pub pid: u32,
    /// The task's process.
    pub tgid: u32,
    /// The task goes on in the next message ([`FLAG_CONT`]; the other bits are ignored, the kernel patch leaves them
    /// uninitialised).
    pub continues: bool,
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes, in the order of the message.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { inner: NlasIterator::new(self.attributes), length: self.attributes.len(), position: 0 }
    }
}

/// The messages of the bytes of one read, or of several. Ends after an error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Messages<'a> {
    /// The bytes that are being decoded, from the beginning.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes that have been decoded: where the next message begins.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The messages of `bytes`, not checked yet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.position;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        Some(match message(rest, at) {
            Ok((message, length)) => {
                self.position = at.saturating_add(align4(length));
                Ok(message)
            }
            Err(error) => {
                self.position = self.bytes.len();
                Err(error)
            }
        })
    }
}

impl FusedIterator for Messages<'_> {}

fn message(rest: &[u8], at: usize) -> Result<(Message<'_>, usize), DecodeError> {
    let netlink = NetlinkBuffer::new_checked(rest)
        .map_err(|error| DecodeError::Header { at, reason: error.to_string() })?;
    if netlink.message_type() != TASK_DIAG_CMD_GET {
        return Err(DecodeError::MessageType { at, found: netlink.message_type() });
    }
    let length = netlink.length() as usize;
    let bytes = rest.get(..length).unwrap_or(rest);
    let (header, attributes) =
        MessageHeader::read_from_prefix(bytes).map_err(|_| DecodeError::MessageTooShort { at, length })?;
    let message = Message {
        seq: header.nlmsg_seq,
        pid: header.pid,
        tgid: header.tgid,
        continues: header.flags & FLAG_CONT != 0,
        attributes,
    };
    Ok((message, length))
}

/// The attributes of one message. Ends after an error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    inner: NlasIterator<&'a [u8]>,
    length: usize,
    position: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.length {
            return None;
        }
        let attribute = match self.inner.next()? {
            Ok(nla) => {
                let (id, length) = (nla.kind(), usize::from(nla.length()));
                self.position += align4(length);
                let payload = nla.into_inner().get(ATTRIBUTE_HEADER_LEN..length);
                Attribute::parse(id, payload.unwrap_or_default())
            }
            Err(error) => Err(DecodeError::AttributeHeader { at: self.position, reason: error.to_string() }),
        };
        if attribute.is_err() {
            self.position = self.length;
        }
        Some(attribute)
    }
}

impl FusedIterator for Attributes<'_> {}

#[cfg(test)]
mod tests {
    use super::super::{MessageWriter, OwnedAttribute, strategies};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bare(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut buf = vec![0; 28];
        MessageWriter::begin(&mut buf, 1, 2, 3).unwrap().finish(false);
        change(&mut buf);
        buf
    }

    fn error(bytes: &[u8]) -> DecodeError {
        let mut messages = Messages::new(bytes);
        let error = messages.find_map(Result::err).unwrap();
        assert_eq!(messages.next(), None);
        error
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let short = |length: u32| bare(|buf| buf[..4].copy_from_slice(&length.to_ne_bytes()));
        for length in [0, 15, 29, u32::MAX] {
            assert!(matches!(error(&short(length)), DecodeError::Header { at: 0, .. }));
        }
        for length in [16, 27] {
            let expected = DecodeError::MessageTooShort { at: 0, length: length as usize };
            assert_eq!(error(&short(length)), expected);
        }
        let other = bare(|buf| buf[4..6].copy_from_slice(&3_u16.to_ne_bytes()));
        let second = [bare(|_| ()), other].concat();
        assert_eq!(error(&second), DecodeError::MessageType { at: 28, found: 3 });
        assert!(matches!(error(&second[..30]), DecodeError::Header { at: 28, .. }));
    }

    #[test]
    fn flags_that_the_kernel_leaves_uninitialised_are_ignored() {
        let bytes = bare(|buf| buf[24..28].copy_from_slice(&0xffff_fffe_u32.to_ne_bytes()));
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        assert!(!message.continues);
        assert_eq!(message.attributes().next(), None);
    }

    #[test]
    fn an_attribute_that_leaves_the_message_is_refused() {
        let mut buf = [0; 28 + 16];
        let mut writer = MessageWriter::begin(&mut buf, 0, 0, 0).unwrap();
        writer.attribute(5, b"abc").unwrap();
        writer.attribute(4, b"abcd").unwrap();
        writer.finish(false);
        let attributes = |buf: &[u8]| {
            let message = Messages::new(buf).next().unwrap().unwrap();
            let attributes = message.attributes().map(|found| found.map(OwnedAttribute::from));
            attributes.collect::<Vec<_>>()
        };
        let cmdline = Ok(OwnedAttribute::Cmdline(b"abc".to_vec()));
        let short = DecodeError::PayloadTooShort { attribute: "STAT", found: 4, needed: 72 };
        assert_eq!(attributes(&buf), [cmdline.clone(), Err(short)]);
        for length in [0, 3, 9, u16::MAX] {
            buf[36..38].copy_from_slice(&length.to_ne_bytes());
            let found = attributes(&buf);
            assert_eq!(found[0], cmdline);
            assert!(matches!(found[1..], [Err(DecodeError::AttributeHeader { at: 8, .. })]));
        }
    }

    prop_compose! {
        fn response()(
            messages in vec((any::<[u32; 3]>(), any::<bool>(), vec(strategies::attribute(), 0..6)), 0..5)
        ) -> (Vec<([u32; 3], bool, Vec<OwnedAttribute>)>, Vec<u8>) {
            let mut bytes = vec![0xa5; 1 << 16];
            let mut len = 0;
            for ([seq, pid, tgid], more, attributes) in &messages {
                let mut writer = MessageWriter::begin(&mut bytes[len..], *seq, *pid, *tgid).unwrap();
                for attribute in attributes {
                    let attribute = attribute.as_attribute();
                    writer.attribute(attribute.id(), attribute.payload()).unwrap();
                }
                len += writer.finish(*more);
            }
            bytes.truncate(len);
            (messages, bytes)
        }
    }

    proptest! {
        #[test]
        fn any_response_comes_back((messages, bytes) in response()) {
            let mut found = Messages::new(&bytes);
            for ([seq, pid, tgid], continues, attributes) in messages {
                let message = found.next().unwrap().unwrap();
                prop_assert_eq!([message.seq, message.pid, message.tgid], [seq, pid, tgid]);
                prop_assert_eq!(message.continues, continues);
                let found: Result<Vec<_>, _> = message.attributes().collect();
                let found: Vec<_> = found.unwrap().into_iter().map(OwnedAttribute::from).collect();
                prop_assert_eq!(found, attributes);
            }
            prop_assert_eq!(found.next(), None);
        }

        #[test]
        fn any_bytes_end(
            (_, mut bytes) in response(),
            noise in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut: prop::sample::Index,
        ) {
            for (index, byte) in noise {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut budget = bytes.len() + 1;
            for message in Messages::new(&bytes).flatten() {
                for attribute in message.attributes() {
                    budget -= 1;
                    if let Ok(Attribute::Vma(list)) = attribute {
                        list.for_each(drop);
                    }
                }
            }
            prop_assert!(budget > 0);
        }
    }
}
