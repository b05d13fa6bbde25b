//! Connections, their channels and their consumers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use actix_pika_actors::Table;

use super::{
    confirms::Confirms,
    entities::Counted,
    keys::{ConsumerKey, QueueKey, VhostKey},
    message::{Message, Name},
    queue::{Stored, StreamReader},
    settings::QueueKind,
    time::Time,
    unacked::Unacked,
};

/// What a connection is opened with.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The user, who is authenticated.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// The client has the capability `consumer_cancel_notify`.
    pub cancel_notify: bool,
    /// How many channels may be open at once, or 0 for no limit.
    pub channel_max: u16,
    /// The name that the client gave, or its address.
    pub name: Name,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) info: ConnectionInfo,
    pub(crate) vhost: VhostKey,
    pub(crate) channels: BTreeMap<u16, Channel>,
    /// Its exclusive queues, which end with it.
    pub(crate) exclusive: BTreeSet<QueueKey>,
    /// Its socket takes what is sent.
    pub(crate) writable: bool,
    /// How many deliveries are outputs that were not taken.
    pub(crate) pending: u32,
    /// The octets of their bodies.
    pub(crate) pending_octets: usize,
    /// There are so many that its consumers wait until all are taken.
    pub(crate) is_throttled: bool,
}

/// What may be done with the frames of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// It was never opened, or is closed.
    Closed,
    /// It is open.
    Open,
    /// The broker has closed it, and the client's `close-ok` is due.
    Closing,
}

/// How far the end of a channel has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    No,
    /// The broker has closed it, and `close-ok` is due.
    Closing,
    /// Queues may still have consumers of it, but nothing is sent any more.
    Silent,
}

/// A channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) ending: Ending,
    pub(crate) mode: Mode,
    /// The last delivery tag.
    pub(crate) last_tag: u64,
    pub(crate) unacked: Unacked<Delivered>,
    pub(crate) consumers: BTreeMap<Name, ConsumerKey>,
    /// The limit of consumers that are started from now on, 0 for none.
    pub(crate) prefetch: u16,
    /// The quorum queues that it has published to.
    pub(crate) registered: BTreeSet<QueueKey>,
    /// The limit that the consumers share.
    pub(crate) shared: SharedLimit,
    pub(crate) last_queue: Option<Name>,
    pub(crate) reply_consumer: Option<ReplyConsumer>,
    /// The milliseconds that a delivery may stay unacked, as they were when it was opened.
    pub(crate) consumer_timeout: Option<u64>,
    /// When the timer for unacked deliveries comes.
    pub(crate) watched: Option<Time>,
}

impl Channel {
    /// Returns the deliveries that are not settled, or only in an open transaction.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Delivered> {
        let settled = match &self.mode {
            Mode::Transaction(transaction) => &transaction.settled[..],
            _ => &[],
        };
        let settled = settled.iter().flat_map(|(_, taken)| taken);
        self.unacked.iter().map(|(_, delivered)| delivered).chain(settled.map(|(_, delivered)| delivered))
    }

    pub(crate) fn held_mut(&mut self) -> impl Iterator<Item = &mut Delivered> {
        let settled = match &mut self.mode {
            Mode::Transaction(transaction) => &mut transaction.settled[..],
            _ => &mut [],
        };
        let settled = settled.iter_mut().flat_map(|(_, taken)| taken);
        let unacked = self.unacked.iter_mut().map(|(_, delivered)| delivered);
        unacked.chain(settled.map(|(_, delivered)| delivered))
    }
}

/// A limit of unacked deliveries for all consumers of a channel.
#[derive(Debug, Default)]
pub(crate) struct SharedLimit {
    /// 0 for none.
    pub(crate) limit: u16,
    pub(crate) used: u32,
    /// Which consumer is first when there is room again.
    pub(crate) turn: usize,
}

impl SharedLimit {
    pub(crate) fn is_reached(&self) -> bool {
        self.limit != 0 && self.used >= u32::from(self.limit)
    }
}

/// What confirms a publish.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Plain,
    Confirm(Confirms),
    Transaction(Transaction),
}

/// What a commit brings about.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) publishes: Vec<Uncommitted>,
    pub(crate) settled: Vec<(Settle, Vec<(u64, Delivered)>)>,
}

/// A publish of a transaction.
#[derive(Debug)]
pub(crate) struct Uncommitted {
    pub(crate) message: Arc<Message>,
    pub(crate) mandatory: bool,
    pub(crate) queues: Vec<Target>,
    pub(crate) replied: bool,
}

/// A queue that a message is to go to. It may be gone at the commit, or another one may have its name.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: Name,
    /// None if there was no such queue at the publish.
    pub(crate) found: Option<(QueueKey, QueueKind)>,
}

/// A message and the queues that it goes to.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) message: Arc<Message>,
    pub(crate) mandatory: bool,
    pub(crate) queues: Vec<QueueKey>,
    /// A reply was delivered to an address of direct reply-to, which counts as a queue.
    pub(crate) replied: bool,
}

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    Ack,
    Nack { requeue: bool },
    Reject { requeue: bool },
}

/// A delivery that is not settled.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) queue: QueueKey,
    pub(crate) by: Taker,
    /// None once the queue took it back because it was not settled in time.
    pub(crate) stored: Option<Stored>,
    pub(crate) since: Time,
}

impl Delivered {
    /// Returns the consumer, which may have left.
    pub(crate) fn consumer(&self) -> Option<ConsumerKey> {
        if let Taker::Consumer { key, .. } = &self.by { Some(*key) } else { None }
    }

    /// Returns the delivery timeout of the consumer, in milliseconds.
    pub(crate) fn timeout(&self) -> Option<u64> {
        if let Taker::Consumer { timeout, .. } = &self.by { *timeout } else { None }
    }
}

/// Who took a delivery.
#[derive(Clone, Debug)]
pub(crate) enum Taker {
    /// `basic.get`.
    Get,
    /// A consumer, which may have left.
    Consumer {
        key: ConsumerKey,
        tag: Name,
        /// Rises with each consumer.
        serial: u64,
        /// Its `x-consumer-timeout` in milliseconds, which holds when it has left, too.
        timeout: Option<u64>,
    },
}

/// The consumer of direct reply-to.
#[derive(Debug)]
pub(crate) struct ReplyConsumer {
    pub(crate) tag: Name,
    pub(crate) address: Name,
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) connection: super::keys::ConnectionId,
    pub(crate) channel: u16,
    pub(crate) tag: Name,
    /// Rises with each consumer.
    pub(crate) serial: u64,
    pub(crate) queue: QueueKey,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    /// 0 for none.
    pub(crate) prefetch: u16,
    pub(crate) used: u32,
    pub(crate) priority: i64,
    pub(crate) arguments: Table,
    /// It is not in the round.
    pub(crate) blocked: bool,
    /// `x-consumer-timeout` in milliseconds.
    pub(crate) timeout: Option<u64>,
    /// Where it is in a stream.
    pub(crate) reader: StreamReader,
    pub(crate) _counted: Counted,
}
