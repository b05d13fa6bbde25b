//! Names in the texts of the broker, which it cuts at 255 bytes, and names with them.

/// The broker's text from a name on, as in `orders' in vhost '/'` or `orde...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutText<'a> {
    rest: &'a str,
    is_cut: bool,
}

impl<'a> CutText<'a> {
    /// Takes the text from the first of its names on. It is whole if it has the mark behind the last name.
    pub(crate) fn new(rest: &'a str, mark: &str) -> Self {
        let is_cut = !rest.contains(mark);
        // A character that was cut in two is not one of the name.
        let rest = if is_cut { rest.trim_end_matches('.').trim_end_matches('\u{fffd}') } else { rest };
        Self { rest, is_cut }
    }

    /// Returns whether the whole text began with these parts: names, and what the broker writes between them.
    pub(crate) fn begins_with(&self, parts: &[&[u8]]) -> bool {
        let mut rest = self.rest.as_bytes();
        for part in parts {
            match rest.strip_prefix(*part) {
                Some(more) => rest = more,
                None => return self.is_cut && part.starts_with(rest),
            }
        }
        true
    }

    /// Returns the name in front of a mark, if the text has the whole of it.
    pub(crate) fn before(&self, mark: &str) -> Option<&'a str> {
        self.rest.split_once(mark).map(|(name, _)| name)
    }

    /// Returns the text, as far as it goes.
    pub(crate) fn as_str(&self) -> &'a str {
        self.rest
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "' in vhost '";

    fn may_be(text: &str, name: &str) -> bool {
        CutText::new(text, MARK).begins_with(&[name.as_bytes(), MARK.as_bytes()])
    }

    #[test]
    fn a_cut_text_belongs_to_the_name_that_it_begins() {
        assert!(may_be("lon...", "long") && may_be("long...", "long") && may_be("long' in vh...", "long"));
        assert!(!may_be("long...", "lon") && !may_be("long...", "") && !may_be("long's...", "long"));
        assert!(may_be("dots..", "dots...") && may_be("gr\u{fffd}...", "größe"));
    }

    #[test]
    fn a_whole_text_belongs_to_the_name_that_it_has() {
        assert!(may_be("long' in vhost '/'", "long") && !may_be("long' in vhost '/'", "lon"));
        assert!(!may_be("lon' in vhost '/'", "long"));
        let whole = CutText::new("it's' in vhost '/'", MARK);
        assert_eq!((whole.before(MARK), whole.is_cut()), (Some("it's"), false));
        assert_eq!(CutText::new("it...", MARK).before(MARK), None);
    }
}
