//! What time brings about.

use super::{
    ChannelAt, Core,
    error::Close,
    queue::{Return, Stored},
    settings::QueueKind,
    time::Time,
    timers::Timer,
};

impl Core {
    /// Returns when something is to happen next without an input.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).next_timer(), None);
    /// ```
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Sets the time, and lets happen what is due until then, each thing at its own time.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.advance(Time::from_millis(5000));
    /// ```
    pub fn advance(&mut self, now: Time) {
        self.arrive(now);
        self.run();
    }

    /// Runs the timers that are due, in their order, each at its time: a message that expires into another queue
    /// has its time to live there from then on.
    pub(super) fn run_timers(&mut self) {
        let until = self.now;
        while let Some((at, timer)) = self.timers.due(until) {
            self.now = at;
            match timer {
                Timer::Messages(queue) => self.expire_messages(queue),
                Timer::Idle(queue) => self.expire_queue(queue),
                Timer::Delayed => self.release_delayed(),
                Timer::Unacked(connection, number) => {
                    self.look_at_unacked(ChannelAt { connection, number });
                }
            }
            self.run();
        }
        self.now = until;
    }

    /// Looks at the oldest unacked delivery of a channel.
    fn look_at_unacked(&mut self, at: ChannelAt) {
        let Ok(Some(timeout)) = self.channel(at).map(|channel| channel.consumer_timeout) else { return };
        if self.rules.timeout_returns {
            return self.return_late(at, timeout);
        }
        let now = self.now;
        let Ok(channel) = self.channel(at) else { return };
        channel.watched = false;
        if channel.closing {
            return;
        }
        let Some(oldest) = channel.unacked.first() else { return };
        let due = oldest.since.after_millis(timeout);
        if due > now {
            channel.watched = true;
            self.timers.set(due, Timer::Unacked(at.connection, at.number));
            return;
        }
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout} ms. This timeout value \
             can be configured, see consumers doc guide to learn more",
            at.number
        );
        self.close_channel_with(at, Close::new(406, text));
    }

    /// From 4.3 on, only quorum queues have a limit, and take the messages back.
    fn return_late(&mut self, at: ChannelAt, timeout: u64) {
        let now = self.now;
        let Self { topology, connections, .. } = self;
        let connection = connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return;
        };
        let mut late: Vec<(super::keys::QueueKey, Stored)> = Vec::new();
        let mut next: Option<Time> = None;
        for (_, delivered) in channel.unacked.iter_mut() {
            let is_quorum = topology
                .queues
                .get(delivered.queue)
                .is_some_and(|queue| matches!(queue.queue.settings().kind, QueueKind::Quorum { .. }));
            if !is_quorum || delivered.stored.is_none() {
                continue;
            }
            let due = delivered.since.after_millis(timeout);
            if due <= now {
                late.extend(delivered.stored.take().map(|stored| (delivered.queue, stored)));
            } else if next.is_none_or(|next| due < next) {
                next = Some(due);
            }
        }
        channel.watched = next.is_some();
        if let Some(next) = next {
            self.timers.set(next, Timer::Unacked(at.connection, at.number));
        }
        for (queue, stored) in late {
            self.return_to(queue, vec![stored], Return::TimedOut);
        }
    }
}
