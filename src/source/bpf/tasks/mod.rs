//! Records of tasks: the program that fills them, and their layout.

pub(super) mod abi;
#[cfg(test)]
mod sections_test;
