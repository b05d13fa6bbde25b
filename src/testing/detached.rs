//! Handles of a connection without a socket.

use std::{ops::Deref, sync::Arc};

use actix_pika_actors::{
    ConnectionOptions, facade,
    testing::{Recorder, SettleProbe},
};
use serde::Serialize;

use crate::{
    Channel, Connection, Error, Exchange, OpenChannel, Publishing, Queue, Result, connector::opened,
    hook::Hooks, runtime::first_arbiter,
};

/// A connection without a socket, a channel on it, and the [`Recorder`] of both, which it dereferences to.
///
/// The handles are those of every connection, so that the code under test is unchanged. What is published and
/// called is recorded, and answered as the test says; what the test delivers goes to the consumers. See
/// [`Recorder`] for what it does not do.
///
/// # Examples
/// A typed publisher:
/// ```
/// use actix_pika::{ErrorKind, publisher::Publisher, testing::{Answer, Detached}};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Placed { id: u32 }
///
/// # actix_rt::System::new().block_on(async {
/// let rabbit = Detached::start().await?;
/// let orders = rabbit.exchange("orders");
/// let placed: Publisher<Placed> = orders.publisher::<Placed>().key_by(|order| format!("order.{}", order.id));
///
/// placed.publish(&Placed { id: 7 }).await?;
/// let published = rabbit.next_published().await?;
/// assert_eq!(published.routing_key(), "order.7");
/// assert_eq!(published.properties().content_type(), Some("application/json"));
/// assert_eq!(published.body(), r#"{"id":7}"#);
///
/// rabbit.answer_next(Answer::Return { code: 312, text: "NO_ROUTE".to_owned() });
/// let error = placed.publish(&Placed { id: 8 }).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unroutable);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
///
/// Tasks, from the consumer to the settlement:
/// ```
/// use actix_pika::{tasks::{OrReject, Task}, testing::Detached};
///
/// # actix_rt::System::new().block_on(async {
/// let rabbit = Detached::start().await?;
/// let ports = rabbit.queue("ports").tasks::<String>();
/// let handle = |port: Task<String>| async move {
///     port.parse::<u16>().or_reject()?;
///     Ok(())
/// };
/// let _consumer = ports.for_each(handle).await?;
///
/// rabbit.deliver_json("ports", "5672")?.acked().await?;
/// rabbit.deliver_json("ports", "many")?.rejected(false).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Detached {
    channel: Channel,
    recorder: Recorder,
}

impl Detached {
    /// Starts a connection on the first arbiter of the `System`, and opens a channel.
    ///
    /// # Errors
    /// `Stopped` outside of an actix `System`.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// rabbit.channel().declare_queue("jobs").await?;
    /// assert_eq!(rabbit.calls(), ["queue.declare jobs"]);
    /// # Ok::<(), actix_pika::Error>(()) }).unwrap();
    /// ```
    pub async fn start() -> Result<Self> {
        Self::start_with(OpenChannel::new()).await
    }

    /// Starts a connection, and opens a channel with these options.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::{OpenChannel, testing::Detached};
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = Detached::start_with(OpenChannel::new().confirms(false)).await?;
    /// assert!(!rabbit.exchange("logs").publish("hello", "info").await?.is_confirmed());
    /// # Ok::<(), actix_pika::Error>(()) }).unwrap();
    /// ```
    pub async fn start_with(options: OpenChannel) -> Result<Self> {
        Self::open(ConnectionOptions::default(), options).await
    }

    /// Starts a connection that is recovered, as one of [`connect_robust`](crate::connect_robust) is: after
    /// [`lose_connection`](Recorder::lose_connection), it connects again within the pauses of
    /// [`Recovery::default`](crate::Recovery), which a paused clock of tokio skips.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::testing::{Answer, Detached};
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = Detached::start_robust().await?;
    /// rabbit.answer_next(Answer::Hold);
    /// let confirm = rabbit.exchange("orders").try_publish("order 7", "order")?.unwrap();
    /// rabbit.next_published().await?;
    ///
    /// rabbit.lose_connection();
    /// assert_eq!(rabbit.next_published().await?.body(), "order 7"); // resent
    /// assert!(confirm.await?.is_confirmed());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn start_robust() -> Result<Self> {
        Self::open(ConnectionOptions::default().robust(), OpenChannel::new()).await
    }

    async fn open(connection: ConnectionOptions, options: OpenChannel) -> Result<Self> {
        let no_system = || facade::stopped("a connection without a socket needs an actix System");
        let arbiter = first_arbiter().ok_or_else(no_system)?;
        let (recorder, tally) = (Recorder::new(), Arc::default());
        let (supervisor, state) = recorder.launch_counted(connection, Some(&arbiter), Arc::clone(&tally));
        let connection = Connection::new(supervisor, state.clone(), tally, Hooks::default());
        let channel = opened(connection, state).await?.channel_with(options).await?;
        Ok(Self { channel, recorder })
    }

    /// Returns the connection, which can open more channels.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// let other = rabbit.connection().channel().await?;
    /// other.exchange("logs").publish("hello", "info").await?;
    /// assert_eq!(rabbit.published()[0].channel(), other.number());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn connection(&self) -> &Connection {
        self.channel.connection()
    }

    /// Returns the channel.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// assert_eq!(rabbit.channel().number(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns an exchange of the channel; the default exchange for an empty name.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// rabbit.exchange("logs").publish("hello", "info").await?;
    /// assert_eq!(rabbit.published()[0].exchange(), "logs");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn exchange(&self, name: &str) -> Exchange {
        self.channel.exchange(name)
    }

    /// Returns a queue of the channel.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// rabbit.deliver("jobs", "resize 7.png");
    /// assert_eq!(rabbit.queue("jobs").get().await?.unwrap().body(), b"resize 7.png");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn queue(&self, name: impl Into<String>) -> Queue {
        self.channel.queue(name)
    }

    /// Returns the recorder, for code that needs one of its own. All of its methods can be called on this value.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// let hasty = rabbit.recorder().clone().time_limit(std::time::Duration::from_millis(10));
    /// assert!(hasty.next_published().await.is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Delivers a value to a consumer of a queue, as a [`Publisher`](crate::publisher::Publisher) publishes it.
    ///
    /// # Errors
    /// `Codec` if it cannot be encoded.
    ///
    /// # Examples
    /// ```
    /// # actix_rt::System::new().block_on(async {
    /// let rabbit = actix_pika::testing::Detached::start().await?;
    /// let _settled = rabbit.deliver_json("ports", &5672)?;
    /// assert_eq!(rabbit.queue("ports").get().await?.unwrap().body(), b"5672");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn deliver_json<T: Serialize + ?Sized>(&self, queue: &str, value: &T) -> Result<SettleProbe> {
        let body = serde_json::to_vec(value).map_err(|error| Error::codec(error.to_string()))?;
        Ok(self.deliver(queue, Publishing::new(body).content_type("application/json")))
    }
}

impl Deref for Detached {
    type Target = Recorder;

    fn deref(&self) -> &Recorder {
        &self.recorder
    }
}
