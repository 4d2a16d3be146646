//! What a process may have in its address space.

use super::Animal;
use crate::common::child::{Child, Inside};
use crate::common::proc;
use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;
use tempfile::TempDir;

pub fn all() -> Vec<Animal> {
    vec![many_mappings(), every_kind()]
}

const RW: c_int = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

#[track_caller]
fn map(inside: &Inside, len: u64, prot: c_int, flags: c_int, fd: c_int) -> *mut c_void {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(null_mut(), len as usize, prot, flags, fd, 0) };
    inside.check(at as i64);
    at
}

#[track_caller]
fn advise(inside: &Inside, at: *mut c_void, len: u64, advice: c_int) {
    // Which advice there is depends on the kernel; what came of it is in smaps.
    let _ = crate::common::identity::syscall(libc::SYS_madvise, [at as c_long, len as c_long, advice.into()]);
    let _ = inside;
}

/// Writes to a page, so that it is resident.
fn touch(at: *mut c_void, byte: u64) {
    // SAFETY: within a writable mapping just made.
    unsafe { at.cast::<u8>().add(byte as usize).write_volatile(1) };
}

/// 5,000 mappings of one page, of two kinds in turns so that the kernel cannot join them.
pub fn many_mappings() -> Animal {
    const COUNT: u64 = 5000;
    let page = proc::page_size();
    let child = Child::start(0, |inside| {
        let at = map(inside, COUNT * page, RW, PRIVATE, -1);
        advise(inside, at, COUNT * page, libc::MADV_NOHUGEPAGE);
        for n in 0..COUNT {
            if n % 5 == 0 {
                touch(at, n * page);
            }
            if n % 2 == 0 {
                let prot = libc::PROT_READ | if n % 4 == 0 { libc::PROT_EXEC } else { 0 };
                let address = at as c_long + (n * page) as c_long;
                inside.call(libc::SYS_mprotect, [address, page as c_long, prot.into()]);
            }
        }
    });
    Animal::new("many mappings", b'S', child)
}

/// Names of mapped files that are hard to print.
pub const NEWLINE_NAME: &[u8] = b"line\nbreak";
/// What the kernel's text forms make of [`NEWLINE_NAME`] as well.
pub const ESCAPED_NAME: &[u8] = b"line\\012break";
pub const SPACES_NAME: &[u8] = b" two  spaces (deleted)";
pub const BYTES_NAME: &[u8] = b"\xff\xfe\\no utf-8\t";
pub const DELETED_NAME: &[u8] = b"gone\n";

/// Mappings of every kind that can be made without special hardware.
pub fn every_kind() -> Animal {
    let page = proc::page_size();
    let dir = TempDir::new().unwrap();
    let names = [NEWLINE_NAME, ESCAPED_NAME, SPACES_NAME, BYTES_NAME, DELETED_NAME];
    let paths = names.map(|name| {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, vec![7; 3 * page as usize]).unwrap();
        CString::new(path.as_os_str().as_bytes()).unwrap()
    });
    let child = Child::start(0, |inside| {
        for path in &paths {
            files(inside, path, page);
        }
        anonymous(inside, page);
    });
    let mut animal = Animal::new("every kind of mapping", b'S', child);
    std::fs::remove_file(dir.path().join(std::ffi::OsStr::from_bytes(DELETED_NAME))).unwrap();
    animal.files = Some(dir);
    animal
}

/// A file mapped in several ways.
fn files(inside: &Inside, path: &CStr, page: u64) {
    // SAFETY: a C string.
    let fd = inside.check(unsafe { libc::open(path.as_ptr(), libc::O_RDWR) }) as c_int;
    // SAFETY: as above.
    let read_only = inside.check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }) as c_int;
    let shared = map(inside, page, RW, libc::MAP_SHARED, fd);
    touch(shared, 0);
    map(inside, page, libc::PROT_READ, libc::MAP_SHARED, fd);
    // Shared, and never to be written: /proc/PID/maps prints it like any shared mapping.
    map(inside, page, libc::PROT_READ, libc::MAP_SHARED, read_only);
    let private = map(inside, 3 * page, RW, libc::MAP_PRIVATE, fd);
    touch(private, page);
    // SAFETY: a new mapping of the file's second page.
    let second = unsafe { libc::mmap(null_mut(), page as usize, RW, libc::MAP_PRIVATE, fd, page as i64) };
    inside.check(second as i64);
    inside.call(libc::SYS_close, [fd.into(), 0, 0]);
    inside.call(libc::SYS_close, [read_only.into(), 0, 0]);
}

fn anonymous(inside: &Inside, page: u64) {
    // Shared memory: shown as a deleted file of /dev/zero.
    touch(map(inside, page, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1), 0);
    // SAFETY: a C string.
    let memfd = inside.check(unsafe { libc::memfd_create(c"mem\nfd".as_ptr(), 0) }) as c_int;
    // SAFETY: a descriptor just made.
    inside.check(unsafe { libc::ftruncate(memfd, page as i64) });
    touch(map(inside, page, RW, libc::MAP_SHARED, memfd), 0);

    let locked = map(inside, page, RW, PRIVATE, -1);
    inside.call(libc::SYS_mlock, [locked as c_long, page as c_long, 0]);
    map(inside, page, RW, PRIVATE | libc::MAP_NORESERVE, -1);
    map(inside, page, RW, PRIVATE | libc::MAP_GROWSDOWN, -1);
    map(inside, page, libc::PROT_NONE, PRIVATE, -1);
    map(inside, page, RW | libc::PROT_EXEC, PRIVATE, -1);
    for advice in [
        libc::MADV_SEQUENTIAL,
        libc::MADV_RANDOM,
        libc::MADV_DONTFORK,
        libc::MADV_DONTDUMP,
        libc::MADV_MERGEABLE,
        libc::MADV_HUGEPAGE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_WIPEONFORK,
    ] {
        let at = map(inside, page, RW, PRIVATE, -1);
        advise(inside, at, page, advice);
    }
    // A name of its own, where the kernel has such names.
    let named = map(inside, page, RW, PRIVATE, -1);
    let (option, what) = (libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME as c_long);
    // SAFETY: names a mapping just made.
    unsafe { libc::prctl(option, what, named as c_long, page as c_long, c"an \"odd\" name".as_ptr()) };
    // Huge pages, where some are set aside.
    // SAFETY: a new mapping, or none.
    unsafe { libc::mmap(null_mut(), 1 << 21, RW, PRIVATE | libc::MAP_HUGETLB, -1, 0) };
}
