//! The ConnectionSupervisor: the connection that the user holds. It starts Connection actors, gives them channels, and
//! keeps on answering when they are gone.

mod backoff;
mod channel_numbers;
mod health;
mod recover;
mod recovery_steps;
mod secrets;
#[cfg(feature = "testing")]
mod test_hooks;
mod topology;
mod utility_channel;

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, Addr, ArbiterHandle, AsyncContext, Context, Handler, MessageResult, Recipient,
    SpawnHandle,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::{channel_numbers::ChannelNumbers, recover::ConnectionRecovery, secrets::Secrets};
use crate::{
    channel::{Answer, Channel, OpenedChannel, Reply},
    connection::Connection,
    error::{Error, Result},
    message::{
        CloseConnection, ConnectionEvent, ConnectionState, FollowConnection, GetState, OpenChannel, Opened,
        ReleaseConnection, WatchConnection,
        internal::{Change, ChannelMessage, ConnectionCommand, SocketInfo, SupervisorMessage},
    },
    options::{ConnectionOptions, Recovery, clamp_timeout},
    outbox::Flush,
    transport::ReadCredit,
    wire::{Negotiated, Value},
};

/// How long the answer to `connection.close` is awaited at least.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Stands for the connection that the user holds: it starts [`Connection`](crate::Connection) actors, gives them
/// channels, and keeps on answering when they are gone.
///
/// | message | answer |
/// |---|---|
/// | [`OpenChannel`] | [`OpenedChannel`] |
/// | [`UpdateSecret`](crate::UpdateSecret) | `()` |
/// | [`GetState`] | [`ConnectionState`] |
/// | [`GetHealth`](crate::GetHealth) | [`Health`](crate::Health) |
/// | [`WatchConnection`] | nothing |
/// | [`CloseConnection`] | `()` |
///
/// # Errors
/// `ConnectionClosed` for whatever is asked of a connection that is closed, being closed or not open yet; its
/// [`close_reason`](Error::close_reason) is the broker's, if it gave one.
///
/// **Over a reconnect**: it stays the same, with its watchers and channels. A login or virtual host that is refused
/// for a minute ends it, and so do the limits of its [`Recovery`].
///
/// Source: <https://www.rabbitmq.com/docs/connections>
///
/// # Examples
/// ```no_run
/// # use actix_pika_actors::{ConnectionOptions, ConnectionSupervisor, GetState, Result};
/// # async fn run() -> Result<()> {
/// let (connection, _) = ConnectionSupervisor::launch(ConnectionOptions::default(), None);
/// println!("{:?}", connection.send(GetState).await?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ConnectionSupervisor {
    options: Arc<ConnectionOptions>,
    state: watch::Sender<ConnectionState>,
    epoch: u64,
    connection: Option<ActiveConnection>,
    numbers: ChannelNumbers,
    routes: HashMap<u16, ChannelEntry>,
    watchers: Vec<Recipient<ConnectionEvent>>,
    followers: Vec<mpsc::Sender<ConnectionEvent>>,
    closing: Option<Closing>,
    released: bool,
    secrets: Secrets,
    recovering: ConnectionRecovery,
    /// There was a connection.
    was_open: bool,
    /// It was restored at least once, or there was nothing to restore.
    is_again: bool,
    health_marks: Vec<String>,
}

#[derive(Debug)]
struct ActiveConnection {
    actor: Addr<Connection>,
    flush: Arc<Recipient<Flush>>,
    credit: Arc<ReadCredit>,
    /// Once the handshake is done.
    negotiated: Option<Arc<Negotiated>>,
}

#[derive(Debug)]
struct ChannelEntry {
    channel: OpenedChannel,
    down: Recipient<ChannelMessage>,
    /// Who waits for it to open.
    opening: Option<Answer<OpenedChannel>>,
    drained: bool,
}

#[derive(Debug)]
struct Closing {
    code: u16,
    text: String,
    closers: Vec<Answer<()>>,
    ordered: bool,
    until: Instant,
    timer: Option<SpawnHandle>,
    abandoned: usize,
}

