//! The entities, consumers and channels that did not recover.

use std::sync::Arc;

use super::topology::Topology;
use crate::message::{EntityKind, Skipped};

#[derive(Debug, Default)]
pub(super) struct Missing(Vec<Skipped>);

impl Missing {
    /// Adds an entry in place of an earlier one of the same kind and name.
    pub(super) fn insert(&mut self, skipped: Skipped) {
        self.remove(skipped.kind, &skipped.name);
        self.0.push(skipped);
    }

    pub(super) fn remove(&mut self, kind: EntityKind, name: &str) {
        self.0.retain(|one| one.kind != kind || one.name != name);
    }

    /// Removes what is not recorded any more.
    pub(super) fn retain_recorded(&mut self, topology: &Topology) {
        self.0.retain(|one| topology.is_recorded(one.kind, &one.name));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Skipped> {
        self.0.iter()
    }

    pub(super) fn to_skipped(&self) -> Arc<[Skipped]> {
        self.0.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn skipped(kind: EntityKind, name: &str) -> Skipped {
        Skipped { kind, name: name.to_owned(), error: Error::timeout("test") }
    }

    #[test]
    fn an_entity_is_missing_once_and_by_its_kind() {
        let mut missing = Missing::default();
        missing.insert(skipped(EntityKind::Queue, "jobs"));
        missing.insert(skipped(EntityKind::Consumer, "jobs"));
        missing.insert(skipped(EntityKind::Queue, "jobs"));
        let kinds: Vec<_> = missing.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [EntityKind::Consumer, EntityKind::Queue]);
        missing.remove(EntityKind::Queue, "jobs");
        assert_eq!(missing.to_skipped().len(), 1);
        missing.retain_recorded(&Topology::default());
        assert_eq!(missing.iter().count(), 0);
    }
}
