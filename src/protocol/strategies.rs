//! Random values of the wire's types, for the tests.

use super::{
    Base, Credentials, DumpStrategy, Groups, OwnedAttribute, Request, Stat, Statm, VmFlags, VmaFields,
    VmaStat, attribute_id, push_vma,
};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::FromBytes;

/// Any bytes as a struct of the wire.
fn wire<T: FromBytes + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>()).prop_map(|bytes| T::read_from_bytes(&bytes).unwrap())
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    (any::<u32>(), any::<u64>(), 0..5u64, any::<u32>()).prop_map(|(seq, groups, strategy, pid)| {
        let strategy = DumpStrategy::try_from(strategy).unwrap();
        Request { seq, groups: Groups::from_bits_truncate(groups), strategy, pid }
    })
}

/// One mapping: what [`push_vma`] takes.
pub(super) type Mapping = (VmaFields, Option<VmaStat>, Vec<u8>);

pub(super) fn mapping() -> impl Strategy<Value = Mapping> {
    let fields = (any::<[u64; 5]>(), any::<[u32; 3]>()).prop_map(
        |([start, end, flags, pgoff, inode], [major, minor, generation])| {
            let flags = VmFlags::from_bits_retain(flags);
            VmaFields { start, end, flags, pgoff, major, minor, inode, generation }
        },
    );
    (fields, proptest::option::of(wire()), vec(1..=u8::MAX, 0..80))
}

pub(super) fn list(mappings: &[Mapping]) -> Vec<u8> {
    let mut list = Vec::new();
    for (fields, stat, name) in mappings {
        push_vma(&mut list, fields, stat.as_ref(), name).unwrap();
    }
    list
}

pub(super) fn attribute() -> impl Strategy<Value = OwnedAttribute> {
    let bytes = || vec(any::<u8>(), 0..200);
    let known = [
        attribute_id::BASE,
        attribute_id::CRED,
        attribute_id::VMA,
        attribute_id::STAT,
        attribute_id::CMDLINE,
        attribute_id::STATM,
        attribute_id::MISSING,
    ];
    prop_oneof![
        wire::<Base>().prop_map(|base| OwnedAttribute::Base(Base { pad: [0; 3], ..base })),
        wire::<Credentials>().prop_map(OwnedAttribute::Credentials),
        vec(mapping(), 0..5).prop_map(|mappings| OwnedAttribute::Vma(list(&mappings))),
        wire::<Stat>().prop_map(|stat| OwnedAttribute::Stat(Stat { pad: 0, ..stat })),
        bytes().prop_map(OwnedAttribute::Cmdline),
        wire::<Statm>().prop_map(OwnedAttribute::Statm),
        any::<u64>().prop_map(OwnedAttribute::Missing),
        (0..1u16 << 14, bytes())
            .prop_filter("a known number", move |(id, _)| !known.contains(id))
            .prop_map(|(id, payload)| OwnedAttribute::Unknown { id, payload }),
    ]
}
