//! What is said about transactions, and about taking deliveries back.

use actix::Message;

use crate::error::Result;

/// Puts the channel into transaction mode (`tx.select`), for good: what is published or settled on it from now on takes
/// effect with the next [`CommitTx`]. Again on such a channel it changes nothing.
///
/// # Errors
/// `Refused` without a code on a channel with confirms, before anything is sent: the broker would close it (406).
///
/// Source: RabbitMQ, "Broker Semantics", section "Transactions".
#[derive(Clone, Copy, Debug, Default)]
pub struct SelectTx;

impl Message for SelectTx {
    type Result = Result<()>;
}

/// Lets everything since the last commit or rollback take effect (`tx.commit`): publishes, then settles.
///
/// # Errors
/// `Refused` without a code outside transaction mode, before anything is sent. `Unroutable` where a mandatory publish
/// came back: the rest has taken effect all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitTx;

impl Message for CommitTx {
    type Result = Result<()>;
}

/// Undoes everything since the last commit or rollback (`tx.rollback`): what was published is discarded, what was
/// settled goes back into its queue, because nobody has it any more.
///
/// # Errors
/// `Refused` without a code outside transaction mode, before anything is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct RollbackTx;

impl Message for RollbackTx {
    type Result = Result<()>;
}

/// Puts all unsettled deliveries of the channel back into their queues (`basic.recover` with requeue); they come again,
/// here or elsewhere, marked as redelivered.
///
/// Deliveries handed out before can no longer be settled: `StaleDelivery`. Those of `no_ack` consumers are not touched.
/// Source: AMQP 0-9-1, class basic, method recover; RabbitMQ refuses it without requeue (540).
#[derive(Clone, Copy, Debug, Default)]
pub struct Recover;

impl Message for Recover {
    type Result = Result<()>;
}
