//! Which key the queue is bound with for a pattern, and who gets a message, by the type of the exchange.

use std::{collections::HashMap, sync::Arc};

use super::topics::Topics;
use crate::{
    message::{Content, Table, Value},
    options::ExchangeKind,
};

/// The subscribers `S` by pattern.
#[derive(Debug)]
pub(super) struct Routes<S> {
    binding: Binding,
    index: Index<S>,
}

#[derive(Debug)]
enum Binding {
    /// One for each pattern.
    Pattern,
    /// One for all, because the exchange does not look at keys as patterns.
    Whole(Arc<str>),
}

#[derive(Debug)]
enum Index<S> {
    Patterns(Topics<S>),
    Keys(HashMap<Arc<str>, Vec<(u64, S)>>),
}

impl<S> Routes<S> {
    pub(super) fn new(kind: &ExchangeKind) -> Self {
        let (binding, index) = match kind {
            ExchangeKind::Topic => (Binding::Pattern, Index::Patterns(Topics::new())),
            ExchangeKind::Direct => (Binding::Pattern, Index::Keys(HashMap::new())),
            _ => (Binding::Whole(Arc::from("")), Index::Patterns(Topics::new())),
        };
        Self { binding, index }
    }

    /// Returns the key of the binding that a pattern needs.
    pub(super) fn binding_of(&self, pattern: &Arc<str>) -> Arc<str> {
        match &self.binding {
            Binding::Pattern => pattern.clone(),
            Binding::Whole(key) => key.clone(),
        }
    }

    pub(super) fn insert(&mut self, pattern: &Arc<str>, id: u64, subscriber: S) {
        match &mut self.index {
            Index::Patterns(topics) => topics.insert(pattern.as_bytes(), id, subscriber),
            Index::Keys(keys) => keys.entry(pattern.clone()).or_default().push((id, subscriber)),
        }
    }

    pub(super) fn remove(&mut self, pattern: &str, id: u64) {
        match &mut self.index {
            Index::Patterns(topics) => {
                topics.remove(pattern.as_bytes(), id);
            }
            Index::Keys(keys) => {
                let Some(subscribers) = keys.get_mut(pattern) else { return };
                subscribers.retain(|(known, _)| *known != id);
                if subscribers.is_empty() {
                    keys.remove(pattern);
                }
            }
        }
    }

    /// Passes on each subscriber of a message, once.
    pub(super) fn matching(&mut self, content: &Content, mut found: impl FnMut(&S)) {
        let copies = copies(content);
        let keys = std::iter::once(content.routing_key_bytes()).chain(copies.iter().copied());
        match &mut self.index {
            Index::Patterns(topics) => topics.matching(keys, found),
            Index::Keys(by_key) => {
                let keys: Vec<&[u8]> = keys.collect();
                for (n, key) in keys.iter().enumerate() {
                    let is_new = !keys[..n].contains(key);
                    if is_new
                        && let Some(subscribers) =
                            std::str::from_utf8(key).ok().and_then(|key| by_key.get(key))
                    {
                        subscribers.iter().for_each(|(_, subscriber)| found(subscriber));
                    }
                }
            }
        }
    }
}

/// Returns the keys of the header `CC`, by which the broker routes, too. It removes those of `BCC`.
fn copies(content: &Content) -> Vec<&[u8]> {
    /// The flag of the headers among the property flags (AMQP 0-9-1 section 4.2.6.1).
    const HEADERS: u8 = 1 << 5;
    if content.raw_properties().first().is_none_or(|flags| flags & HEADERS == 0) {
        return Vec::new();
    }
    let headers: Option<&Table> = content.properties().ok().and_then(|properties| properties.headers());
    let Some(Value::Array(keys)) = headers.and_then(|headers| headers.get("CC")) else { return Vec::new() };
    let texts =
        keys.iter().filter_map(|key| if let Value::LongString(text) = key { Some(text) } else { None });
    texts.map(|text| text.as_bytes()).collect()
}
