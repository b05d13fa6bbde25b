//! What is always true between two inputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, entities::Entity, keys::QueueKey, names::is_reserved};

impl Core {
    /// Checks that counts agree and that keys lead somewhere.
    pub(super) fn check_invariants(&self) {
        assert!(
            self.due.is_empty() && self.dead.is_empty() && self.notices.is_empty(),
            "work was left undone"
        );
        let mut unacked: BTreeMap<QueueKey, usize> = BTreeMap::new();
        for (id, connection) in &self.connections {
            for (number, channel) in &connection.channels {
                self.check_channel(id, *number, channel, &mut unacked);
            }
        }
        for (key, queue) in &self.topology.queues {
            let name = &queue.name;
            assert_eq!(self.topology.queue(queue.vhost, name), Some(key), "{name} is known by its name");
            assert!(!queue.is_due, "{name} is not due");
            if queue.queue.stream().is_none() {
                let held = unacked.get(&key).copied().unwrap_or_default();
                assert_eq!(queue.queue.unacked(), held, "{name}: unacked");
                assert_eq!(queue.queue.iter().count(), queue.queue.ready(), "{name}: ready");
                assert!(
                    queue.queue.ready() == 0 || !queue.roster.peek(),
                    "{name}: a consumer waits for what is ready"
                );
            }
            for consumer in queue.roster.iter() {
                assert_eq!(
                    self.consumers.get(consumer).map(|consumer| consumer.queue),
                    Some(key),
                    "{name}: consumer"
                );
            }
            if let Some(owner) = queue.owner {
                assert!(self.connections[owner].exclusive.contains(&key), "{name} has no owner");
            }
        }
        let exclusive = self.connections.values().flat_map(|connection| &connection.exclusive);
        assert!(
            exclusive.into_iter().all(|key| self.topology.queues.contains_key(*key)),
            "an exclusive queue is gone"
        );
        for (key, consumer) in &self.consumers {
            let channel =
                self.connections.get(consumer.connection).and_then(|c| c.channels.get(&consumer.channel));
            let channel = channel.expect("a consumer has a channel");
            assert_eq!(channel.consumers.get(&consumer.tag), Some(&key));
            assert!(self.topology.queues.contains_key(consumer.queue), "a consumer has a queue");
        }
        for (key, exchange) in &self.topology.exchanges {
            assert_eq!(self.topology.exchange(exchange.vhost, &exchange.name), Some(key));
        }
        let is_system = |name: &str| name.is_empty() || is_reserved(name);
        let of_clients = || self.topology.exchanges.values().filter(|exchange| !is_system(&exchange.name));
        let bound = self.topology.exchanges.values().filter(|exchange| !exchange.name.is_empty());
        let bindings: usize = bound.map(|exchange| exchange.router.bindings().count()).sum();
        let bound = self.topology.exchanges.iter().filter(|(_, exchange)| !exchange.name.is_empty());
        let sources: BTreeSet<_> = bound
            .flat_map(|(source, exchange)| exchange.router.destinations().map(move |to| (to, source)))
            .collect();
        assert_eq!(self.topology.sources().collect::<BTreeSet<_>>(), sources, "sources of bindings");
        for (entity, count) in [
            (Entity::Queue, self.topology.queues.len()),
            (Entity::Exchange, of_clients().count()),
            (Entity::Binding, bindings),
            (Entity::Consumer, self.consumers.len()),
        ] {
            assert_eq!(self.entities.count(entity), count as u64, "{entity:?}");
        }
        assert!(self.log.len() <= self.config.publish_log);
    }

    fn check_channel(
        &self,
        id: super::ConnectionId,
        number: u16,
        channel: &super::session::Channel,
        unacked: &mut BTreeMap<QueueKey, usize>,
    ) {
        let mut used: BTreeMap<_, u32> = BTreeMap::new();
        let mut last = 0;
        for (tag, _) in channel.unacked.iter() {
            assert!(tag > last && tag <= channel.last_tag, "tags rise");
            last = tag;
        }
        for delivered in channel.held() {
            if delivered.stored.is_some() {
                *unacked.entry(delivered.queue).or_default() += 1;
            }
            if let Some(consumer) = delivered.consumer() {
                *used.entry(consumer).or_default() += 1;
            }
        }
        for key in channel.consumers.values() {
            let consumer = &self.consumers[*key];
            assert_eq!((consumer.connection, consumer.channel), (id, number));
            assert_eq!(consumer.used, used.get(key).copied().unwrap_or_default(), "{}: used", consumer.tag);
            if consumer.prefetch != 0 && !consumer.no_ack {
                assert!(consumer.used <= consumer.prefetch.into(), "{}: prefetch", consumer.tag);
            }
        }
    }
}