impl ConnectionSupervisor {
    /// Starts one on the arbiter given, which all of its actors will live on, or on the calling thread; it
    /// connects at once. The receiver tells how it stands.
    ///
    /// Without an arbiter it needs the actix `System` of the calling thread. What comes of the connect is
    /// told by the receiver alone: [`ConnectionState::Open`], or [`Closed`](ConnectionState::Closed) with the
    /// cause: `Io`, `Auth` (403), `Vhost` (530), `Timeout`, `Protocol`, `Limit`, or `ConnectionClosed` for
    /// another refusal.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_actors::{ConnectionOptions, ConnectionState, ConnectionSupervisor};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let (connection, mut state) = ConnectionSupervisor::launch(ConnectionOptions::default(), None);
    /// state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// if let ConnectionState::Closed(Some(error)) = &*state.borrow() {
    ///     eprintln!("not connected: {error}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn launch(
        options: ConnectionOptions,
        arbiter: Option<&ArbiterHandle>,
    ) -> (Addr<Self>, watch::Receiver<ConnectionState>) {
        let (state, watch) = watch::channel(ConnectionState::Connecting);
        let options = Arc::new(options);
        let make = move || Self {
            options,
            state,
            epoch: 0,
            connection: None,
            numbers: ChannelNumbers::default(),
            routes: HashMap::new(),
            watchers: Vec::new(),
            followers: Vec::new(),
            closing: None,
            released: false,
            secrets: Secrets::default(),
            recovering: ConnectionRecovery::default(),
            was_open: false,
            is_again: false,
            health_marks: Vec::new(),
        };
        let addr = match arbiter {
            Some(arbiter) => Self::start_in_arbiter(arbiter, |_| make()),
            None => Actor::start(make()),
        };
        (addr, watch)
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        self.epoch += 1;
        let credit = Arc::new(ReadCredit::new(self.options.read_ahead));
        let up = ctx.address().recipient();
        let secret = self.secrets.current.clone();
        let actor = Connection::new(self.options.clone(), self.epoch, credit.clone(), up, secret).start();
        let flush = Arc::new(actor.clone().recipient());
        self.connection = Some(ActiveConnection { actor, flush, credit, negotiated: None });
    }

    fn tell(&mut self, event: &ConnectionEvent) {
        self.watchers.retain(Recipient::connected);
        for watcher in &self.watchers {
            watcher.do_send(event.clone());
        }
        // What a long outage says over and over must not take the room of its end.
        let minor = matches!(event, ConnectionEvent::Retrying { .. } | ConnectionEvent::Health(_));
        let full = |follower: &mpsc::Sender<_>| follower.capacity() <= follower.max_capacity() / 4;
        self.followers.retain(|follower| {
            (minor && full(follower) && !follower.is_closed())
                || match follower.try_send(event.clone()) {
                    Ok(()) => true,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        log::warn!("a stream of connection events is not read; one is lost");
                        true
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => false,
                }
        });
    }

    fn online(&mut self, negotiated: Negotiated, link: SocketInfo, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            // It came about while it was told to end.
            return;
        }
        let negotiated = Arc::new(negotiated);
        self.numbers.set_max(negotiated.channel_max);
        if let Some(life) = &mut self.connection {
            life.negotiated = Some(negotiated.clone());
        }
        let SocketInfo { address, local, peer, lifetime } = link;
        log::info!("connected to {address} ({peer})");
        self.state.send_replace(ConnectionState::Open(Arc::new(Opened {
            negotiated,
            address,
            local_addr: local,
            peer_addr: peer,
            blocked: None,
        })));
        self.keep_fresh(lifetime, ctx);
        self.tell(&ConnectionEvent::Connected);
        self.begin_restore(ctx);
    }

    fn negotiated(&self) -> Option<&Negotiated> {
        self.connection.as_ref().and_then(|life| life.negotiated.as_deref())
    }

    fn is_blocked(&self) -> bool {
        matches!(&*self.state.borrow(), ConnectionState::Open(opened) if opened.blocked.is_some())
    }

    fn set_blocked(&mut self, reason: Option<String>) {
        self.state.send_if_modified(|state| match state {
            ConnectionState::Open(opened) => {
                Arc::make_mut(opened).blocked.clone_from(&reason);
                true
            }
            _ => false,
        });
        match &reason {
            Some(reason) => log::warn!("the broker takes no publishes for now: {reason}"),
            None => log::info!("the broker takes publishes again"),
        }
        for route in self.routes.values() {
            route.down.do_send(ChannelMessage::Blocked(reason.is_some()));
        }
        self.scratch_blocked(reason.is_some());
        self.tell(&reason.map_or(ConnectionEvent::Unblocked, ConnectionEvent::Blocked));
        self.health_changed();
    }

    /// The connection is over for good, and so is everything.
    fn over(&mut self, error: Error, ctx: &mut Context<Self>) {
        self.connection = None;
        self.stop_scratch(&error);
        let blocked = self.is_blocked();
        let lost = error.clone();
        let mut closing = self.closing.take();
        if let Some(closing) = closing.as_mut().filter(|closing| !closing.ordered) {
            closing.abandoned = self.unconfirmed();
        }
        let by_user = closing.as_ref().is_some_and(|closing| closing.ordered);
        for (_, route) in self.routes.drain() {
            route.down.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
            if let Some(opening) = route.opening {
                drop(opening.send(Err(Error::connection_lost(&error))));
            }
        }
        let was_open = matches!(&*self.state.borrow(), ConnectionState::Open(_));
        let cause = (!by_user).then_some(error);
        match &cause {
            Some(error) if was_open => log::warn!("connection lost: {error}"),
            Some(error) => log::debug!("not connected: {error}"),
            None => log::info!("connection closed"),
        }
        self.state.send_replace(ConnectionState::Closed(cause.clone()));
        self.health_changed();
        self.tell(&ConnectionEvent::Closed(cause));
        self.followers.clear();
        // Last, so that whoever has closed it finds it closed, on another thread, too.
        self.forget_secrets(&lost, ctx);
        if let Some(closing) = closing {
            if let Some(timer) = closing.timer {
                ctx.cancel_future(timer);
            }
            for closer in closing.closers {
                let answer = match closing.abandoned {
                    0 => Ok(()),
                    n => {
                        let what = format!("closed with {n} publishes unconfirmed, which may have arrived");
                        let error = if blocked { Error::blocked(what) } else { Error::timeout(what) };
                        Err(error.maybe_arrived())
                    }
                };
                drop(closer.send(answer));
            }
        }
    }

    fn closed(&self) -> Option<Error> {
        match &*self.state.borrow() {
            ConnectionState::Closed(Some(error)) => Some(Error::connection_lost(error)),
            ConnectionState::Closed(None) => {
                Some(Error::connection_closed("the connection was closed by the application", None))
            }
            _ => None,
        }
    }

    fn open_channel(
        &mut self,
        options: &OpenChannel,
        ctx: &mut Context<Self>,
    ) -> Result<Reply<OpenedChannel>> {
        if let Some(error) = self.closed() {
            return Err(error);
        }
        if self.closing.is_some() {
            return Err(Error::connection_closed("the connection is being closed", None));
        }
        if !self.was_open {
            return Err(Error::connection_closed("the connection is not open yet", None));
        }
        let none = options.confirms && self.negotiated().is_some_and(|negotiated| !has_confirms(negotiated));
        if none {
            let what = "the broker has no capability publisher_confirms; open the channel without confirms";
            return Err(Error::refused_here(what));
        }
        let number = self.numbers.take(options.number)?;
        let up = ctx.address().recipient();
        let robust = self.options.recovery != Recovery::Never;
        let channel = Channel::start(number, options, self.options.body_max, up, robust);
        let down: Recipient<ChannelMessage> = channel.actor.clone().recipient();
        let (reply, responder) = Reply::later();
        let route = ChannelEntry { channel, down, opening: Some(responder), drained: false };
        self.routes.insert(number, route);
        if !self.is_declaring() {
            self.attach(number);
        }
        Ok(reply)
    }

    /// Gives the connection that there is to a channel; without one, the next is given to all.
    fn attach(&self, number: u16) {
        let (Some(life), Some(route)) = (&self.connection, self.routes.get(&number)) else { return };
        let Some(negotiated) = &life.negotiated else { return };
        life.actor.do_send(ConnectionCommand::AttachChannel {
            channel: number,
            down: route.down.clone(),
            outbox: route.channel.outbox.clone(),
        });
        route.down.do_send(ChannelMessage::Attached {
            epoch: self.epoch,
            flush: life.flush.clone(),
            frame_max: negotiated.frame_max,
            credit: life.credit.clone(),
        });
        if self.is_blocked() {
            route.down.do_send(ChannelMessage::Blocked(true));
        }
    }

    fn begin_close(&mut self, code: u16, text: String, ctx: &mut Context<Self>) -> &mut Closing {
        if self.closing.is_none() {
            for route in self.routes.values_mut() {
                route.drained = false;
                route.down.do_send(ChannelMessage::Drain);
            }
            let timer = ctx.run_later(self.options.close_timeout, |supervisor, _| supervisor.order_close());
            self.closing = Some(Closing {
                code,
                text: text.clone(),
                closers: Vec::new(),
                ordered: false,
                until: Instant::now() + clamp_timeout(self.options.close_timeout),
                timer: Some(timer),
                abandoned: 0,
            });
            self.close_if_drained();
        }
        self.closing.get_or_insert_with(|| Closing {
            code,
            text,
            closers: Vec::new(),
            ordered: false,
            until: Instant::now(),
            timer: None,
            abandoned: 0,
        })
    }

    /// Closes what waits for the next try: there is nobody to say it to.
    fn close_unconnected(&mut self, closer: Option<Answer<()>>, ctx: &mut Context<Self>) {
        self.closing = Some(Closing {
            code: 200,
            text: String::new(),
            closers: closer.into_iter().collect(),
            ordered: true,
            until: Instant::now(),
            timer: None,
            abandoned: self.unconfirmed(),
        });
        self.over(Error::connection_closed("the connection was closed by the application", None), ctx);
    }

    /// A connection that is not open, or whose channels are not, has nothing to drain.
    fn close_if_not_open(&mut self) {
        if self.negotiated().is_none() || self.is_restoring() {
            self.order_close();
        }
    }

    fn close_if_drained(&mut self) {
        if self.closing.is_some() && self.routes.values().all(|route| route.drained) {
            self.order_close();
        }
    }

    fn unconfirmed(&self) -> usize {
        self.routes.values().map(|route| route.channel.outbox.load().unconfirmed).sum()
    }

    fn order_close(&mut self) {
        let unconfirmed = self.unconfirmed();
        let (Some(life), Some(closing)) = (&self.connection, &mut self.closing) else { return };
        if !std::mem::replace(&mut closing.ordered, true) {
            closing.abandoned = unconfirmed;
            let text = std::mem::take(&mut closing.text);
            // Draining may have used up the time; the broker still gets a moment.
            let within = closing.until.saturating_duration_since(Instant::now()).max(LAST_MOMENT);
            life.actor.do_send(ConnectionCommand::Close { code: closing.code, text, within });
        }
    }
}

