//! One generic netlink socket that is asked many questions at once (`genetlink(7)`, `linux/genetlink.h`).

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, send, setsockopt, socket,
    sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// Questions that are sent at once, at most. The receive buffer has to hold all their answers.
pub const MOST: usize = 64;
/// Bytes that an answer may have: several times what the largest has so far.
const ANSWER: usize = 4096;
/// Length of the netlink header, and of the generic one that follows it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// What is asked of which family, but for what it is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Number of the family.
    pub family: u16,
    /// The family's number of the command.
    pub command: u8,
    /// The attribute that says what about.
    pub attribute: u16,
}

/// A socket that only the kernel can send to.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// Number of the next question.
    next: u32,
    questions: Vec<u8>,
    answers: Vec<u8>,
}

impl Socket {
    /// Opens one. Whatever it is allowed, it is by the credentials of the opening thread and of the asking one.
    pub fn open() -> nix::Result<Socket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let buffer = MOST * ANSWER;
        setsockopt(&fd, sockopt::RcvBufForce, &buffer).or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &buffer))?;
        Ok(Socket { fd, next: 1, questions: Vec::new(), answers: vec![0; MOST * ANSWER] })
    }

    /// Asks `question` about each of `subjects`, [`MOST`] at most. `answered` is told which of them, and the attributes of
    /// the answer or the kernel's error; nothing of those whose answers were lost.
    ///
    /// The kernel answers before a send returns, so this never waits.
    ///
    /// # Errors
    /// Where the questions could not be sent.
    pub fn ask(
        &mut self,
        question: Question,
        subjects: impl Iterator<Item: AsRef<[u8]>>,
        mut answered: impl FnMut(usize, Result<&[u8], Errno>),
    ) -> nix::Result<()> {
        let first = self.next;
        self.questions.clear();
        for subject in subjects {
            push(&mut self.questions, question, self.next, subject.as_ref());
            self.next = self.next.wrapping_add(1);
        }
        let count = self.next.wrapping_sub(first) as usize;
        send(self.fd.as_raw_fd(), &self.questions, MsgFlags::empty())?;
        let mut left = count;
        while left > 0 {
            let lengths = match receive(&self.fd, &mut self.answers) {
                Ok(lengths) => lengths,
                // The second: some were lost, and the others are there still.
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                Err(_) => break,
            };
            for (bytes, length) in self.answers.chunks_exact(ANSWER).zip(lengths) {
                let Some((sequence, answer)) = parse(&bytes[..length.min(ANSWER)]) else { continue };
                let at = sequence.wrapping_sub(first) as usize;
                // Others are late answers to earlier questions.
                if at < count {
                    answered(at, answer);
                    left = left.saturating_sub(1);
                }
            }
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, question: Question, sequence: u32, subject: &[u8]) {
    let attribute = 4 + subject.len();
    let length = HEADER + GENERIC + attribute;
    out.extend((length as u32).to_ne_bytes());
    out.extend(question.family.to_ne_bytes());
    out.extend(NLM_F_REQUEST.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    // The sender's port is for the kernel to know; then the version of the family.
    out.extend([0, 0, 0, 0, question.command, 1, 0, 0]);
    out.extend((attribute as u16).to_ne_bytes());
    out.extend(question.attribute.to_ne_bytes());
    out.extend(subject);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The sequence number of a message, and the attributes in it or the error that it tells of.
fn parse(bytes: &[u8]) -> Option<(u32, Result<&[u8], Errno>)> {
    let message = NetlinkBuffer::new_checked(bytes).ok()?;
    let payload = bytes.get(HEADER..message.length() as usize)?;
    let answer = match message.message_type() {
        NLMSG_ERROR => Err(Errno::from_raw(i32::from_ne_bytes(*payload.first_chunk()?).saturating_neg())),
        _ => Ok(payload.get(GENERIC..)?),
    };
    Some((message.sequence_number(), answer))
}

/// Receives as many messages as wait, and have room; gives their lengths, 0 for one that was larger than it may be.
fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> nix::Result<impl Iterator<Item = usize> + use<>> {
    // SAFETY: all zero is a valid value of both, plain structures of C: no buffer.
    let mut parts: [libc::iovec; MOST] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; MOST] = unsafe { std::mem::zeroed() };
    let mut slots = 0;
    for ((part, message), slot) in parts.iter_mut().zip(&mut messages).zip(buffer.chunks_exact_mut(ANSWER)) {
        *part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: ANSWER };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        slots += 1;
    }
    // SAFETY: the first `slots` messages have one part each, of ANSWER bytes that are this call's alone; all outlive it.
    let count = unsafe {
        libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), slots, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    let count = Errno::result(count)? as usize;
    let length = |message: libc::mmsghdr| match message.msg_hdr.msg_flags & libc::MSG_TRUNC {
        0 => message.msg_len as usize,
        _ => 0,
    };
    Ok(messages.into_iter().take(count).map(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_in_bytes() {
        let mut bytes = Vec::new();
        push(&mut bytes, Question { family: 0x1234, command: 3, attribute: 2 }, 9, b"abcde");
        assert_eq!(bytes.len(), 32);
        let message = NetlinkBuffer::new_checked(&bytes).unwrap();
        assert_eq!((message.length(), message.message_type(), message.sequence_number()), (29, 0x1234, 9));
        assert_eq!(message.flags(), NLM_F_REQUEST);
        assert_eq!(bytes[16..20], [3, 1, 0, 0]);
        assert_eq!(bytes[20..24], [9_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat());
        assert_eq!(&bytes[24..], b"abcde\0\0\0");
        // It looks like an answer, too.
        assert_eq!(parse(&bytes), Some((9, Ok(&bytes[20..29]))));
    }

    #[test]
    fn messages_that_are_none() {
        let mut error = 20_u32.to_ne_bytes().to_vec();
        error.extend([2_u16.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
        error.extend([7_u32.to_ne_bytes(), 0_u32.to_ne_bytes(), (-libc::ESRCH).to_ne_bytes()].concat());
        assert_eq!(parse(&error), Some((7, Err(Errno::ESRCH))));
        for length in 0..error.len() {
            assert_eq!(parse(&error[..length]), None);
        }
        error[0] = 19;
        assert_eq!(parse(&error), None);
        error[0] = 15;
        assert_eq!(parse(&error), None);
    }
}
