//! Transactions of a channel.

use std::fmt;

use actix_pika_actors::{CommitTx, RollbackTx, SelectTx};

use crate::{Channel, Result};

/// Groups what is published and settled on its channel: it takes effect with [`commit`](Self::commit), all of it, or
/// not at all.
///
/// Dropping it rolls back, as far as the channel still can. It is the channel that is in the transaction, so every
/// handle and every delivery of it takes part, and a channel that once had a transaction takes nothing outside of one
/// any more: what is published or settled between two of them waits for the next commit. The broker guarantees
/// atomicity within one queue only; confirms are faster and usually the better choice.
///
/// **Over a reconnect**: a connection that is lost takes the transaction with it, and its channel is not restored:
/// that ends with `ChannelClosed`. Nothing has taken effect, unless the commit itself was under way.
///
/// Source: AMQP 0-9-1 section 1.9 (class tx); <https://www.rabbitmq.com/docs/semantics>.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// use actix_pika::OpenChannel;
/// let channel = connection.channel_with(OpenChannel::new().confirms(false)).await?;
/// let transaction = channel.transaction().await?;
/// channel.default_exchange().publish("debit 7", "ledger").await?;
/// channel.default_exchange().publish("credit 9", "ledger").await?;
/// transaction.commit().await?; // an early return before this line rolls back
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a transaction rolls it back"]
pub struct Transaction {
    channel: Channel,
    over: bool,
}

impl Transaction {
    pub(crate) async fn begin(channel: Channel) -> Result<Self> {
        channel.claim_transaction()?;
        // From here on dropping it gives the claim back.
        let mut transaction = Self { channel, over: true };
        transaction.channel.call(SelectTx).await?;
        transaction.over = false;
        Ok(transaction)
    }

    /// Lets everything take effect.
    ///
    /// Sends `tx.commit`.
    ///
    /// # Errors
    /// `Unroutable` where a mandatory publish came back, the first of them: the rest has taken effect.
    /// `ChannelClosed` with 404 where an exchange did not exist: the broker has closed the channel, and nothing has
    /// taken effect. And [those of every call](Channel#errors-of-every-call): after `Timeout`, `Blocked` or a loss of
    /// the connection it may have taken effect.
    ///
    /// **Over a reconnect**: a commit whose answer was outstanding fails with `ChannelClosed`; it may have taken
    /// effect.
    ///
    /// Source: AMQP 0-9-1 section 1.9 (`tx.commit`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let transaction = channel.transaction().await?;
    /// if let Some(job) = channel.queue("jobs").get().await? {
    ///     channel.default_exchange().publish("done", "results").await?;
    ///     job.ack()?;
    /// }
    /// transaction.commit().await // the result is there, and the job is gone
    /// # }
    /// ```
    pub async fn commit(mut self) -> Result<()> {
        let answer = self.channel.call(CommitTx).await;
        self.over = true;
        answer
    }

    /// Undoes everything: publishes are discarded, deliveries that were settled go back into their queues and come
    /// again, marked as redelivered.
    ///
    /// Sends `tx.rollback`. Where deliveries were settled, it then refuses them and sends `tx.commit`, since nobody
    /// has them any more.
    ///
    /// # Errors
    /// [Those of every call](Channel#errors-of-every-call); on a closed channel everything is undone as well.
    ///
    /// **Over a reconnect**: the broker has undone everything by itself.
    ///
    /// Source: AMQP 0-9-1 section 1.9 (`tx.rollback`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let transaction = channel.transaction().await?;
    /// channel.default_exchange().publish("never seen", "ledger").await?;
    /// transaction.rollback().await
    /// # }
    /// ```
    pub async fn rollback(mut self) -> Result<()> {
        let answer = self.channel.call(RollbackTx).await;
        self.over = true;
        answer
    }

    /// Hands out the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(transaction: actix_pika::Transaction) -> actix_pika::Result<()> {
    /// transaction.channel().default_exchange().publish("debit 7", "ledger").await?;
    /// transaction.commit().await
    /// # }
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.over {
            self.channel.actor().do_send(RollbackTx);
        }
        self.channel.release_transaction();
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("channel", &self.channel.number()).finish()
    }
}
