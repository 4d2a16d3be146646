//! Values of a mapped BPF array, lent to one caller at a time.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use zerocopy::FromBytes;

/// All the values of one array map, each a `T`: any bytes are one, and its size is a multiple of 8.
pub struct Slots<T: FromBytes> {
    memory: NonNull<T>,
    length: usize,
    free: Mutex<Vec<u32>>,
    returned: Condvar,
}

// SAFETY: the memory is shared with the programs only, and reached through a `Lease`, one at a time for each value.
unsafe impl<T: FromBytes + Send> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: FromBytes + Send> Sync for Slots<T> {}

impl<T: FromBytes> Slots<T> {
    /// Maps an array of `count` values.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn map(array: BorrowedFd<'_>, count: u32) -> io::Result<Arc<Slots<T>>> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let length = size_of::<T>() * count as usize;
        // SAFETY: a fresh mapping. The kernel refuses one longer than the map; the mapping keeps the map alive.
        let memory = unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), length, access, kind, array.as_raw_fd(), 0)
        };
        match NonNull::new(memory.cast::<T>()) {
            Some(memory) if memory.as_ptr().cast() != libc::MAP_FAILED => Ok(Arc::new(Slots {
                memory,
                length,
                free: Mutex::new((0..count).rev().collect()),
                returned: Condvar::new(),
            })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Borrows a slot, waiting for one if all are lent: whoever holds one asks for no other. The one returned last
    /// goes first: it is still in the cache.
    pub fn lend(self: &Arc<Self>) -> Lease<T> {
        let mut free = self.free.lock();
        loop {
            match free.pop() {
                Some(index) => return Lease { slots: self.clone(), index },
                None => self.returned.wait(&mut free),
            }
        }
    }
}

impl<T: FromBytes> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; every lease holds the slots, so none is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.length) };
    }
}

/// A slot lent to one caller. The programs write to it only while its holder runs one with its index.
pub struct Lease<T: FromBytes> {
    slots: Arc<Slots<T>>,
    index: u32,
}

impl<T: FromBytes> Lease<T> {
    /// What the programs know the slot by.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl<T: FromBytes> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: inside the mapping, valid whatever the bytes, and lent to this lease alone.
        unsafe { self.slots.memory.add(self.index as usize).as_ref() }
    }
}

impl<T: FromBytes> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and exclusively borrowed.
        unsafe { self.slots.memory.add(self.index as usize).as_mut() }
    }
}

impl<T: FromBytes> Drop for Lease<T> {
    fn drop(&mut self) {
        self.slots.free.lock().push(self.index);
        self.slots.returned.notify_one();
    }
}
