//! Bindings: `queue.bind`, `exchange.bind` and their opposites.

use actix_pika_actors::{
    Table,
    wire::{
        field_table::from_field_table,
        method::{AMQPClass, exchange, queue},
    },
};

use super::{
    ChannelAt, Core,
    dispatch::{Handled, unless},
    entities::Entity,
    error::Failure,
    exchange_methods::check_not_default,
    keys::{ExchangeKey, VhostKey},
    names::{REPLY_TO_ADDRESS, strip},
    permissions::Resource,
    routing::Binding,
    settings::QueueKind,
    topology::Destination,
    users::Access,
};

/// A binding as a method names it.
struct BindingNames<'a> {
    source: &'a str,
    destination: Resource<'a>,
    key: &'a str,
    arguments: Table,
}

impl Core {
    pub(super) fn bind_queue(&mut self, at: ChannelAt, bind: &queue::Bind) -> Handled {
        let (queue, key) = self.queue_and_key(at, bind.queue.as_str(), bind.routing_key.as_str())?;
        let (queue, source) = (strip(&queue), strip(bind.exchange.as_str()));
        let arguments = from_field_table(&bind.arguments);
        self.bind(
            at,
            BindingNames { source: &source, destination: Resource::Queue(&queue), key: &key, arguments },
        )?;
        unless(bind.nowait, || AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {})))
    }

    pub(super) fn unbind_queue(&mut self, at: ChannelAt, unbind: &queue::Unbind) -> Handled {
        let (queue, key) = self.queue_and_key(at, unbind.queue.as_str(), unbind.routing_key.as_str())?;
        let (queue, source) = (strip(&queue), strip(unbind.exchange.as_str()));
        let arguments = from_field_table(&unbind.arguments);
        let names =
            BindingNames { source: &source, destination: Resource::Queue(&queue), key: &key, arguments };
        self.unbind(at, &names)?;
        Ok(Some(AMQPClass::Queue(queue::AMQPMethod::UnbindOk(queue::UnbindOk {}))))
    }

    pub(super) fn bind_exchange(&mut self, at: ChannelAt, bind: &exchange::Bind) -> Handled {
        let (destination, source) = (strip(bind.destination.as_str()), strip(bind.source.as_str()));
        let names = BindingNames {
            source: &source,
            destination: Resource::Exchange(&destination),
            key: bind.routing_key.as_str(),
            arguments: from_field_table(&bind.arguments),
        };
        self.bind(at, names)?;
        unless(bind.nowait, || AMQPClass::Exchange(exchange::AMQPMethod::BindOk(exchange::BindOk {})))
    }

    pub(super) fn unbind_exchange(&mut self, at: ChannelAt, unbind: &exchange::Unbind) -> Handled {
        let (destination, source) = (strip(unbind.destination.as_str()), strip(unbind.source.as_str()));
        let names = BindingNames {
            source: &source,
            destination: Resource::Exchange(&destination),
            key: unbind.routing_key.as_str(),
            arguments: from_field_table(&unbind.arguments),
        };
        self.unbind(at, &names)?;
        unless(unbind.nowait, || AMQPClass::Exchange(exchange::AMQPMethod::UnbindOk(exchange::UnbindOk {})))
    }

    /// The queue of a binding and its key: an empty queue is the last declared one, which is also the key if that
    /// is empty too.
    fn queue_and_key(&mut self, at: ChannelAt, queue: &str, key: &str) -> Result<(String, String), Failure> {
        let name = self.named_queue(at, queue)?;
        let key = if queue.is_empty() && key.is_empty() { name.to_string() } else { key.to_owned() };
        Ok((name.to_string(), key))
    }

    /// The rights, and what no binding may have.
    fn check_binding(&self, at: ChannelAt, vhost: VhostKey, names: &BindingNames<'_>) -> Result<(), Failure> {
        self.check_access(at, Access::Write, names.destination)?;
        if let Resource::Exchange(destination) = names.destination {
            check_not_default(destination)?;
        }
        check_not_default(names.source)?;
        self.check_access(at, Access::Read, Resource::Exchange(names.source))?;
        let source =
            self.topology.exchange(vhost, names.source).and_then(|key| self.topology.exchanges.get(key));
        if source.is_some_and(|source| source.is_topic) {
            self.check_topic(at, Access::Read, names.source, names.key)?;
        }
        Ok(())
    }

    fn bind(&mut self, at: ChannelAt, names: BindingNames<'_>) -> Result<(), Failure> {
        let vhost = self.connection(at)?.vhost;
        self.check_binding(at, vhost, &names)?;
        if let Resource::Queue(queue) = names.destination
            && self.rules.reply_address_is_queue
            && queue.starts_with(REPLY_TO_ADDRESS)
        {
            let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
            return Err(Failure::channel(403, text));
        }
        let source = self.find_exchange(vhost, names.source)?;
        let destination = match names.destination {
            Resource::Queue(name) => Destination::Queue(self.find_queue(vhost, name)?),
            Resource::Exchange(name) => Destination::Exchange(self.find_exchange(vhost, name)?),
        };
        let Some(exchange) = self.topology.exchanges.get(source) else { return Ok(()) };
        let refused = |text| Failure::channel(406, text);
        exchange.router.check(names.key, &names.arguments).map_err(refused)?;
        if exchange.router.wants_classic_queues() {
            self.check_classic(destination).map_err(refused)?;
        }
        if let Destination::Queue(queue) = destination {
            self.check_lock(at, queue)?;
        }
        let octets = exchange.router.octets(names.key);
        let counted = match self.count_more(Entity::Binding, names.key, &names.arguments, octets) {
            Ok(counted) => Some(counted),
            Err(_) if self.is_bound(source, destination, &names) => return Ok(()),
            Err(full) => return Err(full),
        };
        let arguments = names.arguments;
        let binding = Binding { destination, key: names.key.into(), arguments, _counted: counted };
        self.topology.bind(source, binding);
        Ok(())
    }

    /// Checks that a destination is a classic queue. The error is the text of a 406.
    fn check_classic(&self, destination: Destination) -> Result<(), String> {
        let queue = match destination {
            Destination::Queue(queue) => self.topology.queues.get(queue),
            Destination::Exchange(_) => None,
        };
        let module = match queue.map(|queue| &queue.queue.settings().kind) {
            Some(QueueKind::Classic { .. }) => return Ok(()),
            Some(QueueKind::Quorum { .. }) => "rabbit_quorum_queue",
            Some(QueueKind::Stream { .. }) => "rabbit_stream_queue",
            None => return Err("Destination not found".to_owned()),
        };
        Err(format!("Queue type {module} not valid for this exchange type"))
    }

    fn is_bound(&self, source: ExchangeKey, destination: Destination, names: &BindingNames<'_>) -> bool {
        let source = self.topology.exchanges.get(source);
        source.is_some_and(|source| source.router.contains(destination, names.key, &names.arguments))
    }

    /// What is not there need not be unbound.
    fn unbind(&mut self, at: ChannelAt, names: &BindingNames<'_>) -> Result<(), Failure> {
        let vhost = self.connection(at)?.vhost;
        self.check_binding(at, vhost, names)?;
        let Some(source) = self.topology.exchange(vhost, names.source) else { return Ok(()) };
        let destination = match names.destination {
            Resource::Queue(name) => self.topology.queue(vhost, name).map(Destination::Queue),
            Resource::Exchange(name) => self.topology.exchange(vhost, name).map(Destination::Exchange),
        };
        let Some(destination) = destination else { return Ok(()) };
        if let Destination::Queue(queue) = destination
            && self.is_bound(source, destination, names)
        {
            self.check_lock(at, queue)?;
        }
        if self.topology.unbind(source, destination, names.key, &names.arguments) && self.is_unused(source) {
            self.remove_exchange(source);
        }
        Ok(())
    }

    /// Removes all bindings to an entity that is gone, and the auto-delete exchanges that had no others, with the
    /// bindings to them in turn. Chains of exchanges may be longer than the stack is deep.
    pub(super) fn unbind_destination(&mut self, vhost: VhostKey, destination: Destination) {
        let mut gone = vec![destination];
        while let Some(destination) = gone.pop() {
            for exchange in self.topology.unbind_all(vhost, destination) {
                if self.is_unused(exchange) {
                    self.take_exchange(exchange);
                    gone.push(Destination::Exchange(exchange));
                }
            }
        }
    }

    /// Whether an exchange goes, as an auto-delete one does with its last binding.
    fn is_unused(&self, key: ExchangeKey) -> bool {
        let exchange = self.topology.exchanges.get(key);
        exchange.is_some_and(|exchange| exchange.auto_delete && exchange.router.is_empty())
    }
}
