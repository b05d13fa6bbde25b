//! The messages between the actors of a connection. A message about one connection has its epoch; the
//! receiver drops messages of another epoch.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    broker_rules::BrokerRules,
    error::Error,
    message::{
        BindExchange, BindQueue, ConsumerEnd, DeclareExchange, DeclareQueue, EntityKind, QueueName, Skipped,
        UnbindExchange, UnbindQueue,
    },
    options::Address,
    outbox::{Flush, Outbox},
    transport::ReadCredit,
    wire::{Fault, FrameBatch, Negotiated, PeerText, Table},
};

/// What the channels of one connection know of its broker.
#[derive(Debug, Default)]
pub(crate) struct BrokerNotes {
    pub(crate) rules: Option<BrokerRules>,
    transient_queue_noted: AtomicBool,
}

impl BrokerNotes {
    pub(crate) fn new(rules: Option<BrokerRules>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Notes a queue that is neither durable nor exclusive; returns whether it is the first one.
    pub(crate) fn note_transient_queue(&self) -> bool {
        !self.transient_queue_noted.swap(true, Ordering::Relaxed)
    }
}

/// To a channel, from the supervisor or from a connection.
#[derive(Debug)]
pub(crate) enum ChannelMessage {
    /// Consecutive frames of this channel.
    Frames { epoch: u64, batch: FrameBatch },
    /// A connection is open; the channel opens on it.
    Attached {
        epoch: u64,
        flush: Arc<Recipient<Flush>>,
        frame_max: u32,
        credit: Arc<ReadCredit>,
        broker: Arc<BrokerNotes>,
    },
    /// The connection is lost; the supervisor reconnects.
    Detached { epoch: u64, error: Error },
    /// The connection is closed for good.
    ConnectionClosed { error: Error },
    /// A queue that the broker names was declared again and has another name.
    QueueRenamed { old: String, new: String },
    /// An exchange or queue that was reported as gone exists again, or is not looked for any more: publishes
    /// to it go to the broker.
    EntityFound { kind: EntityKind, name: String },
    /// Declare what a cancelled consumer needs, on this channel, and start the consumer again.
    StartConsumer { consumer: u32, declare: Vec<Entity> },
    /// The application has given up this consumer, or its queue.
    ForgetConsumer { tag: String },
    /// The start of this consumer has cost the connection: it must not start with the channel.
    ConsumerAtFault { consumer: u32, error: Error },
    /// It was not this consumer that has cost the connection: it starts with the channel.
    ConsumerNotAtFault { tag: String },
    /// A consumer that could not recover can start again, or ends.
    ConsumerRepaired { consumer: u32, result: Result<(), ConsumerEnd> },
    /// Reading has paused for too long, and this consumer has the most unsettled bytes.
    CancelSlowConsumer { consumer: u32 },
    /// The unsettled deliveries of the connection have too many bytes, most of them on this channel.
    ReducePrefetch,
    /// Deliveries of this consumer, which has no prefetch, would pause reading while the application waits for the
    /// broker.
    LimitPrefetch { consumer: u32 },
    /// Why the broker blocks publishes; `None` if it does not.
    Blocked(Option<Arc<str>>),
    /// There is no connection yet: an attempt to connect has failed.
    ConnectFailed { error: Error },
    /// The connection is being closed: send [`SupervisorMessage::ChannelDrained`] when no publish is
    /// unconfirmed.
    Drain,
    /// Panic, for tests.
    #[cfg(feature = "testing")]
    Panic,
}

impl Message for ChannelMessage {
    type Result = ();
}

/// To the supervisor.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {
    /// From a connection: the handshake is done.
    ConnectionOpened { epoch: u64, negotiated: Negotiated, socket: SocketInfo },
    /// From a connection, exactly once: its socket is closed, or was never open.
    ConnectionEnded { epoch: u64, error: Error },
    /// From a connection, before its end: it had taken more than it could write.
    ContentLost { epoch: u64 },
    /// From a connection: `connection.blocked` with its reason, or `connection.unblocked`.
    ConnectionBlocked { epoch: u64, reason: Option<PeerText> },
    /// From a connection: `connection.update-secret-ok`.
    SecretUpdated { epoch: u64 },
    /// From a channel: it is open, or could not be opened.
    ChannelOpened { channel: u16, result: Result<(), Error> },
    /// From a channel: it was closed, and reopens at this time (`None`: with the next connection, or when the
    /// broker replies to its close). It is missing until it has recovered.
    ChannelBackingOff { channel: u16, epoch: u64, error: Error, until: Option<Instant> },
    /// From a channel: this broker would ignore the prefetch that its consumers share, or it has none (`None`).
    PrefetchWithheld { channel: u16, epoch: u64, error: Option<Error> },
    /// From a channel: it has recovered on this connection, except for these consumers.
    ChannelRecovered { channel: u16, epoch: u64, skipped: Vec<Skipped> },
    /// From a channel: the broker has confirmed a change of the topology.
    TopologyChanged(Change),
    /// From a channel: an exchange or queue is about to be deleted, or that was refused.
    Deleting { kind: EntityKind, name: String, is_deleting: bool },
    /// From a channel: a 404 of the broker named this exchange or queue, or a publish to the queue came back.
    /// Sent again, at most once a second, while publishes to it are answered locally: what nobody asks for is
    /// not looked for.
    /// [`ChannelMessage::EntityFound`] follows.
    EntityGone { kind: EntityKind, name: String, error: Error },
    /// From a channel: a consumer delivers nothing, and nothing but the application can start it again.
    ConsumerMissing { channel: u16, tag: Arc<str>, error: Error },
    /// From a channel: such a consumer is delivered to again, or is not wanted any more.
    ConsumerGivenUp { channel: u16, tag: Arc<str> },
    /// From a channel, before `ChannelClosed`: it has ended with consumers that the application has not given up.
    ConsumersEnded(EndedChannel),
    /// From a channel that has ended: the application gives up a consumer of it (`None`: all).
    EndedChannelGivenUp { id: u64, tag: Option<Arc<str>> },
    /// From a channel: a consumer that must not start on the channel itself, where a refusal would close
    /// that.
    RepairConsumer {
        epoch: u64,
        channel: u16,
        consumer: u32,
        trial: TrialConsume,
        cause: ConsumerEnd,
        place: RepairPlace,
    },
    /// From a channel: the start of this consumer, or what was delivered to it, has cost the connection.
    ConsumerAtFault { channel: u16, tag: Arc<str>, error: Error },
    /// From the utility channel: it has ended before all replies had come. The results so far.
    UtilityLost { epoch: u64, number: u16, results: Vec<Result<Option<String>, Error>> },
    /// From the connection of a trial.
    TrialDone { trial: u64, result: TrialResult },
    /// From a channel: such a consumer has started again.
    ConsumerRepaired { epoch: u64, channel: u16, tag: Arc<str> },
    /// From the utility channel: the results of its steps, in order.
    StepsDone { epoch: u64, number: u16, results: Vec<Result<Option<String>, Error>> },
    /// From a channel: it has ended; its number is free if the broker has closed the channel too.
    ChannelClosed { channel: u16, free: bool },
    /// From a channel: no publish is unconfirmed.
    ChannelDrained { channel: u16 },
    /// From a channel: its frames violate the protocol; the connection has to be closed.
    ProtocolFault { epoch: u64, fault: Fault },
}

