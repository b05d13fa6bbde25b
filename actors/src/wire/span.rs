//! Positions of fields inside received bytes.
//!
//! A span borrows nothing; `of` resolves it, given the bytes. A span that is out of range resolves to an
//! empty slice.

/// The position of a short string in a method payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u16,
    /// Length in bytes.
    pub len: u8,
}

impl Span {
    /// Returns the bytes of the span, or an empty slice if `payload` is too short.
    #[inline]
    pub fn of(self, payload: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        payload.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// The position of a field in bytes that span several frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongSpan {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl LongSpan {
    /// Returns the bytes of the span, or an empty slice if `bytes` is too short.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_resolves_to_its_bytes() {
        assert_eq!(Span { start: 1, len: 3 }.of(b"\x03key"), b"key");
        assert_eq!(LongSpan { start: 1, len: 2 }.of(b"abcd"), b"bc");
    }

    #[test]
    fn a_span_out_of_range_is_empty() {
        assert_eq!(Span { start: 1, len: 3 }.of(b"\x03"), b"");
        assert_eq!(Span { start: u16::MAX, len: 255 }.of(b"short"), b"");
        assert_eq!(LongSpan { start: 1, len: 9 }.of(b"abcd"), b"");
    }
}
