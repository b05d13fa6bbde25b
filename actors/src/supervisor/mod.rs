//! The ConnectionSupervisor: the actor behind a connection handle. It starts Connection actors one after the
//! other, attaches the channels to them, and replies to handles, also while there is no connection.
//!
//! The actor is a shell around [`Supervision`], which decides. `mailbox.rs` shows which messages it takes,
//! and `perform.rs` how it carries out the effects that the machine asks for. `utility_channel.rs` is a
//! second, small actor: the channel on which the library declares topology and repairs consumers.
//! `trial_connection.rs` is a third one: a connection for what has cost one before.

mod attach;
mod backoff;
mod channel_numbers;
mod channels;
mod close_end;
mod closing;
mod effect;
mod fatal_entities;
mod fatal_entity;
mod fatal_step;
mod fatal_trials;
mod health;
#[cfg(feature = "testing")]
mod hostile;
mod mailbox;
mod missing;
mod perform;
mod phase;
mod ready;
mod reconnect;
mod recovery;
mod redeclare;
mod redeclare_steps;
mod refusal;
mod repair;
mod room;
mod secret_updates;
mod secrets;
mod supervision;
#[cfg(feature = "testing")]
mod test_hooks;
#[cfg(test)]
mod tests;
mod topology;
mod topology_steps;
mod trial_connection;
mod trials;
mod utility_channel;
mod utility_dialogue;
mod utility_task;

use std::{collections::HashMap, sync::Arc};

use actix::{Actor, Addr, ArbiterHandle, Context, Recipient, SpawnHandle};
use tokio::{sync::watch, time::Instant};

#[cfg(feature = "testing")]
pub(crate) use self::{hostile::HostileRecovery, test_hooks::StartStandIn};
use self::{
    ready::ReadyWaiters, secrets::Secrets, supervision::Supervision, trial_connection::TrialConnection,
};
#[cfg(feature = "testing")]
use crate::connection::Connection;
use crate::{
    channel::{OpenedChannel, Responder},
    error::Error,
    internal::{BrokerNotes, ChannelMessage, ConnectionCommand},
    message::{ConnectionEvent, ConnectionState},
    options::ConnectionOptions,
    outbox::{Abandoned, ConnectionTally, Flush, MissingExchanges, Note},
    transport::ReadCredit,
    watchers::Watchers,
    wire::PartialBodies,
};

/// An actor that keeps one connection to a broker open.
///
/// It starts a [`Connection`](crate::Connection) actor for each TCP connection, opens channels on it, and
/// reconnects as the options allow.
///
/// | message | reply |
/// |---|---|
/// | [`OpenChannel`](crate::OpenChannel) | [`OpenedChannel`] |
/// | [`UpdateSecret`](crate::UpdateSecret) | `()` |
/// | [`GetState`](crate::GetState) | [`ConnectionState`] |
/// | [`GetHealth`](crate::GetHealth) | [`Health`](crate::Health) |
/// | [`WatchConnection`](crate::WatchConnection) | none |
/// | [`AwaitReady`](crate::AwaitReady) | `()` |
/// | [`CloseConnection`](crate::CloseConnection) | `()` |
///
/// # Errors
/// Messages that need the connection return `ConnectionClosed` when it is not open yet, being closed, or
/// closed. Its [`close_reason`](Error::close_reason) is the one that the broker sent, if it sent one.
///
/// **Over a reconnect**: the actor stays the same, and keeps its watchers and channels. It closes when the
/// limits of its [`Recovery`](crate::Recovery) are reached, or when every address has refused the login, the
/// virtual host or TLS for a minute.
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
    supervision: Supervision,
    state: watch::Sender<ConnectionState>,
    watchers: Watchers<ConnectionEvent>,
    connection: Option<ActiveConnection>,
    channels: HashMap<u16, ChannelEntry>,
    /// Publishes to these fail on every channel.
    missing_exchanges: Arc<MissingExchanges>,
    /// The incomplete bodies of all channels.
    partial_bodies: Arc<PartialBodies>,
    tally: Arc<ConnectionTally>,
    utility: Option<Recipient<ChannelMessage>>,
    trial: Option<Addr<TrialConnection>>,
    secrets: Secrets,
    closers: Closers,
    ready: ReadyWaiters,
    timer: Option<(Instant, SpawnHandle)>,
    /// Starts what stands in for connections, in tests.
    #[cfg(feature = "testing")]
    stand_in: Option<StartStandIn>,
}

