//! `queue.declare`.

use std::collections::{BTreeSet, VecDeque};

use actix_pika_actors::{
    Table, Value,
    wire::{
        field_table::from_field_table,
        method::{AMQPClass, queue},
        short::short_truncated,
    },
};

use super::{
    ChannelAt, Core, arguments,
    dispatch::{Handled, unless},
    entities::Entity,
    error::Failure,
    exchange_methods::same_field,
    keys::{QueueKey, VhostKey},
    message::Name,
    names::{REPLY_TO, is_reserved, queue_text, strip},
    permissions::Resource,
    queue::{Queue, Roster, Succession, Turns},
    routing::Binding,
    session::Channel,
    settings::QueueKind,
    term::type_name,
    topology::{Destination, QueueRecord},
    users::Access,
};

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
/// The text is cut in `connection.close`, as RabbitMQ's is.
const TRANSIENT_DENIED: &str = "Feature `transient_nonexcl_queues` is deprecated.\n\
    Its use is not permitted per the configuration (overriding the default, which is permitted):\n    \
    \"deprecated_features.permit.transient_nonexcl_queues = false\"\n\
    Its use will not be permitted by default in a future minor RabbitMQ version and the feature will be removed from a \
    future major RabbitMQ version; actual versions to be determined.\n\
    To continue using this feature when it is not permitted by default, set the following parameter in your \
    configuration:\n    \"deprecated_features.permit.transient_nonexcl_queues = true\"\n\
    To test RabbitMQ as if the feature was removed, set this in your configuration:\n    \
    \"deprecated_features.permit.transient_nonexcl_queues = false\"";
const QUEUE_TYPE: &str = "x-queue-type";

impl Core {
    pub(super) fn declare_queue(&mut self, at: ChannelAt, declare: &queue::Declare) -> Handled {
        let vhost = self.connection(at)?.vhost;
        let name = strip(declare.queue.as_str());
        if name.starts_with(REPLY_TO) {
            return self.declare_reply_address(at, vhost, &name, declare.nowait);
        }
        let key = if declare.passive {
            self.declare_passively(at, vhost, &name)?
        } else {
            self.declare_actively(at, vhost, &name, declare)?
        };
        let Some(queue) = self.topology.queues.get(key) else { return Ok(None) };
        let (messages, consumers) = queue.counts();
        let consumers = consumers + self.former_consumers(key, queue);
        let name = queue.name.clone();
        self.channel(at)?.last_queue = Some(name.clone());
        unless(declare.nowait, || declare_ok(&name, messages, consumers))
    }

    /// A quorum queue counts as consumers also those that have left and hold messages, and each `basic.get` that holds one.
    fn former_consumers(&self, key: QueueKey, queue: &QueueRecord) -> u32 {
        if !matches!(queue.queue.settings().kind, QueueKind::Quorum { .. }) || queue.queue.unacked() == 0 {
            return 0;
        }
        let channels = self.connections.values().flat_map(|connection| connection.channels.values());
        let held = channels.flat_map(Channel::held);
        let held = held.filter(|delivered| delivered.queue == key && delivered.stored.is_some());
        let mut left = BTreeSet::new();
        let mut got = 0;
        for delivered in held {
            match delivered.consumer() {
                None => got += 1,
                Some(consumer) if self.consumers.contains_key(consumer) => {}
                Some(consumer) => _ = left.insert(consumer),
            }
        }
        got + left.len() as u32
    }

    fn declare_passively(&mut self, at: ChannelAt, vhost: VhostKey, name: &str) -> Result<QueueKey, Failure> {
        self.check_any_access(at, Resource::Queue(name))?;
        let queue = self.find_queue(vhost, name)?;
        self.check_lock(at, queue)?;
        self.use_queue(queue);
        Ok(queue)
    }

