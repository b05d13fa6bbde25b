//! The ready messages of a classic queue: in the original order, or by priority.

use std::collections::VecDeque;

use super::stored::Stored;

/// The ready messages.
#[derive(Debug)]
pub(super) enum ClassicLines {
    One(Line),
    /// The line of priority 0 first.
    ByPriority {
        lines: Vec<Line>,
        len: usize,
    },
}

/// Messages in their original order.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Stored>);

impl Line {
    /// Puts a message back at its place. Most of those that come back belong to the front.
    fn put_back(&mut self, stored: Stored) {
        match self.0.front() {
            Some(front) if front.place < stored.place => {
                let at = self.0.partition_point(|other| other.place < stored.place);
                self.0.insert(at, stored);
            }
            _ => self.0.push_front(stored),
        }
    }
}

impl ClassicLines {
    /// Creates empty lines; `max_priority` is that of a queue with priorities.
    pub(super) fn new(max_priority: Option<u8>) -> Self {
        match max_priority {
            None => Self::One(Line::default()),
            Some(max) => {
                let lines = (0..=max).map(|_| Line::default()).collect();
                Self::ByPriority { lines, len: 0 }
            }
        }
    }

    fn of_priority(&mut self, stored: &Stored) -> &mut Line {
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
            return line.0.push_back(stored);
        }
        self.of_priority(&stored).0.push_back(stored);
    }

    pub(super) fn put_back(&mut self, stored: Stored) {
        self.of_priority(&stored).put_back(stored);
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Stored> {
        match self {
            Self::One(line) => line.0.front(),
            Self::ByPriority { lines, .. } => lines.iter().rev().find_map(|line| line.0.front()),
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Stored> {
        match self {
            Self::One(line) => line.0.pop_front(),
            Self::ByPriority { lines, len } => {
                let stored = lines.iter_mut().rev().find_map(|line| line.0.pop_front())?;
                *len -= 1;
                Some(stored)
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(line) => line.0.len(),
            Self::ByPriority { len, .. } => *len,
        }
    }

    /// Returns the messages in the order of delivery.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        let lines = match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::ByPriority { lines, .. } => lines,
        };
        lines.iter().rev().flat_map(|line| &line.0)
    }
}
