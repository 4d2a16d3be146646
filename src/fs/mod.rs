//! The engine as a file: a FUSE file system, and its mount.

mod filesystem;
mod handles;
mod info;
mod mount;

pub use filesystem::TaskDiagFs;
pub use info::Info;
pub use mount::{MountError, MountOptions, serve};
