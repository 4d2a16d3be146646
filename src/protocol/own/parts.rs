//! Strings and lists within a payload.

use crate::protocol::{DecodeError, EncodeError, MAX_PAYLOAD, align4};
use zerocopy::FromBytes;

/// The struct that a payload begins with.
pub(super) fn head<T: FromBytes>(attribute: &'static str, payload: &[u8]) -> Result<T, DecodeError> {
    let (head, _) = T::read_from_prefix(payload).map_err(|_| DecodeError::PayloadTooShort {
        attribute,
        found: payload.len(),
        needed: size_of::<T>(),
    })?;
    Ok(head)
}

/// The string of `len` bytes, NUL included, at `off`; `None` for none.
pub(super) fn string<'a>(
    attribute: &'static str,
    payload: &'a [u8],
    off: u16,
    len: u16,
) -> Result<Option<&'a [u8]>, DecodeError> {
    if len == 0 {
        return Ok(None);
    }
    let (off, len) = (usize::from(off), usize::from(len));
    match payload.get(off..off + len).and_then(|part| part.split_last()) {
        Some((0, string)) if !string.contains(&0) => Ok(Some(string)),
        _ => Err(DecodeError::OwnPart { attribute, off, len }),
    }
}

/// The `count` numbers at `off`.
pub(super) fn numbers<'a>(
    attribute: &'static str,
    payload: &'a [u8],
    off: u16,
    count: usize,
) -> Result<impl ExactSizeIterator<Item = u32> + Clone + 'a, DecodeError> {
    let (off, len) = (usize::from(off), count.saturating_mul(4));
    let part = off.checked_add(len).and_then(|end| payload.get(off..end));
    let part = part.ok_or(DecodeError::OwnPart { attribute, off, len })?;
    Ok(part.chunks_exact(4).map(|n| u32::from_ne_bytes([n[0], n[1], n[2], n[3]])))
}

/// Appends strings behind a head of `head_len` bytes that begins at `begin` of `out`, each with its NUL; gives offset and length
/// of each, 0 and 0 for none. Pads to 4.
///
/// # Errors
/// [`EncodeError`]; `out` is cut back to `begin` then.
pub(super) fn push_strings<const N: usize>(
    out: &mut Vec<u8>,
    begin: usize,
    strings: [Option<&[u8]>; N],
) -> Result<[(u16, u16); N], EncodeError> {
    let mut places = [(0, 0); N];
    for (place, string) in places.iter_mut().zip(strings) {
        let Some(string) = string else { continue };
        let off = out.len() - begin;
        if let Some(at) = memchr::memchr(0, string) {
            out.truncate(begin);
            return Err(EncodeError::NulInName { at });
        }
        let length = off + string.len() + 1;
        if align4(length) > MAX_PAYLOAD {
            out.truncate(begin);
            return Err(EncodeError::TooLong { length });
        }
        out.extend_from_slice(string);
        out.push(0);
        *place = (off as u16, string.len() as u16 + 1);
    }
    out.resize(begin + align4(out.len() - begin), 0);
    Ok(places)
}
