//! Starting a consumer, and its options.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use actix::{Message, Recipient};

use super::{ConsumerEnd, ConsumerState, Delivery, DeliverySink, OversizedDelivery, QueueType};
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Creates and starts a worker actor on the calling thread.
pub(crate) type WorkerFactory = Box<dyn FnMut() -> Recipient<Delivery> + Send>;

/// Starts a consumer (`basic.consume`). The reply is sent when the broker has accepted it.
///
/// Sends `basic.qos` for its prefetch first. Without a [tag](Self::tag), the consumer gets one that is unique
/// on the channel.
///
/// # Errors
/// - `Refused` with 403 if the queue has an exclusive consumer, or permission is missing; 404 if the queue
///   does not exist; 405 if it is exclusive to another connection; 406 for an invalid argument. Each closes
///   the channel.
/// - `ConnectionClosed` with 540 if a quorum queue or a stream is consumed with a [shared
///   prefetch](crate::Qos::global), and the
///   type of the queue is not known from its declare.
/// - `Refused` without a code, before anything is sent: the tag is in use on the channel; there is [no
///   target](Self::deliver_to); a known stream is consumed with `no_ack` or without a prefetch; a known
///   stream or quorum queue is consumed with a shared prefetch.
/// - `Limit` for a name that is too long, `Codec` for arguments that cannot be encoded.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the consumer starts again with its tag, prefetch and target. Deliveries from before
/// can no longer be settled; the broker delivers them again. A consumer of a stream continues after the
/// highest offset up to which all deliveries are settled. One that the broker cancels or refuses stays wanted:
/// it is [tried again](crate::Skipped), after its queue is declared again if this connection declared it, until
/// it is cancelled or [forgotten](crate::Forget). One whose start costs the connection is tried elsewhere.
///
/// Source: AMQP 0-9-1 section 1.8.3.3 (`basic.consume`); <https://www.rabbitmq.com/docs/consumers>
///
/// # Examples
/// ```no_run
/// # use actix::{Addr, Recipient};
/// # use actix_pika_actors::{Channel, Consume, Delivery, Result};
/// # async fn consume(channel: Addr<Channel>, worker: Recipient<Delivery>) -> Result<()> {
/// let options = Consume::new().queue("jobs").prefetch(32).tag("resizer").exclusive(true);
/// let consumed = channel.send(options.deliver_to(worker)).await??;
/// println!("started consumer {}", consumed.tag);
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
    /// Type of the queue, if known.
    pub(crate) queue_type: Option<QueueType>,
    pub(crate) auto_delete: bool,
    pub(crate) target: Option<DeliveryTarget>,
    pub(crate) watcher: Option<Recipient<ConsumerEnd>>,
    pub(crate) robust: bool,
    pub(crate) oversized: OversizedDelivery,
}

/// The receiver of the deliveries.
#[derive(Clone)]
pub(crate) enum DeliveryTarget {
    /// An actor of the application. A Consumer actor on the channel's thread sends it the deliveries.
    Recipient(Recipient<Delivery>),
    /// Actors of the application that a Consumer actor on the channel's thread creates, replaces and feeds.
    Supervised(Arc<Mutex<Option<WorkerFactory>>>),
    /// A Consumer actor on another thread, or a stream.
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
    /// Creates options with the channel's prefetch (250 unless set), acknowledgements and a generated tag.
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
            auto_delete: false,
            target: None,
            watcher: None,
            robust: true,
            oversized: OversizedDelivery::default(),
        }
    }

    /// Sets the queue. The methods of a queue handle set it themselves.
    ///
    /// At most 255 bytes; a longer name fails with `Limit` before anything is sent.
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

    /// Sets the consumer tag, which must be unique on the channel.
    ///
    /// At most 255 bytes. A tag that is in use fails with `Refused` before anything is sent. An empty tag is
    /// the same as no tag.
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

    /// Sets the prefetch: how many unsettled deliveries the consumer may have. 0 means no limit.
    ///
    /// With `no_ack`, where the broker applies no limit, it is the number of deliveries that the application
    /// gets at once.
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

    /// Sets whether deliveries need no acknowledgement.
    ///
    /// The broker then removes each message from the queue when it sends it: nothing has to be settled, and
    /// nothing is delivered again. Deliveries that wait for the application when the consumer is cancelled
    /// are lost. More than 8 MiB of waiting deliveries (`read_ahead`) pause reading from the connection, and
    /// a consumer that pauses it for too long is cancelled ([`TooSlow`](ConsumerEnd::TooSlow)).
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

    /// Sets whether the consumer is exclusive: the only one of the queue.
    ///
    /// If the queue has another consumer, the call fails with 403, which closes the channel. While this
    /// consumer runs, others are refused.
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
    /// A further value of the same key replaces the first.
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

    /// Adds all arguments of a table, replacing those with the same key.
    ///
    /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Consume, Table};
    /// let arguments = Table::new().with("x-priority", 10);
    /// let options = Consume::new().arguments(arguments);
    /// ```
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// Sets whether the consumer starts again after a reconnect; it does unless set.
    ///
    /// Otherwise it ends with the connection. It has no effect on a connection that does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Sets an actor that receives a [`ConsumerEnd`] when the consumer ends. It may be the one that gets the
    /// deliveries.
    ///
    /// **Over a reconnect**: a reconnect does not end the consumer, so that nothing is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix::Recipient;
    /// # use actix_pika_actors::{Consume, ConsumerEnd};
    /// fn watched(watcher: Recipient<ConsumerEnd>) -> Consume {
    ///     Consume::new().watch(watcher)
    /// }
    /// ```
    pub fn watch(mut self, recipient: impl Into<Recipient<ConsumerEnd>>) -> Self {
        self.watcher = Some(recipient.into());
        self
    }

    /// Sets the actor that receives the deliveries. The methods of a queue handle set it themselves.
    ///
    /// When it stops, the consumer is cancelled ([`TargetGone`](ConsumerEnd::TargetGone)).
    ///
    /// # Examples
    /// ```
    /// # use actix::Recipient;
    /// # use actix_pika_actors::{Consume, Delivery};
    /// fn options(worker: Recipient<Delivery>) -> Consume {
    ///     Consume::new().queue("jobs").deliver_to(worker)
    /// }
    /// ```
    pub fn deliver_to(mut self, recipient: impl Into<Recipient<Delivery>>) -> Self {
        self.target = Some(DeliveryTarget::Recipient(recipient.into()));
        self
    }

    pub(crate) fn sink(self, sink: Arc<dyn DeliverySink>) -> Self {
        self.target(DeliveryTarget::DeliverySink(sink))
    }

    pub(crate) fn target(mut self, target: DeliveryTarget) -> Self {
        self.target = Some(target);
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

/// Holds the tag and the state of a consumer that the broker has accepted.
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
    /// Tag of the consumer.
    pub tag: Arc<str>,
    /// Reports whether and why it has ended.
    pub state: ConsumerState,
}
