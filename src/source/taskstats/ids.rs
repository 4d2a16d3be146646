//! The ids within `struct taskstats`, which the kernel gives by the names of the asking process' namespaces.

use crate::protocol::{Base, Credentials};

/// Where `ac_uid` stands (`linux/taskstats.h`); `ac_gid`, `ac_pid` and `ac_ppid` follow it.
const UID: usize = 120;
/// Where `ac_tgid` stands, from version 12 on.
const TGID: usize = 368;
/// The structure grows at its end, but for the one version that had so many bytes put in before `ac_uid`, and as many
/// again before `ac_tgid`.
const PUT_IN: (u16, usize) = (15, 48);

/// Makes the ids in `stats` those of the reader's namespaces: of `base` and of `shown`, the credentials as the reader is
/// shown them. Where the kernel tells none, as of whole processes, there are none afterwards.
pub fn for_reader(stats: &mut [u8], base: &Base, shown: &Credentials) {
    let Some(version) = stats.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)) else { return };
    let more = if version == PUT_IN.0 { PUT_IN.1 } else { 0 };
    let uid = UID + more;
    if place(stats, uid + 8).is_none_or(|pid| *pid == [0; 4]) {
        return;
    }
    let tgid = if version < 12 { usize::MAX } else { TGID + 2 * more };
    let ids = [shown.uid, shown.gid, base.pid, base.ppid, base.tgid];
    for (at, id) in [uid, uid + 4, uid + 8, uid + 12, tgid].into_iter().zip(ids) {
        if let Some(place) = place(stats, at) {
            *place = id.to_ne_bytes();
        }
    }
}

fn place(stats: &mut [u8], at: usize) -> Option<&mut [u8; 4]> {
    stats.get_mut(at..)?.first_chunk_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics of `len` bytes, each 0xee but for the version and the id of the task.
    fn stats(version: u16, len: usize, pid: u32, pid_at: usize) -> Vec<u8> {
        let mut stats = vec![0xee; len];
        stats[..2].copy_from_slice(&version.to_ne_bytes());
        stats[pid_at..][..4].copy_from_slice(&pid.to_ne_bytes());
        stats
    }

    fn rewritten(mut stats: Vec<u8>) -> Vec<u8> {
        let base = Base { pid: 11, ppid: 12, tgid: 13, ..Default::default() };
        let shown = Credentials { uid: 14, gid: 65534, euid: 1, egid: 1, ..Default::default() };
        for_reader(&mut stats, &base, &shown);
        stats
    }

    /// The places of 32-bit numbers that are not 0xeeeeeeee, with the numbers.
    fn changed(stats: &[u8]) -> Vec<(usize, u32)> {
        let numbers = stats.chunks_exact(4).map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
        numbers.enumerate().skip(1).filter(|(_, n)| *n != 0xeeee_eeee).map(|(at, n)| (at * 4, n)).collect()
    }

    #[test]
    fn each_version_has_its_ids_in_their_places() {
        let early = [(120, 14), (124, 65534), (128, 11), (132, 12)];
        // Before there was a thread-group id, something else may stand there.
        assert_eq!(changed(&rewritten(stats(11, 400, 7, 128))), early);
        assert_eq!(changed(&rewritten(stats(8, 328, 7, 128))), early);
        for version in [12, 13, 14, 16, 17, 40] {
            let late = [&early[..], &[(368, 13)]].concat();
            assert_eq!(changed(&rewritten(stats(version, 720, 7, 128))), late, "version {version}");
        }
        let displaced = [(168, 14), (172, 65534), (176, 11), (180, 12), (464, 13)];
        assert_eq!(changed(&rewritten(stats(15, 560, 7, 176))), displaced);
    }

    #[test]
    fn what_the_kernel_does_not_tell_stays_untold() {
        for version in [8, 12, 17] {
            assert_eq!(rewritten(stats(version, 720, 0, 128)), stats(version, 720, 0, 128));
        }
        assert_eq!(rewritten(stats(15, 560, 0, 176)), stats(15, 560, 0, 176));
    }

    #[test]
    fn what_is_cut_short_does_no_harm() {
        for len in 0..370 {
            let mut short = stats(17, 720, 7, 128);
            short.truncate(len);
            assert_eq!(rewritten(short).len(), len);
        }
    }
}
