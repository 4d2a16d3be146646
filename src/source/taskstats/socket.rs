//! One generic netlink socket that is asked many questions at once (`genetlink(7)`, `linux/genetlink.h`).

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, send, setsockopt,
    socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// Questions that are sent at once. The receive buffer has to hold all their answers.
pub const MOST: usize = 64;
/// Bytes that an answer may have: several times what the largest has so far.
const ANSWER: usize = 2048 + 64;
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

/// The attributes of an answer, or the kernel's error.
pub type Answer<'a> = Result<&'a [u8], Errno>;

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
        let buffer = 2 * MOST * ANSWER;
        setsockopt(&fd, sockopt::RcvBufForce, &buffer)
            .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &buffer))?;
        Ok(Socket { fd, next: 1, questions: Vec::new(), answers: vec![0; MOST * ANSWER] })
    }

    /// Asks `question` about each of `subjects`. `answered` is told which of them, and the answer; nothing of
    /// those about whom none came.
    ///
    /// The kernel answers before a send returns, so this never waits.
    pub fn ask<S: AsRef<[u8]>>(
        &mut self,
        question: Question,
        subjects: &[S],
        mut answered: impl FnMut(usize, Answer),
    ) {
        for (nth, batch) in subjects.chunks(MOST).enumerate() {
            let mut open = [true; MOST];
            self.ask_at_once(question, batch, &mut |at, answer| {
                // For want of room among the answers, or of memory.
                if !matches!(answer, Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM)) {
                    open[at] = false;
                    answered(nth * MOST + at, answer);
                }
            });
            // One answer always finds room.
            for at in (0..batch.len()).filter(|at| open[*at]) {
                let mut answered = |_, answer: Answer| answered(nth * MOST + at, answer);
                self.ask_at_once(question, &batch[at..=at], &mut answered);
            }
        }
    }

    fn ask_at_once<S: AsRef<[u8]>>(
        &mut self,
        question: Question,
        subjects: &[S],
        answered: &mut dyn FnMut(usize, Answer),
    ) {
        let first = self.next;
        self.next = first.wrapping_add(subjects.len() as u32);
        self.questions.clear();
        for (at, subject) in subjects.iter().enumerate() {
            push(&mut self.questions, question, first.wrapping_add(at as u32), subject.as_ref());
        }
        if send(self.fd.as_raw_fd(), &self.questions, MsgFlags::empty()).is_err() {
            return;
        }
        let mut left = subjects.len();
        while left > 0 {
            let lengths = match receive(&self.fd, &mut self.answers) {
                Ok(lengths) => lengths,
                // The second: some were lost, and the others are there still.
                Err(Errno::EINTR | Errno::ENOBUFS) => continue,
                Err(_) => return,
            };
            for (bytes, length) in self.answers.chunks_exact(ANSWER).zip(lengths) {
                let Some((sequence, answer)) = parse(&bytes[..length.min(ANSWER)]) else { continue };
                let at = sequence.wrapping_sub(first) as usize;
                // Others are late answers to earlier questions.
                if at < subjects.len() {
                    answered(at, answer);
                    left = left.saturating_sub(1);
                }
            }
        }
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
fn parse(bytes: &[u8]) -> Option<(u32, Answer<'_>)> {
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

    /// Who may ask for nothing else may ask for the numbers of families.
    #[test]
    fn answers_that_are_lost_are_asked_for_again() {
        let control = Question { family: 16, command: 3, attribute: 2 };
        let subjects: Vec<&[u8]> = [&b"nlctrl\0"[..], b"no such family\0"].repeat(MOST);
        let answers = |socket: &mut Socket| {
            let mut answers = vec![None; subjects.len()];
            socket.ask(control, &subjects, |at, answer| {
                assert_eq!(answers[at].replace(answer.map(<[u8]>::to_vec)), None, "one answer each");
            });
            answers
        };
        let mut socket = Socket::open().unwrap();
        let all = answers(&mut socket);
        assert!(matches!(&all[0], Some(Ok(family)) if family.len() > 20), "{:?}", all[0]);
        assert_eq!(all[1], Some(Err(Errno::ENOENT)));
        assert!(all.chunks(2).all(|pair| pair == &all[..2]));
        // The least that the kernel lets it be: a few answers.
        setsockopt(&socket.fd, sockopt::RcvBuf, &0).unwrap();
        let mut at_once = 0;
        socket.ask_at_once(control, &subjects[..MOST], &mut |_, _| at_once += 1);
        assert!(0 < at_once && at_once < MOST, "{at_once}");
        assert_eq!(answers(&mut socket), all);
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
