//! The groups of one task that the kernel patch never had, on their way from a source to the packer.

use super::taskstats::for_reader;
use crate::access::IdMaps;
use crate::protocol::{Groups, MembershipHeader, MiscHeader, attribute_id};
use crate::task::TaskRecord;
use std::mem::offset_of;

/// Payloads one behind the other, each with its number (u32) and length (u32) before it, padded to a multiple of 8: in the
/// order of their numbers. BPF programs write them too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections<'a>(&'a [u8]);

const HEADER: usize = 8;

impl<'a> Sections<'a> {
    /// Those that stand in `bytes`; what is no whole section is none.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// None at all.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they take.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Their bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The section that begins at byte `at`: number, payload, and where the next one begins.
    pub(crate) fn at(&self, at: usize) -> Option<(u32, &'a [u8], usize)> {
        let rest = self.0.get(at..)?;
        let (header, rest) = rest.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h] = *header;
        let (id, len) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]) as usize);
        Some((id, rest.get(..len)?, at + HEADER + len.next_multiple_of(8)))
    }

    /// The group of a section's number; private ones have none.
    pub(crate) fn group(id: u32) -> Groups {
        Groups::from_bits_truncate(1_u64.checked_shl(id).unwrap_or(0)) & Groups::OWN
    }

    /// Whether there are any but private ones.
    #[cfg(feature = "bpf")]
    pub(crate) fn has_groups(&self) -> bool {
        self.iter().any(|(id, _)| !Self::group(id).is_empty())
    }

    /// The payload of that number.
    pub fn get(&self, id: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == u32::from(id)).map(|(_, payload)| payload)
    }

    /// What a BPF program gives towards that number, which is no payload yet.
    #[cfg(feature = "bpf")]
    pub(crate) fn part(&self, id: u16) -> Option<&'a [u8]> {
        const MADE_OF: u32 = 1 << 15;
        self.iter().find(|(found, _)| *found == u32::from(id) | MADE_OF).map(|(_, payload)| payload)
    }

    /// The groups whose payloads stand here.
    pub fn groups(&self) -> Groups {
        self.iter().map(|(id, _)| Self::group(id)).collect()
    }

    /// Numbers and payloads.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let (all, mut at) = (*self, 0);
        std::iter::from_fn(move || {
            let (id, payload, next) = all.at(at)?;
            at = next;
            Some((id, payload))
        })
    }

    /// The same, with user and group ids as another user namespace shows them; `record` is the task's, as shown there.
    pub(crate) fn shown(&self, ids: &IdMaps, record: &TaskRecord) -> Vec<u8> {
        let mut bytes = self.0.to_vec();
        let mut at = 0;
        while let Some((id, payload, next)) = self.at(at) {
            let begin = at + HEADER;
            let end = begin + payload.len();
            let mut map = |place: usize, name: &dyn Fn(u32) -> u32| {
                if let Some(word) = bytes.get_mut(place..end).and_then(|rest| rest.first_chunk_mut::<4>()) {
                    *word = name(u32::from_ne_bytes(*word)).to_ne_bytes();
                }
            };
            match Self::group(id) {
                Groups::TASKSTATS => for_reader(&mut bytes[begin..end], &record.base, &record.credentials),
                Groups::GROUPS => (begin + size_of::<MembershipHeader>()..end)
                    .step_by(4)
                    .for_each(|place| map(place, &|gid| ids.shown_group(gid))),
                Groups::MISC => {
                    map(begin + offset_of!(MiscHeader, loginuid), &|uid| ids.shown_user_or_none(uid));
                }
                _ => {}
            }
            at = next;
        }
        bytes
    }

    /// All but those of these groups.
    pub fn without(&self, groups: Groups) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        for (id, payload) in self.iter().filter(|(id, _)| !Self::group(*id).intersects(groups)) {
            push_section(&mut out, id as u16, |out| out.extend_from_slice(payload));
        }
        out
    }

    /// All of `self` and `others`, in the order of their numbers; of a number that both have, the one of `others`.
    pub fn merged(&self, others: Sections<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() + others.len());
        for id in attribute_id::TASKSTATS..=attribute_id::MISC {
            if let Some(payload) = others.get(id).or_else(|| self.get(id)) {
                push_section(&mut out, id, |out| out.extend_from_slice(payload));
            }
        }
        out
    }
}

/// Appends a section whose payload `fill` writes.
pub fn push_section(out: &mut Vec<u8>, id: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&u32::from(id).to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = out.len() - begin - HEADER;
    out[begin + 4..begin + HEADER].copy_from_slice(&(len as u32).to_ne_bytes());
    out.resize(begin + HEADER + len.next_multiple_of(8), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_in_order() {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        push_section(&mut low, 33, |out| out.extend(b"abc"));
        push_section(&mut low, 40, |_| {});
        push_section(&mut high, 35, |out| out.extend([1; 8]));
        push_section(&mut high, 40, |out| out.extend(b"later"));
        let all = Sections::new(&low).merged(Sections::new(&high));
        assert_eq!(all.len() % 8, 0);
        let found: Vec<_> = Sections::new(&all).iter().collect();
        assert_eq!(found, [(33, &b"abc"[..]), (35, &[1; 8]), (40, b"later")]);
        assert_eq!(Sections::new(&all[..20]).iter().count(), 1, "the second is not whole");
        assert_eq!(Sections::group(33), Groups::GROUPS);
        assert!([0, 44, 63, 64, 0x8024].iter().all(|id| Sections::group(*id).is_empty()));
    }
}
