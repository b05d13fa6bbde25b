//! The long names to which a channel without confirms published lately. The broker cuts them in its texts, and
//! the publishes themselves are not kept.

use std::collections::VecDeque;

use super::{Outbox, refused_publish::RefusedPublish};

/// Names that are not longer, together, are whole in every text of the broker.
pub(crate) const WHOLE_IN_TEXTS: usize = 180;

/// The most names to remember.
const MOST: usize = 16;

/// Exchanges and routing keys, oldest first.
#[derive(Debug, Default)]
pub(super) struct LongNames(VecDeque<(String, String)>);

impl LongNames {
    fn add(&mut self, exchange: &str, routing_key: &str) {
        if self.0.iter().any(|(one, other)| one == exchange && other == routing_key) {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((exchange.to_owned(), routing_key.to_owned()));
    }

    /// Returns the exchange and the routing key of which the broker's text has a part, unless there are several.
    pub(super) fn refused(&self, kind: &RefusedPublish<'_>) -> Option<&(String, String)> {
        let mut those = self
            .0
            .iter()
            .filter(|(exchange, routing_key)| kind.is_named(exchange.as_bytes(), routing_key.as_bytes()));
        let found = those.next_back()?;
        let is_same = |(exchange, routing_key): &(String, String)| {
            *exchange == found.0 && (kind.is_exchange() || *routing_key == found.1)
        };
        those.all(is_same).then_some(found)
    }
}

impl Outbox {
    /// Notes names that the broker may cut, for a channel that does not keep its publishes.
    #[cold]
    pub(super) fn note_long_names(&self, exchange: &str, routing_key: &str) {
        if !self.config.confirms && exchange.len() + routing_key.len() > WHOLE_IN_TEXTS {
            self.with(|state, _| state.long_names.add(exchange, routing_key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;

    #[test]
    fn a_cut_name_is_found_unless_several_begin_with_it() {
        let reason = |text: &str| CloseReason::new(404, text, 60, 40);
        let mut names = LongNames::default();
        names.add("long.one", "k");
        names.add("long.one", "other key");
        names.add("long.two", "k");
        let of = |names: &LongNames, text: &str| {
            let reason = reason(text);
            names
                .refused(&RefusedPublish::of(&reason).unwrap())
                .map(|(exchange, key)| format!("{exchange} {key}"))
        };
        assert_eq!(of(&names, "NOT_FOUND - no exchange 'long.o...").as_deref(), Some("long.one other key"));
        assert_eq!(of(&names, "NOT_FOUND - no exchange 'long...."), None);
        assert_eq!(of(&names, "NOT_FOUND - no exchange 'other..."), None);
        let topic = "ACCESS_REFUSED - write access to topic 'k' in exchange 'long.t...";
        assert_eq!(of(&names, topic).as_deref(), Some("long.two k"));
        for n in 0..MOST {
            names.add("x", &n.to_string());
        }
        assert_eq!(of(&names, "NOT_FOUND - no exchange 'long.o..."), None);
    }
}
