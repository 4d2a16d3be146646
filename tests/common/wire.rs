//! An answer's bytes, taken apart by hand: every length, every order, every byte of padding is checked here, so that no
//! test has to. The values are then decoded by the library.

use task_diag::client::OwnedTask;
use task_diag::protocol::{Messages, align4};

const BASE: u16 = 0;
const VMA: u16 = 2;
const STAT: u16 = 4;
const CMDLINE: u16 = 5;

/// The order of attributes in a task.
const ORDER: [u16; 7] = [BASE, 1, VMA, STAT, 6, CMDLINE, 44];

/// One message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub pid: u32,
    pub tgid: u32,
    /// The task goes on in the next message.
    pub continues: bool,
    /// Number and payload of each attribute.
    pub attributes: Vec<(u16, &'a [u8])>,
}

/// The messages of one read.
#[track_caller]
pub fn messages(read: &[u8], seq: u32) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    let mut rest = read;
    while !rest.is_empty() {
        assert!(rest.len() >= 28, "{} bytes are left of a read, a message has 28", rest.len());
        let length = u32_at(rest, 0) as usize;
        assert!(length >= 28 && length <= rest.len(), "nlmsg_len {length} of {}", rest.len());
        assert_eq!(length % 4, 0, "nlmsg_len {length}");
        assert_eq!(u16_at(rest, 4), 0xd101, "nlmsg_type");
        assert_eq!(u16_at(rest, 6), 2, "nlmsg_flags");
        assert_eq!(u32_at(rest, 8), seq, "nlmsg_seq");
        assert_eq!(u32_at(rest, 12), 0, "nlmsg_pid");
        let flags = u32_at(rest, 24);
        assert!(flags <= 1, "task_diag_msg.flags {flags:#x}");
        messages.push(Message {
            pid: u32_at(rest, 16),
            tgid: u32_at(rest, 20),
            continues: flags == 1,
            attributes: attributes(&rest[28..length]),
        });
        rest = &rest[length..];
    }
    messages
}

#[track_caller]
fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut attributes = Vec::new();
    while !rest.is_empty() {
        let (length, id) = (usize::from(u16_at(rest, 0)), u16_at(rest, 2));
        assert!(length >= 4 && align4(length) <= rest.len(), "nla_len {length} of {}", rest.len());
        assert_zero(&rest[length..align4(length)], "padding of an attribute");
        let payload = &rest[4..length];
        check_payload(id, payload);
        attributes.push((id, payload));
        rest = &rest[align4(length)..];
    }
    attributes
}

#[track_caller]
fn check_payload(id: u16, payload: &[u8]) {
    let fixed = |length: usize| assert_eq!(payload.len(), length, "bytes of attribute {id}");
    match id {
        BASE => {
            fixed(44);
            assert_zero(&payload[41..], "padding of BASE");
            let name = &payload[25..41];
            let end = name.iter().position(|c| *c == 0).expect("comm ends with a NUL");
            assert_zero(&name[end..], "what follows comm");
        }
        1 => fixed(64),
        VMA => check_list(payload),
        STAT => {
            fixed(72);
            assert_zero(&payload[68..], "padding of STAT");
        }
        CMDLINE => {}
        6 => fixed(120),
        44 => fixed(8),
        _ => panic!("attribute {id} was not asked for"),
    }
}

#[track_caller]
fn check_list(mut rest: &[u8]) {
    assert!(!rest.is_empty(), "an empty list of mappings");
    while !rest.is_empty() {
        let field = |at| usize::from(u16_at(rest, at));
        let [vma_len, name_off, name_len, stat_off, stat_len] = [52, 54, 56, 58, 60].map(field);
        assert!(vma_len >= 64 && vma_len % 4 == 0 && vma_len <= rest.len(), "vma_len {vma_len}");
        assert_zero(&rest[62..64], "padding of task_diag_vma");
        let mut end = 64;
        match stat_len {
            0 => assert_eq!(stat_off, 0),
            _ => {
                assert_eq!((stat_off, stat_len), (64, 80));
                end = 144;
            }
        }
        match name_len {
            0 => assert_eq!(name_off, 0),
            _ => {
                assert_eq!(name_off, end);
                end += name_len;
                let name = &rest[name_off..end];
                assert_eq!(name.iter().position(|c| *c == 0), Some(name_len - 1), "the NUL of a name");
            }
        }
        assert_eq!(vma_len, align4(end));
        assert_zero(&rest[end..vma_len], "padding of a mapping");
        rest = &rest[vma_len..];
    }
}

/// The tasks of the reads of a whole dump, the pieces of each joined.
#[track_caller]
pub fn tasks(reads: &[Vec<u8>], seq: u32) -> Vec<OwnedTask> {
    let mut tasks: Vec<OwnedTask> = Vec::new();
    // Of a task under way: its ids, and how far its attributes have come in their order.
    let mut open: Option<(u32, u32, Option<usize>)> = None;
    for read in reads {
        assert!(!read.is_empty());
        for (raw, message) in messages(read, seq).iter().zip(Messages::new(read)) {
            let message = message.unwrap();
            let mut place = match open {
                None => {
                    tasks.push(OwnedTask { pid: raw.pid, tgid: raw.tgid, ..OwnedTask::default() });
                    None
                }
                Some((pid, tgid, place)) => {
                    assert_eq!((raw.pid, raw.tgid), (pid, tgid), "another task before the end of one");
                    place
                }
            };
            for (id, _) in &raw.attributes {
                let next = ORDER.iter().position(|known| known == id);
                let again = next == place && matches!(*id, VMA | CMDLINE);
                assert!(next > place || again, "attribute {id} is out of order or comes twice");
                place = next;
            }
            assert!(!raw.continues || !raw.attributes.is_empty(), "a piece that holds nothing");
            open = raw.continues.then_some((raw.pid, raw.tgid, place));
            tasks.last_mut().unwrap().add(&message).unwrap();
        }
    }
    assert!(open.is_none(), "the dump ended within task {open:?}");
    tasks
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[track_caller]
fn assert_zero(bytes: &[u8], what: &str) {
    assert!(bytes.iter().all(|byte| *byte == 0), "{what}: {bytes:?}");
}
