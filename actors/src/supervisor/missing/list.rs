//! What applications see of the entries.

use std::sync::Arc;

use super::{EntityKey, Entry, Missing};
use crate::message::{EntityKind, MissingEntity, NextTry, Skipped};

impl Missing {
    /// Returns what is missing, in the order of kinds.
    pub(in crate::supervisor) fn list(&self) -> Vec<MissingEntity> {
        let mut list = Vec::new();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.is_missing()) {
            let mut missing = entry.to_missing(key);
            if let NextTry::At(_) = missing.next_try
                && let Some(holder) =
                    self.holder(key, entry).and_then(|holder| self.entries.get_key_value(&holder))
            {
                missing.next_try = holder.1.to_missing(holder.0).next_try;
            }
            list.push(missing);
        }
        list.extend(self.ended.list());
        list.sort_by_key(|missing| missing.kind);
        list
    }

    pub(in crate::supervisor) fn skipped(&self) -> impl Iterator<Item = Skipped> {
        let missing = self.entries.iter().filter(|(_, entry)| entry.is_missing());
        let of_entry = |(key, entry): (&EntityKey, &Entry)| Skipped {
            kind: key.kind(),
            name: key.name(),
            error: entry.error.clone(),
        };
        missing.map(of_entry).chain(self.ended.skipped())
    }

    /// Returns how many entities [`skipped`](Self::skipped) lists.
    pub(in crate::supervisor) fn count(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_missing()).count() + self.ended.count()
    }

    pub(in crate::supervisor) fn to_skipped(&self) -> Arc<[Skipped]> {
        self.skipped().collect()
    }

    /// Returns the entries of this kind and name: of consumers, there may be one on each channel.
    pub(in crate::supervisor) fn named(&self, kind: EntityKind, name: &str) -> Vec<EntityKey> {
        let named = |key: &&EntityKey| key.kind() == kind && key.name() == name;
        self.entries.keys().filter(named).cloned().collect()
    }
}
