//! Setting policies, and applying them to what is there.

use super::{Applied, By, InvalidPolicy, Policy};
use crate::core::{
    Core,
    arguments::Kind,
    keys::{ExchangeKey, QueueKey, VhostKey},
    message::Name,
    time::Time,
};

impl Core {
    /// Sets a policy of a virtual host, and applies it to what is there. One of an operator limits what policies say.
    ///
    /// # Errors
    /// [`InvalidPolicy`], as RabbitMQ has it.
    pub(crate) fn set_policy(
        &mut self,
        now: Time,
        by: By,
        vhost: &str,
        name: &str,
        policy: &Policy,
    ) -> Result<(), InvalidPolicy> {
        self.arrive(now);
        let key = self.topology.vhost(vhost);
        let Some((key, record)) = key.and_then(|key| Some((key, self.topology.vhosts.get_mut(key)?))) else {
            return Err(InvalidPolicy::NoVirtualHost(vhost.to_owned()));
        };
        let checked = policy.checked(self.config.line, by)?;
        record.policies.by(by).insert(name.into(), checked);
        self.apply_policies(key);
        Ok(())
    }

    /// Removes a policy of a virtual host. Returns whether there was one.
    pub(crate) fn clear_policy(&mut self, now: Time, by: By, vhost: &str, name: &str) -> bool {
        self.arrive(now);
        let key = self.topology.vhost(vhost);
        let Some((key, record)) = key.and_then(|key| Some((key, self.topology.vhosts.get_mut(key)?))) else {
            return false;
        };
        let was_there = record.policies.by(by).remove(name).is_some();
        self.apply_policies(key);
        was_there
    }

    /// Returns what policies say of a queue.
    pub(in crate::core) fn policy_of_queue(&self, vhost: VhostKey, name: &str, kind: Kind) -> Applied {
        let vhost = self.topology.vhosts.get(vhost);
        vhost.map(|vhost| vhost.policies.of_queue(name, kind, self.config.line)).unwrap_or_default()
    }

    /// Returns the alternate exchange that a policy gives to an exchange.
    pub(in crate::core) fn alternate_by_policy(&self, vhost: VhostKey, name: &str) -> Option<Name> {
        self.topology.vhosts.get(vhost)?.policies.alternate(name)
    }

    pub(in crate::core) fn apply_policies(&mut self, vhost: VhostKey) {
        let Some(record) = self.topology.vhosts.get(vhost) else { return };
        let queues: Vec<QueueKey> = record.queues.values().copied().collect();
        let exchanges: Vec<ExchangeKey> = record.exchanges.values().copied().collect();
        for key in exchanges {
            let Some(exchange) = self.topology.exchanges.get(key) else { continue };
            let by_policy = self.alternate_by_policy(vhost, &exchange.name);
            if let Some(exchange) = self.topology.exchanges.get_mut(key) {
                exchange.alternate = exchange.declared_alternate.clone().or(by_policy);
            }
        }
        let mut have_other_timeout = false;
        for key in queues {
            have_other_timeout |= self.apply_to_queue(key);
        }
        if have_other_timeout {
            self.watch_all_deliveries();
        }
        self.run();
    }

    /// What changes holds at once for limits and dead letters. Messages keep their deadlines, and the time without use
    /// begins anew. Returns whether deliveries may stay unacked for another time.
    fn apply_to_queue(&mut self, key: QueueKey) -> bool {
        let Some(queue) = self.topology.queues.get(key) else { return false };
        let applied = self.policy_of_queue(queue.vhost, &queue.name, queue.declared.fixed.kind);
        let Some(queue) = self.topology.queues.get_mut(key).filter(|queue| queue.policy != applied) else {
            return false;
        };
        let terms = queue.declared.terms(self.config.line, &applied.options);
        queue.policy = applied;
        queue.dead_letter = terms.dead_letter;
        queue.expires = terms.expires;
        let has_other_timeout = queue.queue.settings().consumer_timeout != terms.settings.consumer_timeout;
        let mut dead = Vec::new();
        queue.queue.change_settings(self.now, terms.settings, &mut dead);
        self.bury(key, &mut dead);
        self.watch_messages(key);
        self.use_queue(key);
        has_other_timeout
    }
}