/// The `Connection` actor of the current epoch.
#[derive(Debug)]
struct ActiveConnection {
    commands: Recipient<ConnectionCommand>,
    /// Unset for what stands in for a connection.
    #[cfg(feature = "testing")]
    actor: Option<Addr<Connection>>,
    flush: Arc<Recipient<Flush>>,
    credit: Arc<ReadCredit>,
    broker: Arc<BrokerNotes>,
}

#[derive(Debug)]
struct ChannelEntry {
    channel: OpenedChannel,
    recipient: Recipient<ChannelMessage>,
    /// The caller that waits for the channel to open.
    opening: Option<Responder<OpenedChannel>>,
}

/// The callers that close the connection.
#[derive(Debug, Default)]
struct Closers {
    answers: Vec<Responder<()>>,
    /// The publishes that were unconfirmed when the connection was closed.
    abandoned: Option<Abandoned>,
}

impl ConnectionSupervisor {
    /// Starts the actor, which connects at once.
    ///
    /// The actor and those that it starts run on `arbiter`, or, without one, on the calling thread, which
    /// must have an actix `System`. The receiver has the state of the connection. It is the only report of
    /// the connect: [`ConnectionState::Open`], or [`Closed`](ConnectionState::Closed) with the cause: `Io`,
    /// `Auth` (403), `Vhost` (530), `Timeout`, `Protocol`, `Limit` (with 530: of connections), or
    /// `ConnectionClosed` for another refusal.
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
        Self::launch_with(options, arbiter, Arc::default(), |_| ())
    }

    /// Starts the actor, which counts in `tally`, once it is set up.
    pub(crate) fn launch_with(
        options: ConnectionOptions,
        arbiter: Option<&ArbiterHandle>,
        tally: Arc<ConnectionTally>,
        set_up: impl FnOnce(&mut Self) + Send + 'static,
    ) -> (Addr<Self>, watch::Receiver<ConnectionState>) {
        let (state, receiver) = watch::channel(ConnectionState::Connecting);
        let options = Arc::new(options);
        let make = move || {
            let mut supervisor = Self {
                supervision: Supervision::new(options.clone()),
                partial_bodies: Arc::new(PartialBodies::new(options.partial_body_max)),
                options,
                state,
                watchers: Watchers::new("connection"),
                connection: None,
                channels: HashMap::new(),
                missing_exchanges: Arc::default(),
                tally,
                utility: None,
                trial: None,
                secrets: Secrets::default(),
                closers: Closers::default(),
                ready: ReadyWaiters::default(),
                timer: None,
                #[cfg(feature = "testing")]
                stand_in: None,
            };
            set_up(&mut supervisor);
            supervisor
        };
        let addr = match arbiter {
            Some(arbiter) => Self::start_in_arbiter(arbiter, |_| make()),
            None => Actor::start(make()),
        };
        (addr, receiver)
    }
}

impl Actor for ConnectionSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        self.perform_effects(ctx);
    }
}

impl Drop for ConnectionSupervisor {
    // Runs after a panic too: callers get an error, and the connection is closed.
    fn drop(&mut self) {
        let error = Error::stopped("the ConnectionSupervisor actor ended");
        let channels = self.channels.drain().map(|(_, entry)| entry.recipient);
        for recipient in channels.chain(self.utility.take()) {
            recipient.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
        }
        self.stop_trial();
        let reconnects = self.supervision.reconnects;
        self.tally.note(Note { reconnects, ..Note::default() }, Instant::now());
        if let Some(connection) = self.connection.take() {
            let text = "the application ended".into();
            let within = self.options.close_timeout;
            connection.commands.do_send(ConnectionCommand::Close { code: 200, text, within });
        }
        self.state.send_if_modified(|state| {
            let was_open = !matches!(state, ConnectionState::Closed(_));
            if was_open {
                *state = ConnectionState::Closed(Some(error));
            }
            was_open
        });
    }
}
