//! `maps` and `smaps` of one task, piece by piece.

use crate::proc_files::{KeptFile, TaskDir, parse_maps, parse_smaps, whole_maps, whole_smaps};
use crate::protocol::{VmaHeader, VmaList, record_len};
use crate::source::rest::PIECE;
use nix::errno::Errno;
use std::sync::Arc;
use zerocopy::FromBytes;

/// Text that is parsed at once: the files of most tasks.
const CHUNK: usize = 256 << 10;
/// Room for what the kernel gives at once.
const STEP: usize = 16 << 10;

/// An open list of mappings.
#[derive(Debug)]
pub struct MappingFile {
    file: Arc<KeptFile>,
    with_statistics: bool,
    /// Text that was read and not parsed.
    tail: Vec<u8>,
    /// What begins below this address was told already.
    from: u64,
}

impl MappingFile {
    /// Of an open `smaps` or `maps`, with statistics or without, for what begins at `from` and above.
    pub(in crate::source) fn new(file: Arc<KeptFile>, with_statistics: bool, from: u64) -> MappingFile {
        MappingFile { file, with_statistics, tail: Vec::new(), from }
    }

    /// Appends the records that come next, about [`PIECE`] bytes of them; false if those were the last. `text` is any buffer.
    ///
    /// # Errors
    /// As [`TaskDir::read`]; `EOVERFLOW` where a record would not hold a name.
    pub(in crate::source) fn read(
        &mut self,
        text: &mut Vec<u8>,
        dir: &TaskDir,
        out: &mut Vec<u8>,
    ) -> nix::Result<bool> {
        let begin = out.len();
        let true_name = |start, end| dir.mapped_file(start, end);
        let mut len = self.tail.len();
        if text.len() < len + STEP {
            text.resize(len + STEP, 0);
        }
        text[..len].copy_from_slice(&std::mem::take(&mut self.tail));
        loop {
            dir.step(0)?;
            if text.len() < len + STEP {
                text.resize((2 * len).clamp(len + STEP, len + CHUNK), 0);
            }
            let n = self.file.read_on(&mut text[len..])?;
            len += n;
            if n > 0 && len < CHUNK {
                continue;
            }
            let whole = match (n, self.with_statistics) {
                (0, _) => len,
                (_, true) => whole_smaps(&text[..len]),
                (_, false) => whole_maps(&text[..len]),
            };
            let parsed = match self.with_statistics {
                true => parse_smaps(&text[..whole], &true_name, out),
                false => parse_maps(&text[..whole], &true_name, out),
            };
            // A mapping with a name that no record can hold: the list would lie by leaving it out.
            parsed.map_err(|e| {
                log::warn!("mappings of a task left out: {e}");
                Errno::EOVERFLOW
            })?;
            self.skip(out, begin);
            if n == 0 {
                return Ok(false);
            }
            text.copy_within(whole..len, 0);
            len -= whole;
            if out.len() - begin >= PIECE {
                self.tail = text[..len].to_vec();
                return Ok(true);
            }
        }
    }

    /// Whether the memory is there no more, so that the list ended before its time.
    pub(in crate::source) fn is_gone(&self) -> bool {
        !self.file.has_text(&mut Vec::new())
    }

    /// Goes on after these records, where the file was looked at from its beginning meanwhile.
    ///
    /// # Errors
    /// What `lseek` says.
    pub(in crate::source) fn find_again(&mut self, told: &[u8]) -> nix::Result<()> {
        let last = VmaList::new(told).map_while(Result::ok).last();
        (self.from, self.tail) = (last.map_or(0, |vma| vma.start + 1), Vec::new());
        self.file.rewind()
    }

    /// Takes out what was told already.
    fn skip(&mut self, out: &mut Vec<u8>, begin: usize) {
        let mut at = begin;
        while self.from > 0
            && let Some(len) = record_len(&out[at..])
        {
            match VmaHeader::read_from_prefix(&out[at..]) {
                Ok((header, _)) if header.start < self.from => at += len,
                _ => self.from = 0,
            }
        }
        out.drain(begin..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc_files::ProcRoot;
    use nix::libc;

    /// So many mappings that none merges with the next.
    fn map_many(count: usize) -> *mut libc::c_void {
        let page = crate::proc_files::page_size() as usize;
        // SAFETY: a new mapping, whose pages nobody uses.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let memory = libc::mmap(std::ptr::null_mut(), count * page, libc::PROT_READ, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            for at in (1..count).step_by(2) {
                libc::mprotect(memory.byte_add(at * page), page, libc::PROT_NONE);
            }
            memory
        }
    }

    #[test]
    fn pieces_make_up_the_list() {
        let count = 12_000;
        let memory = map_many(count);
        let root = ProcRoot::open("/proc").unwrap();
        let dir = root.task(std::process::id()).unwrap();
        for with_statistics in [false, true] {
            let open = |from| {
                let file = dir.keep(if with_statistics { "smaps" } else { "maps" }).unwrap();
                MappingFile::new(Arc::new(file), with_statistics, from)
            };
            let mut file = open(0);
            let (mut all, mut text, mut pieces) = (Vec::new(), Vec::new(), 1);
            while file.read(&mut text, &dir, &mut all).unwrap() {
                pieces += 1;
                if pieces == 2 {
                    assert!(!file.is_gone());
                    file.find_again(&all).unwrap();
                }
                assert!(text.len() < 2 * CHUNK);
            }
            assert!(pieces >= 3 && !file.is_gone(), "{pieces}");
            let page = crate::proc_files::page_size();
            let ours = memory as u64..memory as u64 + count as u64 * page;
            let starts: Vec<u64> = VmaList::new(&all).map(|vma| vma.unwrap().start).collect();
            assert!(starts.is_sorted());
            let found: Vec<u64> = starts.iter().copied().filter(|start| ours.contains(start)).collect();
            // The first may have merged with what was there before.
            let expected: Vec<u64> = ours.clone().step_by(page as usize).skip(1).collect();
            assert_eq!(found[found.len() - expected.len()..], expected);
            // What begins at an address and above.
            let from = expected[7000];
            let (mut file, mut rest) = (open(from), Vec::new());
            while file.read(&mut text, &dir, &mut rest).unwrap() {}
            assert_eq!(VmaList::new(&rest).next().unwrap().unwrap().start, from);
        }
        // SAFETY: the mapping made above.
        unsafe { libc::munmap(memory, count * crate::proc_files::page_size() as usize) };
    }
}
