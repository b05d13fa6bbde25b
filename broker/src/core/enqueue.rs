//! From exchanges to queues.

use std::sync::Arc;

use super::{
    Core,
    keys::QueueKey,
    memory::PLACE,
    message::Message,
    queue::{Dead, Pushed},
    settings::QueueKind,
    timers::Timer,
};

impl Core {
    /// Gives a message to a queue, or straight to a consumer that waits. Returns whether the queue took it.
    pub(super) fn enqueue(&mut self, key: QueueKey, message: &Arc<Message>) -> bool {
        let now = self.now;
        // Deleted since it was routed, as in a transaction: that counts as taken.
        let Some(queue) = self.topology.queues.get_mut(key) else { return true };
        message.share.add(PLACE);
        let is_stream = matches!(queue.queue.settings().kind, QueueKind::Stream { .. });
        if !is_stream
            && queue.queue.ready() == 0
            && !queue.queue.refuses_another(message)
            && queue.roster.peek()
            && let Some(consumer) = queue.roster.next()
        {
            let stored = queue.queue.pass(now, Arc::clone(message));
            self.hand_over(key, consumer, stored);
            return true;
        }
        let mut dead = Vec::new();
        let pushed = queue.queue.push(now, Arc::clone(message), &mut dead);
        if is_stream || queue.roster.peek() {
            self.make_due(key);
        } else {
            queue.roster.set_aside();
        }
        self.bury(key, &mut dead);
        self.watch_messages(key);
        matches!(pushed, Pushed::Kept)
    }

    /// Takes over what died in a queue.
    pub(super) fn bury(&mut self, key: QueueKey, dead: &mut Vec<Dead>) {
        self.dead.extend(dead.drain(..).map(|dead| (key, dead)));
    }

    /// Sets the timer for the next message that expires or comes back. One that has expired behind others is due now.
    pub(super) fn watch_messages(&mut self, key: QueueKey) {
        let now = self.now;
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        if let Some(at) = queue.queue.next_due().map(|due| due.max(now))
            && queue.timer.is_none_or(|set| at < set)
        {
            queue.timer = Some(at);
            self.timers.set(at, Timer::Messages(key));
        }
    }

    /// The timer of a queue's messages.
    pub(super) fn expire_messages(&mut self, key: QueueKey) {
        let now = self.now;
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        if queue.timer.take_if(|set| *set <= now).is_none() {
            return;
        }
        let mut dead = Vec::new();
        queue.queue.end_delays(now);
        queue.queue.expire(now, &mut dead);
        self.bury(key, &mut dead);
        self.watch_messages(key);
        self.make_due(key);
    }
}
