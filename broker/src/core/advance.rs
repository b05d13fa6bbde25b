//! What time brings about.

use super::{ChannelAt, Core, time::Time, timers::Timer};

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

    /// Gives up the timers of what is gone: a queue may be declared and deleted far more often than its time passes.
    pub(super) fn drop_old_timers(&mut self) {
        let Self { timers, topology, connections, delayed, .. } = self;
        timers.retain(|at, timer| {
            let queue = |key| topology.queues.get(key);
            match timer {
                Timer::Messages(key) => queue(key).is_some_and(|queue| queue.timer == Some(at)),
                Timer::Idle(key) => queue(key).is_some_and(|queue| queue.idle_timer == Some(at)),
                Timer::DeadLetters(key) => queue(key).is_some_and(|queue| queue.kept_timer == Some(at)),
                Timer::Delayed => delayed.holds_until(at),
                Timer::Unacked(connection, number) => connections
                    .get(connection)
                    .and_then(|connection| connection.channels.get(&number))
                    .is_some_and(|channel| channel.watched == Some(at)),
            }
        });
    }

    /// Runs the timers that are due, in their order, each at its time: a message that expires into another queue
    /// has its time to live there from then on. Time does not go back for one that was set too late.
    pub(super) fn run_timers(&mut self, until: Time) {
        while let Some((at, timer)) = self.timers.due(until) {
            self.now = self.now.max(at);
            match timer {
                Timer::Messages(queue) => self.expire_messages(queue),
                Timer::Idle(queue) => self.expire_queue(queue),
                Timer::DeadLetters(queue) => self.retry_dead_letters(queue),
                Timer::Delayed => self.release_delayed(),
                Timer::Unacked(connection, number) => {
                    self.unacked_too_long(ChannelAt { connection, number });
                }
            }
            self.run();
        }
    }
}
