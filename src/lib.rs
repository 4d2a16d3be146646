//! The interface `/proc/task_diag` for every Linux: attributes of many processes in one binary read.
//!
//! A client writes one request that says which groups of attributes of which tasks it wants, and reads netlink
//! messages. [`client`] does that; [`fs`] serves the file; [`protocol`] is the wire between them.
//!
//! ```
//! use std::sync::Arc;
//! use task_diag::client::Client;
//! use task_diag::proc_files::ProcRoot;
//! use task_diag::protocol::{DumpStrategy, Groups, Request};
//! use task_diag::source::{Limits, ProcfsSource};
//!
//! // Without a mount: the engine in this process. `Client::open` asks a mount instead.
//! let proc_root = Arc::new(ProcRoot::open("/proc")?);
//! let source = Arc::new(ProcfsSource::new(proc_root.clone(), Limits::default()));
//! let mut client = Client::direct(source, proc_root);
//! let groups = Groups::BASE | Groups::CMDLINE;
//! let me = Request { groups, strategy: DumpStrategy::One, pid: std::process::id(), ..Request::default() };
//! let tasks = client.tasks(me)?;
//! assert_eq!(tasks[0].pid, std::process::id());
//! assert!(tasks[0].command_line.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod access;
pub mod client;
pub mod counters;
pub mod engine;
pub mod fs;
pub mod proc_files;
pub mod protocol;
pub mod source;
pub mod task;

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