    fn declare_actively(
        &mut self,
        at: ChannelAt,
        vhost: VhostKey,
        name: &str,
        declare: &queue::Declare,
    ) -> Result<QueueKey, Failure> {
        let mut arguments = from_field_table(&declare.arguments);
        self.add_default_type(vhost, declare, &mut arguments);
        let name: Name = if name.is_empty() {
            if let Some(kind @ ("quorum" | "stream")) = arguments.get(QUEUE_TYPE).and_then(Value::as_str) {
                let text = format!("Cannot declare a server-named queue for type rabbit_{kind}_queue");
                return Err(Failure::channel(406, text));
            }
            self.names.generate("amq.gen")
        } else if is_reserved(name) {
            return Err(Failure::channel(
                403,
                format!("queue name '{name}' contains reserved prefix 'amq.*'"),
            ));
        } else {
            name.into()
        };
        self.check_access(at, Access::Configure, Resource::Queue(&name))?;
        match self.topology.queue(vhost, &name) {
            Some(queue) => {
                self.check_same_queue(at, queue, declare, &arguments)?;
                self.use_queue(queue);
                Ok(queue)
            }
            None if !declare.durable
                && !declare.exclusive
                && self.config.permits.denies_transient_queues(self.config.line) =>
            {
                Err(Failure::connection(541, TRANSIENT_DENIED))
            }
            None => self.declare_new_queue(at, vhost, name, declare, arguments),
        }
    }

    /// The type that the virtual host gives to queues without one, unless it does not fit.
    fn add_default_type(&self, vhost: VhostKey, declare: &queue::Declare, arguments: &mut Table) {
        let default = self.topology.vhosts.get(vhost).and_then(|vhost| vhost.default_queue_type.as_deref());
        let fits = |default: &&str| {
            *default == "classic" || declare.durable && !declare.exclusive && !declare.auto_delete
        };
        let fallback = self.rules.queue_type_added.then_some("classic");
        if let Some(default) = default.filter(fits).or(fallback)
            && !arguments.contains_key(QUEUE_TYPE)
        {
            arguments.insert(QUEUE_TYPE, default);
        }
    }

    fn check_same_queue(
        &self,
        at: ChannelAt,
        key: QueueKey,
        declare: &queue::Declare,
        arguments: &Table,
    ) -> Result<(), Failure> {
        let Some(queue) = self.topology.queues.get(key) else { return Ok(()) };
        let vhost = self.topology.vhost_name(queue.vhost);
        let owner = declare.exclusive.then_some(at.connection);
        if queue.owner != owner {
            return Err(locked(&vhost, &queue.name));
        }
        let resource = queue_text(&vhost, &queue.name);
        same_field("durable", &resource, queue.durable, declare.durable && !declare.exclusive)?;
        same_field("auto_delete", &resource, queue.auto_delete, declare.auto_delete)?;
        arguments::same_queue(&queue.arguments, arguments, queue.queue.settings(), &resource)
    }

