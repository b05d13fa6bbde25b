//! Messages to a connection: closing it, its state and health, a new secret.

use std::time::Duration;

use actix::Message;

use super::{Health, closing::closing, state::ConnectionState};
use crate::{error::Result, secret::Secret};

closing! {
    /// Closes the connection (`connection.close`), after all publishes are confirmed.
    ///
    /// New publishes are refused from now on. The reply is sent when the broker has replied or the socket is
    /// lost, at the latest after `close_timeout` (30 seconds unless set), or after a shorter [limit](Self::within).
    /// Closing twice is no error.
    ///
    /// # Errors
    /// The connection is closed nevertheless.
    /// - `Timeout` if publishes were not confirmed, or the broker has not replied, in time; `Blocked`, with the
    ///   alarm, if the broker blocked the connection then.
    /// - `ConnectionClosed`, with the cause, if the connection was down, or was lost before everything was
    ///   written, and publishes are abandoned.
    ///
    /// **Over a reconnect**: closing the connection ends recovery immediately.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.9 (`connection.close`)
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{CloseConnection, ConnectionSupervisor, Result};
    /// # async fn close(connection: Addr<ConnectionSupervisor>) -> Result<()> {
    /// connection.send(CloseConnection::new()).await??;
    /// # Ok(()) }
    /// ```
    CloseConnection { within: Option<Duration> }
}

impl CloseConnection {
    /// Limits how long the close waits for confirms and for the reply of the broker, which has 250 milliseconds at
    /// least. A limit above `close_timeout` has no effect. If the connection is being closed already, the earliest
    /// limit counts.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::CloseConnection;
    /// let close = CloseConnection::new().within(Duration::from_secs(2));
    /// ```
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }
}

/// Sends the broker a new password or token (`connection.update-secret`, a RabbitMQ extension).
///
/// The reply is sent when the broker has accepted it. From then on it is also used for later connects, unless
/// a [`CredentialsProvider`](crate::CredentialsProvider) is called for each of them.
///
/// # Errors
/// - `Timeout` if the deadline passes, or `Blocked` if it passes while the broker blocks the connection. The
///   broker may accept the secret later.
/// - `ConnectionClosed` with the reason if the broker refuses the secret (530), which closes the connection.
/// - `Limit` if the secret does not fit into a frame.
///
/// **Over a reconnect**: the new secret is used. A call that awaited its reply fails with `ConnectionClosed`.
///
/// Source: <https://www.rabbitmq.com/docs/oauth2#token-expiration>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::UpdateSecret;
///
/// let update = UpdateSecret::new("a new token", "rotation").deadline(Duration::from_secs(5));
/// assert!(!format!("{update:?}").contains("token"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct UpdateSecret {
    pub(crate) secret: Secret,
    pub(crate) reason: String,
    pub(crate) deadline: Duration,
}

impl UpdateSecret {
    /// Creates an update with the secret and a reason for the broker's log. The deadline is 30 seconds.
    ///
    /// The reason is cut to 255 bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::UpdateSecret;
    /// let update = UpdateSecret::new("a new token", "rotation");
    /// ```
    pub fn new(secret: impl Into<Secret>, reason: impl Into<String>) -> Self {
        Self { secret: secret.into(), reason: reason.into(), deadline: Duration::from_secs(30) }
    }

    /// Sets how long the broker may take to reply; 30 seconds unless set.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::UpdateSecret;
    /// let update = UpdateSecret::new("a new token", "rotation").deadline(Duration::from_secs(5));
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl Message for UpdateSecret {
    type Result = Result<()>;
}

/// Returns the state of the connection.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionState, ConnectionSupervisor, GetState, Result};
/// # async fn ask(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// if let ConnectionState::Open(opened) = connection.send(GetState).await? {
///     println!("heartbeat every {:?}", opened.heartbeat());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct GetState;

impl Message for GetState {
    type Result = ConnectionState;
}

/// Returns the health of the connection.
///
/// **Over a reconnect**: `Down` with the cause, then `Degraded` during recovery, then `Up`, or `Degraded` for
/// as long as an entity is missing.
///
/// # Examples
/// ```
/// # use actix::prelude::*;
/// # async fn example(supervisor: Addr<actix_pika_actors::ConnectionSupervisor>) -> Result<(), MailboxError> {
/// # use actix_pika_actors::GetHealth;
/// let health = supervisor.send(GetHealth).await?;
/// println!("connection is up: {}", health.is_up());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct GetHealth;

impl Message for GetHealth {
    type Result = Health;
}

/// Reports that the last handle was dropped: the supervisor closes the connection when its last channel is
/// closed.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseConnection;

impl Message for ReleaseConnection {
    type Result = ();
}
