//! The broker without I/O, clock or runtime: it is fed with methods and with the time, and answers with frames.
//!
//! [`Core`] is one value. Its inputs are methods with the time as their first argument
//! ([`method`](Core::method), [`publish`](Core::publish), [`advance`](Core::advance), ..); what it answers is
//! taken with [`next_output`](Core::next_output). Everything is deterministic: the same calls give the same
//! answers, generated names included. The methods of `Core` are in the files of this folder, one idea each.

mod admin;
mod admin_users;
mod admin_vhosts;
mod advance;
mod arguments;
mod binding_methods;
mod channel_methods;
mod close_channel;
mod config;
mod confirms;
mod connections;
mod consume;
mod dead_letter;
mod dead_letters;
mod delayed;
mod deliver;
mod delivery_timeout;
mod dispatch;
mod enqueue;
mod entities;
mod error;
mod exchange_methods;
mod faults;
mod field_check;
mod get;
mod inspect;
#[cfg(test)]
mod invariants;
mod keys;
mod lifetime;
mod limits;
mod line;
mod memory;
mod message;
mod names;
mod octets;
mod output;
mod permissions;
mod policies;
mod pretty;
mod properties;
mod publish;
mod publish_log;
mod queue;
mod queue_declare;
mod queue_methods;
mod reply_to;
mod route;
mod routing;
mod rules;
mod session;
mod settings;
mod settle;
mod term;
#[cfg(test)]
mod tests;
mod time;
mod timers;
mod topology;
mod transaction;
mod unacked;
mod users;
mod views;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use slotmap::SlotMap;

pub use self::{
    admin::Keep,
    config::{CoreConfig, Permits},
    entities::EntityLimits,
    error::{Close, Failure},
    keys::ConnectionId,
    line::Line,
    message::{Message, Name},
    output::{Outgoing, Output},
    policies::{ApplyTo, InvalidPolicy, Policy},
    publish::Publish,
    publish_log::Published,
    rules::{DeadLetterCounts, GoneAtCommit, QuorumPriorities, Rules},
    session::{ChannelState, ConnectionInfo},
    settings::{DelayedRetry, Overflow, QueueKind, QueueSettings},
    time::Time,
    users::{InvalidPattern, InvalidPermissions},
    views::{BindingView, ConsumerView, ExchangeView, MessageView, QueueView, StoredState},
};
pub(crate) use self::{
    close_channel::too_many_channels,
    field_check::is_readable,
    memory::Share,
    octets::{octets_of, text_of},
    policies::By,
    term::print_binary,
};
use self::{
    delayed::Delayed,
    entities::Entities,
    faults::Faults,
    keys::{ConsumerKey, ExchangeKey, QueueKey},
    memory::Memory,
    names::NameSource,
    publish_log::PublishLog,
    queue::Dead,
    routing::Walk,
    session::{Channel, Connection, Consumer},
    settle::Returning,
    timers::Timers,
    topology::Topology,
    users::Users,
};

/// The broker: see the [module](self).
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    rules: &'static Rules,
    /// The time of the last input.
    now: Time,
    names: NameSource,
    users: Users,
    topology: Topology,
    connections: SlotMap<ConnectionId, Connection>,
    consumers: SlotMap<ConsumerKey, Consumer>,
    /// Where replies to an address of direct reply-to go.
    reply_addresses: BTreeMap<Name, ChannelAt>,
    timers: Timers,
    delayed: Delayed,
    outputs: VecDeque<Outgoing>,
    /// The octets of the contents among them that are answers to what was received.
    answered: usize,
    /// Outputs that follow the reply of the method being handled.
    notices: VecDeque<Outgoing>,
    /// Queues to deliver from.
    due: VecDeque<QueueKey>,
    /// How many inputs there were.
    inputs: u64,
    /// The last one with dead letters without end.
    last_endless: u64,
    /// What died and is not dead-lettered yet.
    dead: VecDeque<(QueueKey, Dead)>,
    /// Deliveries that come back, by who held them. Each is delivered again before the next one comes back.
    returning: VecDeque<Returning>,
    /// Channels with confirms to send.
    confirming: Vec<ChannelAt>,
    faults: Faults,
    log: PublishLog,
    memory: Memory,
    entities: Arc<Entities>,
    low_on_memory: bool,
    walk: Walk<ExchangeKey, QueueKey>,
    /// The number of the last consumer.
    last_consumer: u64,
    /// The routing key of the last publish.
    last_key: Option<Name>,
}

