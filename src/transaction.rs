//! Transactions of a channel.

use std::fmt;

use actix_pika_actors::{CommitTx, RollbackTx, SelectTx};

use crate::{Channel, Result};

/// A transaction: what is published and settled on its channel takes effect with [`commit`](Self::commit), or
/// not at all.
///
/// Dropping it rolls back, unless the channel is closed, and does not wait for the reply: what is published right
/// after the drop may be rolled back as well. [`rollback`](Self::rollback) waits. The transaction belongs to the channel: it covers
/// every handle and every delivery of it. A channel that once had a transaction stays in transaction mode:
/// what is published or settled between two transactions takes effect with the next commit. So does what other
/// tasks publish or settle while a commit or rollback awaits its reply: it is written after the reply, because
/// RabbitMQ closes the connection (504) for what it reads before it has committed. The broker
/// guarantees atomicity within one queue only. Confirms are faster and usually the better choice.
///
/// **Over a reconnect**: the transaction ends, and its channel is not recovered: it ends with
/// `ChannelClosed`. Nothing took effect, unless the commit was outstanding. What was consumed on the channel is missing
/// then: see [`Channel::transaction`].
///
/// Source: AMQP 0-9-1 section 1.9 (class tx); <https://www.rabbitmq.com/docs/semantics>
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
    finished: bool,
}

impl Transaction {
    pub(crate) async fn begin(channel: Channel) -> Result<Self> {
        channel.claim_transaction()?;
        // From here on, dropping it releases the claim.
        let mut transaction = Self { channel, finished: true };
        transaction.channel.call(SelectTx).await?;
        transaction.finished = false;
        Ok(transaction)
    }

    /// Commits: everything takes effect.
    ///
    /// Sends `tx.commit`. Until its reply comes, calls on the channel wait, and publishes take room in the publish
    /// window ([`OpenChannel::window`](crate::OpenChannel::window)) without being written. Dropping the future
    /// after its first poll, as a timeout does, does not take the commit back.
    ///
    /// # Errors
    /// `Unroutable` for the first mandatory publish that was returned; the rest has taken effect.
    /// `ChannelClosed` with 404 if an exchange does not exist: the broker has closed the channel, and nothing
    /// has taken effect. And [those of every call](Channel#errors-of-every-call): after `Timeout`, `Blocked`
    /// or a loss of the connection the commit may have taken effect.
    ///
    /// **Over a reconnect**: a commit whose reply was outstanding fails with `ChannelClosed`; it may have
    /// taken effect.
    ///
    /// Source: AMQP 0-9-1 section 1.9.2.3 (`tx.commit`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let transaction = channel.transaction().await?;
    /// if let Some(job) = channel.queue("jobs").get().await? {
    ///     channel.default_exchange().publish("done", "results").await?;
    ///     job.ack()?;
    /// }
    /// transaction.commit().await // publishes the result and acknowledges the job
    /// # }
    /// ```
    pub async fn commit(mut self) -> Result<()> {
        let result = self.channel.call(CommitTx).await;
        self.finished = true;
        result
    }

    /// Rolls back: publishes are discarded, and deliveries that were settled return to their queues and are
    /// delivered again, marked as redelivered.
    ///
    /// Sends `tx.rollback`. If deliveries were settled, it then refuses them and sends `tx.commit`, because
    /// the application no longer has them.
    ///
    /// # Errors
    /// [Those of every call](Channel#errors-of-every-call). On a closed channel everything is rolled back as
    /// well.
    ///
    /// **Over a reconnect**: the broker has rolled back.
    ///
    /// Source: AMQP 0-9-1 section 1.9.2.5 (`tx.rollback`)
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
        let result = self.channel.call(RollbackTx).await;
        self.finished = true;
        result
    }

    /// Returns the channel.
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
        if !self.finished {
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
