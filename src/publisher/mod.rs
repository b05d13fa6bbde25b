//! Typed publishers: a value is encoded and published to one exchange.
//!
//! | method | what it does |
//! |---|---|
//! | [`Exchange::publisher`](crate::Exchange::publisher), [`Queue::publisher`](crate::Queue::publisher) | creates a [`Publisher`] |
//! | [`Publisher::publish`], [`publish_with`](Publisher::publish_with) | publishes one value, and waits for its confirm |
//! | [`Publisher::publish_all`] | publishes many, and returns the result of each |
//! | [`Publisher::publish_in`] | publishes a value that its consumers get later |
//! | [`Publisher::recipient`] | returns a `Recipient`, for actors that do not know of the broker |
//! | [`Tasks::relay`](crate::tasks::Tasks::relay) | consumes, publishes in another form, awaits the confirm, acknowledges |
//!
//! The body and the content type are those of the [codec](crate::codec), JSON by default. The routing key is fixed
//! or made from the value.
//!
//! # Examples
//! ```no_run
//! use actix_pika::publisher::Publisher;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced { id: u64, country: String }
//!
//! # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
//! let placed: Publisher<OrderPlaced> = channel
//!     .exchange("shop")
//!     .publisher::<OrderPlaced>()
//!     .key_by(|order| format!("order.placed.{}", order.country))
//!     .message_type("order.placed")
//!     .message_ids(true);
//!
//! placed.publish(&OrderPlaced { id: 7, country: "at".into() }).await?;
//! # Ok(())
//! # }
//! ```

use std::{fmt, marker::PhantomData, sync::Arc};

use actix_pika_actors::QueueName;

use self::{
    later::Later,
    options::Options,
    publish::{Outgoing, Route},
};
pub use self::{publish::PublishValueFuture, recipient::PublishResult};
use crate::{
    Exchange, Publishing, Queue, Result,
    codec::{Codec, Json},
    hook::{Hooks, PublishKind},
};

mod later;
mod options;
mod publish;
mod recipient;
mod relay;

/// A typed publisher, bound to an exchange, a routing key and properties. Its clones share them.
///
/// The methods that return `Self` set its options. A value must be encoded by the codec `C`.
///
/// **Over a reconnect**: it stays valid; what is not confirmed is resent ([`Exchange::publish`]).
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let jobs = channel.declare_queue("jobs").await?.publisher::<Vec<u32>>();
/// jobs.publish(&vec![1, 2, 3]).await?;
/// # Ok(())
/// # }
/// ```
pub struct Publisher<T, C = Json> {
    exchange: Exchange,
    codec: Arc<C>,
    key: Key<T>,
    options: Arc<Options>,
    later: Arc<Later>,
    hooks: Hooks,
    value: PhantomData<fn(T)>,
}

type KeyOf<T> = dyn Fn(&T) -> String + Send + Sync;

/// Where the routing key comes from.
enum Key<T> {
    Fixed(Arc<str>),
    /// The name of a queue, which may change when the connection recovers.
    Queue(QueueName),
    By(Arc<KeyOf<T>>),
}

impl<T> Key<T> {
    fn of(&self, value: &T) -> RoutingKey {
        match self {
            Self::Fixed(key) => RoutingKey::Fixed(key.clone()),
            Self::Queue(name) => RoutingKey::Queue(name.clone()),
            Self::By(key) => RoutingKey::Fixed(key(value).into()),
        }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed(key) => Self::Fixed(key.clone()),
            Self::Queue(name) => Self::Queue(name.clone()),
            Self::By(key) => Self::By(key.clone()),
        }
    }
}

/// The routing key of one value.
enum RoutingKey {
    Fixed(Arc<str>),
    Queue(QueueName),
}

impl RoutingKey {
    fn as_str(&self) -> &str {
        match self {
            Self::Fixed(key) => key,
            Self::Queue(name) => name.as_str(),
        }
    }
}

impl<T> Publisher<T> {
    fn new(exchange: Exchange, key: Key<T>) -> Self {
        let hooks = exchange.channel().connection().hooks().clone();
        Self {
            exchange,
            codec: Arc::new(Json),
            key,
            options: Arc::default(),
            later: Arc::default(),
            hooks,
            value: PhantomData,
        }
    }
}

impl Exchange {
    /// Creates a typed publisher to this exchange, with the routing key `""` and the JSON codec unless others are
    /// set.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let temperature = channel.exchange("weather").publisher::<f64>().key("temperature.at.vienna");
    /// temperature.publish(&18.5).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publisher<T>(&self) -> Publisher<T> {
        Publisher::new(self.clone(), Key::Fixed(Arc::from("")))
    }
}

impl Queue {
    /// Creates a typed publisher to this queue, through the default exchange.
    ///
    /// **Over a reconnect**: it follows a queue that gets a new name from the broker.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.queue("jobs").publisher::<String>().publish(&"resize 7.png".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publisher<T>(&self) -> Publisher<T> {
        Publisher::new(self.channel().default_exchange(), Key::Queue(self.current_name().clone()))
    }
}

impl<T, C: Codec<T>> Publisher<T, C> {
    /// Returns the message of a value, as the hooks have left it, and where it goes.
    fn message(&self, value: &T, options: impl FnOnce(Publishing) -> Publishing) -> Result<Outgoing> {
        let message = self.options.message(self.codec.encode(value)?, self.codec.content_type());
        let mut message = options(self.exchange.channel().finish(message));
        let route = Route { exchange: self.exchange.clone(), key: self.key.of(value) };
        let (exchange, key) = (self.exchange.name(), route.key.as_str());
        let hooked = self.hooks.publishing(PublishKind::Message, exchange, key, &mut message);
        Ok(Outgoing { message, route, hooked })
    }
}

impl<T, C> Clone for Publisher<T, C> {
    fn clone(&self) -> Self {
        Self {
            exchange: self.exchange.clone(),
            codec: self.codec.clone(),
            key: self.key.clone(),
            options: self.options.clone(),
            later: self.later.clone(),
            hooks: self.hooks.clone(),
            value: PhantomData,
        }
    }
}

impl<T, C> fmt::Debug for Publisher<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            Key::Fixed(key) => Some(&**key),
            Key::Queue(name) => Some(name.as_str()),
            Key::By(_) => None,
        };
        f.debug_struct("Publisher").field("exchange", &self.exchange.name()).field("key", &key).finish()
    }
}
