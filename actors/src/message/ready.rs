//! The message that waits until a connection is ready.

use std::time::Duration;

use actix::Message;

use crate::error::Result;

/// Waits until the connection is open and its recovery is complete. On such a connection it returns at once.
///
/// What is [`Missing`](crate::Degradation::Missing), and an alarm of the broker, do not keep it waiting: the
/// channels are usable, and [`GetHealth`](crate::GetHealth) reports both.
///
/// # Errors
/// - `Timeout` if the connection is not ready within [`within`](Self::within); the source is the cause of the
///   outage.
/// - `ConnectionClosed`, at once, with the cause, if it is closed and not recovered, or is being closed.
///
/// **Over a reconnect**: it waits for the recovery, whatever number of attempts that takes.
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # use actix::Addr;
/// # use actix_pika_actors::{AwaitReady, ConnectionSupervisor, Result};
/// # async fn ready(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// connection.send(AwaitReady::new().within(Duration::from_secs(5))).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct AwaitReady {
    pub(crate) within: Option<Duration>,
}

impl AwaitReady {
    /// Creates a wait without a limit. It ends when the connection is ready, or closed for good.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::AwaitReady;
    /// let wait = AwaitReady::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long to wait; without a limit unless set.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::AwaitReady;
    /// let wait = AwaitReady::new().within(Duration::from_secs(5));
    /// ```
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }
}

impl Message for AwaitReady {
    type Result = Result<()>;
}
