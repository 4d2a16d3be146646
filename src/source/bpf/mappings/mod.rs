//! The mappings of tasks: the program that walks their trees, and the lists made of it.

pub(super) mod abi;
pub(super) mod list;
