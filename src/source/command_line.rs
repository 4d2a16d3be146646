//! A process's command line out of its memory (`get_mm_cmdline`).

use crate::proc_files::LONGEST_PIECE;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;

/// Reads the command line of `pid`, whose `arg_start`, `arg_end`, `env_start` and `env_end` are `area`.
///
/// Like `/proc/PID/cmdline` it follows a process that wrote its title over its arguments, and on into its
/// environment: then the line is the text up to the first NUL, at most a page. May wait for as long as a page of the
/// target does.
///
/// # Errors
/// What `process_vm_readv` says; `EPERM` where a security module forbids it even to root, who then can still read
/// the file; `EFBIG` for more than 8 MiB.
pub fn read_command_line(pid: u32, area: [u64; 4], page_size: usize) -> nix::Result<Vec<u8>> {
    let [arg_start, arg_end, env_start, env_end] = area;
    if env_end == 0 || arg_start >= arg_end {
        return Ok(Vec::new());
    }
    let arguments = (arg_end - arg_start) as usize;
    let mut line = read_memory(pid, arg_start, arguments)?;
    if line.len() == arguments && line.last().is_some_and(|byte| *byte != 0) {
        let whole = if env_start == arg_end && env_end >= env_start { env_end } else { arg_end } - arg_start;
        line = read_memory(pid, arg_start, page_size)?;
        let end = memchr::memchr(0, &line).map_or(line.len(), |nul| nul + 1);
        line.truncate(end.min(whole as usize));
    }
    Ok(line)
}

/// Reads up to `len` bytes, fewer where a page is not there. The length is what the target says it is, so memory for
/// it is found as it comes.
fn read_memory(pid: u32, start: u64, len: usize) -> nix::Result<Vec<u8>> {
    const STEP: usize = 64 * 1024;
    if len > LONGEST_PIECE {
        return Err(Errno::EFBIG);
    }
    let mut bytes = Vec::new();
    let mut done = 0;
    while done < len {
        let step = STEP.min(len - done);
        bytes.resize(done + step, 0);
        let remote = RemoteIoVec { base: start as usize + done, len: step };
        match process_vm_readv(
            Pid::from_raw(pid as i32),
            &mut [IoSliceMut::new(&mut bytes[done..])],
            &[remote],
        ) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(Errno::EFAULT) => break,
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_rule() {
        let mut memory = b"first\0second\0HOME=/\0PATH=/bin\0".to_vec();
        let start = memory.as_ptr() as u64;
        let area = [start, start + 13, start + 13, start + memory.len() as u64];
        let read = |area| read_command_line(std::process::id(), area, 4096).unwrap();
        assert_eq!(read(area), b"first\0second\0");
        assert_eq!(read([area[0], area[0], area[2], area[3]]), b"");
        assert_eq!(read([area[0], area[1], area[2], 0]), b"");
        // The title runs over the end of the arguments into the environment.
        memory[..18].copy_from_slice(b"a title of 18 byte");
        memory[18] = 0;
        assert_eq!(read(area), b"a title of 18 byte\0");
        // An environment that stands elsewhere is not run into.
        assert_eq!(read([area[0], area[1], area[2] + 8, area[3]]), b"a title of 18");
    }
}
