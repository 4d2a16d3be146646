//! What tasks have open, and the names of files: the program and what it is made of.

pub(super) mod abi;
pub(super) mod names;
pub(super) mod open_files;