impl SupervisorMessage {
    /// Returns the epoch of the connection that the message is about, if it is about one.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match self {
            Self::ConnectionOpened { epoch, .. }
            | Self::ConnectionEnded { epoch, .. }
            | Self::ContentLost { epoch }
            | Self::ConnectionBlocked { epoch, .. }
            | Self::SecretUpdated { epoch }
            | Self::ChannelBackingOff { epoch, .. }
            | Self::PrefetchWithheld { epoch, .. }
            | Self::ChannelRecovered { epoch, .. }
            | Self::RepairConsumer { epoch, .. }
            | Self::ConsumerRepaired { epoch, .. }
            | Self::StepsDone { epoch, .. }
            | Self::ProtocolFault { epoch, .. } => Some(*epoch),
            Self::ChannelOpened { .. }
            | Self::ConsumerAtFault { .. }
            | Self::UtilityLost { .. }
            | Self::TrialDone { .. }
            | Self::TopologyChanged(_)
            | Self::Deleting { .. }
            | Self::EntityGone { .. }
            | Self::ConsumerMissing { .. }
            | Self::ConsumerGivenUp { .. }
            | Self::ConsumersEnded(_)
            | Self::EndedChannelGivenUp { .. }
            | Self::ChannelClosed { .. }
            | Self::ChannelDrained { .. } => None,
        }
    }
}

