//! Random values of the wire's types, for the tests.

use super::{
    Base, Cgroup, Credentials, Descriptor, DumpStrategy, FdCount, Groups, Io, OwnedAttribute, Request,
    Rollup, Sched, Stat, Statm, VmFlags, VmaFields, VmaStat, attribute_id, push_cgroup, push_descriptor,
    push_vma,
};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Any bytes as a struct of the wire.
fn wire<T: FromBytes + std::fmt::Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>()).prop_map(|bytes| T::read_from_bytes(&bytes).unwrap())
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    let strategy = prop_oneof![0..5u64, 16..18u64];
    let pids = vec(any::<u32>(), 0..20);
    (any::<u32>(), any::<u64>(), strategy, any::<u32>(), pids).prop_map(
        |(seq, groups, strategy, pid, pids)| {
            let strategy = DumpStrategy::try_from(strategy).unwrap();
            let pids = if strategy == DumpStrategy::Set { pids } else { Vec::new() };
            Request { seq, groups: Groups::from_bits_truncate(groups), strategy, pid, pids }
        },
    )
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

/// Strings without NULs.
fn string() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..80)
}

fn cgroups() -> impl Strategy<Value = Vec<u8>> {
    vec((any::<u16>(), string(), string()), 0..5).prop_map(|all| {
        let mut list = Vec::new();
        for (hierarchy, controllers, path) in &all {
            push_cgroup(&mut list, &Cgroup { hierarchy: *hierarchy, controllers, path }).unwrap();
        }
        list
    })
}

fn descriptors() -> impl Strategy<Value = Vec<u8>> {
    vec((any::<u32>(), any::<u8>(), any::<[u64; 2]>(), string()), 0..5).prop_map(|all| {
        let mut list = Vec::new();
        for (fd, kind, [pos, inode], name) in &all {
            let (fd, kind, pos, inode) = (*fd, *kind, *pos, *inode);
            push_descriptor(&mut list, &Descriptor { fd, kind, pos, inode, name, ..Descriptor::default() })
                .unwrap();
        }
        list
    })
}

pub(super) fn attribute() -> impl Strategy<Value = OwnedAttribute> {
    fn other(id: u16) -> impl Fn(Vec<u8>) -> OwnedAttribute + Clone {
        move |payload| OwnedAttribute::Other { id, payload }
    }
    fn fixed<T: FromBytes + IntoBytes + Immutable + std::fmt::Debug>(
        id: u16,
    ) -> impl Strategy<Value = OwnedAttribute> {
        wire::<T>().prop_map(move |value| other(id)(value.as_bytes().to_vec()))
    }
    let bytes = || vec(any::<u8>(), 0..200);
    prop_oneof![
        wire::<Base>().prop_map(|base| OwnedAttribute::Base(Base { pad: [0; 3], ..base })),
        wire::<Credentials>().prop_map(OwnedAttribute::Credentials),
        vec(mapping(), 0..5).prop_map(|mappings| OwnedAttribute::Vma(list(&mappings))),
        wire::<Stat>().prop_map(|stat| OwnedAttribute::Stat(Stat { pad: 0, ..stat })),
        bytes().prop_map(OwnedAttribute::Cmdline),
        wire::<Statm>().prop_map(OwnedAttribute::Statm),
        fixed::<u64>(attribute_id::MISSING),
        fixed::<Sched>(attribute_id::SCHED),
        fixed::<Io>(attribute_id::IO),
        fixed::<FdCount>(attribute_id::FD_COUNT),
        fixed::<Rollup>(attribute_id::ROLLUP),
        cgroups().prop_map(other(attribute_id::CGROUP)),
        descriptors().prop_map(other(attribute_id::FD)),
        (45..1u16 << 14, bytes()).prop_map(|(id, payload)| other(id)(payload)),
    ]
}
