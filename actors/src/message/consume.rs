//! What is said about consuming.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use actix::{Message, Recipient};

use super::{ConsumerState, Delivery, DeliverySink, QueueType};
use crate::{
    error::{Error, Result},
    wire::{Table, Value},
};

/// Builds and starts a worker on the calling thread.
pub(crate) type WorkerFactory = Box<dyn FnMut() -> Recipient<Delivery> + Send>;

/// Starts a consumer, and answers when the broker has accepted it.
///
/// Sends `basic.qos` for its prefetch, then `basic.consume`. Without a tag it gets one that is unique on the
/// channel.
///
/// # Errors
/// `Refused`: 403 where the queue has an exclusive consumer or permission is missing, 404 where it is missing, 405
/// where it is exclusive to another connection, 406 for an argument that makes no sense. Each closes the channel. A
/// quorum queue or a stream refuses a [shared prefetch](crate::Qos::global) for the whole connection (540). Without a
/// code, before anything is sent: the tag is in use on the channel, nobody is named [to deliver to](Self::deliver_to),
/// or what is known as a stream is to be read with `no_ack` or without a prefetch, or, as a quorum queue is, with a
/// shared one. `Limit` and `Codec` for what cannot be sent,
/// and those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the consumer starts again with its tag, prefetch and target. Deliveries from before
/// cannot be settled any more; the broker delivers them again. A stream's consumer goes on behind the highest
/// offset up to which all was settled.
///
/// Source: AMQP 0-9-1 section 1.8.3.3; <https://www.rabbitmq.com/docs/consumers>
///
/// # Examples
/// ```no_run
/// # use actix::{Addr, Recipient};
/// # use actix_pika_actors::{Channel, Consume, Delivery, Result};
/// # async fn consume(channel: Addr<Channel>, worker: Recipient<Delivery>) -> Result<()> {
/// let options = Consume::new().queue("jobs").prefetch(32).tag("resizer").exclusive(true);
/// let consumed = channel.send(options.deliver_to(worker)).await??;
/// println!("{} consumes", consumed.tag);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Consume {
    pub(crate) queue: String,
    pub(crate) tag: Option<String>,
    pub(crate) prefetch: Option<u16>,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: Table,
    /// What the queue is, as far as is known.
    pub(crate) queue_type: Option<QueueType>,
    pub(crate) target: Option<DeliveryTarget>,
    pub(crate) watcher: Option<Recipient<ConsumerEnd>>,
    pub(crate) robust: bool,
}

/// Who gets the deliveries.
#[derive(Clone)]
pub(crate) enum DeliveryTarget {
    /// A user actor, to be fed by a Consumer actor beside the channel.
    Recipient(Recipient<Delivery>),
    /// User actors, to be built and fed by a Consumer actor beside the channel.
    Supervised(Arc<Mutex<Option<WorkerFactory>>>),
    /// Whatever takes them: a Consumer actor elsewhere, or a stream.
    DeliverySink(Arc<dyn DeliverySink>),
}

impl fmt::Debug for DeliveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipient(_) => "Recipient",
            Self::Supervised(_) => "Supervised",
            Self::DeliverySink(_) => "DeliverySink",
        })
    }
}

impl Consume {
    /// Consumes with the channel's prefetch (250 unless set), settling by the application, and a tag of its own.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new();
    /// ```
    pub fn new() -> Self {
        Self {
            queue: String::new(),
            tag: None,
            prefetch: None,
            no_ack: false,
            exclusive: false,
            arguments: Table::default(),
            queue_type: None,
            target: None,
            watcher: None,
            robust: true,
        }
    }

    /// Names the queue; a queue handle does it itself.
    ///
    /// 255 bytes at most: `Limit`, before anything is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().queue("jobs");
    /// ```
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// Names the consumer; the tag must not be in use on the channel.
    ///
    /// One that is in use is `Refused` before anything is sent; 255 bytes at most. An empty one is as none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().tag("resizer");
    /// ```
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Bounds the unsettled deliveries of this consumer; 0 means no bound.
    ///
    /// Where the broker does not bound them, as with `no_ack`, this many are handed to the application at
    /// once.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().prefetch(32);
    /// ```
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = Some(count);
        self
    }

    /// Sets whether deliveries need no acknowledgement. The broker removes each message from the queue as it sends it, so
    /// nothing is settled, and nothing is delivered again.
    ///
    /// What waits for the application when it is cancelled is lost. More than 8 MiB of it (`read_ahead`) pause the
    /// connection; who pauses it for too long is cancelled ([`TooSlow`](ConsumerEnd::TooSlow)).
    ///
    /// Source: <https://www.rabbitmq.com/docs/confirms#acknowledgement-modes>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().no_ack(true).prefetch(1000);
    /// ```
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.no_ack = no_ack;
        self
    }

    /// Sets whether this is the only consumer of the queue.
    ///
    /// Refused with 403, which closes the channel, where there is another one; others are refused as long as
    /// it lasts.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().exclusive(true);
    /// ```
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Adds an argument, such as `x-priority`.
    ///
    /// A key that is there already gets the new value.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().argument("x-priority", 10);
    /// ```
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Adds all arguments of a table; of two of the same name the later one counts.
    ///
    /// Keys have 255 bytes at most (`Codec` when it is sent).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Consume, Table};
    /// let ours = Table::new().with("x-priority", 10);
    /// let options = Consume::new().arguments(ours);
    /// ```
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// Sets whether it starts again after a reconnect, which is so by default on a connection that recovers. One that does
    /// not ends with the connection.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let this_time_only = Consume::new().robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Names an actor that hears when and why the consumer ends, be it even the one that gets the deliveries.
    ///
    /// **Over a reconnect**: that is no end, and nothing is told.
    ///
    /// # Examples
    /// ```
    /// # use actix::Recipient;
    /// # use actix_pika_actors::{Consume, ConsumerEnd};
    /// fn watched(by: Recipient<ConsumerEnd>) -> Consume {
    ///     Consume::new().watch(by)
    /// }
    /// ```
    pub fn watch(mut self, recipient: impl Into<Recipient<ConsumerEnd>>) -> Self {
        self.watcher = Some(recipient.into());
        self
    }

    /// Names the actor that gets the deliveries; handles do it themselves.
    ///
    /// When it is gone, the consumer is cancelled ([`TargetGone`](ConsumerEnd::TargetGone)).
    ///
    /// # Examples
    /// ```
    /// # use actix::Recipient;
    /// # use actix_pika_actors::{Consume, Delivery};
    /// fn to(worker: Recipient<Delivery>) -> Consume {
    ///     Consume::new().queue("jobs").deliver_to(worker)
    /// }
    /// ```
    pub fn deliver_to(mut self, recipient: impl Into<Recipient<Delivery>>) -> Self {
        self.target = Some(DeliveryTarget::Recipient(recipient.into()));
        self
    }

    pub(crate) fn inlet(mut self, inlet: Arc<dyn DeliverySink>) -> Self {
        self.target = Some(DeliveryTarget::DeliverySink(inlet));
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

/// Names a consumer that the broker has accepted.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{CancelConsumer, Consumed};
/// fn cancel(consumed: &Consumed) -> CancelConsumer {
///     CancelConsumer::new(&*consumed.tag)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consumed {
    /// Its tag.
    pub tag: Arc<str>,
    /// Reports its end.
    #[doc(hidden)]
    pub state: ConsumerState,
}