    fn declare_new_queue(
        &mut self,
        at: ChannelAt,
        vhost: VhostKey,
        name: Name,
        declare: &queue::Declare,
        arguments: Table,
    ) -> Result<QueueKey, Failure> {
        if self.rules.queue_limit_checked_first {
            self.check_queue_limit(vhost, &name)?;
        }
        let resource = queue_text(&self.topology.vhost_name(vhost), &name);
        match arguments.get(DEAD_LETTER_EXCHANGE) {
            None => {}
            Some(Value::LongString(exchange)) => {
                self.check_access(at, Access::Read, Resource::Queue(&name))?;
                self.check_access(at, Access::Write, Resource::Exchange(&exchange.to_string_lossy()))?;
            }
            Some(other) => {
                let text = format!(
                    "invalid type '{}' for arg '{DEAD_LETTER_EXCHANGE}' in {resource}",
                    type_name(other)
                );
                return Err(Failure::channel(406, text));
            }
        }
        let durable = declare.durable && !declare.exclusive;
        let flags =
            arguments::QueueFlags { durable, exclusive: declare.exclusive, auto_delete: declare.auto_delete };
        let checked = arguments::queue(&arguments, self.config.line, &resource)?;
        self.check_queue_limit(vhost, &name)?;
        arguments::check_kind(checked.fixed.kind, &arguments, self.config.line, flags, &resource)?;
        let counted = self.count_entity(Entity::Queue, &name, &arguments)?;
        let policy = self.policy_of_queue(vhost, &name, checked.fixed.kind);
        let terms = checked.terms(self.config.line, &policy.options);
        let is_quorum = checked.fixed.kind == arguments::Kind::Quorum;
        let turns = if checked.fixed.single_active {
            Turns::SingleActive(match is_quorum {
                true if self.rules.single_active_by_priority => Succession::TakesOver,
                true => Succession::Oldest,
                false => Succession::HighestPriority,
            })
        } else {
            Turns::All
        };
        self.topology.last_queue += 1;
        let record = QueueRecord {
            name: name.clone(),
            serial: self.topology.last_queue,
            vhost,
            durable,
            auto_delete: declare.auto_delete,
            owner: declare.exclusive.then_some(at.connection),
            arguments,
            queue: Queue::new(terms.settings),
            roster: Roster::new(turns, !is_quorum),
            had_consumer: false,
            exclusive_consumer: None,
            expires: terms.expires,
            idle_until: None,
            idle_timer: None,
            dead_letter: terms.dead_letter,
            declared: checked,
            policy,
            kept: VecDeque::new(),
            kept_timer: None,
            timer: None,
            is_due: false,
            _counted: counted,
        };
        let key = self.topology.queues.insert(record);
        if let Some(vhost) = self.topology.vhosts.get_mut(vhost) {
            vhost.queues.insert(name.clone(), key);
        }
        if declare.exclusive
            && let Some(owner) = self.connections.get_mut(at.connection)
        {
            owner.exclusive.insert(key);
        }
        self.bind_to_default(vhost, key, &name);
        self.use_queue(key);
        Ok(key)
    }

    /// Each queue is bound to the default exchange by its name.
    fn bind_to_default(&mut self, vhost: VhostKey, queue: QueueKey, name: &Name) {
        let Some(default) = self.topology.exchange(vhost, "") else { return };
        if let Some(default) = self.topology.exchanges.get_mut(default) {
            let binding = Binding {
                destination: Destination::Queue(queue),
                key: name.clone(),
                arguments: Table::new(),
                _counted: None,
            };
            default.router.bind(binding);
        }
    }

    /// Checks that a queue is not another connection's.
    pub(super) fn check_lock(&self, at: ChannelAt, queue: QueueKey) -> Result<(), Failure> {
        match self.topology.queues.get(queue) {
            Some(queue) if queue.owner.is_some_and(|owner| owner != at.connection) => {
                Err(locked(&self.topology.vhost_name(queue.vhost), &queue.name))
            }
            _ => Ok(()),
        }
    }

    /// Returns a queue, or the error that there is none.
    pub(super) fn find_queue(&self, vhost: VhostKey, name: &str) -> Result<QueueKey, Failure> {
        self.topology.queue(vhost, name).ok_or_else(|| {
            Failure::channel(404, format!("no {}", queue_text(&self.topology.vhost_name(vhost), name)))
        })
    }

    /// Returns the name of a queue in a method, where an empty one is the last declared.
    pub(super) fn named_queue(&mut self, at: ChannelAt, name: &str) -> Result<Name, Failure> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        self.channel(at)?
            .last_queue
            .clone()
            .ok_or_else(|| Failure::channel(404, "no previously declared queue"))
    }
}

impl QueueRecord {
    /// The counts of messages and consumers in a `declare-ok`.
    pub(super) fn counts(&self) -> (u32, u32) {
        let settings = self.queue.settings();
        if matches!(settings.kind, QueueKind::Stream { .. }) {
            return (0, 0);
        }
        let consumers = match settings.kind {
            QueueKind::Quorum { .. } if settings.single_active => usize::from(self.roster.active().is_some()),
            _ => self.roster.len(),
        };
        (self.queue.ready() as u32, consumers as u32)
    }
}

pub(super) fn declare_ok(name: &str, message_count: u32, consumer_count: u32) -> AMQPClass {
    let queue = short_truncated(name);
    AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk { queue, message_count, consumer_count }))
}

fn locked(vhost: &str, name: &str) -> Failure {
    let text = format!(
        "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration.",
        queue_text(vhost, name)
    );
    Failure::channel(405, text)
}