/// A channel of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelAt {
    pub(crate) connection: ConnectionId,
    pub(crate) number: u16,
}

impl Core {
    /// Creates a broker with the virtual host `/` and the user `guest` with the password `guest`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let core = Core::new(CoreConfig::default());
    /// assert!(core.authenticate("guest", "guest"));
    /// ```
    pub fn new(config: CoreConfig) -> Self {
        let mut core = Self {
            rules: config.line.rules(),
            now: Time::ZERO,
            names: NameSource::new(config.seed),
            users: Users::default(),
            topology: Topology::default(),
            connections: SlotMap::with_key(),
            consumers: SlotMap::with_key(),
            reply_addresses: BTreeMap::new(),
            timers: Timers::default(),
            delayed: Delayed::default(),
            outputs: VecDeque::new(),
            answered: 0,
            notices: VecDeque::new(),
            due: VecDeque::new(),
            inputs: 0,
            last_endless: 0,
            dead: VecDeque::new(),
            returning: VecDeque::new(),
            confirming: Vec::new(),
            faults: Faults::default(),
            log: PublishLog::new(config.publish_log),
            memory: Memory::default(),
            entities: Arc::default(),
            low_on_memory: false,
            walk: Walk::default(),
            last_consumer: 0,
            last_key: None,
            config,
        };
        core.users.add("guest", "guest");
        core.users.set_impersonator("guest", false);
        core.add_vhost("/");
        core.grant_all("guest", "/");
        core
    }

    /// Returns the configuration.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Line};
    /// assert_eq!(Core::new(CoreConfig::default()).config().line, Line::V4_3);
    /// ```
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// Takes the next output. To be called after each input until there is none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let mut core = Core::new(CoreConfig::default());
    /// while let Some(outgoing) = core.next_output() {
    ///     println!("{}: {:?}", outgoing.channel, outgoing.output);
    /// }
    /// ```
    pub fn next_output(&mut self) -> Option<Outgoing> {
        let Some(outgoing) = self.outputs.pop_front() else {
            self.answered = 0;
            return None;
        };
        if let Output::Deliver { .. } = outgoing.output {
            self.delivery_taken(outgoing.connection);
        }
        Some(outgoing)
    }

    /// Delivers and dead-letters until there is nothing more to do at this time.
    fn run(&mut self) {
        loop {
            self.send_notices();
            if !self.step() {
                break;
            }
        }
    }

    /// Does one thing that is due, and returns whether there was one.
    fn step(&mut self) -> bool {
        // Each queue has what comes back to it before another one's dead letters.
        if self.returning.is_empty()
            && let Some((queue, dead)) = self.dead.pop_front()
        {
            self.dead_letter(queue, dead);
        } else if let Some(queue) = self.due.pop_front() {
            self.deliver_from(queue);
        } else if let Some(returning) = self.returning.pop_front() {
            self.bring_back(returning);
        } else {
            return false;
        }
        true
    }

    /// Sets the time, and lets happen what is due until then.
    fn arrive(&mut self, now: Time) {
        self.inputs += 1;
        let now = self.now.max(now);
        if self.timers.next().is_some_and(|at| at <= now) {
            self.run_timers(now);
        }
        self.now = now;
        if self.timers.are_many() {
            self.drop_old_timers();
        }
    }

    /// Returns how many octets of contents wait as outputs because a client has asked for them: whoever feeds the
    /// core takes them before it goes on.
    pub(crate) fn answered(&self) -> usize {
        self.answered
    }

    fn send(&mut self, at: ChannelAt, output: Output) {
        if let Output::GetOk { message, .. } | Output::Return { message, .. } = &output {
            self.answered += message.body.len() + message.properties.len();
        }
        self.outputs.push_back(Outgoing { connection: at.connection, channel: at.number, output });
    }

    fn channel(&mut self, at: ChannelAt) -> Result<&mut Channel, Failure> {
        self.connections
            .get_mut(at.connection)
            .and_then(|connection| connection.channels.get_mut(&at.number))
            .ok_or_else(|| Failure::connection(504, "expected 'channel.open'"))
    }

    fn connection(&self, at: ChannelAt) -> Result<&Connection, Failure> {
        self.connections.get(at.connection).ok_or_else(|| Failure::connection(504, "expected 'channel.open'"))
    }
}
