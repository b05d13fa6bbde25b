//! The ready messages of a quorum queue: those that came back, and the others by the priorities of the line.

use std::collections::VecDeque;

use super::stored::Stored;
use crate::core::{QuorumPriorities, Time};

/// The priority of a message without one, in the lines with strict priorities.
const DEFAULT_PRIORITY: u8 = 4;
/// The highest of the strict priorities.
const HIGHEST: u8 = 31;
/// How many high messages come before one of the others.
const HIGH_IN_A_ROW: u8 = 2;

/// The ready messages.
#[derive(Debug)]
pub(super) struct QuorumLines {
    /// They come first, in the order of their return.
    returned: VecDeque<Stored>,
    others: Others,
}

#[derive(Debug)]
enum Others {
    One(VecDeque<Stored>),
    TwoClasses(TwoClasses),
    /// The line of priority 0 first.
    Strict(Box<[VecDeque<Stored>; HIGHEST as usize + 1]>),
}

/// Two high messages, then one of the others.
#[derive(Debug, Default)]
struct TwoClasses {
    high: VecDeque<Stored>,
    normal: VecDeque<Stored>,
    /// How many messages were taken, of either class, since it was the turn of the others.
    taken: u8,
}

impl TwoClasses {
    fn next_is_high(&self) -> bool {
        match (self.high.front(), self.normal.front()) {
            // An older high message goes first even if it is the turn of the others.
            (Some(high), Some(normal)) => self.taken < HIGH_IN_A_ROW || high.place < normal.place,
            (high, _) => high.is_some(),
        }
    }

    fn front(&self) -> Option<&Stored> {
        if self.next_is_high() { self.high.front() } else { self.normal.front() }
    }

    fn pop(&mut self) -> Option<Stored> {
        let stored = if self.next_is_high() { self.high.pop_front() } else { self.normal.pop_front() }?;
        self.count();
        Some(stored)
    }

    fn count(&mut self) {
        self.taken = if self.taken == HIGH_IN_A_ROW { 0 } else { self.taken + 1 };
    }
}

impl QuorumLines {
    pub(super) fn new(priorities: QuorumPriorities) -> Self {
        let others = match priorities {
            QuorumPriorities::None => Others::One(VecDeque::new()),
            QuorumPriorities::TwoClasses => Others::TwoClasses(TwoClasses::default()),
            QuorumPriorities::Strict => Others::Strict(Box::default()),
        };
        Self { returned: VecDeque::new(), others }
    }

    pub(super) fn push(&mut self, stored: Stored) {
        let priority = stored.message.priority();
        match &mut self.others {
            Others::One(line) => line.push_back(stored),
            Others::TwoClasses(classes) if priority > Some(DEFAULT_PRIORITY) => {
                classes.high.push_back(stored)
            }
            Others::TwoClasses(classes) => classes.normal.push_back(stored),
            Others::Strict(lines) => {
                let priority = priority.unwrap_or(DEFAULT_PRIORITY).min(HIGHEST);
                lines[usize::from(priority)].push_back(stored);
            }
        }
    }

    /// A message goes past the empty lines, straight to a consumer: it is taken all the same.
    pub(super) fn pass(&mut self) {
        if let Others::TwoClasses(classes) = &mut self.others {
            classes.count();
        }
    }

    /// Forgets how many messages were taken, as a purge does.
    pub(super) fn begin_anew(&mut self) {
        if let Others::TwoClasses(classes) = &mut self.others {
            classes.taken = 0;
        }
    }

    /// Puts a message behind those that came back before.
    pub(super) fn put_back(&mut self, stored: Stored) {
        self.returned.push_back(stored);
    }

    pub(super) fn front(&self) -> Option<&Stored> {
        self.returned.front().or_else(|| match &self.others {
            Others::One(line) => line.front(),
            Others::TwoClasses(classes) => classes.front(),
            Others::Strict(lines) => lines.iter().rev().find_map(VecDeque::front),
        })
    }

    pub(super) fn pop(&mut self) -> Option<Stored> {
        self.returned.pop_front().or_else(|| match &mut self.others {
            Others::One(line) => line.pop_front(),
            Others::TwoClasses(classes) => classes.pop(),
            Others::Strict(lines) => lines.iter_mut().rev().find_map(VecDeque::pop_front),
        })
    }

    /// Takes a message that has expired and is the first one of its priority.
    pub(super) fn pop_expired(&mut self, now: Time) -> Option<Stored> {
        let Others::Strict(lines) = &mut self.others else { return None };
        let is_due = |line: &&mut VecDeque<Stored>| line.front().is_some_and(|front| front.is_expired(now));
        lines.iter_mut().rev().find(is_due)?.pop_front()
    }

    /// Returns when the next message expires that is the first one of its line.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        match &self.others {
            Others::Strict(lines) => {
                let fronts =
                    self.returned.front().into_iter().chain(lines.iter().filter_map(VecDeque::front));
                fronts.filter_map(|front| front.expires_at).min()
            }
            _ => self.front()?.expires_at,
        }
    }

    pub(super) fn len(&self) -> usize {
        let others = match &self.others {
            Others::One(line) => line.len(),
            Others::TwoClasses(classes) => classes.high.len() + classes.normal.len(),
            Others::Strict(lines) => lines.iter().map(VecDeque::len).sum(),
        };
        self.returned.len() + others
    }

    /// Returns the messages in the order of delivery; of two classes, the high ones before the others.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        let others: Vec<&VecDeque<Stored>> = match &self.others {
            Others::One(line) => vec![line],
            Others::TwoClasses(classes) => vec![&classes.high, &classes.normal],
            Others::Strict(lines) => lines.iter().rev().collect(),
        };
        self.returned.iter().chain(others.into_iter().flatten())
    }
}
