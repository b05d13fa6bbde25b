//! `queue.purge` and `queue.delete`.

use actix_pika_actors::wire::method::{AMQPClass, queue};

use super::{
    ChannelAt, Core,
    dispatch::{Handled, unless},
    error::Failure,
    names::{queue_text, strip},
    permissions::Resource,
    settings::QueueKind,
    users::Access,
};

impl Core {
    pub(super) fn purge_queue(&mut self, at: ChannelAt, purge: &queue::Purge) -> Handled {
        let name = self.named_queue(at, purge.queue.as_str())?;
        let vhost = self.connection(at)?.vhost;
        self.check_access(at, Access::Read, Resource::Queue(&name))?;
        if self.is_reply_queue(&name) {
            return unless(purge.nowait, || purge_ok(0));
        }
        let key = self.find_queue(vhost, &name)?;
        self.check_lock(at, key)?;
        let Some(queue) = self.topology.queues.get_mut(key) else { return Ok(None) };
        if matches!(queue.queue.settings().kind, QueueKind::Stream { .. }) {
            let resource = queue_text(&self.topology.vhost_name(vhost), &name);
            return Err(Failure::connection(
                540,
                format!("queue.purge not supported by stream queues {resource}"),
            ));
        }
        let mut purged = queue.queue.purge();
        if self.rules.purge_takes_all {
            purged += queue.queue.purge_delayed() + queue.kept.len();
            for kept in std::mem::take(&mut queue.kept) {
                queue.queue.release(&kept.dead.stored);
            }
            queue.kept_timer = None;
        }
        let message_count = purged as u32;
        unless(purge.nowait, || purge_ok(message_count))
    }

    pub(super) fn delete_queue_method(&mut self, at: ChannelAt, delete: &queue::Delete) -> Handled {
        let name = self.named_queue(at, delete.queue.as_str())?;
        let name = strip(&name);
        let vhost = self.connection(at)?.vhost;
        self.check_access(at, Access::Configure, Resource::Queue(&name))?;
        let mut message_count = 0;
        if let Some(key) = self.topology.queue(vhost, &name) {
            self.check_lock(at, key)?;
            self.check_deletable(key, delete)?;
            message_count = self.remove_queue(key) as u32;
        }
        unless(delete.nowait, || {
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count }))
        })
    }

    fn check_deletable(&self, key: super::keys::QueueKey, delete: &queue::Delete) -> Result<(), Failure> {
        let Some(queue) = self.topology.queues.get(key) else { return Ok(()) };
        let resource = queue_text(&self.topology.vhost_name(queue.vhost), &queue.name);
        match queue.queue.settings().kind {
            QueueKind::Quorum { .. } if delete.if_unused || delete.if_empty => {
                let flag = if delete.if_unused { "if-unused" } else { "if-empty" };
                let text = format!(
                    "cannot delete {resource}. queue.delete operations with {flag} flag set are not supported by \
                     quorum queues"
                );
                Err(Failure::connection(540, text))
            }
            QueueKind::Stream { .. } => Ok(()),
            _ if delete.if_empty && queue.queue.ready() > 0 => {
                Err(Failure::channel(406, format!("{resource} not empty")))
            }
            _ if delete.if_unused && !queue.roster.is_empty() => {
                Err(Failure::channel(406, format!("{resource} in use")))
            }
            _ => Ok(()),
        }
    }
}

fn purge_ok(message_count: u32) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count }))
}
