//! The attributes from 32 on, which the kernel patch never had: layouts of docs/protocol.md.
//!
//! Each has one layout that grows at its end. Fixed ones are structs of the wire; those with strings or lists in them are views
//! that borrow a payload and check every offset, and a function that writes one.

mod cgroup;
mod descriptors;
mod files;
mod membership;
mod misc;
mod namespaces;
mod numbers;
mod parts;

pub use cgroup::{Cgroup, CgroupList, cgroup_record_len, push_cgroup};
pub use descriptors::{
    Descriptor, DescriptorHeader, DescriptorKind, DescriptorList, descriptor_record_len, push_descriptor,
};
pub use files::{Files, push_files};
pub use membership::{Membership, MembershipHeader, push_membership};
pub use misc::{Misc, MiscHeader, push_misc};
pub use namespaces::{NAMESPACE_KINDS, Namespaces, push_namespaces};
pub use numbers::{FdCount, Io, Rollup, Sched};
