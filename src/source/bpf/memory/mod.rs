//! Memory of tasks, read out of their page tables.

pub(super) mod direct_map;
