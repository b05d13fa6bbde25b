//! The Channel actor: one AMQP channel.
//!
//! The actor is a shell: `mailbox.rs` has the messages that it takes, and from whom. [`ChannelMachine`], a
//! plain struct without a runtime or a clock, decides what to do with them. Its methods are in the other
//! files:
//!
//! | file | subject |
//! |---|---|
//! | `calls`, `waiting_calls` | calls of the application, and those that wait during a recovery |
//! | `replies`, `pending_reply` | which reply of the broker is for which call |
//! | `publish_reply` | the reply to a publish that came by the mailbox |
//! | `inbound`, `deliver` | frames of the broker, deliveries |
//! | `reduce_prefetch` | consumers whose deliveries have too many bytes |
//! | `skipped` | messages whose body is over a limit |
//! | `consume`, `cancel`, `repair` | `basic.consume`, `basic.cancel`, consumers that cannot start again |
//! | `outage`, `reopen`, `recovery` | a lost connection, a closed channel, what is recovered in which order |
//! | `lost_consumers` | consumers that only the application can start again |
//! | `nack_retry` | what happens on a nack |
//! | `requeue` | when failed deliveries are requeued |
//! | `closing` | how a channel closes for good |
//! | `state`, `consumers/phase` | the states of a channel and of a consumer |

mod call_names;
mod calls;
mod cancel;
mod close_state;
mod closing;
mod consume;
mod consumers;
mod deliver;
mod held_calls;
#[cfg(feature = "testing")]
mod hostile;
mod inbound;
mod lost_consumers;
mod machine;
mod mailbox;
mod nack_retry;
mod outage;
mod output;
mod pending_reply;
mod prefetch;
mod publish_reply;
mod recovery;
mod reduce_prefetch;
mod renames;
mod reopen;
mod reopen_backoff;
mod repair;
mod replies;
mod reply;
mod requeue;
mod skipped;
mod stale_frames;
mod state;
#[cfg(test)]
mod tests;
mod transaction;
mod unrouted;
mod waiting_calls;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use actix::{Actor, Addr, AsyncContext, Context, Message, Recipient, SpawnHandle};
use tokio::time::Instant;

#[cfg(feature = "testing")]
pub(crate) use self::hostile::HostileChannel;
pub use self::reply::Reply;
pub(crate) use self::reply::Responder;
use self::{calls::Call, machine::ChannelMachine, pending_reply::PendingReply};
use crate::{
    error::Result,
    internal::SupervisorMessage,
    message::{ChannelEvent, OpenChannel, ReleaseChannel},
    outbox::{ConnectionTally, MissingExchanges, Outbox, OutboxConfig},
    watchers::Watchers,
    wire::Assembler,
};

/// The actor of one channel: it reads what the broker sends on it, and makes the calls of the application.
///
/// [`OpenChannel`] starts it. It runs on the thread of its connection and takes the messages below. Each of
/// them is one AMQP method. Replies come in the order in which the messages were sent.
///
/// | message | reply |
/// |---|---|
/// | [`DeclareExchange`](crate::DeclareExchange), [`DeleteExchange`](crate::DeleteExchange) | `()` |
/// | [`BindExchange`](crate::BindExchange), [`UnbindExchange`](crate::UnbindExchange) | `()` |
/// | [`DeclareQueue`](crate::DeclareQueue) | [`QueueDeclared`](crate::QueueDeclared) |
/// | [`BindQueue`](crate::BindQueue), [`UnbindQueue`](crate::UnbindQueue) | `()` |
/// | [`PurgeQueue`](crate::PurgeQueue), [`DeleteQueue`](crate::DeleteQueue) | the number of messages |
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
/// Every call can fail with:
///
/// - `Refused`: the broker closed the channel because of this call;
///   [`Error::close_reason`](crate::Error::close_reason) has the reply code.
/// - `ChannelClosed`: the channel is closed, or was closed before the reply came; with the broker's reason,
///   if it gave one.
/// - `ConnectionClosed`: the connection is closed.
/// - `Timeout`: there is no reply within the channel's deadline (30 seconds unless set). `Blocked` instead
///   while the broker blocks the connection. A channel without a reply for one more deadline is closed, or
///   reopened.
/// - `Stopped`: the actor has ended; a [`MailboxError`](actix::MailboxError) converts to it.
///
/// **Over a reconnect**: the actor stays, and reopens its channel under the same number with its prefetch,
/// consumers and confirm mode. A call without a reply fails with `ConnectionClosed`. A call that is made
/// while the connection is down waits for the channel, within its deadline.
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
    requeue_timer: Option<SpawnHandle>,
}

/// Whether the number of a channel that ends can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// Both sides have closed the channel.
    Free,
    /// The broker may hold the channel open; to open it again would close the connection.
    InUse,
}

/// How many channels have been started.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// An open channel: the actor that reads for it, and the outbox that writes for it.
///
/// The channel closes once the last clone is dropped and nothing is in flight.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, DeclareQueue, OpenChannel, Result};
/// # async fn run(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// let channel = connection.send(OpenChannel::new()).await??;
/// channel.actor.send(DeclareQueue::new("jobs")).await??;
/// println!("{} unconfirmed publishes", channel.outbox.load().unconfirmed);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenedChannel {
    /// The Channel actor.
    pub actor: Addr<Channel>,
    /// The output of the channel.
    pub outbox: Arc<Outbox>,
    /// Closes the channel when it is dropped. The supervisor's own copy has none.
    _lease: Option<Arc<Lease>>,
}

/// Releases the channel when the last handle is dropped, even on its way to the caller that asked for it.
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
        assembler: Assembler,
        missing: Arc<MissingExchanges>,
        tally: Arc<ConnectionTally>,
        supervisor: Recipient<SupervisorMessage>,
        recovers: bool,
    ) -> OpenedChannel {
        let config = OutboxConfig {
            channel: number,
            confirms: options.confirms,
            window: options.window,
            window_bytes: options.window_bytes,
            deadline: options.deadline,
        };
        let outbox = Arc::new(Outbox::sharing(config, missing, tally.clone()));
        tally.add(&outbox);
        let mut machine = ChannelMachine::new(outbox.clone(), options, assembler, recovers, Instant::now());
        machine.id = STARTED.fetch_add(1, Ordering::Relaxed);
        let actor = Self {
            machine,
            supervisor,
            watchers: Watchers::new(format!("channel {number}")),
            message_ids: options.message_ids,
            ticking: false,
            requeue_timer: None,
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
    // Runs after a panic too, so that no caller waits forever.
    fn drop(&mut self) {
        self.machine.stop();
        while let Some(output) = self.machine.outputs.next() {
            self.carry_out(output, None);
        }
    }
}
