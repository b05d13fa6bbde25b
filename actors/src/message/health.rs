//! The health of a connection, and the entities that are missing.

use std::fmt;

use crate::{error::Error, wire::PeerText};

/// Describes an entity that is wanted and not in place, and why.
///
/// What was declared or consumed stays wanted until the application gives it up. What is missing is tried
/// again by a back-off of its own, and [`Health`] changes when it is in place. [`GetMissing`] returns the
/// time of the next try as well, and [`Forget`] gives it up.
///
/// - An exchange, queue or binding is declared again. Right after a reconnect the channels wait up to five
///   seconds for what the lost connection still locks (403, 405), and for what has deleted itself after it
///   was redeclared (404).
/// - A consumer is tried on a channel of the library's own, where a refusal closes none of the application's;
///   the first try after the broker has cancelled it is made on its own channel.
/// - A conflict with what another client has declared (406) is tried every five seconds.
/// - What costs the connection is left out from then on: a declaration or consumer for which the broker closed
///   the connection (with a code of 500 or above, as 540 or 541), and a consumer whose deliveries could not be
///   read on three connections in a row. It is tried on a connection of its own, named like this one with the
///   suffix `(trial)`, with pauses that double from one second, and goes back to its place when that succeeds.
///   An exclusive or server-named queue, and a consumer of such a queue or of an auto-delete queue, cannot be
///   tried there: it is tried last after a later reconnect.
/// - What was declared passively is awaited, and never made.
///
/// [`GetMissing`]: crate::GetMissing
/// [`Forget`]: crate::Forget
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConnectionEvent;
/// fn print_skipped(event: &ConnectionEvent) {
///     if let ConnectionEvent::Recovered { skipped, .. } = event {
///         for entity in skipped.iter() {
///             eprintln!("not recovered: {entity}");
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Name of the entity; for a binding, `source -> destination (routing key)`.
    pub name: String,
    /// Why it could not be recovered: usually `Refused`, with the broker's reply code.
    pub error: Error,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.kind, self.name, self.error)
    }
}

/// Lists the kinds of entities that are recovered after a reconnect.
///
/// # Examples
/// ```
/// # use actix_pika_actors::EntityKind;
/// assert_eq!(EntityKind::Queue.to_string(), "queue");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EntityKind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A binding of a queue or of an exchange.
    Binding,
    /// A consumer.
    Consumer,
    /// A channel.
    Channel,
    /// The prefetch that the consumers of a channel share ([`Qos::global`](crate::Qos::global)), by the number of the
    /// channel: RabbitMQ 4.3 ignores it unless its operator permits it.
    Prefetch,
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Consumer => "consumer",
            Self::Channel => "channel",
            Self::Prefetch => "prefetch",
        })
    }
}

/// Describes whether a connection is usable and complete.
///
/// Something is [`Missing`](Degradation::Missing) from the moment at which the broker says so to the moment at
/// which it is in place again, or given up by the application; a
/// [`ConnectionEvent::Health`](crate::ConnectionEvent::Health) reports both.
///
/// **Over a reconnect**: `Down` with the cause, then `Degraded` by [`Recovering`](Degradation::Recovering),
/// then `Up`, or `Degraded` by what is [`Missing`](Degradation::Missing).
///
/// Source: <https://www.rabbitmq.com/docs/monitoring>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Health;
/// fn status_code(health: &Health) -> u16 {
///     match health {
///         Health::Down(_) => 503,
///         _ => 200, // a restart would not help a degraded connection
///     }
/// }
/// assert!(Health::Up.is_up());
/// assert_eq!(status_code(&Health::Down(None)), 503);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Health {
    /// Connected, and everything that was declared and consumed on the connection is in place.
    #[default]
    Up,
    /// Connected, but limited for these reasons.
    Degraded(Vec<Degradation>),
    /// Not connected: connecting, reconnecting or closed; with the error, if there is one.
    Down(Option<Error>),
}

impl Health {
    /// Returns whether the connection is up, and not degraded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Health;
    /// assert!(Health::Up.is_up());
    /// assert!(!Health::Down(None).is_up());
    /// ```
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// Describes why a connection is degraded.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Degradation, Health};
/// fn can_publish(health: &Health) -> bool {
///     match health {
///         Health::Up => true,
///         Health::Degraded(reasons) => !reasons.iter().any(|reason| matches!(reason, Degradation::Blocked(_))),
///         _ => false,
///     }
/// }
/// assert!(can_publish(&Health::Up));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Degradation {
    /// The topology, the channels and their consumers are being recovered.
    Recovering,
    /// The broker blocks publishing (`connection.blocked`), with its reason.
    Blocked(PeerText),
    /// An entity is missing.
    Missing(Skipped),
}