fn has_confirms(negotiated: &Negotiated) -> bool {
    let capabilities = negotiated.server_properties.get("capabilities").and_then(Value::as_table);
    let confirms = capabilities.and_then(|table| table.get("publisher_confirms"));
    confirms.and_then(Value::as_bool) == Some(true)
}

impl Actor for ConnectionSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.dial(ctx);
    }
}

impl Drop for ConnectionSupervisor {
    // Whatever ended the actor, a panic included: nobody waits for ever, and no connection is left behind.
    fn drop(&mut self) {
        let error = Error::stopped("the ConnectionSupervisor actor ended");
        self.stop_scratch(&error);
        for (_, route) in self.routes.drain() {
            route.down.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
        }
        if let Some(life) = self.connection.take() {
            let text = "the application ended".into();
            life.actor.do_send(ConnectionCommand::Close {
                code: 200,
                text,
                within: self.options.close_timeout,
            });
        }
        self.state.send_if_modified(|state| {
            let open = !matches!(state, ConnectionState::Closed(_));
            if open {
                *state = ConnectionState::Closed(Some(error));
            }
            open
        });
    }
}

impl Handler<SupervisorMessage> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, letter: SupervisorMessage, ctx: &mut Self::Context) {
        match letter {
            SupervisorMessage::ConnectionOpened { epoch, .. }
            | SupervisorMessage::ConnectionEnded { epoch, .. }
            | SupervisorMessage::ConnectionBlocked { epoch, .. }
            | SupervisorMessage::SecretUpdated { epoch }
            | SupervisorMessage::ChannelRecovered { epoch, .. }
            | SupervisorMessage::ConsumerRepaired { epoch, .. }
            | SupervisorMessage::RepairConsumer { epoch, .. }
            | SupervisorMessage::StepsDone { epoch, .. }
            | SupervisorMessage::ProtocolFault { epoch, .. }
                if epoch != self.epoch || self.connection.is_none() => {}
            SupervisorMessage::ConnectionOpened { negotiated, link, .. } => {
                self.online(negotiated, link, ctx)
            }
            SupervisorMessage::ConnectionEnded { error, .. } => self.ended(error, ctx),
            SupervisorMessage::ConnectionBlocked { reason, .. } => self.set_blocked(reason),
            SupervisorMessage::SecretUpdated { .. } => self.secret_updated(ctx),
            SupervisorMessage::ProtocolFault { fault, .. } => {
                if let Some(life) = &self.connection {
                    life.actor.do_send(ConnectionCommand::Fail { fault });
                }
            }
            SupervisorMessage::ChannelOpened { channel, result } => {
                if let Some(route) = self.routes.get_mut(&channel)
                    && let Some(opening) = route.opening.take()
                {
                    // Nobody waits for it any more: its lease, dropped here, says so.
                    drop(opening.send(result.map(|()| route.channel.leased())));
                }
            }
            SupervisorMessage::ChannelRecovered { channel, skipped, .. } => {
                self.channel_restored(channel, skipped, ctx)
            }
            SupervisorMessage::ConsumerRepaired { tag, .. } => self.consumer_resumed(&tag),
            SupervisorMessage::TopologyChanged(change) => {
                let less = matches!(change, Change::Forget(_));
                self.recovering.topology.change(change);
                if less {
                    self.forget_missing();
                }
            }
            SupervisorMessage::QueueDeleting { queue, is } => self.recovering.topology.deleting(&queue, is),
            SupervisorMessage::RepairConsumer { channel, consumer, probe, cause, .. } => {
                self.repair(channel, consumer, probe, cause, ctx);
            }
            SupervisorMessage::StepsDone { number, results, .. } => self.replayed(number, results, ctx),
            SupervisorMessage::ChannelClosed { channel, free } => {
                if self.routes.remove(&channel).is_some() {
                    if free || self.connection.is_none() {
                        self.numbers.give_back(channel);
                    }
                    if let Some(life) = &self.connection {
                        life.actor.do_send(ConnectionCommand::DetachChannel { channel });
                    }
                    self.channel_gone(channel, ctx);
                }
                self.close_if_drained();
                self.close_if_unneeded(ctx);
            }
            SupervisorMessage::ChannelDrained { channel } => {
                if let Some(route) = self.routes.get_mut(&channel) {
                    route.drained = true;
                }
                self.close_if_drained();
            }
        }
    }
}

