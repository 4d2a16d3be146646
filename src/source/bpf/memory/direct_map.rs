//! Shows the tasks program where the kernel maps all memory, so that it can read command lines out of page tables.

use nix::errno::Errno;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ptr::{self, NonNull};

const PAGE: usize = 4096;

/// Pages of this process with random bytes, which the program is to find through the page tables.
pub struct Samples {
    mappings: [Mapping; 2],
    pub addresses: [u64; 8],
    pub words: [u64; 64],
}

impl Samples {
    /// Fills fresh pages, in two mappings.
    pub fn new() -> io::Result<Samples> {
        let mappings = [Mapping::new(6)?, Mapping::new(2)?];
        let mut bytes = [[0; 64]; 8];
        File::open("/dev/urandom")?.read_exact(bytes.as_flattened_mut())?;
        let mut samples = Samples { mappings, addresses: [0; 8], words: [0; 64] };
        for (words, bytes) in samples.words.iter_mut().zip(bytes.as_flattened().chunks_exact(8)) {
            *words = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        samples.fill();
        Ok(samples)
    }

    /// Gives the pages back to the kernel and writes the same bytes to others.
    pub fn move_to_other_pages(&mut self) -> io::Result<()> {
        self.mappings.iter().try_for_each(Mapping::forget)?;
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        let pages = self.mappings.iter().flat_map(Mapping::pages);
        for (nth, page) in pages.enumerate() {
            let place = page.wrapping_add(nth * 136);
            self.addresses[nth] = place as u64;
            for (at, word) in self.words[nth * 8..][..8].iter().enumerate() {
                // SAFETY: inside the page (7 * 136 + 64 bytes at most), aligned, and nobody else knows of it.
                unsafe { place.cast::<u64>().wrapping_add(at).write_volatile(*word) };
            }
        }
    }
}

struct Mapping {
    memory: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(pages: usize) -> io::Result<Mapping> {
        let length = pages * PAGE;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping.
        let memory = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
        match NonNull::new(memory.cast::<u8>()) {
            Some(memory) if memory.as_ptr().cast() != libc::MAP_FAILED => {
                let mapping = Mapping { memory, length };
                // Where the kernel has no huge pages it says EINVAL, which is as good.
                let _ = mapping.advise(libc::MADV_NOHUGEPAGE);
                Ok(mapping)
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn pages(&self) -> impl Iterator<Item = *mut u8> {
        (0..self.length).step_by(PAGE).map(|at| self.memory.as_ptr().wrapping_add(at))
    }

    fn forget(&self) -> io::Result<()> {
        Ok(self.advise(libc::MADV_DONTNEED)?)
    }

    fn advise(&self, advice: libc::c_int) -> nix::Result<()> {
        // SAFETY: our own mapping, to whose bytes no reference is ever made.
        Errno::result(unsafe { libc::madvise(self.memory.as_ptr().cast(), self.length, advice) }).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.length) };
    }
}

/// Where this machine's memory ends, in bytes.
pub fn memory_end() -> io::Result<u64> {
    Ok(end_of_zones(&fs::read_to_string("/proc/zoneinfo")?) * PAGE as u64)
}

/// The first page number after all zones of memory; what belongs to devices does not count.
fn end_of_zones(text: &str) -> u64 {
    let number = |line: &str, name| line.trim().strip_prefix(name)?.trim().parse::<u64>().ok();
    let (mut spanned, mut end) = (0, 0);
    for line in text.lines() {
        if let Some(pages) = number(line, "spanned") {
            spanned = pages;
        } else if let Some(start) = number(line, "start_pfn:") {
            end = end.max(start + spanned);
        } else if line.starts_with("Node") && line.ends_with("Device") {
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        let text = "Node 0, zone      DMA\n  pages free     3840\n        spanned  4095\n        present  3999\n\
            \x20 start_pfn:           1\nNode 0, zone   Normal\n        spanned  2048\n  start_pfn:           1048576\n\
            Node 0, zone  Movable\n        spanned  0\n  start_pfn:           0\n\
            Node 0, zone   Device\n        spanned  99999999\n  start_pfn:           4194304\n";
        assert_eq!(end_of_zones(text), 1_048_576 + 2048);
        assert!(memory_end().unwrap() > 0);
    }
}
