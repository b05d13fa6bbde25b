//! How long a consumer goes on, for those who wait for its end.

use tokio::sync::watch;

use crate::{error::Error, message::ConsumerEnd};

/// The other ends of a [`ConsumerState`], with the channel and with the deliveries.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) end: watch::Sender<Option<ConsumerEnd>>,
    /// Dropped with the last delivery of the consumer.
    pub(crate) held: watch::Sender<()>,
}

/// Tells when a consumer has ended, and when nobody holds a delivery of it any more.
///
/// **Over a reconnect**: a consumer that starts again has not ended.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{ConsumerEnd, ConsumerState};
/// async fn drained(life: &ConsumerState) -> ConsumerEnd {
///     let end = life.ended().await;
///     life.settled().await;
///     end
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerState {
    end: watch::Receiver<Option<ConsumerEnd>>,
    held: watch::Receiver<()>,
}

impl ConsumerState {
    pub(crate) fn begin() -> (Ends, Self) {
        let (end, ended) = watch::channel(None);
        let (held, let_go) = watch::channel(());
        (Ends { end, held }, Self { end: ended, held: let_go })
    }

    /// Tells why it has ended, if it has.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// fn goes_on(life: &ConsumerState) -> bool {
    ///     life.end().is_none()
    /// }
    /// ```
    pub fn end(&self) -> Option<ConsumerEnd> {
        let end = self.end.borrow().clone();
        match end {
            None if self.end.has_changed().is_err() => Some(gone()),
            end => end,
        }
    }

    /// Waits until it has ended, and tells why.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// async fn log(life: ConsumerState) {
    ///     println!("ended: {:?}", life.ended().await);
    /// }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    /// Waits until it has ended and all of its deliveries are settled or dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ConsumerState;
    /// async fn finished(life: ConsumerState) {
    ///     life.settled().await;
    /// }
    /// ```
    pub async fn settled(&self) {
        let mut held = self.held.clone();
        while held.changed().await.is_ok() {}
    }
}

fn gone() -> ConsumerEnd {
    ConsumerEnd::Closed(Error::stopped("the Channel actor is gone"))
}
