//! A bounds-checked reader of big-endian fields.
//!
//! Every read returns `None` at the end of the bytes; the caller turns that into the
//! [`Fault`](super::fault::Fault) that fits.

use super::span::Span;

/// A read position in bytes from the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, _) = self.bytes.get(self.at..)?.split_first_chunk::<N>()?;
        self.at += N;
        Some(*head)
    }

    #[inline]
    pub(super) fn octet(&mut self) -> Option<u8> {
        let octet = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    #[inline]
    pub(super) fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn long(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn longlong(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads a short string: one octet of length, then the bytes.
    #[inline]
    pub(super) fn shortstr(&mut self) -> Option<&'a [u8]> {
        let len = self.octet()?;
        self.take(usize::from(len))
    }

    /// Reads a long string, an array or a table: four octets of length, then the bytes.
    #[inline]
    pub(super) fn longstr(&mut self) -> Option<&'a [u8]> {
        let len = self.long()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// Skips a short string and returns its position.
    #[inline]
    pub(super) fn span(&mut self) -> Option<Span> {
        let len = self.octet()?;
        let start = u16::try_from(self.at).ok()?;
        self.take(usize::from(len))?;
        Some(Span { start, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new(&[0, 0, 0, 9, 1]);
        assert_eq!(cursor.longlong(), None);
        assert_eq!(cursor.at(), 0);
        assert_eq!(cursor.longstr(), None);
        assert_eq!(cursor.octet(), Some(1));
        assert!(cursor.is_done());
        assert_eq!(cursor.take(usize::MAX), None);
    }
}
