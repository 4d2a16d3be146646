//! The engine as a file: a FUSE file system, its mount, and the two processes that keep and serve it.

mod buffers;
mod descriptor;
mod fair_queue;
mod filesystem;
mod handles;
mod info;
mod mount;
mod mount_helper;
mod nodes;
mod privileges;
mod reads;
mod seldom;
mod server;
mod session;
mod supervisor;
mod syscall_filter;
mod trim;

pub use filesystem::TaskDiagFs;
pub use info::Info;
pub use mount::{MountError, MountOptions};
pub use supervisor::serve;
