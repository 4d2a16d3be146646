//! Readers with credentials of their own. Linux keeps credentials by thread, and the interface judges the thread that
//! reads: so a reader is a thread here, changed by raw system calls (the C library would change them all).

use nix::errno::Errno;
use std::ffi::c_long;

pub const CAP_SYS_PTRACE: u32 = 19;

/// The capabilities that a reader keeps.
#[derive(Clone, Copy, Debug)]
pub enum Caps {
    /// Those this process has.
    All,
    /// Those, without one.
    AllBut(u32),
    /// One alone.
    Only(u32),
    None,
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub name: &'static str,
    /// Real, effective and saved.
    pub uids: [u32; 3],
    pub gids: [u32; 3],
    /// The filesystem ids, where they differ from the effective ones.
    pub fs: Option<(u32, u32)>,
    pub caps: Caps,
}

impl Identity {
    /// An ordinary user.
    pub const fn user(name: &'static str, id: u32) -> Identity {
        Identity { name, uids: [id; 3], gids: [id; 3], fs: None, caps: Caps::None }
    }

    /// Runs `look` with these eyes, in a thread of its own.
    pub fn run<T: Send>(&self, look: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                self.assume().unwrap();
                look()
            });
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives the calling thread this identity, for good. Async-signal-safe.
    pub fn assume(&self) -> Result<(), Errno> {
        let [r, e, s] = self.gids.map(c_long::from);
        let [ru, eu, su] = self.uids.map(c_long::from);
        let mine = effective_caps()?;
        let keep = match self.caps {
            Caps::All => mine,
            Caps::AllBut(cap) => mine & !(1 << cap),
            Caps::Only(cap) => 1 << cap,
            Caps::None => 0,
        };
        syscall(libc::SYS_prctl, [libc::PR_SET_KEEPCAPS as c_long, 1, 0])?;
        syscall(libc::SYS_setgroups, [0, 0, 0])?;
        syscall(libc::SYS_setresgid, [r, e, s])?;
        if let Some((_, gid)) = self.fs {
            syscall(libc::SYS_setfsgid, [gid.into(), 0, 0])?;
        }
        syscall(libc::SYS_setresuid, [ru, eu, su])?;
        if let Some((uid, _)) = self.fs {
            // The change of ids has emptied the effective set unless they are root's.
            set_caps(mine, mine, 0)?;
            syscall(libc::SYS_setfsuid, [uid.into(), 0, 0])?;
        }
        set_caps(keep, keep, 0)
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Low and high word of the effective, permitted and inheritable set.
type CapData = [[u32; 3]; 2];

const VERSION_3: u32 = 0x2008_0522;

/// The effective capabilities of the calling thread.
pub fn effective_caps() -> Result<u64, Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = CapData::default();
    syscall(libc::SYS_capget, [&raw mut header as c_long, &raw mut data as c_long, 0])?;
    Ok(u64::from(data[1][0]) << 32 | u64::from(data[0][0]))
}

/// Sets those of the calling thread.
pub fn set_caps(permitted: u64, effective: u64, inheritable: u64) -> Result<(), Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let word = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data: CapData = [word(0), word(32)];
    syscall(libc::SYS_capset, [&raw mut header as c_long, &raw const data as c_long, 0])?;
    Ok(())
}

/// A system call of up to three arguments, for the calling thread alone.
pub fn syscall(number: c_long, [a, b, c]: [c_long; 3]) -> Result<c_long, Errno> {
    // SAFETY: the callers pass numbers, or pointers to values that outlive the call and that the kernel copies.
    let result = unsafe { libc::syscall(number, a, b, c) };
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}
