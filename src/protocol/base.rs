//! BASE: who a task is.

use super::DecodeError;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct task_diag_base` of the kernel patch: ids, state and name of one task.
///
/// Ids are those of the reader's pid namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Base {
    /// Thread-group id: the process.
    pub tgid: u32,
    /// Thread id.
    pub pid: u32,
    /// Thread-group id of the real parent.
    pub ppid: u32,
    /// Thread id of the tracer, 0 without one.
    pub tpid: u32,
    /// Session id.
    pub sid: u32,
    /// Process-group id.
    pub pgid: u32,
    /// Number of the [`State`].
    pub state: u8,
    /// The raw `task->comm`, NUL padded, never escaped.
    pub comm: [u8; 16],
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Base>() == 44);

impl Base {
    /// Bytes of the struct that carry meaning; what follows is padding.
    const USED: usize = 41;

    /// Reads a payload of 41 bytes or more. What follows the 41 is ignored: `pad` is always zero.
    ///
    /// # Errors
    /// [`DecodeError::PayloadTooShort`] below 41 bytes.
    pub fn from_payload(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut base = Self::default();
        let used = payload.get(..Self::USED).ok_or(DecodeError::PayloadTooShort {
            attribute: "BASE",
            found: payload.len(),
            needed: Self::USED,
        })?;
        base.as_mut_bytes()[..Self::USED].copy_from_slice(used);
        Ok(base)
    }

    /// `comm` up to its first NUL.
    pub fn comm_bytes(&self) -> &[u8] {
        let end = self.comm.iter().position(|&byte| byte == 0);
        &self.comm[..end.unwrap_or(self.comm.len())]
    }
}

/// What a task is doing. The numbers are the wire's, the letters those of `/proc/PID/stat`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// R: running, or ready to.
    Running = 0,
    /// S: asleep, a signal wakes it.
    Sleeping = 1,
    /// D: asleep, no signal wakes it.
    DiskSleep = 2,
    /// T: stopped by a signal.
    Stopped = 3,
    /// t: stopped by its tracer.
    TracingStop = 4,
    /// X: dead, about to vanish.
    Dead = 5,
    /// Z: dead, waiting for its parent.
    Zombie = 6,
    /// P: a parked kernel thread.
    Parked = 7,
    /// I: an idle kernel thread.
    Idle = 8,
}

impl State {
    /// Every state, at the index of its number.
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Sleeping,
        Self::DiskSleep,
        Self::Stopped,
        Self::TracingStop,
        Self::Dead,
        Self::Zombie,
        Self::Parked,
        Self::Idle,
    ];

    const LETTERS: [u8; 9] = *b"RSDTtXZPI";

    /// The state that `/proc/PID/stat` writes as `letter`.
    pub fn from_letter(letter: u8) -> Option<Self> {
        let number = Self::LETTERS.iter().position(|&known| known == letter)?;
        Some(Self::ALL[number])
    }

    /// The letter that `/proc/PID/stat` writes.
    pub const fn letter(self) -> u8 {
        Self::LETTERS[self as usize]
    }
}

impl TryFrom<u8> for State {
    type Error = DecodeError;

    fn try_from(number: u8) -> Result<Self, DecodeError> {
        Self::ALL.get(usize::from(number)).copied().ok_or(DecodeError::State(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_numbers_and_letters() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            assert_eq!(State::try_from(number as u8), Ok(state));
            assert_eq!(State::from_letter(state.letter()), Some(state));
        }
        assert_eq!(State::TracingStop.letter(), b't');
        assert_eq!(State::try_from(9), Err(DecodeError::State(9)));
        assert_eq!(State::from_letter(b'?'), None);
    }

    #[test]
    fn payload_may_end_after_comm_or_go_on_after_the_struct() {
        let base = Base { tgid: 7, comm: *b"sixteen bytes ok", ..Base::default() };
        let mut bytes = base.as_bytes().to_vec();
        bytes[41..].fill(0xaa);
        bytes.extend([0xbb; 9]);
        for length in 41..=bytes.len() {
            assert_eq!(Base::from_payload(&bytes[..length]), Ok(base));
        }
        for length in 0..41 {
            assert!(Base::from_payload(&bytes[..length]).is_err());
        }
        assert_eq!(base.comm_bytes(), b"sixteen bytes ok");
        assert_eq!(Base::default().comm_bytes(), b"");
    }
}
