//! What a kernel with the patch answered, decoded and encoded again. The format: `tests/captures/README.md`.

use super::{
    Attribute, Base, Capabilities, Credentials, DumpStrategy, Groups, Message, MessageWriter, Messages,
    Request, Stat, State, Statm, VmFlags, Vma, VmaStat, attribute_id, push_vma,
};
use zerocopy::FromBytes;

macro_rules! captures {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/tests/captures/", $name, ".bin"
        )))),*]
    };
}

const CAPTURES: &[(&str, &[u8])] = captures![
    "all-base",
    "all-base-cred-b143",
    "allthr-base",
    "children-thrparent",
    "children-thrparentthread",
    "children-tset",
    "longargs-one-8000",
    "one-alpha-0x7f",
    "one-deadlead-0x7f",
    "one-init-0x7f",
    "one-kthreadd-0x7f",
    "one-manyvma-16384",
    "one-stopped-1",
    "one-traced-0x7f",
    "one-weird-0x7f",
    "one-zombie-0x7f",
    "pidns-all",
    "thr-beta-0x7f",
    "thr-beta-b76",
    "thr-betathread-1",
    "unpriv-all",
    "userns-self-all",
];

struct Capture {
    request: &'static [u8],
    /// The bytes of each read, the final empty one too.
    reads: Vec<&'static [u8]>,
}

impl Capture {
    fn of(name: &str) -> Self {
        let &(_, mut rest) = CAPTURES.iter().find(|(known, _)| *known == name).unwrap();
        let mut capture = Self { request: &[], reads: Vec::new() };
        while !rest.is_empty() {
            let ([kind, result, _asked, n], tail) = <[u32; 4]>::read_from_prefix(rest).unwrap();
            let (bytes, tail) = tail.split_at(n as usize);
            assert_eq!(result, n, "{name}: no recorded call failed");
            match kind {
                1 => capture.request = bytes,
                2 => capture.reads.push(bytes),
                _ => panic!("{name}: record of kind {kind}"),
            }
            rest = tail;
        }
        capture
    }

    fn messages(&self) -> Vec<Message<'static>> {
        let messages = self.reads.iter().flat_map(|bytes| Messages::new(bytes));
        messages.collect::<Result<_, _>>().unwrap()
    }

    fn attributes(&self) -> Vec<Attribute<'static>> {
        let attributes = self.messages().into_iter().flat_map(|message| message.attributes());
        attributes.collect::<Result<_, _>>().unwrap()
    }

    /// The list attributes of all messages, joined.
    fn vmas(&self) -> Vec<Vma<'static>> {
        let lists = self.attributes().into_iter().filter_map(|attribute| match attribute {
            Attribute::Vma(list) => Some(list),
            _ => None,
        });
        lists.flatten().collect::<Result<_, _>>().unwrap()
    }

    fn base(&self) -> Base {
        match self.attributes().first() {
            Some(Attribute::Base(base)) => *base,
            other => panic!("no BASE but {other:?}"),
        }
    }

    fn ids(&self) -> Vec<u16> {
        self.attributes().iter().map(Attribute::id).collect()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::read_from_bytes(&bytes[at..at + 2]).unwrap().into()
}

/// Zeroes what the kernel leaves uninitialised, with none of the code under test.
fn masked(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut message = 0;
    while message < bytes.len() {
        let end = message + u32::read_from_bytes(&bytes[message..message + 4]).unwrap() as usize;
        bytes[message + 24] &= 1;
        bytes[message + 25..message + 28].fill(0);
        let mut attribute = message + 28;
        while attribute < end {
            let payload = attribute + 4;
            match u16_at(&bytes, attribute + 2) {
                0 => bytes[payload + 41..payload + 44].fill(0),
                4 => bytes[payload + 68..payload + 72].fill(0),
                _ => {}
            }
            attribute += u16_at(&bytes, attribute).next_multiple_of(4);
        }
        message = end;
    }
    bytes
}

fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut writer = MessageWriter::begin(out, message.seq, message.pid, message.tgid).unwrap();
    for attribute in message.attributes().map(Result::unwrap) {
        let list = match &attribute {
            Attribute::Vma(list) => vmas_again(list.clone().map(Result::unwrap)),
            _ => attribute.payload().to_vec(),
        };
        writer.attribute(attribute.id(), &list).unwrap();
    }
    writer.finish(message.continues)
}

fn vmas_again<'a>(list: impl Iterator<Item = Vma<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    for vma in list {
        assert_eq!(VmFlags::from_bits(vma.flags.bits()), Some(vma.flags), "{vma:?}");
        push_vma(&mut out, &vma.fields(), vma.stat.as_ref(), vma.name).unwrap();
    }
    out
}

#[test]
fn every_response_encodes_to_the_same_bytes() {
    for (name, _) in CAPTURES {
        let capture = Capture::of(name);
        assert_eq!(capture.reads.last(), Some(&&[][..]), "{name}: ends with an empty read");
        for bytes in &capture.reads {
            let mut out = vec![0xa5; bytes.len()];
            let mut len = 0;
            for message in Messages::new(bytes) {
                len += encode(&message.unwrap(), &mut out[len..]);
            }
            assert_eq!(len, bytes.len(), "{name}");
            assert!(out == masked(bytes), "{name}");
        }
    }
}

#[test]
fn every_request_parses_and_encodes_to_the_same_fields() {
    for (name, _) in CAPTURES {
        let written = Capture::of(name).request;
        let request = Request::parse(written).unwrap();
        assert_eq!(request.seq, 0x1234, "{name}");
        let bytes = request.to_bytes();
        assert_eq!(Request::parse(&bytes), Ok(request), "{name}");
        assert_eq!(written.len(), 44, "{name}");
        assert_eq!(bytes[8..], written[8..40], "{name}");
    }
    let request = Request::parse(Capture::of("thr-betathread-1").request);
    let expected = Request {
        seq: 0x1234,
        groups: Groups::BASE,
        strategy: DumpStrategy::Thread,
        pid: 60,
        pids: Vec::new(),
    };
    assert_eq!(request, Ok(expected));
}

