//! Transactions of a channel.

use std::fmt;

use actix_pika_actors::{CommitTx, RollbackTx, SelectTx};

use crate::{Channel, Result};

/// A transaction: what is published and settled on its channel takes effect with [`commit`](Self::commit), all of it,
/// or not at all.
///
/// Dropping it rolls back, as far as the channel still can. It is the channel that is in the transaction, so every
/// handle and every delivery of it takes part, and a channel that once had a transaction takes nothing outside of one
/// any more: what is published or settled between two of them waits for the next commit. The broker guarantees atomicity
/// within one queue only; confirms are faster and usually the better choice.
///
/// Source: RabbitMQ, "Broker Semantics", section "Transactions".
///
/// # Robust
/// A connection that is lost takes the transaction with it: `commit` fails, and nothing has taken effect unless the
/// commit itself was under way.
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

    /// Lets everything take effect (`tx.commit`).
    ///
    /// # Errors
    /// `Unroutable` where a mandatory publish came back, the first of them: the rest has taken effect. `ChannelClosed`
    /// with 404 where an exchange did not exist: nothing has.
    pub async fn commit(mut self) -> Result<()> {
        let answer = self.channel.call(CommitTx).await;
        self.over = true;
        answer
    }

    /// Undoes everything (`tx.rollback`): publishes are discarded, deliveries that were settled go back into their
    /// queues and come again, marked as redelivered.
    ///
    /// # Errors
    /// Those of a closed channel, where everything is undone as well.
    pub async fn rollback(mut self) -> Result<()> {
        let answer = self.channel.call(RollbackTx).await;
        self.over = true;
        answer
    }

    /// Hands out the channel.
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
