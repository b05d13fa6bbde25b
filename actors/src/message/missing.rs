//! What is missing on a connection, and giving it up.

use std::time::Instant;

use actix::Message;

use super::EntityKind;
use crate::error::Error;

/// Describes something that was declared, opened or consumed on a connection and is not in place: why, since
/// when, and when it is tried again.
///
/// **Over a reconnect**: the entry stays until the entity is in place again. Each reconnect tries it.
///
/// # Examples
/// ```
/// # use actix_pika_actors::MissingEntity;
/// fn print(missing: &[MissingEntity]) {
///     for one in missing {
///         eprintln!("{} {:?} for {:?}: {}", one.kind, one.name, one.since.elapsed(), one.error);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MissingEntity {
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Name of the entity; for a binding, `source -> destination (routing key)`; for a consumer, its tag.
    pub name: String,
    /// Why it is missing: usually `Refused`, with the broker's reply code.
    pub error: Error,
    /// Since when it is missing.
    pub since: Instant,
    /// When it is tried again.
    pub next_try: NextTry,
}

/// Tells when something that is missing is tried again.
///
/// # Examples
/// ```
/// # use actix_pika_actors::NextTry;
/// fn needs_an_operator(next: &NextTry) -> bool {
///     matches!(next, NextTry::Never | NextTry::ByApplication)
/// }
/// assert!(!needs_an_operator(&NextTry::AtReconnect));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextTry {
    /// It is being tried.
    Now,
    /// At this time, or a little later. Where the user of the connection is at its limit of channels: if a channel
    /// can be opened on another connection then.
    At(Instant),
    /// At the next reconnect: there is no connection, the entity has cost one, or the broker did not reply to
    /// so many tries on this one that the channel numbers that they keep would run out. A channel, if the
    /// broker does not reply to its close; it opens earlier when the reply comes.
    AtReconnect,
    /// When a channel of the connection has closed: all channel numbers are in use, and the library has none to
    /// work on.
    WhenChannelCloses,
    /// Only the application can bring it back: a consumer whose actor has stopped, a channel that has ended (as one in
    /// transaction mode does) with its consumers, or a prefetch that the broker
    /// ignores unless it is permitted ([`Qos::permitted`](crate::Qos::permitted)).
    ByApplication,
    /// Not before the next reconnect: the limits of the [`Recovery`](crate::Recovery) are reached.
    Never,
}

/// Returns what is missing on the connection.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, GetMissing, Result};
/// # async fn ask(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// for missing in connection.send(GetMissing).await? {
///     println!("{} {:?}: {}", missing.kind, missing.name, missing.error);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct GetMissing;

impl Message for GetMissing {
    type Result = Vec<MissingEntity>;
}

/// Gives up what is wanted on the connection, without asking the broker to delete it. Returns whether there
/// was such an entity.
///
/// A queue or exchange is given up with its bindings, and a queue with its consumers, which end with
/// [`ConsumerEnd::Forgotten`](crate::ConsumerEnd::Forgotten). A consumer that is running is cancelled
/// (`basic.cancel`). The kind [`Channel`](EntityKind::Channel) only removes the entry of a channel that could
/// not be reopened, or of one that has ended, with those of its consumers, and
/// [`Prefetch`](EntityKind::Prefetch) that of a prefetch.
///
/// **Over a reconnect**: it is not redeclared.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, EntityKind, Forget, Result};
/// # async fn give_up(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// // An operator has deleted it, and means it.
/// let was_wanted = connection.send(Forget::new(EntityKind::Queue, "legacy")).await?;
/// println!("{was_wanted}");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct Forget {
    pub(crate) kind: EntityKind,
    pub(crate) name: String,
}

impl Forget {
    /// Creates the message with the kind and the name of the entity, as [`MissingEntity`] has them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{EntityKind, Forget};
    /// let forget = Forget::new(EntityKind::Binding, "events -> jobs (resize)");
    /// ```
    pub fn new(kind: EntityKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl Message for Forget {
    type Result = bool;
}
