//! What a pool decides: which item is handed out next, and what becomes of one that comes back.

use std::collections::{BTreeMap, VecDeque};

/// The items of a pool. It knows nothing of waiting: a user that calls [`take`](Self::take) has a place among the
/// at most `max` users of the pool.
pub(super) enum Shelf<T> {
    Open {
        /// The one that was returned first is in front.
        idle: VecDeque<T>,
        /// Those that users hold, by the number of the user. `None` is being made.
        used: BTreeMap<u64, Option<T>>,
        /// The number of the next user.
        next: u64,
    },
    Closed,
}

/// What a user gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// This item, under this number.
    Item(u64, T),
    /// Nothing is idle: the user makes an item, and puts it under this number.
    Make(u64),
    /// The pool is closed.
    Closed,
}

impl<T: Clone> Shelf<T> {
    pub(super) fn new() -> Self {
        Self::Open { idle: VecDeque::new(), used: BTreeMap::new(), next: 0 }
    }

    /// Hands out the item that has been idle for the longest time, or has one made. Items that `is_dead` tells of
    /// are moved to `dead`.
    pub(super) fn take(&mut self, is_dead: impl Fn(&T) -> bool, dead: &mut Vec<T>) -> Taken<T> {
        let Self::Open { idle, used, next } = self else { return Taken::Closed };
        let user = *next;
        *next += 1;
        while let Some(item) = idle.pop_front() {
            if is_dead(&item) {
                dead.push(item);
            } else {
                used.insert(user, Some(item.clone()));
                return Taken::Item(user, item);
            }
        }
        used.insert(user, None);
        Taken::Make(user)
    }

    /// Records what a user has made. Returns whether the pool is still open; if not, the item is the user's to close.
    pub(super) fn made(&mut self, user: u64, item: T) -> bool {
        let Self::Open { used, .. } = self else { return false };
        used.insert(user, Some(item));
        true
    }

    /// Takes back the item of a user, behind all others. One that `is_dead` tells of is returned, as is that of a
    /// closed pool.
    pub(super) fn give_back(&mut self, user: u64, item: T, is_dead: impl Fn(&T) -> bool) -> Option<T> {
        drop(self.forget(user));
        match self {
            Self::Open { idle, .. } if !is_dead(&item) => {
                idle.push_back(item);
                None
            }
            _ => Some(item),
        }
    }

    /// Ends the use of an item that was never made, or that leaves the pool, and returns it.
    pub(super) fn forget(&mut self, user: u64) -> Option<T> {
        match self {
            Self::Open { used, .. } => used.remove(&user).flatten(),
            Self::Closed => None,
        }
    }

    /// Closes the pool and returns its items, those of users too.
    pub(super) fn close(&mut self) -> Vec<T> {
        match std::mem::replace(self, Self::Closed) {
            Self::Open { idle, used, .. } => idle.into_iter().chain(used.into_values().flatten()).collect(),
            Self::Closed => Vec::new(),
        }
    }

    /// Returns how many items are idle and how many are used.
    pub(super) fn counts(&self) -> (usize, usize) {
        match self {
            Self::Open { idle, used, .. } => (idle.len(), used.len()),
            Self::Closed => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(_: &char) -> bool {
        false
    }

    fn take(shelf: &mut Shelf<char>) -> Taken<char> {
        shelf.take(alive, &mut Vec::new())
    }

    /// A shelf with these idle items.
    fn shelf(items: &str) -> Shelf<char> {
        let mut shelf = Shelf::new();
        let users: Vec<_> = items
            .chars()
            .map(|item| match take(&mut shelf) {
                Taken::Make(user) => (user, item),
                other => panic!("{other:?}"),
            })
            .collect();
        for (user, item) in users {
            assert!(shelf.made(user, item));
            assert_eq!(shelf.give_back(user, item, alive), None);
        }
        shelf
    }

    #[test]
    fn items_are_handed_out_in_the_order_in_which_they_came_back() {
        let mut shelf = shelf("ab");
        assert_eq!(take(&mut shelf), Taken::Item(2, 'a'));
        assert_eq!(shelf.give_back(2, 'a', alive), None);
        assert_eq!(take(&mut shelf), Taken::Item(3, 'b'));
        assert_eq!(take(&mut shelf), Taken::Item(4, 'a'));
        assert_eq!(take(&mut shelf), Taken::Make(5));
        assert_eq!(shelf.counts(), (0, 3));
    }

    #[test]
    fn a_dead_item_is_never_handed_out() {
        let mut shelf = shelf("abc");
        let mut dead = Vec::new();
        assert_eq!(shelf.take(|item| *item != 'c', &mut dead), Taken::Item(3, 'c'));
        assert_eq!(dead, ['a', 'b']);
        assert_eq!(shelf.give_back(3, 'c', |_| true), Some('c'));
        assert_eq!(take(&mut shelf), Taken::Make(4));
    }

    #[test]
    fn what_could_not_be_made_leaves_no_trace() {
        let mut shelf = shelf("");
        assert_eq!(take(&mut shelf), Taken::Make(0));
        assert_eq!(shelf.forget(0), None);
        assert_eq!(shelf.counts(), (0, 0));
    }

    #[test]
    fn a_closed_shelf_returns_every_item_once() {
        let mut shelf = shelf("abc");
        assert_eq!(take(&mut shelf), Taken::Item(3, 'a'));
        assert_eq!(shelf.close(), ['b', 'c', 'a']);
        assert!(shelf.close().is_empty());
        assert_eq!(take(&mut shelf), Taken::Closed);
        assert_eq!(shelf.give_back(3, 'a', alive), Some('a'));
        assert_eq!(shelf.counts(), (0, 0));
    }

    #[test]
    fn what_is_made_for_a_closed_pool_is_its_makers() {
        let mut shelf = shelf("");
        assert_eq!(take(&mut shelf), Taken::Make(0));
        assert!(shelf.close().is_empty());
        assert!(!shelf.made(0, 'a'));
    }
}
