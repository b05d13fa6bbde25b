//! The letters between actors. Every one carries the epoch of the connection that it speaks of; a letter of another
//! epoch is dropped.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use actix::{Message, Recipient};
use bytes::Bytes;

use super::{
    BindExchange, BindQueue, ConsumerEnd, DeclareExchange, DeclareQueue, QueueName, Skipped, UnbindExchange,
    UnbindQueue,
};
use crate::{
    error::Error,
    options::Address,
    outbox::{Flush, Outbox},
    transport::ReadCredit,
    wire::{Fault, FrameBatch, Negotiated, Table},
};

/// To a channel.
#[derive(Debug)]
pub(crate) enum ChannelMessage {
    /// Frames of this channel that arrived next to one another.
    Frames { epoch: u64, batch: FrameBatch },
    /// There is a connection; the channel may open.
    Attached { epoch: u64, flush: Arc<Recipient<Flush>>, frame_max: u32, credit: Arc<ReadCredit> },
    /// The connection is gone, and another one will come.
    Detached { epoch: u64, error: Error },
    /// The connection is gone for good.
    ConnectionClosed { error: Error },
    /// The broker has given a queue another name.
    QueueRenamed { old: String, new: String },
    /// A consumer that could not go on can, or must end.
    ConsumerRepaired { consumer: u32, result: Result<(), ConsumerEnd> },
    /// Reading has paused for too long, and this consumer has the most to answer for.
    CancelSlowConsumer { consumer: u32 },
    /// The broker does, or does not, accept publishes.
    Blocked(bool),
    /// The connection is about to be closed: say [`SupervisorMessage::ChannelDrained`] when every publish is answered.
    Drain,
    /// Panic, which no peer can ask for.
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
    ConnectionOpened { epoch: u64, negotiated: Negotiated, link: SocketInfo },
    /// From a connection, exactly once: its socket is gone, or never was.
    ConnectionEnded { epoch: u64, error: Error },
    /// From a connection: `connection.blocked` with its reason, or `connection.unblocked`.
    ConnectionBlocked { epoch: u64, reason: Option<String> },
    /// From a connection: `connection.update-secret-ok`.
    SecretUpdated { epoch: u64 },
    /// From a channel: open, or not to be.
    ChannelOpened { channel: u16, result: Result<(), Error> },
    /// From a channel: it goes on where it stood in another life, but for these consumers.
    ChannelRecovered { channel: u16, epoch: u64, skipped: Vec<Skipped> },
    /// From a channel: the broker has done this to the topology.
    TopologyChanged(Change),
    /// From a channel: a queue is about to be deleted, or that was refused.
    QueueDeleting { queue: String, is: bool },
    /// From a channel: a consumer that must not be tried on the channel itself.
    RepairConsumer { epoch: u64, channel: u16, consumer: u32, probe: TrialConsume, cause: ConsumerEnd },
    /// From a channel: such a consumer goes on.
    ConsumerRepaired { epoch: u64, tag: Arc<str> },
    /// From a scratch channel: what came of its steps, in their order; none where its life ended before.
    StepsDone { epoch: u64, number: u16, results: Vec<Result<Option<String>, Error>> },
    /// From a channel: it has ended; its number is free if the broker knows that, too.
    ChannelClosed { channel: u16, free: bool },
    /// From a channel: it has nothing under way.
    ChannelDrained { channel: u16 },
    /// From a channel: its frames break the protocol, so the connection cannot go on.
    ProtocolFault { epoch: u64, fault: Fault },
}

impl SupervisorMessage {
    /// Returns the epoch of the connection that the message is about, if it is about one.
    pub(crate) fn epoch(&self) -> Option<u64> {
        match self {
            Self::ConnectionOpened { epoch, .. }
            | Self::ConnectionEnded { epoch, .. }
            | Self::ConnectionBlocked { epoch, .. }
            | Self::SecretUpdated { epoch }
            | Self::ChannelRecovered { epoch, .. }
            | Self::RepairConsumer { epoch, .. }
            | Self::ConsumerRepaired { epoch, .. }
            | Self::StepsDone { epoch, .. }
            | Self::ProtocolFault { epoch, .. } => Some(*epoch),
            Self::ChannelOpened { .. }
            | Self::TopologyChanged(_)
            | Self::QueueDeleting { .. }
            | Self::ChannelClosed { .. }
            | Self::ChannelDrained { .. } => None,
        }
    }
}

/// What becomes of the record of the topology.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It is there now, and is to be there again.
    Record(Entity),
    /// It is gone, and is to stay so.
    Forget(Removal),
}

/// Something of the topology.
#[derive(Clone, Debug)]
pub(crate) enum Entity {
    Exchange(DeclareExchange),
    Queue {
        declare: DeclareQueue,
        name: QueueName,
    },
    QueueBinding(BindQueue),
    ExchangeBinding(BindExchange),
    /// One that is not to be there again keeps its queue meanwhile, too.
    Consumer {
        channel: u16,
        tag: Arc<str>,
        queue: String,
    },
}

/// What is gone of it.
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
    /// A consumer that nobody has cancelled here: its queue is to be there again.
    LostConsumer {
        channel: u16,
        tag: Arc<str>,
    },
}

/// A consumer that is tried on a channel that may be lost.
#[derive(Clone, Debug)]
pub(crate) struct TrialConsume {
    pub(crate) tag: Arc<str>,
    pub(crate) queue: String,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
}

impl Message for SupervisorMessage {
    type Result = ();
}

/// From the supervisor to a connection.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    /// Read for this channel, and take its bytes.
    AttachChannel { channel: u16, down: Recipient<ChannelMessage>, outbox: Arc<Outbox> },
    /// The channel has ended.
    DetachChannel { channel: u16 },
    /// Say `connection.close`, and end when it is answered, or after this time.
    Close { code: u16, text: String, within: Duration },
    /// Say `connection.close` because the peer broke the protocol, and end.
    Fail { fault: Fault },
    /// Say `connection.update-secret`; the frame wipes itself.
    UpdateSecret { frame: SecretBytes },
}

/// Bytes that must not be printed.
pub(crate) struct SecretBytes(pub(crate) Bytes);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a connection knows of its socket, and of the login that opened it.
#[derive(Debug)]
pub(crate) struct SocketInfo {
    /// Which of the addresses it was.
    pub(crate) address: Address,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// How long the credentials are good.
    pub(crate) lifetime: Option<Duration>,
}

impl Message for ConnectionCommand {
    type Result = ();
}
