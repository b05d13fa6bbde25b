//! The channels of a supervised connection: which numbers are in use, and the status of each channel.

use std::collections::BTreeMap;

use super::channel_numbers::ChannelNumbers;
use crate::error::Result;

#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) numbers: ChannelNumbers,
    statuses: BTreeMap<u16, ChannelStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelStatus {
    /// Its first `channel.open` has no reply yet.
    Opening,
    Open,
    /// The connection is being closed, and the channel has no unconfirmed publish.
    Drained,
}

impl Channels {
    /// Takes the number of a new channel.
    ///
    /// # Errors
    /// `Limit` when the number, or every number, is in use.
    pub(super) fn add(&mut self, number: Option<u16>) -> Result<u16> {
        let number = self.numbers.take(number)?;
        self.statuses.insert(number, ChannelStatus::Opening);
        Ok(number)
    }

    /// Returns whether there was such a channel. Its number stays in use.
    pub(super) fn remove(&mut self, number: u16) -> bool {
        self.statuses.remove(&number).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.statuses.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.statuses.is_empty()
    }

    pub(super) fn all(&self, status: ChannelStatus) -> bool {
        self.statuses.values().all(|other| *other == status)
    }

    pub(super) fn opened(&mut self, number: u16) {
        if let Some(status @ ChannelStatus::Opening) = self.statuses.get_mut(&number) {
            *status = ChannelStatus::Open;
        }
    }

    pub(super) fn drained(&mut self, number: u16) {
        if let Some(status) = self.statuses.get_mut(&number) {
            *status = ChannelStatus::Drained;
        }
    }

    /// Returns all channels in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, ChannelStatus)> {
        self.statuses.iter().map(|(number, status)| (*number, *status))
    }

    /// After a reconnect, only the numbers of these channels are in use.
    pub(super) fn reset_numbers(&mut self) {
        self.numbers.reset(self.statuses.keys().copied());
    }
}
