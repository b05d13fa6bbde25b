//! The Channel actor: a logical channel. It owns the channel's state, its outbox, and all parsing.
//!
//! `life` opens and closes, `calls` speaks for people, `replies` remembers who waits for what, `inbound` reads,
//! `consume` keeps the consumers, `restore` goes on in another life.

mod acker;
mod calls;
mod consume;
#[cfg(test)]
mod counting;
mod inbound;
mod life;
mod nack_retry;
mod offsets;
mod recovery;
mod renames;
mod replies;
mod reply;
mod transaction;

use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Message, Recipient};
use tokio::time::Instant;

pub use self::reply::Reply;
use self::{
    consume::Consumers, inbound::Inbox, nack_retry::NackRetry, recovery::ChannelRecovery, replies::Replies,
    reply::Responder, transaction::TransactionState,
};
use crate::{
    error::{Error, Result},
    message::{ChannelEvent, OnOutage, OpenChannel, ReleaseChannel, internal::SupervisorMessage},
    outbox::{Outbox, OutboxConfig},
    transport::ReadCredit,
    watchers::Watchers,
};

pub(crate) use self::reply::Responder as Answer;

/// Deliveries that a consumer may have unsettled unless told otherwise.
const DEFAULT_PREFETCH: u16 = 250;

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
    outbox: Arc<Outbox>,
    supervisor: Recipient<SupervisorMessage>,
    epoch: u64,
    credit: Option<Arc<ReadCredit>>,
    phase: ChannelState,
    replies: Replies,
    consumers: Consumers,
    inbox: Inbox,
    /// Of consumers that start from now on.
    prefetch: u16,
    /// What the broker takes for that.
    prefetch_said: Option<u16>,
    /// The bound that all consumers share, if there is one.
    prefetch_shared: Option<u16>,
    closers: Vec<Responder<()>>,
    /// The connection is about to be closed and waits for our word.
    draining: bool,
    /// The last handle is gone; publishes under way are awaited until then.
    released: Option<Instant>,
    ticking: bool,
    /// The outbox's; deliveries of another one are stale.
    channel_epoch: u32,
    transacting: TransactionState,
    watchers: Watchers<ChannelEvent>,
    /// Publishes without a message id get one.
    ids: bool,
    /// How many `basic.recover` are under way: what comes meanwhile is requeued, and nobody's.
    recovering: usize,
    /// The connection recovers, and the channel with it.
    robust: bool,
    fails_in_outage: bool,
    /// Since when it is to open.
    since: Instant,
    going: ChannelRecovery,
    nacks: NackRetry,
}

#[derive(Debug)]
enum ChannelState {
    /// Without a connection, or not open yet.
    Opening,
    Open,
    /// Publishes under way are awaited, then `channel.close` goes out.
    Draining {
        code: u16,
        text: String,
        until: Instant,
    },
    /// Without a connection, until there is one again.
    Lost,
    /// What it stands for was said, and is not answered yet.
    Restoring,
    /// `channel.close` is out, for the reason given; `abandoned` publishes were not confirmed. Perhaps it is to open
    /// again, perhaps a close of the broker's has crossed it.
    Closing {
        abandoned: usize,
        error: Error,
        reopen: bool,
        crossed: bool,
    },
    Closed(Error),
}

/// What becomes of the number of a channel that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// Both sides know that the channel is closed.
    Free,
    /// The broker may take the channel for open: to open it again would cost the connection.
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
        let actor = Self {
            outbox: outbox.clone(),
            supervisor,
            epoch: 0,
            credit: None,
            phase: ChannelState::Opening,
            replies: Replies::default(),
            consumers: Consumers::default(),
            inbox: Inbox::new(body_max),
            prefetch: DEFAULT_PREFETCH,
            prefetch_said: None,
            prefetch_shared: None,
            closers: Vec::new(),
            draining: false,
            released: None,
            ticking: false,
            channel_epoch: 0,
            transacting: TransactionState::default(),
            watchers: Watchers::new(format!("channel {number}")),
            ids: options.message_ids,
            recovering: 0,
            robust,
            fails_in_outage: options.on_outage == OnOutage::Fail,
            since: Instant::now(),
            going: ChannelRecovery::default(),
            nacks: NackRetry::default(),
        };
        OpenedChannel { actor: Actor::start(actor), outbox, _lease: None }
    }

    fn number(&self) -> u16 {
        self.outbox.terms().channel
    }
}

impl Actor for Channel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.outbox.on_tick(ctx.address().recipient());
        // It may take long until there is a connection.
        self.keep_ticking(ctx);
    }
}

impl Drop for Channel {
    // Whatever ended the actor, a panic included: nobody waits for ever.
    fn drop(&mut self) {
        let final_frames = self.close_frame(200, "the Channel actor ended").ok();
        self.end(Error::stopped("the Channel actor ended"), final_frames, Number::InUse);
    }
}
