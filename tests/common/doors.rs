//! Every way by which bytes of an open file can be had. Some go through the kernel's page cache, past the daemon.

use std::ffi::c_void;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::null_mut;

const LEN: usize = 256 * 1024;
const PAGE: usize = 4096;

/// What a way is called, and what gives the bytes that come by it; none where it is closed.
pub type Door = (&'static str, fn(RawFd) -> Vec<u8>);

/// All of them.
pub const DOORS: [Door; 8] = [
    ("read", read),
    ("pread", positioned),
    ("splice", spliced),
    ("sendfile", sent),
    ("copy_file_range", copied),
    ("private mapping", |fd| mapped(fd, libc::MAP_PRIVATE)),
    ("shared mapping", |fd| mapped(fd, libc::MAP_SHARED)),
    ("readahead", |fd| {
        // SAFETY: numbers only.
        unsafe {
            libc::readahead(fd, 0, LEN);
            libc::posix_fadvise(fd, 0, LEN as i64, libc::POSIX_FADV_WILLNEED);
        }
        spliced(fd)
    }),
];

/// A file in memory that takes what comes through a door.
fn sink() -> File {
    // SAFETY: a C string; the descriptor is new and nobody else's.
    unsafe { File::from_raw_fd(libc::memfd_create(c"sink".as_ptr(), libc::MFD_CLOEXEC)) }
}

fn content(mut sink: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    sink.rewind().unwrap();
    sink.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read(fd: RawFd) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    // SAFETY: a buffer of that length.
    let n = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), LEN) };
    bytes.truncate(n.max(0) as usize);
    bytes
}

fn positioned(fd: RawFd) -> Vec<u8> {
    let mut all = Vec::new();
    for offset in [0, 1, PAGE as i64, 1 << 20] {
        let mut bytes = vec![0; LEN];
        // SAFETY: a buffer of that length.
        let n = unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), LEN, offset) };
        all.extend_from_slice(&bytes[..n.max(0) as usize]);
    }
    all
}

fn spliced(fd: RawFd) -> Vec<u8> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut all = Vec::new();
    for mut offset in [0, 1 << 20] {
        for at in [null_mut(), &raw mut offset] {
            // SAFETY: the offset is a local; the pipe is empty and holds the length.
            let n = unsafe {
                let flags = libc::SPLICE_F_NONBLOCK;
                libc::splice(fd, at, writer.as_raw_fd(), null_mut(), 16 * 1024, flags)
            };
            let mut bytes = vec![0; n.max(0) as usize];
            reader.read_exact(&mut bytes).unwrap();
            all.extend(bytes);
        }
    }
    all
}

fn sent(fd: RawFd) -> Vec<u8> {
    let sink = sink();
    for mut offset in [0, 1 << 20] {
        for at in [null_mut(), &raw mut offset] {
            // SAFETY: the offset is a local.
            unsafe { libc::sendfile(sink.as_raw_fd(), fd, at, LEN) };
        }
    }
    content(sink)
}

fn copied(fd: RawFd) -> Vec<u8> {
    let sink = sink();
    for mut offset in [0, 1 << 20] {
        // SAFETY: the offset is a local.
        unsafe { libc::copy_file_range(fd, &raw mut offset, sink.as_raw_fd(), null_mut(), LEN, 0) };
    }
    content(sink)
}

fn mapped(fd: RawFd, flags: i32) -> Vec<u8> {
    let sink = sink();
    for offset in [0, 1 << 20] {
        // SAFETY: a new mapping. The kernel reads it, which gives an error where a look of our own would be fatal.
        unsafe {
            let at = libc::mmap(null_mut(), LEN, libc::PROT_READ, flags, fd, offset);
            if at == libc::MAP_FAILED {
                continue;
            }
            for page in 0..LEN / PAGE {
                libc::write(sink.as_raw_fd(), at.cast::<c_void>().wrapping_byte_add(page * PAGE), PAGE);
            }
            libc::munmap(at, LEN);
        }
    }
    content(sink)
}
