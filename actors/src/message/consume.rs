//! What is said about consuming.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use actix::{Message, Recipient};

use super::{Delivery, delivery::Inlet};
use crate::{
    consumer::{ConsumerLife, Factory},
    error::{Error, Result},
    wire::{Table, Value},
};

/// Starts a consumer (`basic.qos` for its prefetch, then `basic.consume`).
///
/// # Errors
/// `Refused`: 403 where the queue has an exclusive consumer or permission is missing, 404 where it is missing, 405 where
/// it is exclusive to another connection. Each closes the channel.
///
/// ```
/// use actix_pika_actors::Consume;
///
/// let options = Consume::new().prefetch(32).tag("resizer").exclusive();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consume {
    pub(crate) queue: String,
    pub(crate) tag: Option<String>,
    pub(crate) prefetch: Option<u16>,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
    /// The queue is a stream, as far as is known.
    pub(crate) stream: bool,
    pub(crate) target: Option<Target>,
    pub(crate) watcher: Option<Recipient<ConsumerEnd>>,
}

/// Who gets the deliveries.
#[derive(Clone)]
pub(crate) enum Target {
    /// A user actor, to be fed by a Consumer actor beside the channel.
    Recipient(Recipient<Delivery>),
    /// User actors, to be built and fed by a Consumer actor beside the channel.
    Supervised(Arc<Mutex<Option<Factory>>>),
    /// Whatever takes them: a Consumer actor elsewhere, or a stream.
    Inlet(Arc<dyn Inlet>),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipient(_) => "Recipient",
            Self::Supervised(_) => "Supervised",
            Self::Inlet(_) => "Inlet",
        })
    }
}

impl Consume {
    /// Consumes with the channel's prefetch (250 unless set), settling by the application, and a tag of its own.
    pub fn new() -> Self {
        Self {
            queue: String::new(),
            tag: None,
            prefetch: None,
            no_ack: false,
            exclusive: false,
            arguments: Table::default(),
            stream: false,
            target: None,
            watcher: None,
        }
    }

    /// Names the queue; a queue handle does it itself.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// Names the consumer; the tag must not be in use on the channel.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Bounds the unsettled deliveries of this consumer; 0 means no bound.
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = Some(count);
        self
    }

    /// Lets the broker forget each message as it sends it: nothing to settle, nothing that comes back.
    pub fn no_ack(mut self) -> Self {
        self.no_ack = true;
        self
    }

    /// Asks to be the only consumer of the queue.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Adds an argument, such as `x-priority`.
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Names an actor that hears when and why the consumer ends, be it even the one that gets the deliveries.
    pub fn watch(mut self, recipient: impl Into<Recipient<ConsumerEnd>>) -> Self {
        self.watcher = Some(recipient.into());
        self
    }

    /// Names the actor that gets the deliveries; handles do it themselves.
    pub fn deliver_to(mut self, recipient: impl Into<Recipient<Delivery>>) -> Self {
        self.target = Some(Target::Recipient(recipient.into()));
        self
    }

    pub(crate) fn inlet(mut self, inlet: Arc<dyn Inlet>) -> Self {
        self.target = Some(Target::Inlet(inlet));
        self
    }
}

impl Default for Consume {
    fn default() -> Self {
        Self::new()
    }
}

impl Message for Consume {
    type Result = Result<Consumed>;
}

/// A consumer that the broker has accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consumed {
    /// Its tag.
    pub tag: Arc<str>,
    /// Tells of its end.
    #[doc(hidden)]
    pub life: ConsumerLife,
}

/// Ends a consumer (`basic.cancel`); answered after `basic.cancel-ok`. An unknown tag is no error.
///
/// What the application holds of it can still be settled; what nobody has seen goes back into the queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CancelConsumer {
    pub(crate) tag: String,
}

impl CancelConsumer {
    /// Ends the consumer of this tag.
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into() }
    }
}

impl Message for CancelConsumer {
    type Result = Result<()>;
}

/// Keeps the deliveries of a consumer back from its actor, or hands them on again; nothing is said to the broker.
///
/// # Errors
/// `Refused` without a code where the channel has no such consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PauseConsumer {
    pub(crate) tag: String,
    pub(crate) paused: bool,
}

impl PauseConsumer {
    /// Keeps its deliveries back.
    pub fn pause(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: true }
    }

    /// Hands them on again.
    pub fn resume(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: false }
    }
}

impl Message for PauseConsumer {
    type Result = Result<()>;
}

/// Why a consumer gets nothing more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerEnd {
    /// The application cancelled it.
    Cancelled,
    /// The broker cancelled it: its queue is gone.
    CancelledByBroker,
    /// The actor that it fed is gone.
    TargetGone,
    /// What waited for its application kept the connection from reading for too long (`stall_limit`), and it had the
    /// most of it.
    TooSlow,
    /// Its channel or connection is closed.
    Closed(Error),
}

impl Message for ConsumerEnd {
    type Result = ();
}

/// Takes one message from a queue (`basic.get`), if there is one.
///
/// # Errors
/// `Refused`: 404 where the queue is missing, 405 where it is exclusive to another connection. Each closes the channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Get {
    pub(crate) queue: String,
    pub(crate) no_ack: bool,
}

impl Get {
    /// Takes from the queue of this name.
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), no_ack: false }
    }

    /// Lets the broker forget the message as it sends it.
    pub fn no_ack(mut self) -> Self {
        self.no_ack = true;
        self
    }
}

impl Message for Get {
    type Result = Result<Option<Delivery>>;
}
