//! Relays: consume, publish, await the confirm, acknowledge.

use super::Publisher;
use crate::{
    ErrorKind, Publishing, Result,
    codec::Codec,
    message::Content,
    tasks::{Failure, TaskConsumer, Tasks},
};

impl<T: 'static, C: Codec<T>> Tasks<T, C> {
    /// Starts a consumer (`basic.consume`) that publishes what `map` makes of each message, and acknowledges the message
    /// when the broker has confirmed that. `None` acknowledges it at once.
    ///
    /// No message is lost, whenever the connection or the process ends: what is not acknowledged is delivered again, and
    /// published again. The message id is kept, so that a consumer recognises the duplicate; a message
    /// without one gets that of the publisher ([`Publisher::message_ids`]), another one each time. Nothing else of the
    /// message is taken over.
    ///
    /// A publish that fails is a failed task, which is tried again (see the [module](crate::tasks)); a value that cannot
    /// be encoded is rejected. With one task [at once](Self::at_once), which is the default, each message waits for
    /// the confirm of the one before it; with more, they may be published in another order.
    ///
    /// # Errors
    /// Those of [`for_each`](Self::for_each).
    ///
    /// **Over a reconnect**: unconfirmed publishes are resent, and unacknowledged messages are delivered again: a message may
    /// be published twice.
    ///
    /// # Examples
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Order { id: u64 }
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Bill { order: u64 }
    /// # impl From<Order> for Bill { fn from(order: Order) -> Self { Self { order: order.id } } }
    /// # async fn run(orders: actix_pika::Queue, shop: actix_pika::Exchange) -> actix_pika::Result<()> {
    /// let bills = shop.publisher::<Bill>().key("bill.created");
    /// let relay = orders.tasks::<Order>().at_once(100).relay(&bills, |order| Some(Bill::from(order))).await?;
    /// # Ok(()) }
    /// ```
    pub async fn relay<U, D>(
        self,
        publisher: &Publisher<U, D>,
        mut map: impl FnMut(T) -> Option<U> + 'static,
    ) -> Result<TaskConsumer>
    where
        U: 'static,
        D: Codec<U>,
    {
        let publisher = publisher.clone();
        let relay = self.for_each(move |task| {
            let (value, content, token) = task.into_parts();
            let value = map(value);
            let publish =
                value.map(|value| publisher.publish_with(&value, |message| keep_id(message, &content)));
            async move {
                if let Some(publish) = publish {
                    publish.await.map_err(failure)?;
                }
                drop(token);
                Ok(())
            }
        });
        relay.await
    }
}

fn keep_id(message: Publishing, content: &Content) -> Publishing {
    match content.properties().ok().and_then(|properties| properties.message_id()) {
        Some(id) => message.message_id(id),
        None => message,
    }
}

/// Another try encodes the same value.
fn failure(error: crate::Error) -> Failure {
    if error.kind() == ErrorKind::Codec { Failure::reject(error) } else { Failure::retry(error) }
}
