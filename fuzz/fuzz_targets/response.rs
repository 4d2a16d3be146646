//! Any bytes as a response: reading ends without a panic, and whole messages come back when written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netlink_packet_core::{NlaBuffer, Parseable};
use task_diag::protocol::{
    Attribute, CgroupList, DescriptorList, Files, MAX_PAYLOAD, MESSAGE_LEN, Membership, Message,
    MessageWriter, Messages, Misc, Namespaces, OwnedAttribute, VmaList, cgroup_record_len,
    descriptor_record_len, push_cgroup, push_descriptor, push_files, push_misc, push_vma, record_len,
};

fn list(list: VmaList<'_>) {
    let mut rest = list.as_bytes();
    let mut again = Vec::new();
    for vma in list.map_while(Result::ok) {
        let len = record_len(rest).expect("a valid record has a length");
        rest = &rest[len..];
        let start = again.len();
        let pushed = push_vma(&mut again, &vma.fields(), vma.stat.as_ref(), vma.name);
        // Overlapping parts make a record grow when they are written apart.
        if pushed.is_ok() {
            let found = VmaList::new(&again[start..]).next();
            assert_eq!(found, Some(Ok(vma)));
        }
    }
}

/// The payloads with strings and lists in them: what is read of them and written again reads the same.
fn strings(bytes: &[u8]) {
    let mut again = Vec::new();
    let mut rest = bytes;
    for cgroup in CgroupList::new(bytes).map_while(Result::ok) {
        rest = &rest[cgroup_record_len(rest).expect("a valid record has a length")..];
        let start = again.len();
        if push_cgroup(&mut again, &cgroup).is_ok() {
            assert_eq!(CgroupList::new(&again[start..]).next(), Some(Ok(cgroup)));
        }
    }
    let mut rest = bytes;
    for descriptor in DescriptorList::new(bytes).map_while(Result::ok) {
        rest = &rest[descriptor_record_len(rest).expect("a valid record has a length")..];
        let start = again.len();
        if push_descriptor(&mut again, &descriptor).is_ok() {
            assert_eq!(DescriptorList::new(&again[start..]).next(), Some(Ok(descriptor)));
        }
    }
    if let Ok(files) = Files::parse(bytes) {
        again.clear();
        if push_files(&mut again, &files).is_ok() {
            assert_eq!(Files::parse(&again), Ok(files));
        }
    }
    if let Ok(misc) = Misc::parse(bytes) {
        again.clear();
        if push_misc(&mut again, &misc).is_ok() {
            assert_eq!(Misc::parse(&again), Ok(misc));
        }
    }
    if let Ok(membership) = Membership::parse(bytes) {
        assert!(membership.gids().count() * 4 <= bytes.len());
    }
    let _ = Namespaces::parse(bytes);
}

fn message(message: Message<'_>) {
    let attributes: Result<Vec<_>, _> = message.attributes().collect();
    let Ok(attributes) = attributes else { return };
    let lengths = attributes.iter().map(|attribute| attribute.payload().len() + 8);
    let mut buf = vec![0xa5; lengths.sum::<usize>() + MESSAGE_LEN];
    let mut writer = MessageWriter::begin(&mut buf, message.seq, message.pid, message.tgid)
        .expect("room for a bare message");
    for attribute in &attributes {
        writer.attribute(attribute.id(), attribute.payload()).expect("a payload that came in goes out");
        if let Attribute::Vma(vmas) = attribute {
            list(vmas.clone());
        }
    }
    let len = writer.finish(message.continues);
    let again = Messages::new(&buf[..len]).next();
    let again = again.expect("one message").expect("a valid message");
    assert_eq!(again.attributes().collect::<Result<Vec<_>, _>>().as_ref(), Ok(&attributes));
}

fuzz_target!(|bytes: &[u8]| {
    Messages::new(bytes).flatten().for_each(message);
    list(VmaList::new(bytes));
    strings(bytes);
    if let Ok(attribute) = OwnedAttribute::parse(&NlaBuffer::new(bytes)) {
        let mut out = vec![0xa5; bytes.len() + MAX_PAYLOAD];
        let len = attribute.try_emit(&mut out).expect("a payload that came in goes out");
        let again = OwnedAttribute::parse(&NlaBuffer::new(&out[..len]));
        assert_eq!(again.expect("a valid attribute"), attribute);
    }
});
