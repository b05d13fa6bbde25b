//! Transactions, and returning all unsettled deliveries (`basic.recover`).

use actix::Message;

use crate::error::Result;

/// Puts the channel into transaction mode (`tx.select`). It stays in this mode.
///
/// From now on, publishes and acknowledgements on the channel take effect with the next [`CommitTx`].
/// Selecting the mode again has no effect.
///
/// # Errors
/// - `Refused` without a code on a channel with confirms, before anything is sent; the broker would close it
///   (406).
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: a channel in transaction mode does not recover; it ends with `ChannelClosed`.
///
/// Source: AMQP 0-9-1 section 1.9.2.1 (`tx.select`); <https://www.rabbitmq.com/docs/semantics#tx>
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

/// Commits the transaction (`tx.commit`): the publishes since the last commit or rollback take effect, then
/// the acknowledgements.
///
/// It is atomic only if all of them concern one queue.
///
/// Until its reply comes, nothing but `channel.close` is written on the channel: RabbitMQ closes the connection
/// (504) for anything else that it reads before it has committed. Calls, further commits too, are made after it, in
/// order. Publishes and acknowledgements are taken and belong to the next transaction; publishes take room in the
/// publish window, and wait where there is none.
///
/// # Errors
/// - `Refused` without a code outside transaction mode, before anything is sent.
/// - `Unroutable` if the broker returned a mandatory publish. Everything else has taken effect.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the channel ends with `ChannelClosed`. A commit that awaited its reply may or may
/// not have taken effect.
///
/// Source: AMQP 0-9-1 section 1.9.2.3 (`tx.commit`); <https://www.rabbitmq.com/docs/semantics#tx>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, CommitTx, ErrorKind, Result};
/// # async fn commit(channel: Addr<Channel>) -> Result<()> {
/// match channel.send(CommitTx).await? {
///     Err(error) if error.kind() == ErrorKind::Unroutable => eprintln!("committed, but {error}"),
///     result => result?,
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct CommitTx;

impl Message for CommitTx {
    type Result = Result<()>;
}

/// Rolls the transaction back (`tx.rollback`): the publishes since the last commit or rollback are discarded,
/// and the deliveries that were settled since then return to their queues.
///
/// If deliveries return, the client also sends `basic.reject` for them, and `tx.commit`. The reply is sent
/// when they are in their queues. What follows waits for it, as for [`CommitTx`].
///
/// # Errors
/// - `Refused` without a code outside transaction mode, before anything is sent.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the channel ends with `ChannelClosed`, which rolls the transaction back, too.
///
/// Source: AMQP 0-9-1 section 1.9.2.5 (`tx.rollback`); <https://www.rabbitmq.com/docs/semantics#tx>
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

/// Returns all unsettled deliveries of the channel to their queues (`basic.recover` with requeue).
///
/// The broker delivers them again, to this or another consumer, with the redelivered flag. Settling one from
/// before fails with `StaleDelivery`. Deliveries of `no_ack` consumers are not affected. Without requeue,
/// RabbitMQ closes the connection (540), so that there is no such option.
///
/// # Errors
/// Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: a call that awaited its reply fails with `ConnectionClosed`; the broker returns the
/// deliveries in any case.
///
/// Source: AMQP 0-9-1 section 1.8.3.16 (`basic.recover`)
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Recover, Result};
/// # async fn return_all(channel: Addr<Channel>) -> Result<()> {
/// channel.send(Recover).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Recover;

impl Message for Recover {
    type Result = Result<()>;
}
