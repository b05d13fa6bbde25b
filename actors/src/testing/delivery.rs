//! A delivery that no broker has sent, and what becomes of it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{SettleProbe, Settlement, TestContent};
use crate::{
    error::{Error, Result},
    message::{Acker, Delivery, DeliveryParts, Outcome, Publishing, QueueName, Unsettled},
};

/// Builds a [`Delivery`] that no broker has sent, for unit tests of handlers.
///
/// It needs neither a connection nor a runtime. Every method of the delivery does what it does with a
/// connection; a [`SettleProbe`] returns how it was settled. Each has a channel of its own, so
/// [`ack_all`](Delivery::ack_all) settles no other one.
///
/// # Examples
/// ```
/// use actix_pika_actors::{Publishing, testing::{Settlement, TestDelivery}};
///
/// let message = Publishing::new("resize 7.png").message_id("7");
/// let (delivery, settled) = TestDelivery::new(message).queue("jobs").redelivered(true).build();
/// assert_eq!((delivery.queue(), delivery.redelivered()), ("jobs", true));
/// assert_eq!(delivery.properties().unwrap().message_id(), Some("7"));
///
/// delivery.ack().unwrap();
/// assert_eq!(settled.now(), Some(Settlement::Acked));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TestDelivery {
    pub(super) content: TestContent,
    consumer_tag: String,
    delivery_tag: u64,
    no_ack: bool,
    stale: bool,
}

impl TestDelivery {
    /// Takes body and properties of a message that would be published.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// let (delivery, _) = TestDelivery::new("hello").build();
    /// assert_eq!(delivery.body(), b"hello");
    /// ```
    pub fn new(message: impl Into<Publishing>) -> Self {
        Self {
            content: TestContent::new(message),
            consumer_tag: String::from("test"),
            delivery_tag: 1,
            no_ack: false,
            stale: false,
        }
    }

    /// Sets the exchange and the routing key that it was published with, each up to 255 bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// let (delivery, _) = TestDelivery::new("hello").published_to("logs", "info").build();
    /// assert_eq!((delivery.exchange(), delivery.routing_key()), ("logs", "info"));
    /// ```
    pub fn published_to(mut self, exchange: &str, routing_key: &str) -> Self {
        self.content = self.content.published_to(exchange, routing_key);
        self
    }

    /// Sets the queue that it came from. The default is an empty name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// assert_eq!(TestDelivery::new("hello").queue("jobs").build().0.queue(), "jobs");
    /// ```
    pub fn queue(mut self, queue: &str) -> Self {
        self.content = self.content.queue(queue);
        self
    }

    /// Sets the tag of the consumer. The default is `test`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// assert_eq!(TestDelivery::new("hello").consumer_tag("worker").build().0.consumer_tag(), "worker");
    /// ```
    pub fn consumer_tag(mut self, tag: &str) -> Self {
        self.consumer_tag = tag.to_owned();
        self
    }

    /// Sets the delivery tag. The default is 1.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// assert_eq!(TestDelivery::new("hello").delivery_tag(7).build().0.delivery_tag(), 7);
    /// ```
    pub fn delivery_tag(mut self, tag: u64) -> Self {
        self.delivery_tag = tag;
        self
    }

    /// Sets whether the broker may have delivered it before.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// assert!(TestDelivery::new("hello").redelivered(true).build().0.redelivered());
    /// ```
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.content = self.content.redelivered(redelivered);
        self
    }

    /// Sets whether its consumer acknowledges nothing. Then settling it does nothing, and the probe hears
    /// nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// let (delivery, settled) = TestDelivery::new("hello").no_ack(true).build();
    /// delivery.ack().unwrap();
    /// assert_eq!(settled.now(), None);
    /// ```
    pub fn no_ack(mut self, no_ack: bool) -> Self {
        self.no_ack = no_ack;
        self
    }

    /// Sets whether the connection was lost after it was delivered. Then settling it is an error, and the probe
    /// hears nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ErrorKind, testing::TestDelivery};
    /// let (delivery, settled) = TestDelivery::new("hello").stale(true).build();
    /// assert!(delivery.is_stale());
    /// assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    /// assert_eq!(settled.now(), None);
    /// ```
    pub fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Returns the delivery, and the probe that returns how it was settled.
    ///
    /// # Panics
    /// If the exchange or the routing key is longer than 255 bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// assert_eq!(settled.now(), None);
    /// drop(delivery);
    /// ```
    pub fn build(self) -> (Delivery, SettleProbe) {
        let (settled, receiver) = watch::channel(None);
        let parts = DeliveryParts { tag: self.delivery_tag, no_ack: self.no_ack, ..self.content.parts() };
        let what = format!("delivery {} of {:?}", self.delivery_tag, self.content.queue);
        let acker = ProbedAcker {
            settled,
            is_stale: self.stale,
            consumer_tag: Arc::from(self.consumer_tag),
            queue: QueueName::new(self.content.queue),
        };
        (Delivery::new(Arc::new(acker), parts), SettleProbe::new(receiver, what))
    }
}

/// A message as it would be published is delivered for the first time.
impl<M: Into<Publishing>> From<M> for TestDelivery {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

/// In place of the channel of a delivery.
#[derive(Debug)]
struct ProbedAcker {
    settled: watch::Sender<Option<Settlement>>,
    is_stale: bool,
    consumer_tag: Arc<str>,
    queue: QueueName,
}

impl ProbedAcker {
    fn note(&self, settlement: Settlement) -> Result<()> {
        if self.is_stale {
            return Err(Error::stale("the delivery is stale, the broker delivers it again"));
        }
        self.settled.send_replace(Some(settlement));
        Ok(())
    }
}

impl Acker for ProbedAcker {
    fn settle(&self, _: u32, _: u64, outcome: Outcome) -> Result<()> {
        self.note(match outcome {
            Outcome::Ack | Outcome::AckAll => Settlement::Acked,
            Outcome::Nack { requeue } | Outcome::NackAll { requeue } => Settlement::Nacked { requeue },
            Outcome::Reject { requeue } => Settlement::Rejected { requeue },
            Outcome::NotBegun => Settlement::Dropped,
            Outcome::Failed => Settlement::Rejected { requeue: true },
        })
    }

    fn settle_all(&self, epoch: u32, tags: &mut dyn Iterator<Item = u64>, outcome: Outcome) -> Result<()> {
        for tag in tags {
            self.settle(epoch, tag, outcome)?;
        }
        Ok(())
    }

    fn return_unsettled(&self, epoch: u32, tag: u64, why: Unsettled) -> Result<()> {
        match why {
            Unsettled::NotBegun | Unsettled::Dropped(_) => self.note(Settlement::Dropped),
            Unsettled::Failed(_) => self.settle(epoch, tag, Outcome::Failed),
        }
    }

    fn is_stale(&self, _: u32, _: u64) -> bool {
        self.is_stale
    }

    fn consumer_tag(&self) -> &Arc<str> {
        &self.consumer_tag
    }

    fn queue(&self) -> &QueueName {
        &self.queue
    }

    fn ended(&self, _: usize) {}
}
