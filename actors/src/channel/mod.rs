//! The Channel actor: a logical channel. It owns the channel's state, its outbox, and all parsing.
//!
//! `life` opens and closes, `calls` speaks for people, `replies` remembers who waits for what, `inbound` reads,
//! `consume` keeps the consumers, `restore` goes on in another life.

mod acker;
mod calls;
mod cancel;
mod close_history;
mod closing;
mod consume;
mod consumer_entry;
mod consumer_phase;
mod consumers;
#[cfg(test)]
mod counting;
mod deliver;
mod inbound;
mod machine;
mod mailbox;
mod nack_retry;
mod offsets;
mod outage;
mod output;
mod pending_reply;
mod prefetch;
mod publish;
mod recovery;
mod renames;
mod reopen;
mod repair;
mod replies;
mod reply;
mod state;
mod transaction;
mod waiting_calls;

use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Message, Recipient};
use tokio::time::Instant;

pub use self::reply::Reply;
use self::{calls::Call, machine::ChannelMachine, pending_reply::PendingReply, reply::Responder};
use crate::{
    error::Result,
    message::{ChannelEvent, OpenChannel, ReleaseChannel, internal::SupervisorMessage},
    outbox::{Outbox, OutboxConfig},
    watchers::Watchers,
};

pub(crate) use self::reply::Responder as Answer;

/// Speaks for a logical channel: it owns the channel's state, its outbox, and all parsing. [`OpenChannel`] starts
/// one; nobody else can.
///
/// It lives on the thread of its connection and takes these messages; each is one AMQP method, answered in
/// the order in which they were sent.
///
/// | message | answer |
/// |---|---|
/// | [`DeclareExchange`](crate::DeclareExchange), [`DeleteExchange`](crate::DeleteExchange) | `()` |
/// | [`BindExchange`](crate::BindExchange), [`UnbindExchange`](crate::UnbindExchange) | `()` |
/// | [`DeclareQueue`](crate::DeclareQueue) | [`QueueDeclared`](crate::QueueDeclared) |
/// | [`BindQueue`](crate::BindQueue), [`UnbindQueue`](crate::UnbindQueue) | `()` |
/// | [`PurgeQueue`](crate::PurgeQueue), [`DeleteQueue`](crate::DeleteQueue) | how many messages |
/// | [`Qos`](crate::Qos) | `()` |
/// | [`Publish`](crate::Publish) | [`Confirmation`](crate::Confirmation) |
/// | [`Consume`](crate::Consume) | [`Consumed`](crate::Consumed) |
/// | [`CancelConsumer`](crate::CancelConsumer), [`PauseConsumer`](crate::PauseConsumer) | `()` |
/// | [`Get`](crate::Get) | a [`Delivery`](crate::Delivery), if there is one |
/// | [`Settle`](crate::Settle) | `()` |
/// | [`SelectTx`](crate::SelectTx), [`CommitTx`](crate::CommitTx), [`RollbackTx`](crate::RollbackTx) | `()` |
/// | [`Recover`](crate::Recover) | `()` |
/// | [`WatchChannel`](crate::WatchChannel) | nothing |
/// | [`CloseChannel`](crate::CloseChannel) | `()` |
///
/// # Errors
/// Those that every call may have:
///
/// - `Refused` where the broker closed the channel for this very call; [`Error::close_reason`] has the code.
/// - `ChannelClosed` where the channel is closed, or was before the answer came, with the reason if the
///   broker gave one.
/// - `ConnectionClosed` where the connection is.
/// - `Timeout` after the channel's deadline (30 seconds unless set), `Blocked` while the broker blocks the
///   connection. A broker that is silent for one more deadline costs the channel.
/// - `Stopped` where the actor is gone, which is what a [`MailboxError`](actix::MailboxError) becomes.
///
/// **Over a reconnect**: the actor stays the same and opens its channel again under the same number, with its
/// prefetch, confirm mode and consumers. A call whose answer was outstanding fails with `ConnectionClosed`;
/// one that begins while the connection is down waits for it within its deadline.
///
/// Source: <https://www.rabbitmq.com/docs/channels>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, ConnectionSupervisor, DeclareQueue, OpenChannel, Publish, Result};
/// # async fn run(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// let channel = connection.send(OpenChannel::new()).await??;
/// channel.actor.send(DeclareQueue::new("jobs")).await??;
/// channel.actor.send(Publish::new("", "jobs", "resize 7.png")).await??;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Channel {
    machine: ChannelMachine,
    supervisor: Recipient<SupervisorMessage>,
    watchers: Watchers<ChannelEvent>,
    /// Publishes without a message id get one.
    message_ids: bool,
    /// A tick is scheduled.
    ticking: bool,
}

/// Whether the number of a channel that ends can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// Both sides have closed the channel.
    Free,
    /// The broker may hold the channel open; to open it again would close the connection.
    InUse,
}

/// Holds an open channel: the actor that reads for it, and the outbox that writes for it.
///
/// When the last clone of it is gone and nothing is under way, the channel closes.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, DeclareQueue, OpenChannel, Result};
/// # async fn run(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// let channel = connection.send(OpenChannel::new()).await??;
/// channel.actor.send(DeclareQueue::new("jobs")).await??;
/// println!("{} publishes under way", channel.outbox.load().unconfirmed);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenedChannel {
    /// The Channel actor.
    pub actor: Addr<Channel>,
    /// The channel's way out.
    pub outbox: Arc<Outbox>,
    /// The supervisor's own copy has none.
    _lease: Option<Arc<Lease>>,
}

/// Says that nobody holds the channel any more, even if it was dropped on its way to who asked for it.
#[derive(Debug)]
struct Lease(Addr<Channel>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.do_send(ReleaseChannel);
    }
}

impl OpenedChannel {
    pub(crate) fn leased(&self) -> Self {
        Self { _lease: Some(Arc::new(Lease(self.actor.clone()))), ..self.clone() }
    }
}

impl Message for OpenChannel {
    type Result = Result<OpenedChannel>;
}

impl Channel {
    /// Starts a channel on the calling thread; it opens once it is attached.
    pub(crate) fn start(
        number: u16,
        options: &OpenChannel,
        body_max: u64,
        supervisor: Recipient<SupervisorMessage>,
        robust: bool,
    ) -> OpenedChannel {
        let outbox = Arc::new(Outbox::new(OutboxConfig {
            channel: number,
            confirms: options.confirms,
            window: options.window,
            window_bytes: options.window_bytes,
            deadline: options.deadline,
        }));
        let machine = ChannelMachine::new(outbox.clone(), options, body_max, robust, Instant::now());
        let actor = Self {
            machine,
            supervisor,
            watchers: Watchers::new(format!("channel {number}")),
            message_ids: options.message_ids,
            ticking: false,
        };
        OpenedChannel { actor: Actor::start(actor), outbox, _lease: None }
    }
}

impl Actor for Channel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.machine.outbox.set_ticked_actor(ctx.address().recipient());
        self.turn(ctx, |_| ());
    }
}

impl Drop for Channel {
    // Whatever ended the actor, a panic included: nobody waits for ever.
    fn drop(&mut self) {
        self.machine.stop();
        while let Some(output) = self.machine.outputs.next() {
            self.carry_out(output, None);
        }
    }
}