#[test]
fn names_are_raw() {
    let base = Capture::of("one-weird-0x7f").base();
    assert_eq!(base.comm_bytes(), b"we(i)r\nd comm 1");
}

#[test]
fn ordinary_process_has_every_group_in_order() {
    let capture = Capture::of("one-alpha-0x7f");
    let base = Base { tgid: 52, pid: 52, ppid: 50, state: 1, ..Base::default() };
    let all = Capabilities::from(0x1ff_ffff_ffff);
    let credentials = Credentials { permitted: all, effective: all, bounding: all, ..Credentials::default() };
    let statm = Statm {
        anon: 14,
        shmem: 50,
        total_vm: 269,
        total_rss: 64,
        hiwater_vm: 269,
        hiwater_rss: 64,
        text: 140,
        lib: 2,
        ptes: 40960,
        data_vm: 43,
        stack_vm: 33,
        ..Statm::default()
    };
    let mut attributes = capture.attributes();
    let Attribute::Vma(list) = attributes.remove(2) else { panic!("VMA is third") };
    let expected = [
        Attribute::Base(Base { comm: *b"alpha\0\0\0\0\0\0\0\0\0\0\0", ..base }),
        Attribute::Credentials(credentials),
        Attribute::Stat(Stat { minflt: 7, threads: 1, ..Stat::default() }),
        Attribute::Statm(statm),
        Attribute::Cmdline(b"tset\0/tmp/set\0"),
    ];
    assert_eq!(attributes, expected);

    let vmas: Vec<_> = list.map(Result::unwrap).collect();
    let names: Vec<_> = vmas.iter().map(|vma| vma.name).collect();
    let program: &[u8] = b"/bin/tset";
    let expected: [&[u8]; 10] =
        [program, program, program, program, program, b"", b"", b"[vvar]", b"[vdso]", b""];
    assert_eq!(names, expected);
    let text = Vma {
        start: 0x40_1000,
        end: 0x48_d000,
        flags: VmFlags::READ
            | VmFlags::EXEC
            | VmFlags::MAYREAD
            | VmFlags::MAYWRITE
            | VmFlags::MAYEXEC
            | VmFlags::SOFTDIRTY,
        pgoff: 0x1000,
        major: 0,
        minor: 2,
        inode: 97,
        generation: 4147552169,
        // Eighteen processes share the 32 pages.
        stat: Some(VmaStat {
            resident: 131072,
            referenced: 131072,
            pss: 32 * ((4096 << 12) / 18),
            ..VmaStat::default()
        }),
        name: program,
    };
    assert_eq!(vmas[1], text);
    assert!(vmas[9].flags.contains(VmFlags::GROWSDOWN), "the stack");
}

#[test]
fn tasks_without_memory_lack_its_groups() {
    let expected = [attribute_id::BASE, attribute_id::CRED, attribute_id::STAT];
    for (name, state) in [
        ("one-zombie-0x7f", State::Zombie),
        ("one-deadlead-0x7f", State::Zombie),
        ("one-kthreadd-0x7f", State::Sleeping),
    ] {
        let capture = Capture::of(name);
        assert_eq!(capture.ids(), expected, "{name}");
        assert_eq!(State::try_from(capture.base().state), Ok(state), "{name}");
    }
}

#[test]
fn stopped_by_a_signal_and_by_a_tracer() {
    let base = Capture::of("one-traced-0x7f").base();
    assert_eq!((base.tpid, State::try_from(base.state)), (50, Ok(State::TracingStop)));
    let base = Capture::of("one-stopped-1").base();
    assert_eq!((base.tpid, State::try_from(base.state)), (0, Ok(State::Stopped)));
}

#[test]
fn threads_share_what_belongs_to_the_process() {
    let messages = Capture::of("thr-beta-0x7f").messages();
    let ids: Vec<_> = messages.iter().map(|message| (message.pid, message.tgid)).collect();
    assert_eq!(ids, [(53, 53), (57, 53), (59, 53), (60, 53)]);
    for message in &messages {
        let attributes: Vec<_> = message.attributes().map(Result::unwrap).collect();
        let vma = attributes.iter().any(|attribute| attribute.id() == attribute_id::VMA);
        assert_eq!(vma, message.pid == message.tgid);
        let threads = attributes.iter().find_map(|attribute| match attribute {
            Attribute::Stat(stat) => Some(stat.threads),
            _ => None,
        });
        assert_eq!(threads, Some(4));
    }
}

#[test]
fn a_list_cut_into_many_messages_joins() {
    let capture = Capture::of("one-manyvma-16384");
    let continues: Vec<_> = capture.messages().iter().map(|message| message.continues).collect();
    assert_eq!(continues, [[true; 10].as_slice(), &[false]].concat());
    let vmas = capture.vmas();
    assert_eq!(vmas.len(), 1212);
    assert!(vmas.is_sorted_by(|one, next| one.end <= next.start));
    assert!(vmas.iter().all(|vma| vma.stat.is_some()));
}

#[test]
fn a_task_cut_between_groups_continues() {
    let messages = Capture::of("all-base-cred-b143").messages();
    for pair in messages.chunks(2) {
        let [one, next] = pair else { panic!("an odd message: {pair:?}") };
        assert_eq!((one.pid, one.continues, next.continues), (next.pid, true, false));
    }
}