impl ConnectionSupervisor {
    fn close_if_unneeded(&mut self, ctx: &mut Context<Self>) {
        if self.released && self.routes.is_empty() {
            if self.connection.is_some() {
                self.begin_close(200, "no handle is left".into(), ctx);
            } else {
                if self.stop_waiting(ctx) {
                    self.close_unconnected(None, ctx);
                }
                ctx.stop();
            }
        }
    }
}

impl Handler<OpenChannel> for ConnectionSupervisor {
    type Result = Reply<OpenedChannel>;

    fn handle(&mut self, open: OpenChannel, ctx: &mut Self::Context) -> Self::Result {
        self.open_channel(&open, ctx).unwrap_or_else(|error| Reply::now(Err(error)))
    }
}

impl Handler<CloseConnection> for ConnectionSupervisor {
    type Result = Reply<()>;

    fn handle(&mut self, close: CloseConnection, ctx: &mut Self::Context) -> Reply<()> {
        let (reply, responder) = Reply::later();
        if self.stop_waiting(ctx) {
            self.close_unconnected(Some(responder), ctx);
        } else if self.connection.is_none() {
            return Reply::now(Ok(()));
        } else {
            self.begin_close(close.code, close.text, ctx).closers.push(responder);
            self.close_if_not_open();
        }
        reply
    }
}

impl Handler<WatchConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, watch: WatchConnection, _: &mut Self::Context) {
        let state = self.state.borrow();
        match &*state {
            // Nothing else will ever happen.
            ConnectionState::Closed(cause) => watch.0.do_send(ConnectionEvent::Closed(cause.clone())),
            _ if self.watchers.contains(&watch.0) => {}
            _ => self.watchers.push(watch.0),
        }
    }
}

impl Handler<FollowConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, follow: FollowConnection, _: &mut Self::Context) {
        // A stream of a connection that is over ends at once.
        if self.closed().is_none() {
            self.followers.push(follow.0);
        }
    }
}

impl Handler<GetState> for ConnectionSupervisor {
    type Result = MessageResult<GetState>;

    fn handle(&mut self, _: GetState, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.borrow().clone())
    }
}

impl Handler<ReleaseConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: ReleaseConnection, ctx: &mut Self::Context) {
        self.released = true;
        self.close_if_unneeded(ctx);
    }
}
