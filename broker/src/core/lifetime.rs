//! The end of queues: deleted, without consumers, or unused for too long.

use std::collections::VecDeque;

use actix_pika_actors::wire::{
    method::{AMQPClass, basic},
    short::short_truncated,
};

use super::{
    ChannelAt, Core, Outgoing,
    keys::{ConsumerKey, QueueKey},
    output::Output,
    queue::Return,
    timers::Timer,
    topology::Destination,
};

impl Core {
    /// Removes a queue and all that hangs on it. Returns how many messages were ready.
    pub(super) fn remove_queue(&mut self, key: QueueKey) -> usize {
        let Some(queue) = self.topology.queues.remove(key) else { return 0 };
        if let Some(vhost) = self.topology.vhosts.get_mut(queue.vhost) {
            vhost.queues.remove(&queue.name);
        }
        if let Some(owner) = queue.owner.and_then(|owner| self.connections.get_mut(owner)) {
            owner.exclusive.remove(&key);
        }
        self.unbind_destination(queue.vhost, Destination::Queue(key));
        self.cancel_all(queue.roster.iter().collect());
        queue.queue.ready()
    }

    /// The process of a classic queue fails and begins anew: without consumers, and with what a restart leaves. The
    /// connection that has brought it about is closed, and hears of nothing else.
    pub(super) fn crash_queue(&mut self, key: QueueKey, by: ChannelAt) {
        let mut returned = Vec::new();
        for channel in self.connections.values_mut().flat_map(|connection| connection.channels.values_mut()) {
            let held = channel.held_mut().filter(|delivered| delivered.queue == key);
            returned.extend(held.filter_map(|delivered| delivered.stored.take()));
        }
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        let consumers: Vec<ConsumerKey> = queue.roster.iter().collect();
        queue.roster.remove_all(|_| true);
        queue.exclusive_consumer = None;
        queue.queue.requeue(self.now, returned, Return::ConnectionLost, &mut Vec::new());
        if queue.durable {
            queue.queue.restart(self.now, false);
        } else {
            queue.queue.purge();
        }
        self.cancel_all(consumers);
        self.notices.retain(|notice| notice.connection != by.connection);
        self.watch_messages(key);
        self.use_queue(key);
    }

    /// Ends consumers that their queue has lost. A channel hears of its consumers in the order of their tags.
    pub(super) fn cancel_all(&mut self, mut consumers: Vec<ConsumerKey>) {
        consumers.sort_by_cached_key(|key| self.consumers.get(*key).map(|consumer| consumer.tag.clone()));
        for consumer in consumers {
            self.cancel_by_broker(consumer);
        }
    }

    /// Ends a consumer whose queue is gone, and tells its client if that wants to know.
    pub(super) fn cancel_by_broker(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.remove(key) else { return };
        let at = ChannelAt { connection: consumer.connection, number: consumer.channel };
        if let Ok(channel) = self.channel(at) {
            channel.consumers.remove(&consumer.tag);
        }
        if self.connections.get(at.connection).is_some_and(|connection| connection.info.cancel_notify) {
            let consumer_tag = short_truncated(&consumer.tag);
            let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: true });
            let output = Output::Method(AMQPClass::Basic(cancel));
            // After the reply to the method that deletes the queue.
            self.notices.push_back(Outgoing { connection: at.connection, channel: at.number, output });
        }
    }

    pub(super) fn send_notices(&mut self) {
        let notices: VecDeque<Outgoing> = std::mem::take(&mut self.notices);
        self.outputs.extend(notices);
    }

    /// A consumer of a queue is gone: an auto-delete queue goes with its last one, another one may expire.
    pub(super) fn consumer_left(&mut self, key: QueueKey) {
        let Some(queue) = self.topology.queues.get(key) else { return };
        if !queue.roster.is_empty() {
            return;
        }
        if queue.auto_delete && queue.had_consumer {
            self.remove_queue(key);
        } else {
            self.use_queue(key);
        }
    }

    /// Starts the time of `x-expires` anew, which runs while there are no consumers.
    pub(super) fn use_queue(&mut self, key: QueueKey) {
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        let Some(expires) = queue.expires else {
            queue.idle_until = None;
            return;
        };
        let until = self.now.after_millis(expires);
        queue.idle_until = queue.roster.is_empty().then_some(until);
        // A policy may have made the time shorter.
        if queue.idle_until.is_some() && queue.idle_timer.is_none_or(|set| until < set) {
            queue.idle_timer = Some(until);
            self.timers.set(until, Timer::Idle(key));
        }
    }

    /// The timer of `x-expires`.
    pub(super) fn expire_queue(&mut self, key: QueueKey) {
        let now = self.now;
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        if queue.idle_timer.take_if(|set| *set <= now).is_none() {
            return;
        }
        match queue.idle_until {
            Some(until) if until <= now => {
                self.remove_queue(key);
            }
            Some(until) => {
                queue.idle_timer = Some(until);
                self.timers.set(until, Timer::Idle(key));
            }
            None => {}
        }
    }
}