/// A channel that has ended, with the consumers that are still wanted.
#[derive(Clone, Debug)]
pub(crate) struct EndedChannel {
    /// The number may be that of another channel now.
    pub(crate) id: u64,
    pub(crate) channel: u16,
    pub(crate) error: Error,
    /// Tag, queue, and why each is missing.
    pub(crate) consumers: Vec<(Arc<str>, String, Error)>,
}

/// A change of the recorded topology.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Recorded, to be declared again after a reconnect.
    Record(Entity),
    /// Not to be declared again.
    Forget(Removal),
}

/// A recorded entity.
#[derive(Clone, Debug)]
pub(crate) enum Entity {
    Exchange(DeclareExchange),
    Queue {
        declare: DeclareQueue,
        name: QueueName,
    },
    QueueBinding(BindQueue),
    ExchangeBinding(BindExchange),
    /// Also a consumer with `robust(false)`, which keeps an auto-delete queue recorded while it exists.
    Consumer {
        channel: u16,
        tag: Arc<str>,
        queue: String,
    },
}

/// A removed entity.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    Exchange(String),
    Queue(String),
    QueueBinding(UnbindQueue),
    ExchangeBinding(UnbindExchange),
    Consumer {
        channel: u16,
        tag: Arc<str>,
    },
    /// A consumer that the application has not cancelled: an auto-delete queue stays recorded.
    LostConsumer {
        channel: u16,
        tag: Arc<str>,
    },
}

/// Where a consumer is tried before it starts again on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepairPlace {
    /// A channel of the library's own: a refusal closes only that.
    UtilityChannel,
    /// A connection of its own: it has cost a connection before.
    OwnConnection,
}

/// The result of a trial on a connection of its own.
#[derive(Debug)]
pub(crate) enum TrialResult {
    Accepted,
    Refused(Error),
    /// It says nothing about what was tried: the connection could not be opened.
    NotMade(Error),
}

/// A consumer that is started on the utility channel, to see whether the broker accepts it.
#[derive(Clone, Debug)]
pub(crate) struct TrialConsume {
    pub(crate) tag: Arc<str>,
    pub(crate) queue: String,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
    /// The bound that the consumers of its channel share, if they share one: quorum queues and streams refuse
    /// it.
    pub(crate) shared_prefetch: Option<u16>,
}

impl Message for SupervisorMessage {
    type Result = ();
}

/// From the supervisor to a connection.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    /// Pass frames to this channel, and write what its outbox has.
    AttachChannel { channel: u16, recipient: Recipient<ChannelMessage>, outbox: Arc<Outbox> },
    /// The channel has ended.
    DetachChannel { channel: u16 },
    /// Send `connection.close`, and end when the reply has come, or after this time.
    Close { code: u16, text: String, within: Duration },
    /// Send `connection.close` because the peer violated the protocol, and end.
    Fail { fault: Fault },
    /// Send `connection.update-secret`; the frame is overwritten when it is dropped.
    UpdateSecret { frame: SecretBytes },
}

/// Bytes that are not printed.
pub(crate) struct SecretBytes(pub(crate) Bytes);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The socket of a connection, and the login that opened it.
#[derive(Debug)]
pub(crate) struct SocketInfo {
    /// The one of the addresses that was used.
    pub(crate) address: Address,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// How long the credentials are valid.
    pub(crate) lifetime: Option<Duration>,
}

impl Message for ConnectionCommand {
    type Result = ();
}
