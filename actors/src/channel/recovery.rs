//! How a channel opens, and what is recovered after a reconnect, in which order.
//!
//! A channel recovers in two phases. First it sends, without waiting in between: `channel.open`, for each
//! consumer its prefetch and `basic.consume`, the shared prefetch, `confirm.select`. Once all replies have
//! come the channel is open: unconfirmed publishes are resent and queued ones sent, watchers and the
//! supervisor are notified, and the calls that waited are made. The topology is redeclared before, by the
//! supervisor.

use std::sync::Arc;

use actix::Recipient;
use tokio::time::Instant;

use super::{
    ChannelMachine, PendingReply,
    machine::{ConnectionLink, Request},
    prefetch::SHARED_PREFETCH_UNKEPT,
};
use crate::{
    error::Error,
    internal::SupervisorMessage,
    message::{ChannelEvent, methods},
    outbox::Flush,
};

impl ChannelMachine {
    /// There is a connection: opens, or recovers.
    pub(super) fn attached(
        &mut self,
        connection: ConnectionLink,
        flush: Arc<Recipient<Flush>>,
        frame_max: u32,
        now: Instant,
    ) {
        let again = self.state.is_detached();
        let epoch = connection.epoch;
        self.prefetch.connected(connection.broker.rules);
        // First, so that a fault that follows is reported for this connection.
        self.outbox.watch_io_loop(connection.credit.io_clock().clone());
        self.connection = Some(connection);
        self.outbox.attach(epoch, flush, frame_max, again);
        if again {
            // What another connection has deleted meanwhile is told by the broker.
            self.outbox.missing().clear();
            self.nacks.begin(now, !self.fails_in_outage);
            self.recover(now);
        } else if self.state.is_opening() {
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.state.open_sent();
        self.ask(Request::new(methods::channel_open(), PendingReply::Open), now);
        self.select_confirms(now);
        self.outputs.request_tick();
    }

    fn select_confirms(&mut self, now: Instant) {
        if self.outbox.config().confirms {
            self.ask(Request::new(methods::confirm_select(), PendingReply::ConfirmSelect), now);
        }
    }

    /// The reply to `channel.open` has come, or that to `confirm.select` (`confirms`).
    pub(super) fn opened(&mut self, confirms: bool) {
        if self.state.is_opening() && confirms == self.outbox.config().confirms {
            self.state.opened();
            let channel = self.number();
            log::debug!("channel {channel}: open");
            self.report(SupervisorMessage::ChannelOpened { channel, result: Ok(()) });
        }
    }

    /// The first phase.
    pub(super) fn recover(&mut self, now: Instant) {
        self.state.recover();
        self.send_recovery(now);
    }

    /// Sends what is recovered, in its order.
    pub(super) fn send_recovery(&mut self, now: Instant) {
        self.ask(Request::new(methods::channel_open(), PendingReply::Open), now);
        for (consumer, error) in self.consumers.suspend_at_fault() {
            self.state.skip(consumer, error);
        }
        for consumer in self.consumers.restarting() {
            self.restart_consumer(consumer, now);
        }
        if let Some(shared) = self.prefetch.shared() {
            self.send_qos(shared, now);
        }
        if let Some(count) = self.prefetch.withheld() {
            log::warn!(
                "channel {}: a prefetch of {count} that consumers share was not set again: {}; each consumer has at most that many",
                self.number(),
                SHARED_PREFETCH_UNKEPT
            );
        }
        self.select_confirms(now);
        self.outputs.request_tick();
    }

    /// Reports whether this broker would ignore the prefetch that the consumers share.
    pub(super) fn report_prefetch(&mut self) {
        let (epoch, channel) = (self.epoch(), self.number());
        let error = self.prefetch.withheld().map(|_| Error::refused_here(SHARED_PREFETCH_UNKEPT));
        self.report(SupervisorMessage::PrefetchWithheld { channel, epoch, error });
    }

    /// The second phase, once all replies of the first have come.
    pub(super) fn finish_recovery(&mut self, now: Instant) {
        if !self.replies.is_empty() {
            return;
        }
        let Some((cause, skipped)) = self.state.recovered() else { return };
        let (channel, epoch) = (self.number(), self.epoch());
        log::debug!("channel {channel}: open again");
        self.backoff.opened(now);
        let only_publishes = self.only_publishes();
        let retry_nacks_until = self.nacks.reopened(now, only_publishes);
        let end = self.outbox.finish_recovery(self.renames.current(), retry_nacks_until);
        self.held_calls.opened(end, now);
        self.notify(ChannelEvent::Reopened(cause));
        let (skipped, repairs) = self.repairs(skipped);
        if self.prefetch.withheld().is_some() {
            self.report_prefetch();
        }
        self.report_missing_consumers();
        self.report(SupervisorMessage::ChannelRecovered { channel, epoch, skipped });
        repairs.into_iter().for_each(|repair| self.report(repair));
        self.make_waiting();
        self.continue_closing(now);
    }
}
