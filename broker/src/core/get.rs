//! `basic.get`.

use actix_pika_actors::wire::method::{AMQPClass, basic};

use super::{
    ChannelAt, Core,
    deliver::content_of,
    delivery_timeout::timeout,
    dispatch::Handled,
    error::Failure,
    names::queue_text,
    output::Output,
    permissions::Resource,
    queue::HandOut,
    session::{Delivered, Taker},
    settings::QueueKind,
    users::Access,
};

impl Core {
    pub(super) fn get(&mut self, at: ChannelAt, get: &basic::Get) -> Handled {
        let name = self.named_queue(at, get.queue.as_str())?;
        let vhost = self.connection(at)?.vhost;
        self.check_access(at, Access::Read, Resource::Queue(&name))?;
        if self.is_reply_queue(&name) {
            let resource = queue_text(&self.topology.vhost_name(vhost), &name);
            return Err(Failure::connection(540, format!("basic.get not supported by volatile {resource}")));
        }
        let key = self.find_queue(vhost, &name)?;
        self.check_lock(at, key)?;
        let (now, vhost_name) = (self.now, self.topology.vhost_name(vhost));
        let Some(queue) = self.topology.queues.get_mut(key) else { return Ok(None) };
        let settings = queue.queue.settings();
        let is_quorum = matches!(settings.kind, QueueKind::Quorum { .. });
        match settings.kind {
            QueueKind::Stream { .. } => {
                let resource = queue_text(&vhost_name, &name);
                return Err(Failure::connection(
                    540,
                    format!("basic.get not supported by stream queues {resource}"),
                ));
            }
            QueueKind::Quorum { .. } if settings.single_active => {
                let kind = if self.rules.type_printed_as_term { "<<\"quorum\">>" } else { "quorum" };
                let text = format!(
                    "cannot obtain access to locked {}. basic.get operations are not supported by {kind} queues \
                     with single active consumer",
                    queue_text(&vhost_name, &name)
                );
                return Err(Failure::channel(405, text));
            }
            _ => {}
        }
        let mut dead = Vec::new();
        let taken = queue.queue.take(now, &mut dead);
        // What expired behind it goes at once. A quorum queue counts it until then.
        let counted = queue.queue.ready() as u32;
        queue.queue.expire(now, &mut dead);
        let message_count = if is_quorum && !get.no_ack { counted } else { queue.queue.ready() as u32 };
        let content = taken.as_ref().map(|stored| content_of(stored, queue.queue.settings(), HandOut::Get));
        if get.no_ack
            && let Some(stored) = &taken
        {
            queue.queue.settle(stored);
        }
        self.bury(key, &mut dead);
        self.watch_messages(key);
        self.use_queue(key);
        let (Some(stored), Some((message, properties))) = (taken, content) else {
            return Ok(Some(AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}))));
        };
        let usual = self.channel(at)?.consumer_timeout;
        let queue = self.topology.queues.get(key);
        let timeout = queue.and_then(|queue| timeout(self.rules, queue.queue.settings(), None, usual));
        let channel = self.channel(at)?;
        channel.last_tag += 1;
        let delivery_tag = channel.last_tag;
        let redelivered = stored.redelivered;
        if !get.no_ack {
            let delivered = Delivered { queue: key, by: Taker::Get, stored: Some(stored), since: now };
            channel.unacked.push(delivery_tag, delivered);
            if let Some(timeout) = timeout {
                self.watch_until(at, now.after_millis(timeout));
            }
        }
        self.send(at, Output::GetOk { delivery_tag, redelivered, message_count, properties, message });
        Ok(None)
    }
}
