//! What the kernel's verifier counted of the programs, to be held against its limits.

use super::programs::Programs;
use super::refusal::LoadError;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One program that the kernel took.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier followed, of a million at most (`verified_insns`).
    pub instructions: u32,
    /// Bytes of stack of the longest chain of calls, of 512 at most; 0 where the kernel does not show it.
    pub stack: u32,
    /// Calls on the longest chain, of 8 at most.
    pub calls: u32,
}

/// Loads each program as the daemon does; gives its name, and what was counted or why it does not load.
pub fn verify() -> Vec<(&'static str, Result<Vec<Verified>, LoadError>)> {
    Programs::verify()
}

/// What was counted of the program that `fd` is, and that libbpf said this of.
pub(super) fn verified(fd: BorrowedFd<'_>, name: String, said: &str) -> Option<Verified> {
    let fdinfo = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let id = fdinfo.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok())?;
    let asked = ProgInfoQueryOptions::default().include_xlated_prog_insns(true).include_func_info(true);
    let info = ProgInfoIter::with_query_opts(asked).find(|info| info.id == id)?;
    let (stack, calls) = deepest(&info, &depths(said, &name));
    Some(Verified { name, instructions: info.verified_insns, stack, calls })
}

/// The stack of each function, from the verifier's log of that program.
fn depths(said: &str, name: &str) -> Vec<u32> {
    let log =
        said.split_once(&format!("prog '{name}': -- BEGIN PROG LOAD LOG --")).map_or("", |(_, log)| log);
    let log = log.split_once("-- END PROG LOAD LOG --").map_or("", |(log, _)| log);
    let sums = log.lines().find_map(|line| line.strip_prefix("stack depth ")).unwrap_or("");
    sums.split('+').filter_map(|depth| depth.trim().split(' ').next()?.parse().ok()).collect()
}

/// Stack and calls of the longest chain. Functions come in the order of the program, and a call names the one that it calls.
fn deepest(info: &ProgramInfo, depths: &[u32]) -> (u32, u32) {
    const INSTRUCTION: usize = 8;
    const CALL: u8 = 0x85;
    const OF_THE_PROGRAM: u8 = 1;
    let begins: Vec<usize> = info.func_info.iter().map(|function| function.insn_off as usize).collect();
    let instructions: Vec<&[u8]> = info.xlated_prog_insns.chunks_exact(INSTRUCTION).collect();
    let calls_of = |nth: usize| {
        let end = begins.get(nth + 1).copied().unwrap_or(instructions.len());
        let body = instructions.get(begins[nth]..end).unwrap_or_default();
        let calls = body.iter().filter(|word| word[0] == CALL && word[1] >> 4 == OF_THE_PROGRAM);
        calls
            .map(|word| u32::from_ne_bytes([word[4], word[5], word[6], word[7]]) as usize)
            .collect::<Vec<_>>()
    };
    let calls: Vec<Vec<usize>> = (0..begins.len()).map(calls_of).collect();
    let mut chains = vec![(0, 0); begins.len().max(1)];
    // A chain has eight calls at most.
    for _ in 0..8 {
        for nth in 0..begins.len() {
            let below = calls[nth].iter().filter_map(|callee| chains.get(*callee)).copied();
            let (stack, length) = below.fold((0, 0), |(a, b): (u32, u32), (c, d)| (a.max(c), b.max(d)));
            let own = depths.get(nth).copied().unwrap_or(0).max(1).next_multiple_of(16);
            chains[nth] = (own + stack, length + 1);
        }
    }
    if depths.is_empty() { (0, chains[0].1) } else { chains[0] }
}
