//! The end of a consumer, and how to wait for it.

use actix::Message;
use tokio::sync::watch;

use crate::error::Error;

/// Describes why a consumer has ended.
///
/// On a connection that recovers, a consumer that has ended with `TargetGone` or `TooSlow`, or with a channel that the
/// application did not close, is still wanted: it is missing in [`Health`](crate::Health) until the application gives
/// it up. It does so by
/// [`CancelConsumer`](crate::CancelConsumer) for its tag (`Consumer::cancel`), by [`Forget`](crate::Forget), by
/// another consumer with the same tag, or by closing the channel. A stream that is dropped is given up. A consumer with `robust(false)` is not
/// missing when it has ended.
///
/// Source: <https://www.rabbitmq.com/docs/consumer-cancel>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConsumerEnd;
/// fn should_restart(end: &ConsumerEnd) -> bool {
///     matches!(end, ConsumerEnd::TargetGone | ConsumerEnd::TooSlow)
/// }
/// assert!(!should_restart(&ConsumerEnd::Cancelled));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerEnd {
    /// The application cancelled it.
    Cancelled,
    /// The broker cancelled it (`basic.cancel`): its queue was deleted, its node failed, or, with RabbitMQ 4.3
    /// and later, one of its deliveries of a quorum queue was unsettled for too long.
    CancelledByBroker,
    /// The actor that got its deliveries has stopped or panicked, or the arbiter of the consumer has ended, or
    /// the factory of its workers has panicked.
    TargetGone,
    /// Its waiting deliveries kept the connection from reading for too long (`stall_limit`), and no other
    /// consumer had more of them.
    TooSlow,
    /// The application gave it up, or its queue ([`Forget`](crate::Forget)).
    Forgotten,
    /// Its channel or connection is closed.
    Closed(Error),
}

impl Message for ConsumerEnd {
    type Result = ();
}

/// The sending side of a [`ConsumerState`]: one half stays with the channel, the other with the deliveries.
#[derive(Debug)]
pub(crate) struct ConsumerStateSender {
    pub(crate) end: watch::Sender<Option<ConsumerEnd>>,
    /// Dropped together with the last delivery of the consumer.
    pub(crate) deliveries: watch::Sender<()>,
}

/// Reports when a consumer has ended, and when all its deliveries are settled or dropped.
///
/// **Over a reconnect**: a consumer that starts again has not ended.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{ConsumerEnd, ConsumerState};
/// async fn drain(state: &ConsumerState) -> ConsumerEnd {
///     let end = state.ended().await;
///     state.settled().await;
///     end
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerState {
    end: watch::Receiver<Option<ConsumerEnd>>,
    deliveries: watch::Receiver<()>,
}

impl ConsumerState {
    pub(crate) fn new() -> (ConsumerStateSender, Self) {
        let (end, ended) = watch::channel(None);
        let (deliveries, dropped) = watch::channel(());
        (ConsumerStateSender { end, deliveries }, Self { end: ended, deliveries: dropped })
    }

    /// Returns why the consumer has ended; `None` if it has not.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// fn is_running(state: &ConsumerState) -> bool {
    ///     state.end().is_none()
    /// }
    /// ```
    pub fn end(&self) -> Option<ConsumerEnd> {
        let end = self.end.borrow().clone();
        match end {
            None if self.end.has_changed().is_err() => Some(channel_stopped()),
            end => end,
        }
    }

    /// Waits until the consumer has ended, and returns why.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// async fn print_end(state: ConsumerState) {
    ///     println!("ended: {:?}", state.ended().await);
    /// }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(channel_stopped),
            Err(_) => channel_stopped(),
        }
    }

    /// Waits until the consumer has ended and all its deliveries are settled or dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// async fn wait_until_settled(state: ConsumerState) {
    ///     state.settled().await;
    /// }
    /// ```
    pub async fn settled(&self) {
        let mut deliveries = self.deliveries.clone();
        while deliveries.changed().await.is_ok() {}
    }
}

fn channel_stopped() -> ConsumerEnd {
    ConsumerEnd::Closed(Error::stopped("the Channel actor has stopped"))
}
