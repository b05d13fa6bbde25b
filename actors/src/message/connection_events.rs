//! The events of a connection, and how to watch them.

use std::{sync::Arc, time::Duration};

use super::{EventSender, Health, Skipped};
use crate::{error::Error, wire::PeerText};
use actix::{Message, Recipient};

/// Reports a change of a connection.
///
/// **Over a reconnect**: `Lost`, then `Retrying` before each attempt, then `Connected`, and `Recovered` when
/// recovery is complete. If the connection is lost during recovery, the sequence starts again with `Lost`.
/// `Blocked` ends with `Lost`; if the broker blocks the next connection too, it is reported again.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>;
/// <https://www.rabbitmq.com/docs/connection-blocked>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConnectionEvent;
/// fn print(event: &ConnectionEvent) {
///     match event {
///         ConnectionEvent::Blocked(reason) => eprintln!("publishing is blocked: {reason}"),
///         ConnectionEvent::Lost(error) => eprintln!("lost, reconnecting: {error}"),
///         ConnectionEvent::Recovered { skipped, .. } => eprintln!("recovered, except for {skipped:?}"),
///         ConnectionEvent::Closed(Some(error)) => eprintln!("closed: {error}"),
///         other => eprintln!("{other:?}"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The handshake is complete: of the first connection, or of one that replaces a lost one.
    Connected,
    /// The connection is lost, and the supervisor will reconnect.
    Lost(Error),
    /// The next attempt to connect follows after a delay.
    Retrying {
        /// Number of the attempt, from 1 on. It restarts at 1 after a connection that stood for 5 seconds
        /// after its recovery.
        attempt: u32,
        /// Delay before the attempt.
        delay: Duration,
        /// Why the connection was lost, or the last attempt failed.
        error: Error,
    },
    /// Recovery is complete: topology, channels and consumers are recovered, except for those listed.
    /// Publishes that were kept have been sent.
    Recovered {
        /// Number of the connection; every attempt to connect counts, from 1 on.
        epoch: u64,
        /// Entities that could not be recovered. They are tried again; [`Health`] changes when they are in
        /// place.
        skipped: Arc<[Skipped]>,
    },
    /// The health of a connected connection has changed. Only connections that recover report it. The end of
    /// the connection is reported as [`Lost`](Self::Lost) or [`Closed`](Self::Closed).
    Health(Health),
    /// The tries of something that is missing have reached the limits of the [`Recovery`](crate::Recovery). A
    /// consumer delivers nothing then, and does not end: it is tried once more after the next reconnect, unless
    /// the application cancels it.
    GivenUp(Skipped),
    /// The broker blocks publishing (`connection.blocked`), with its reason.
    Blocked(PeerText),
    /// The broker accepts publishes again (`connection.unblocked`).
    Unblocked,
    /// The broker has accepted a new password or token (`connection.update-secret-ok`).
    SecretUpdated,
    /// Renewing the credentials failed: the provider failed, or the broker did not accept them. It is retried
    /// before the present ones expire.
    RefreshFailed(Error),
    /// The watcher is too slow: so many events were dropped before the next one.
    EventsDropped(u64),
    /// The connection is closed, and is not recovered: by the application (`None`), or because it was lost or
    /// refused. No event follows.
    Closed(Option<Error>),
}

impl Message for ConnectionEvent {
    type Result = ();
}

/// Sends every later [`ConnectionEvent`] to a recipient. A closed connection sends `Closed` immediately.
///
/// Events are actor messages. At most 256 of them, with at most 16 MiB of bodies, wait for a recipient; what
/// comes when there is no room is dropped, and told as [`EventsDropped`](ConnectionEvent::EventsDropped). A stopped
/// recipient is removed.
///
/// **Over a reconnect**: the recipient stays registered.
///
/// # Examples
/// ```no_run
/// # use actix::{Addr, Recipient};
/// # use actix_pika_actors::{ConnectionEvent, ConnectionSupervisor, Result, WatchConnection};
/// # async fn watch(connection: Addr<ConnectionSupervisor>, to: Recipient<ConnectionEvent>) -> Result<()> {
/// connection.send(WatchConnection(to)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct WatchConnection(pub Recipient<ConnectionEvent>);

impl Message for WatchConnection {
    type Result = ();
}

/// Sends every later [`ConnectionEvent`] to the bounded queue of a stream.
#[derive(Clone, Debug)]
pub struct FollowConnection(pub EventSender<ConnectionEvent>);

impl Message for FollowConnection {
    type Result = ();
}
