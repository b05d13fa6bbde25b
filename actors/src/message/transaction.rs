//! What is said about transactions, and about taking deliveries back.

use actix::Message;

use crate::error::Result;

/// Puts the channel into transaction mode, for good: what is published or settled on it from now on takes
/// effect with the next [`CommitTx`]. Again on such a channel it changes nothing.
///
/// Sends `tx.select`.
///
/// # Errors
/// `Refused` without a code on a channel with confirms, before anything is sent: the broker would close it
/// (406). Otherwise those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: a channel in transaction mode is not restored: it ends with `ChannelClosed`.
///
/// Source: AMQP 0-9-1 section 1.9.2.1; <https://www.rabbitmq.com/docs/semantics#tx>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, CommitTx, Publish, Result, SelectTx};
/// # async fn transact(channel: Addr<Channel>) -> Result<()> {
/// channel.send(SelectTx).await??; // opened with `confirms(false)`
/// channel.send(Publish::new("", "ledger", "debit 5")).await??;
/// channel.send(Publish::new("", "ledger", "credit 5")).await??;
/// channel.send(CommitTx).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct SelectTx;

impl Message for SelectTx {
    type Result = Result<()>;
}

/// Lets everything since the last commit or rollback take effect: publishes, then settles.
///
/// Sends `tx.commit`. It is atomic for one queue at most.
///
/// # Errors
/// `Refused` without a code outside transaction mode, before anything is sent. `Unroutable` where a mandatory
/// publish came back: the rest has taken effect all the same. Otherwise those of every call
/// ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the channel ends with `ChannelClosed`; whether a commit under way has taken effect
/// is not known.
///
/// Source: AMQP 0-9-1 section 1.9.2.3; <https://www.rabbitmq.com/docs/semantics#tx>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, CommitTx, ErrorKind, Result};
/// # async fn commit(channel: Addr<Channel>) -> Result<()> {
/// match channel.send(CommitTx).await? {
///     Err(error) if error.kind() == ErrorKind::Unroutable => eprintln!("committed, but {error}"),
///     answer => answer?,
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct CommitTx;

impl Message for CommitTx {
    type Result = Result<()>;
}

/// Undoes everything since the last commit or rollback: what was published is discarded, what was settled
/// goes back into its queue, because nobody has it any more.
///
/// Sends `tx.rollback`; where deliveries go back, their refusal and a `tx.commit` behind it. Answered when
/// they are in their queues.
///
/// # Errors
/// `Refused` without a code outside transaction mode, before anything is sent. Otherwise those of every call
/// ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the channel ends with `ChannelClosed`, which undoes as much.
///
/// Source: AMQP 0-9-1 section 1.9.2.5; <https://www.rabbitmq.com/docs/semantics#tx>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Result, RollbackTx};
/// # async fn undo(channel: Addr<Channel>) -> Result<()> {
/// channel.send(RollbackTx).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct RollbackTx;

impl Message for RollbackTx {
    type Result = Result<()>;
}

/// Puts all unsettled deliveries of the channel back into their queues; they come again, here or elsewhere,
/// marked as redelivered.
///
/// Sends `basic.recover` with requeue; RabbitMQ refuses it without (540). Deliveries handed out before can no
/// longer be settled: `StaleDelivery`. Those of `no_ack` consumers are not touched.
///
/// # Errors
/// Those of every call ([`Channel`](crate::Channel)).
///
/// Source: AMQP 0-9-1 section 1.8.3.16
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Recover, Result};
/// # async fn give_all_back(channel: Addr<Channel>) -> Result<()> {
/// channel.send(Recover).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Recover;

impl Message for Recover {
    type Result = Result<()>;
}
