//! The names of tables.

use actix_pika_actors::facade;

use crate::Result;

/// The prefix of the names of tables. It becomes part of statements, so that it has nothing that needs quotes.
#[derive(Clone, Debug)]
pub(crate) struct Names(String);

impl Default for Names {
    fn default() -> Self {
        Self("pika_".into())
    }
}

impl Names {
    /// # Errors
    /// `Refused` for a prefix that is not made of up to 32 lower-case letters, digits and underscores, the first of which
    /// is no digit.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins_well = !prefix.starts_with(|c: char| c.is_ascii_digit());
        if prefix.len() <= 32 && begins_well && prefix.chars().all(is_allowed) {
            return Ok(Self(prefix.into()));
        }
        Err(facade::refused(
            "the prefix of tables has up to 32 lower-case letters, digits and underscores, and begins with no digit",
        ))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    /// Puts the prefix into a statement, in place of each `{p}`.
    pub(crate) fn sql(&self, statement: &str) -> String {
        statement.replace("{p}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_needs_no_quotes() {
        let names = Names::new("shop_2_").unwrap();
        assert_eq!((names.prefix(), names.sql("{p}a, {p}b")), ("shop_2_", "shop_2_a, shop_2_b".into()));
        assert_eq!(Names::new("").unwrap().sql("from {p}outbox"), "from outbox");
        assert_eq!(Names::default().prefix(), "pika_");
        for bad in ["2_", "Shop_", "a b", "a;--", "a\"", "ä_", &"a".repeat(33)] {
            assert_eq!(Names::new(bad).unwrap_err().kind(), crate::ErrorKind::Refused, "{bad}");
        }
    }
}
