//! The ready messages of a classic queue: in the original order, or by priority.

use std::collections::{BTreeMap, VecDeque};

use super::stored::Stored;

/// The ready messages.
#[derive(Debug)]
pub(super) enum ClassicLines {
    One(ReadyList),
    /// The line of priority 0 first.
    ByPriority {
        lines: Vec<ReadyList>,
        len: usize,
    },
}

/// Messages in their original order.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    /// Those that came back, by their places. All of these are before those of the others: only the front is taken.
    returned: BTreeMap<u64, Stored>,
    /// Those that were never taken.
    fresh: VecDeque<Stored>,
}

impl ReadyList {
    #[inline]
    fn push(&mut self, stored: Stored) {
        self.fresh.push_back(stored);
    }

    /// Puts a message back at its place.
    fn put_back(&mut self, stored: Stored) {
        debug_assert!(self.fresh.front().is_none_or(|fresh| stored.place < fresh.place));
        self.returned.insert(stored.place, stored);
    }

    #[inline]
    fn front(&self) -> Option<&Stored> {
        if self.returned.is_empty() {
            return self.fresh.front();
        }
        self.returned.first_key_value().map(|(_, returned)| returned)
    }

    #[inline]
    fn pop(&mut self) -> Option<Stored> {
        if self.returned.is_empty() {
            return self.fresh.pop_front();
        }
        self.returned.pop_first().map(|(_, returned)| returned)
    }

    #[inline]
    fn len(&self) -> usize {
        self.returned.len() + self.fresh.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.returned.values().chain(&self.fresh)
    }
}

impl ClassicLines {
    /// Creates empty lines; `max_priority` is that of a queue with priorities.
    pub(super) fn new(max_priority: Option<u8>) -> Self {
        match max_priority {
            None => Self::One(ReadyList::default()),
            Some(max) => {
                let lines = (0..=max).map(|_| ReadyList::default()).collect();
                Self::ByPriority { lines, len: 0 }
            }
        }
    }

    fn of_priority(&mut self, stored: &Stored) -> &mut ReadyList {
        match self {
            Self::One(line) => line,
            Self::ByPriority { lines, len } => {
                *len += 1;
                let highest = lines.len() - 1;
                let priority = stored.message.priority().unwrap_or(0).into();
                &mut lines[highest.min(priority)]
            }
        }
    }

    #[inline]
    pub(super) fn push(&mut self, stored: Stored) {
        if let Self::One(line) = self {
            return line.push(stored);
        }
        self.of_priority(&stored).push(stored);
    }

    pub(super) fn put_back(&mut self, stored: Stored) {
        self.of_priority(&stored).put_back(stored);
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Stored> {
        match self {
            Self::One(line) => line.front(),
            Self::ByPriority { lines, .. } => lines.iter().rev().find_map(|line| line.front()),
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Stored> {
        match self {
            Self::One(line) => line.pop(),
            Self::ByPriority { lines, len } => {
                let stored = lines.iter_mut().rev().find_map(|line| line.pop())?;
                *len -= 1;
                Some(stored)
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(line) => line.len(),
            Self::ByPriority { len, .. } => *len,
        }
    }

    /// Returns the messages in the order of delivery.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        let lines = match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::ByPriority { lines, .. } => lines,
        };
        lines.iter().rev().flat_map(ReadyList::iter)
    }
}
