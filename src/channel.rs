//! The handle of a channel.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix::{Addr, Handler, Message, dev::ToEnvelope};
use actix_pika_actors::{Channel as Actor, Load, OpenedChannel, Outbox};

use crate::{
    CloseChannel, Connection, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Error, Exchange,
    Publishing, Qos, Queue, Recover, Result, Transaction,
};

/// A channel. Clones are the same channel; when the last handle of it is gone and nothing is under way, it closes.
///
/// A refused call closes the channel at the broker: the call gets `Refused` with the code, every later one
/// `ChannelClosed` with the same code, and the connection goes on.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    // Before the connection, so that it is released first.
    opened: OpenedChannel,
    connection: Connection,
    /// A [`Transaction`] is alive.
    in_transaction: AtomicBool,
    ids: bool,
}

impl Channel {
    pub(crate) fn new(connection: Connection, opened: OpenedChannel, ids: bool) -> Self {
        let in_transaction = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { opened, connection, in_transaction, ids }) }
    }

    /// Declares an exchange (`exchange.declare`).
    ///
    /// # Errors
    /// `Limit` for names over 255 bytes, before anything is sent; `Refused` with 403, 404 or 406, which closes the
    /// channel. An unknown exchange type closes the *connection* (503).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareExchange;
    /// let orders = channel.declare_exchange(DeclareExchange::topic("orders")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn declare_exchange(&self, declare: impl Into<DeclareExchange>) -> Result<Exchange> {
        let declare = declare.into();
        let exchange = Exchange::new(self.clone(), declare.name());
        self.call(declare).await?;
        Ok(exchange)
    }

    /// Declares a queue (`queue.declare`); a `&str` declares a durable one of that name.
    ///
    /// # Errors
    /// `Limit` for names over 255 bytes, before anything is sent; `Refused` with 403, 404, 405 or 406, which closes the
    /// channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareQueue;
    /// let jobs = channel.declare_queue("jobs").await?;
    /// let votes = channel.declare_queue(DeclareQueue::new("votes").quorum()).await?;
    /// let mine = channel.declare_queue(DeclareQueue::exclusive()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn declare_queue(&self, declare: impl Into<DeclareQueue>) -> Result<Queue> {
        let declare = declare.into();
        let stream = declare.is_stream();
        let declared = self.call(declare).await?;
        Ok(Queue::new(self.clone(), declared.name.clone(), Some(declared)).of_stream(stream))
    }

    /// Hands out the default exchange, which routes to the queue that the routing key names.
    pub fn default_exchange(&self) -> Exchange {
        Exchange::new(self.clone(), "")
    }

    /// Hands out an exchange by name, without asking the broker.
    pub fn exchange(&self, name: &str) -> Exchange {
        Exchange::new(self.clone(), name)
    }

    /// Hands out a queue by name, without asking the broker.
    pub fn queue(&self, name: impl Into<String>) -> Queue {
        Queue::new(self.clone(), name.into(), None)
    }

    /// Hands out an exchange that exists, whatever its kind (passive `exchange.declare`).
    ///
    /// # Errors
    /// `Refused` with 404 where it does not exist and 403 for the default exchange, which closes the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let logs = channel.get_exchange("logs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_exchange(&self, name: &str) -> Result<Exchange> {
        self.declare_exchange(DeclareExchange::direct(name).passive()).await
    }

    /// Hands out a queue that exists, with its counts (passive `queue.declare`).
    ///
    /// # Errors
    /// `Refused` with 404 where it does not exist and 405 where it is exclusive to another connection, which closes the
    /// channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let jobs = channel.get_queue("jobs").await?;
    /// println!("{:?} are ready", jobs.declared().map(|d| d.message_count));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_queue(&self, name: &str) -> Result<Queue> {
        self.declare_queue(DeclareQueue::new(name).passive()).await
    }

    /// Deletes an exchange by name (`exchange.delete`).
    ///
    /// # Errors
    /// `Refused` with 403 or 406, which closes the channel.
    pub async fn delete_exchange(&self, delete: DeleteExchange) -> Result<()> {
        self.call(delete).await
    }

    /// Deletes a queue by name (`queue.delete`) and tells how many messages were ready in it.
    ///
    /// # Errors
    /// `Refused` with 405 or 406, which closes the channel.
    pub async fn delete_queue(&self, delete: DeleteQueue) -> Result<u32> {
        self.call(delete).await
    }

    /// Bounds the unsettled deliveries of each consumer that starts from now on (`basic.qos`); 0 means no bound.
    ///
    /// Source: RabbitMQ, "Consumer Prefetch".
    ///
    /// # Errors
    /// Those of a closed channel.
    pub async fn set_qos(&self, prefetch_count: u16) -> Result<()> {
        self.call(Qos::new(prefetch_count)).await
    }

    /// Bounds unsettled deliveries as the options say.
    ///
    /// # Errors
    /// Those of a closed channel.
    pub async fn set_qos_with(&self, qos: Qos) -> Result<()> {
        self.call(qos).await
    }

    /// Begins a transaction (`tx.select`), one at a time; the channel must have been opened without confirms.
    ///
    /// # Errors
    /// `Refused` without a code on a channel with confirms, or while another transaction of the channel is alive, before
    /// anything is sent.
    pub async fn transaction(&self) -> Result<Transaction> {
        Transaction::begin(self.clone()).await
    }

    pub(crate) fn claim_transaction(&self) -> Result<()> {
        if self.inner.in_transaction.swap(true, Ordering::AcqRel) {
            return Err(Error::refused_here("the channel has a transaction already"));
        }
        Ok(())
    }

    pub(crate) fn release_transaction(&self) {
        self.inner.in_transaction.store(false, Ordering::Release);
    }

    /// Puts all unsettled deliveries of the channel back into their queues (`basic.recover`); they come again, here or
    /// elsewhere, marked as redelivered.
    ///
    /// Those that were handed out before can no longer be settled: `StaleDelivery`, and no frame.
    ///
    /// # Errors
    /// Those of a closed channel.
    pub async fn recover(&self) -> Result<()> {
        self.call(Recover).await
    }

    /// Closes the channel (`channel.close`) once the publishes under way are confirmed, or the deadline has passed.
    ///
    /// Closing twice is fine. What its consumers have not settled goes back into its queues.
    ///
    /// # Errors
    /// `Timeout` when publishes were still unconfirmed; the channel is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseChannel::new()).await
    }

    /// Closes the channel with a reason for the broker's log.
    ///
    /// # Errors
    /// Those of [`close`](Self::close).
    pub async fn close_with(&self, close: CloseChannel) -> Result<()> {
        match self.inner.opened.actor.send(close).await {
            Ok(answer) => answer,
            Err(_) if self.is_closed() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether the channel, or its connection, is closed.
    pub fn is_closed(&self) -> bool {
        self.inner.opened.outbox.closed().is_some() || self.inner.connection.is_closed()
    }

    /// Tells why the channel is closed, if it is.
    pub fn close_cause(&self) -> Option<Error> {
        self.inner.opened.outbox.closed()
    }

    /// Tells the channel's number.
    pub fn number(&self) -> u16 {
        self.inner.opened.outbox.terms().channel
    }

    /// Counts what is under way: publishes, deliveries, bytes.
    pub fn load(&self) -> Load {
        self.inner.opened.outbox.load()
    }

    /// Hands out the connection of the channel.
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Hands out the address of the actor behind the handle.
    pub fn actor(&self) -> &Addr<Actor> {
        &self.inner.opened.actor
    }

    /// Gives content what the channel gives to all.
    pub(crate) fn finish(&self, content: Publishing) -> Publishing {
        if self.inner.ids { content.with_id() } else { content }
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.inner.opened.outbox
    }

    /// Sends a call to the actor; if that is gone, the cause of its end is the answer.
    pub(crate) async fn call<M, T>(&self, message: M) -> Result<T>
    where
        M: Message<Result = Result<T>> + Send + 'static,
        T: Send + 'static,
        Actor: Handler<M>,
        <Actor as actix::Actor>::Context: ToEnvelope<Actor, M>,
    {
        match self.inner.opened.actor.send(message).await {
            Ok(answer) => answer,
            Err(error) => Err(self.inner.opened.outbox.closed().unwrap_or_else(|| error.into())),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("number", &self.number()).field("closed", &self.is_closed()).finish()
    }
}
