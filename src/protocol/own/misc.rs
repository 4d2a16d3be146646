//! MISC: small files of `/proc/PID` that say one thing each.

use super::parts::{head, push_strings, string};
use crate::protocol::{DecodeError, EncodeError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: &str = "MISC";

/// What stands before the strings: 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MiscHeader {
    /// How likely the process is killed when memory runs out.
    pub oom_score: i32,
    /// What is added to that, -1000 to 1000.
    pub oom_score_adj: i32,
    /// User id of the login, in the reader's user namespace; all ones for none.
    pub loginuid: u32,
    /// Session of the audit system; all ones for none.
    pub sessionid: u32,
    /// Where the place of its sleep begins.
    pub wchan_off: u16,
    /// Bytes of it with NUL.
    pub wchan_len: u16,
    /// Where the label begins.
    pub label_off: u16,
    /// Bytes of it with NUL.
    pub label_len: u16,
}

const _: () = assert!(size_of::<MiscHeader>() == 24);

/// The files `oom_score`, `oom_score_adj`, `loginuid`, `sessionid`, `wchan` and `attr/current`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misc<'a> {
    /// How likely the process is killed when memory runs out.
    pub oom_score: i32,
    /// What is added to that, -1000 to 1000.
    pub oom_score_adj: i32,
    /// User id of the login, in the reader's user namespace; all ones for none.
    pub loginuid: u32,
    /// Session of the audit system; all ones for none.
    pub sessionid: u32,
    /// Where it sleeps in the kernel; `None` where it does not sleep, or the reader may not know.
    pub wchan: Option<&'a [u8]>,
    /// What a security module calls it; `None` without one.
    pub label: Option<&'a [u8]>,
}

impl<'a> Misc<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(payload: &'a [u8]) -> Result<Misc<'a>, DecodeError> {
        let header: MiscHeader = head(NAME, payload)?;
        let MiscHeader { oom_score, oom_score_adj, loginuid, sessionid, .. } = header;
        Ok(Misc {
            oom_score,
            oom_score_adj,
            loginuid,
            sessionid,
            wchan: string(NAME, payload, header.wchan_off, header.wchan_len)?,
            label: string(NAME, payload, header.label_off, header.label_len)?,
        })
    }
}

/// Appends a payload.
///
/// # Errors
/// [`EncodeError`]; `out` is as it was then.
pub fn push_misc(out: &mut Vec<u8>, misc: &Misc<'_>) -> Result<(), EncodeError> {
    let begin = out.len();
    out.extend_from_slice(&[0; size_of::<MiscHeader>()]);
    let [wchan, label] = push_strings(out, begin, [misc.wchan, misc.label])?;
    let header = MiscHeader {
        oom_score: misc.oom_score,
        oom_score_adj: misc.oom_score_adj,
        loginuid: misc.loginuid,
        sessionid: misc.sessionid,
        wchan_off: wchan.0,
        wchan_len: wchan.1,
        label_off: label.0,
        label_len: label.1,
    };
    out[begin..begin + size_of::<MiscHeader>()].copy_from_slice(header.as_bytes());
    Ok(())
}
