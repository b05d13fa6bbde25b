//! The unacked deliveries of a channel, by delivery tag.

use std::collections::VecDeque;

/// With how many holes the list is not worth being looked through.
const FEW_HOLES: usize = 64;

/// Deliveries in the order of their tags. Those in the middle that are settled leave a hole until the ones
/// before them are settled too, or there are more holes than deliveries.
#[derive(Debug)]
pub(crate) struct Unacked<T> {
    entries: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), len: 0 }
    }
}

impl<T> Unacked<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a delivery with a tag above all others.
    pub(crate) fn push(&mut self, tag: u64, entry: T) {
        self.entries.push_back((tag, Some(entry)));
        self.len += 1;
    }

    /// Returns the delivery with the lowest tag.
    pub(crate) fn first(&self) -> Option<&T> {
        // The first is no hole.
        self.entries.front()?.1.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().filter_map(|(tag, entry)| Some((*tag, entry.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.entries.iter_mut().filter_map(|(tag, entry)| Some((*tag, entry.as_mut()?)))
    }

    fn contains(&self, tag: u64) -> bool {
        self.position(tag).is_some()
    }

    fn position(&self, tag: u64) -> Option<usize> {
        let at = match self.entries.front() {
            Some((first, _)) if *first == tag => 0,
            _ => self.entries.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?,
        };
        self.entries[at].1.is_some().then_some(at)
    }

    /// Takes one delivery.
    pub(crate) fn take(&mut self, tag: u64) -> Option<T> {
        let at = self.position(tag)?;
        let taken = self.entries[at].1.take();
        self.len -= 1;
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        // One delivery that is never settled would pin the holes of all later ones.
        if self.entries.len() > 2 * self.len + FEW_HOLES {
            self.entries.retain(|(_, entry)| entry.is_some());
        }
        taken
    }

    /// Takes all deliveries up to a tag, which must be one of them, or all of them for 0.
    pub(crate) fn take_up_to(&mut self, tag: u64) -> Option<Vec<(u64, T)>> {
        let last = match tag {
            0 => u64::MAX,
            tag if self.contains(tag) => tag,
            _ => return None,
        };
        let mut taken = Vec::new();
        while self.entries.front().is_some_and(|(tag, entry)| *tag <= last || entry.is_none()) {
            if let Some((tag, Some(entry))) = self.entries.pop_front() {
                taken.push((tag, entry));
            }
        }
        self.len -= taken.len();
        Some(taken)
    }

    pub(crate) fn take_all(&mut self) -> Vec<(u64, T)> {
        self.take_up_to(0).unwrap_or_default()
    }

    /// Puts deliveries back that were taken.
    pub(crate) fn put_back(&mut self, taken: impl IntoIterator<Item = (u64, T)>) {
        let mut all = self.take_all();
        all.extend(taken);
        all.sort_unstable_by_key(|(tag, _)| *tag);
        for (tag, entry) in all {
            self.push(tag, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unacked(tags: std::ops::RangeInclusive<u64>) -> Unacked<u64> {
        let mut unacked = Unacked::default();
        for tag in tags {
            unacked.push(tag, tag * 10);
        }
        unacked
    }

    /// broker.md 1: a tag that is no longer outstanding settles nothing.
    #[test]
    fn an_unknown_tag_takes_nothing() {
        let mut unacked = unacked(1..=3);
        assert_eq!(unacked.take(3), Some(30));
        assert_eq!(unacked.take_up_to(3), None);
        assert_eq!((unacked.take(3), unacked.take(0), unacked.take(9)), (None, None, None));
        assert_eq!(unacked.len(), 2);
        assert_eq!(unacked.take_up_to(0), Some(vec![(1, 10), (2, 20)]));
        assert_eq!(unacked.take_up_to(0), Some(vec![]));
    }

    #[test]
    fn holes_are_passed_over() {
        let mut unacked = unacked(1..=5);
        assert_eq!((unacked.take(2), unacked.take(1)), (Some(20), Some(10)));
        assert_eq!(unacked.first(), Some(&30));
        assert_eq!(unacked.take(4), Some(40));
        assert_eq!(unacked.take_up_to(5), Some(vec![(3, 30), (5, 50)]));
        assert_eq!((unacked.len(), unacked.first()), (0, None));
    }

    /// With prefetch 2, a client may keep one delivery and ack all the others one by one.
    #[test]
    fn one_delivery_does_not_pin_the_holes_behind_it() {
        let mut unacked = unacked(1..=3);
        let mut most = 0;
        for tag in 4..=10_000 {
            unacked.push(tag, tag * 10);
            assert_eq!(unacked.take(tag - 1), Some((tag - 1) * 10));
            most = most.max(unacked.entries.len());
        }
        assert_eq!(most, 2 * unacked.len() + FEW_HOLES);
        assert_eq!((unacked.take(5000), unacked.first()), (None, Some(&10)));
        assert_eq!(unacked.take_up_to(10_000), Some(vec![(1, 10), (2, 20), (10_000, 100_000)]));
        assert_eq!(unacked.entries.len(), 0);
    }

    /// broker.md 15: a rollback puts the tags back.
    #[test]
    fn what_was_taken_can_be_put_back() {
        let mut unacked = unacked(1..=4);
        let two = unacked.take(2).unwrap();
        let four = unacked.take(4).unwrap();
        unacked.put_back([(4, four), (2, two)]);
        assert_eq!(unacked.iter().map(|(tag, _)| tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
