//! The allocator of channel numbers: the lowest free one, or the one that is asked for.

use std::collections::BTreeSet;

use crate::error::{Error, Result};

/// The most numbers that tries without a reply keep before what had none waits for the next connection.
const MOST_ABANDONED: u16 = 64;

#[derive(Debug, Default)]
pub(super) struct ChannelNumbers {
    max: u16,
    used: BTreeSet<u16>,
    /// No number below this one is free.
    lowest: u16,
    /// How many are in use because the broker did not reply on the utility channel.
    abandoned: u16,
}

impl ChannelNumbers {
    pub(super) fn set_max(&mut self, max: u16) {
        self.max = max;
    }

    pub(super) fn max(&self) -> u16 {
        self.max
    }

    /// Returns whether every number is in use.
    pub(super) fn is_full(&self) -> bool {
        self.used.range(1..=self.max).count() >= usize::from(self.max)
    }

    /// Starts again with only these in use.
    pub(super) fn reset(&mut self, used: impl Iterator<Item = u16>) {
        self.used = used.collect();
        self.lowest = 0;
        self.abandoned = 0;
    }

    /// The broker has not replied on the utility channel, and may hold it open: its number stays in use.
    pub(super) fn abandon(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// Returns whether what had no reply is not tried again: it would cost one number after the other.
    pub(super) fn are_many_abandoned(&self) -> bool {
        self.abandoned >= (self.max / 4).clamp(1, MOST_ABANDONED)
    }

    /// Returns whether nothing is tried any more: the other numbers are for the application.
    pub(super) fn are_too_many_abandoned(&self) -> bool {
        self.abandoned >= (self.max / 2).max(1)
    }

    pub(super) fn take(&mut self, wanted: Option<u16>) -> Result<u16> {
        let number = match wanted {
            Some(number) if number == 0 || number > self.max => {
                return Err(Error::limit(format!("channel {number} is not in 1 to {}", self.max)));
            }
            Some(number) if self.used.contains(&number) => {
                return Err(Error::limit(format!("channel {number} is open already")));
            }
            Some(number) => number,
            None => (self.lowest.max(1)..=self.max)
                .find(|number| !self.used.contains(number))
                .ok_or_else(|| Error::limit(format!("all {} channels are open", self.max)).without_room())?,
        };
        if wanted.is_none() {
            self.lowest = number;
        }
        self.used.insert(number);
        Ok(number)
    }

    /// Takes the highest free number, which is the least likely one to be asked for.
    pub(super) fn take_last(&mut self) -> Option<u16> {
        let number = (1..=self.max).rev().find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        Some(number)
    }

    pub(super) fn give_back(&mut self, number: u16) {
        self.used.remove(&number);
        self.lowest = self.lowest.min(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_lowest_free_number_is_next() {
        let mut numbers = ChannelNumbers::default();
        numbers.set_max(4);
        assert_eq!(numbers.take(Some(2)).unwrap(), 2);
        assert_eq!([1, 3, 4].map(|_| numbers.take(None).unwrap()), [1, 3, 4]);
        assert_eq!(numbers.take(None).unwrap_err().kind(), ErrorKind::Limit);
        numbers.give_back(3);
        numbers.give_back(1);
        assert_eq!(numbers.take(None).unwrap(), 1);
        assert_eq!(numbers.take(Some(3)).unwrap(), 3);
        assert_eq!(numbers.take(Some(3)).unwrap_err().kind(), ErrorKind::Limit);
        numbers.give_back(4);
        numbers.give_back(2);
        assert_eq!([numbers.take_last(), numbers.take_last(), numbers.take_last()], [Some(4), Some(2), None]);
        assert_eq!(numbers.take(Some(0)).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(numbers.take(Some(5)).unwrap_err().kind(), ErrorKind::Limit);
    }
}
