//! Opening channels, attaching them to a connection, and what happens when one has ended.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{
    channels::ChannelStatus,
    effect::Effect,
    phase::{History, Phase},
    supervision::Supervision,
};
use crate::{
    error::{Error, Result},
    internal::{ChannelMessage, ConnectionCommand},
    message::{OpenChannel, Opened, Skipped},
    wire::Value,
};

impl Supervision {
    /// Takes the number for a channel that the application opens, and attaches the channel if there is a
    /// connection.
    pub(super) fn open_channel(&mut self, options: &OpenChannel) -> Result<u16> {
        self.check_not_closed()?;
        if self.phase.history() == History::NeverOpen {
            return Err(not_open_yet());
        }
        if options.confirms && self.phase.open().is_some_and(|open| !has_confirms(&open.opened)) {
            let what = "the broker has no capability publisher_confirms; open the channel without confirms";
            return Err(Error::refused_here(what));
        }
        let number = self.channels.add(options.number)?;
        // Without a connection, or during the redeclaration, it is attached with all others.
        if matches!(self.phase, Phase::Attaching(..) | Phase::Up(_)) {
            self.effects.push_back(Effect::Attach(number));
        }
        Ok(number)
    }

    /// The reply to the first `channel.open` of a channel has come.
    pub(super) fn channel_opened(&mut self, channel: u16) {
        self.channels.opened(channel);
    }

    /// A channel has ended. Its number is free if the broker has closed the channel as well.
    pub(super) fn channel_closed(&mut self, channel: u16, free: bool, now: Instant) {
        if self.channels.remove(channel) {
            if self.phase.has_connection() {
                let detach = ConnectionCommand::DetachChannel { channel };
                self.effects.push_back(Effect::Command(detach));
            }
            if free || !self.phase.has_connection() {
                self.channels.numbers.give_back(channel);
            }
            self.missing.channel_closed(channel);
            self.missing.channel_reopened(channel);
            self.topology.forget_channel(channel);
            self.forget_unrecorded();
            self.room(now);
            self.channel_is_done(channel, now);
        }
        if matches!(self.phase, Phase::Closing(_)) {
            self.order_close_if_drained(now);
        }
        self.close_if_unneeded(now);
    }

    /// A channel was closed, and is reopened at this time, or with the next connection. Nothing waits for it.
    pub(super) fn channel_backing_off(
        &mut self,
        channel: u16,
        error: Error,
        until: Option<Instant>,
        now: Instant,
    ) {
        self.missing.channel_backing_off(channel, error, until, now);
        self.channel_is_done(channel, now);
    }

    /// The broker would ignore the prefetch that the consumers of a channel share, or not any more (`None`).
    pub(super) fn prefetch_withheld(&mut self, channel: u16, error: Option<Error>, now: Instant) {
        self.missing.prefetch_withheld(channel, error, now);
        self.health_changed();
    }

    /// A channel has recovered, except for these consumers.
    pub(super) fn channel_reopened(&mut self, channel: u16, skipped: Vec<Skipped>, now: Instant) {
        self.missing.channel_reopened(channel);
        self.channel_recovered(channel, skipped, now);
    }

    /// A channel has no unconfirmed publish left while the connection is being closed.
    pub(super) fn channel_drained(&mut self, channel: u16, now: Instant) {
        if matches!(self.phase, Phase::Closing(_)) {
            self.channels.drained(channel);
            self.order_close_if_drained(now);
        }
    }

    /// Attaches every channel to the connection; returns those that have to recover.
    pub(super) fn attach_channels(&mut self, now: Instant) -> BTreeSet<u16> {
        let max = self.channels.numbers.max();
        let mut recovering = BTreeSet::new();
        for (number, status) in self.channels.iter() {
            if number > max {
                let what = format!("channel {number} is more than the broker allows now, {max}");
                let error = Error::limit(what);
                let closed = ChannelMessage::ConnectionClosed { error: error.clone() };
                self.missing.channel_missing(number, error, now);
                self.effects.push_back(Effect::SendToChannel(number, closed));
                continue;
            }
            if status != ChannelStatus::Opening {
                recovering.insert(number);
            }
            self.effects.push_back(Effect::Attach(number));
        }
        recovering
    }

    pub(super) fn send_to_channels(&mut self, message: impl Fn() -> ChannelMessage) {
        let messages = self.channels.iter().map(|(number, _)| Effect::SendToChannel(number, message()));
        self.effects.extend(messages);
    }
}

pub(super) fn not_open_yet() -> Error {
    Error::connection_closed("the connection is not open yet", None)
}

fn has_confirms(opened: &Opened) -> bool {
    let capabilities = opened.server_properties().get("capabilities").and_then(Value::as_table);
    let confirms = capabilities.and_then(|table| table.get("publisher_confirms"));
    confirms.and_then(Value::as_bool) == Some(true)
}