/// Ends a consumer; answered after `basic.cancel-ok`. An unknown tag is no error, nor is a channel that is
/// closed.
///
/// Sends `basic.cancel`. What the application holds of it can still be settled; what nobody has seen goes
/// back into the queue.
///
/// # Errors
/// `Timeout`, or `Blocked` while the broker blocks the connection, when the deadline passes.
///
/// **Over a reconnect**: what was cancelled does not start again.
///
/// Source: AMQP 0-9-1 section 1.8.3.5
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{CancelConsumer, Channel, Result};
/// # async fn cancel(channel: Addr<Channel>) -> Result<()> {
/// channel.send(CancelConsumer::new("resizer")).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct CancelConsumer {
    pub(crate) tag: String,
}

impl CancelConsumer {
    /// Ends the consumer of this tag.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::CancelConsumer;
    /// let cancel = CancelConsumer::new("resizer");
    /// ```
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into() }
    }
}

impl Message for CancelConsumer {
    type Result = Result<()>;
}

/// Keeps the deliveries of a consumer back from its actor, or hands them on again; nothing is said to the
/// broker.
///
/// What it may have unsettled still comes, and waits. A stream of deliveries takes when it wants, and is not
/// paused.
///
/// # Errors
/// `Refused` without a code where the channel has no such consumer; `ChannelClosed` or `ConnectionClosed`
/// where that is over.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, PauseConsumer, Result};
/// # async fn pause(channel: Addr<Channel>) -> Result<()> {
/// channel.send(PauseConsumer::pause("resizer")).await??;
/// channel.send(PauseConsumer::resume("resizer")).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct PauseConsumer {
    pub(crate) tag: String,
    pub(crate) paused: bool,
}

impl PauseConsumer {
    /// Keeps its deliveries back.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PauseConsumer;
    /// let pause = PauseConsumer::pause("resizer");
    /// ```
    pub fn pause(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: true }
    }

    /// Hands them on again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PauseConsumer;
    /// let resume = PauseConsumer::resume("resizer");
    /// ```
    pub fn resume(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), paused: false }
    }
}

impl Message for PauseConsumer {
    type Result = Result<()>;
}

/// Tells why a consumer gets nothing more.
///
/// Source: <https://www.rabbitmq.com/docs/consumer-cancel>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConsumerEnd;
/// fn start_again(end: &ConsumerEnd) -> bool {
///     matches!(end, ConsumerEnd::TargetGone | ConsumerEnd::TooSlow)
/// }
/// assert!(!start_again(&ConsumerEnd::Cancelled));
/// ```
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

/// Takes one message from a queue, if there is one.
///
/// Sends `basic.get`, one round trip for each message: a consumer is the faster way.
///
/// # Errors
/// `Refused`: 403 without permission, 404 where the queue is missing, 405 where it is exclusive to another
/// connection. Each closes the channel. A stream refuses it for the whole connection: `ConnectionClosed` with
/// 540. Otherwise those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: what was taken and not settled comes again, to whoever asks; it is `StaleDelivery`
/// here.
///
/// Source: AMQP 0-9-1 section 1.8.3.10
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Get, Result};
/// # async fn take(channel: Addr<Channel>) -> Result<()> {
/// while let Some(delivery) = channel.send(Get::new("jobs")).await?? {
///     println!("{:?} left", delivery.message_count());
///     delivery.ack()?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Get {
    pub(crate) queue: String,
    pub(crate) no_ack: bool,
}

impl Get {
    /// Takes from the queue of this name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Get;
    /// let get = Get::new("jobs");
    /// ```
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), no_ack: false }
    }

    /// Names the queue.
    #[doc(hidden)]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Sets whether the message needs no acknowledgement. The broker removes it from the queue as it sends it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Get;
    /// let get = Get::new("jobs").no_ack(true);
    /// ```
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.no_ack = no_ack;
        self
    }
}

impl Message for Get {
    type Result = Result<Option<Delivery>>;
}
