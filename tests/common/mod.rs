//! What the integration tests share: a daemon of their own, processes of known shape, an independent reading of
//! /proc, and a strict reading of the answers.
//!
//! - [`needs`] what a test needs of the machine, [`wait`] bounded waiting
//! - [`daemon`] the real program, mounted at a temporary directory; [`sources`] the sources it is run with
//! - [`handle`] one open file, through plain system calls; [`wire`] the answer's bytes, checked one by one
//! - [`hung`] a process whose memory cannot be read
//! - [`child`] forked processes that die with their test; [`zoo`] such processes in every known shape
//! - [`tools`] compilers, make and Python; [`answers`] answers as files, whole and garbled
//! - [`ring`] a ring of io_uring
//! - [`ps`] the command that looks at processes
//! - [`place`] a place for set-user-id programs
//! - [`doors`] every way to get at the bytes of an open file
//! - [`identity`] threads with credentials of their own; [`readers`] such readers of many kinds
//! - [`proc`] the files of /proc; [`expect`] what an answer must say, according to them; [`more`] the same of the groups from 32 on

// Every test program compiles this module for itself, and uses a part of it.
#![allow(dead_code)]

pub mod answers;
pub mod child;
pub mod daemon;
pub mod doors;
pub mod expect;
pub mod handle;
pub mod hung;
pub mod identity;
pub mod more;
pub mod needs;
pub mod place;
pub mod proc;
pub mod ps;
pub mod readers;
pub mod ring;
pub mod sources;
pub mod tools;
pub mod wait;
pub mod wire;
pub mod zoo;
