//! One attribute of a message, kept without it, as the netlink-packet crates have it.

use super::{Attribute, Base, Credentials, EncodeError, MAX_PAYLOAD, Stat, Statm, VmaList};
use netlink_packet_core::{Emitable, Nla, NlaBuffer, Parseable};

/// What [`Attribute`] is, owned.
///
/// [`Emitable::emit`] cuts or panics where a value does not fit its length field or the buffer;
/// [`try_emit`](Self::try_emit) says so instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedAttribute {
    /// See [`Attribute::Base`].
    Base(Base),
    /// See [`Attribute::Credentials`].
    Credentials(Credentials),
    /// See [`Attribute::Vma`]: the bytes of the records, as [`push_vma`](super::push_vma) writes them.
    Vma(Vec<u8>),
    /// See [`Attribute::Stat`].
    Stat(Stat),
    /// See [`Attribute::Cmdline`].
    Cmdline(Vec<u8>),
    /// See [`Attribute::Statm`].
    Statm(Statm),
    /// Any other.
    Other {
        /// Its number.
        id: u16,
        /// Its bytes.
        payload: Vec<u8>,
    },
}

impl OwnedAttribute {
    /// The same attribute, borrowed.
    pub fn as_attribute(&self) -> Attribute<'_> {
        match self {
            Self::Base(base) => Attribute::Base(*base),
            Self::Credentials(credentials) => Attribute::Credentials(*credentials),
            Self::Vma(list) => Attribute::Vma(VmaList::new(list)),
            Self::Stat(stat) => Attribute::Stat(*stat),
            Self::Cmdline(bytes) => Attribute::Cmdline(bytes),
            Self::Statm(statm) => Attribute::Statm(*statm),
            Self::Other { id, payload } => {
                Attribute::parse(*id, payload).unwrap_or(Attribute::Unknown { id: *id, payload })
            }
        }
    }

    /// Writes header, payload and padding to the beginning of `out` and returns their length.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] for more than [`MAX_PAYLOAD`] bytes, [`EncodeError::NoRoom`] if `out` is too small.
    /// Nothing is written then.
    pub fn try_emit(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let length = self.value_len();
        if length > MAX_PAYLOAD {
            return Err(EncodeError::TooLong { length });
        }
        let (needed, room) = (self.buffer_len(), out.len());
        let out = out.get_mut(..needed).ok_or(EncodeError::NoRoom { needed, room })?;
        self.emit(out);
        Ok(needed)
    }
}

impl From<Attribute<'_>> for OwnedAttribute {
    fn from(attribute: Attribute<'_>) -> Self {
        match attribute {
            Attribute::Base(base) => Self::Base(base),
            Attribute::Credentials(credentials) => Self::Credentials(credentials),
            Attribute::Vma(list) => Self::Vma(list.as_bytes().to_vec()),
            Attribute::Stat(stat) => Self::Stat(stat),
            Attribute::Cmdline(bytes) => Self::Cmdline(bytes.to_vec()),
            Attribute::Statm(statm) => Self::Statm(statm),
            other => Self::Other { id: other.id(), payload: other.payload().to_vec() },
        }
    }
}

impl Nla for OwnedAttribute {
    fn value_len(&self) -> usize {
        match self {
            Self::Other { payload, .. } => payload.len(),
            known => known.as_attribute().payload().len(),
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Other { id, .. } => *id,
            known => known.as_attribute().id(),
        }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        let attribute = self.as_attribute();
        let payload = match self {
            Self::Other { payload, .. } => payload,
            _ => attribute.payload(),
        };
        // Shorter than the payload only where the library has cut the length.
        for (to, from) in buffer.iter_mut().zip(payload) {
            *to = *from;
        }
    }
}

impl<'buffer, T: AsRef<[u8]> + ?Sized> Parseable<NlaBuffer<&'buffer T>> for OwnedAttribute {
    /// Checks the buffer's lengths, and every record of a list too.
    fn parse(buffer: &NlaBuffer<&'buffer T>) -> Result<Self, netlink_packet_core::DecodeError> {
        buffer.check_buffer_length()?;
        let attribute = Attribute::parse(buffer.kind(), buffer.value())?;
        match &attribute {
            Attribute::Vma(list) => list.clone().try_for_each(|vma| vma.map(drop))?,
            Attribute::Cgroup(list) => list.clone().try_for_each(|cgroup| cgroup.map(drop))?,
            Attribute::Descriptors(list) => list.clone().try_for_each(|descriptor| descriptor.map(drop))?,
            _ => {}
        }
        Ok(attribute.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategies;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut out = vec![0xa5; 1 << 17];
        for length in [65_532, 65_536, 100_000] {
            let attribute = OwnedAttribute::Cmdline(vec![1; length]);
            assert_eq!(attribute.try_emit(&mut out), Err(EncodeError::TooLong { length }));
        }
        let longest = OwnedAttribute::Cmdline(vec![1; MAX_PAYLOAD]);
        let refused = longest.try_emit(&mut out[..65_535]);
        assert_eq!(refused, Err(EncodeError::NoRoom { needed: 65_536, room: 65_535 }));
        assert!(out.iter().all(|&byte| byte == 0xa5));
        assert_eq!(longest.try_emit(&mut out), Ok(65_536));
        assert_eq!(out[65_534..65_537], [1, 0, 0xa5]);
    }

    #[test]
    fn a_list_with_a_bad_record_is_refused() {
        let mut out = [0; 4 + 64];
        OwnedAttribute::Vma(vec![0; 64]).try_emit(&mut out).unwrap();
        let error = OwnedAttribute::parse(&NlaBuffer::new(&out[..])).unwrap_err();
        assert!(error.to_string().contains("vma_len 0"), "{error}");
    }

    proptest! {
        #[test]
        fn any_attribute_comes_back(attribute in strategies::attribute()) {
            let mut out = vec![0xa5; attribute.buffer_len() + 4];
            prop_assert_eq!(attribute.try_emit(&mut out), Ok(attribute.buffer_len()));
            prop_assert_eq!(&out[attribute.buffer_len()..], [0xa5; 4]);
            let buffer = NlaBuffer::new_checked(&out[..]).unwrap();
            prop_assert_eq!(OwnedAttribute::parse(&buffer).unwrap(), attribute);
        }

        #[test]
        fn any_bytes_are_judged(mut bytes: Vec<u8>, id in 0..48u16) {
            let _ = OwnedAttribute::parse(&NlaBuffer::new(&bytes[..]));
            if let Ok(length) = u16::try_from(bytes.len()) && bytes.len() >= 4 {
                bytes[..2].copy_from_slice(&length.to_ne_bytes());
                bytes[2..4].copy_from_slice(&id.to_ne_bytes());
                let _ = OwnedAttribute::parse(&NlaBuffer::new(&bytes[..]));
            }
        }
    }
}
