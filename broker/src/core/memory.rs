//! How many octets the messages of a broker take, and whether that is too much.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Core, message::Message};

/// What a message takes beside its body and properties.
const MESSAGE: u64 = 512;
/// What each queue takes for a message that it holds.
pub(super) const PLACE: u64 = 128;

/// The octets that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<AtomicU64>);

impl Memory {
    pub(crate) fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What something takes; it is given back when that is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    of: Option<Memory>,
    octets: AtomicU64,
}

impl Share {
    /// Takes nothing yet.
    pub(crate) fn of(memory: &Memory) -> Self {
        Self { of: Some(memory.clone()), octets: AtomicU64::new(0) }
    }

    /// Takes more.
    pub(crate) fn add(&self, octets: u64) {
        if let Some(Memory(taken)) = &self.of {
            self.octets.fetch_add(octets, Ordering::Relaxed);
            taken.fetch_add(octets, Ordering::Relaxed);
        }
    }

    /// Takes so much, and not what it took before.
    pub(crate) fn set(&mut self, octets: u64) {
        if let Some(Memory(taken)) = &self.of {
            let before = std::mem::replace(self.octets.get_mut(), octets);
            taken.fetch_add(octets, Ordering::Relaxed);
            taken.fetch_sub(before, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Message {
    /// Counts this message and what is copied from it.
    pub(super) fn counted(mut self, memory: &Memory) -> Self {
        self.share = Share::of(memory);
        self.share.add(self.octets());
        self
    }

    /// A share of the same memory for a message that is made of this one.
    pub(super) fn share_of_copy(&self, properties: usize) -> Share {
        let Some(memory) = &self.share.of else { return Share::default() };
        let share = Share::of(memory);
        share.add((self.body.len() + properties) as u64 + MESSAGE);
        share
    }

    fn octets(&self) -> u64 {
        (self.body.len() + self.properties.len()) as u64 + MESSAGE
    }
}

impl Core {
    /// Returns what counts what messages and outputs take.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Returns whether messages take too much, so that nobody may publish more: from the limit on, until a fifth of it is
    /// free again.
    pub(crate) fn is_low_on_memory(&mut self) -> bool {
        let Some(limit) = self.config.memory_limit else { return false };
        let taken = self.memory.taken();
        if taken >= limit {
            // It is only for inspection.
            self.log.clear();
        }
        let taken = self.memory.taken();
        self.low_on_memory = if self.low_on_memory { taken > limit / 5 * 4 } else { taken >= limit };
        self.low_on_memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back() {
        let memory = Memory::default();
        let mut share = Share::of(&memory);
        share.add(5);
        share.set(3);
        share.add(1);
        assert_eq!(memory.taken(), 4);
        drop(share);
        assert_eq!(memory.taken(), 0);
    }
}
