//! The channel epoch: how often the channel was opened at the broker, and in which opening a publish was
//! confirmed.
//!
//! A confirm may be asked for long after it has arrived, so what was confirmed before an opening is noted when
//! the channel is opened again. A publish needs no memory.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Outbox,
    confirms::{ConfirmState, Confirms},
};
use crate::error::Error;

/// The most notes of each kind. Without its note, a confirm has no epoch.
const MOST: usize = 1024;

#[derive(Debug)]
pub(super) struct Epochs {
    /// 0 until the channel is opened for the first time.
    current: u32,
    /// The current epoch has ended: the channel is not open at the broker any more.
    over: bool,
    /// Publishes from here on were confirmed in the current epoch, if they are.
    current_from: u64,
    /// The publishes below `.0` that were not confirmed before were confirmed in epoch `.1`; oldest first.
    ended: VecDeque<(u64, u32)>,
    /// Publishes that were confirmed before an older one: from the key to `.0`, in epoch `.1`.
    early: BTreeMap<u64, (u64, u32)>,
    /// The notes of publishes below are dropped.
    known_from: u64,
}

impl Outbox {
    /// Returns the channel epoch: how often the channel was opened at the broker.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel) {
    /// println!("opened {} times", channel.outbox.epoch());
    /// # }
    /// ```
    pub fn epoch(&self) -> u32 {
        self.lock().confirms.epochs.current
    }

    /// Returns the first channel epoch that has not ended: the present one while the channel is open, and the next
    /// one while the connection is lost, the channel waits to be opened again, or is closed. What belongs to an
    /// earlier one, such as a direct reply that was awaited in it, does not come any more.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel, confirmed: actix_pika_actors::Confirmation) {
    /// let is_over = confirmed.epoch().is_some_and(|epoch| epoch < channel.outbox.live_epoch());
    /// # }
    /// ```
    pub fn live_epoch(&self) -> u32 {
        let state = self.lock();
        let is_closed = state.attachment.closed().is_some();
        state.confirms.epochs.live(is_closed)
    }

    /// Returns why the channel is not open at present, if the connection is lost or the channel waits to be opened again.
    pub(crate) fn unavailable(&self) -> Option<Error> {
        self.lock().unavailable.clone()
    }

    /// The broker has opened the channel.
    pub(crate) fn opened(&self) {
        let Confirms { epochs, ring, base, .. } = &mut self.lock().confirms;
        let resolved = (*base..).zip(ring).filter(|(_, slot)| slot.state == ConfirmState::Resolved);
        epochs.opened(*base, resolved.map(|(sequence, _)| sequence));
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            current: 0,
            over: true,
            current_from: 1,
            ended: VecDeque::new(),
            early: BTreeMap::new(),
            known_from: 1,
        }
    }
}

impl Epochs {
    /// The channel is opened. The publishes below `base` are resolved, and those that are `resolved` behind.
    fn opened(&mut self, base: u64, resolved: impl Iterator<Item = u64>) {
        if self.ended.back().is_none_or(|(end, _)| *end < base) {
            self.ended.push_back((base, self.current));
        }
        self.current_from = self.current_from.max(base);
        for sequence in resolved {
            self.current_from = self.current_from.max(sequence + 1);
            match self.early.range_mut(..=sequence).next_back() {
                Some((_, (last, _))) if sequence <= *last => {}
                Some((_, (last, epoch))) if *epoch == self.current && sequence == *last + 1 => {
                    *last = sequence
                }
                _ => {
                    self.early.insert(sequence, (sequence, self.current));
                }
            }
        }
        if self.ended.len() > MOST
            && let Some((end, _)) = self.ended.pop_front()
        {
            self.known_from = self.known_from.max(end);
        }
        while self.early.len() > MOST
            && let Some((_, (last, _))) = self.early.pop_first()
        {
            self.known_from = self.known_from.max(last + 1);
        }
        self.current = self.current.saturating_add(1);
        self.over = false;
    }

    /// The connection is lost, or the channel is closed to be opened again.
    pub(super) fn end_current(&mut self) {
        self.over = true;
    }

    fn live(&self, is_closed: bool) -> u32 {
        self.current.saturating_add(u32::from(self.over || is_closed))
    }

    /// Returns in which epoch a publish was confirmed; 0 if that is not known any more.
    #[inline]
    pub(super) fn of(&self, sequence: u64) -> u32 {
        if sequence >= self.current_from { self.current } else { self.of_noted(sequence) }
    }

    #[cold]
    fn of_noted(&self, sequence: u64) -> u32 {
        if sequence < self.known_from {
            return 0;
        }
        if let Some((_, (last, epoch))) = self.early.range(..=sequence).next_back()
            && sequence <= *last
        {
            return *epoch;
        }
        let at = self.ended.partition_point(|(end, _)| *end <= sequence);
        self.ended.get(at).map_or(self.current, |(_, epoch)| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirm_has_the_epoch_in_which_it_came() {
        let mut epochs = Epochs::default();
        epochs.opened(1, [].into_iter());
        assert_eq!((epochs.current, epochs.of(1)), (1, 1));
        // 1 and 2 are confirmed, and 4, 5 and 7 before 3 and 6.
        epochs.opened(3, [4, 5, 7].into_iter());
        let all: Vec<u32> = (1..=9).map(|sequence| epochs.of(sequence)).collect();
        assert_eq!(all, [1, 1, 2, 1, 1, 2, 1, 2, 2]);
        // 3, 6 and 8 are confirmed, and nothing in the epoch after that.
        epochs.opened(9, [].into_iter());
        epochs.opened(9, [].into_iter());
        let all: Vec<u32> = (1..=9).map(|sequence| epochs.of(sequence)).collect();
        assert_eq!(all, [1, 1, 2, 1, 1, 2, 1, 2, 4]);
    }

    #[test]
    fn early_confirms_keep_their_epoch_over_several_openings() {
        let mut epochs = Epochs::default();
        epochs.opened(1, [].into_iter());
        epochs.opened(1, [2].into_iter());
        epochs.opened(1, [2, 3].into_iter());
        epochs.opened(4, [].into_iter());
        let all: Vec<u32> = (1..=4).map(|sequence| epochs.of(sequence)).collect();
        assert_eq!(all, [3, 1, 2, 4]);
    }

    #[test]
    fn the_live_epoch_is_the_next_one_until_the_channel_is_open_again() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.live(false), 1);
        epochs.opened(1, [].into_iter());
        assert_eq!((epochs.live(false), epochs.live(true)), (1, 2));
        // Lost, and lost again while it was opened.
        epochs.end_current();
        epochs.end_current();
        assert_eq!((epochs.live(false), epochs.live(true)), (2, 2));
        epochs.opened(1, [].into_iter());
        assert_eq!(epochs.live(false), 2);
    }

    #[test]
    fn the_oldest_notes_are_dropped() {
        let mut epochs = Epochs::default();
        for opening in 0..3000 {
            epochs.opened(1 + 2 * opening, std::iter::once(2 + 2 * opening));
        }
        assert!(epochs.ended.len() <= MOST && epochs.early.len() <= MOST);
        assert_eq!((epochs.of(1), epochs.of(2)), (0, 0));
        assert_eq!((epochs.of(5997), epochs.of(5998)), (2999, 2998), "early, or in its turn");
    }
}
