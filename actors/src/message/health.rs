//! The health of a connection, and what of its topology is missing.

use std::fmt;

use crate::error::Error;

/// Names what of a connection could not be restored, and why.
///
/// An exchange, queue or binding, or a consumer, that a lock of the dead connection held (403, 405) is tried again for a
/// minute at least, and [`Health`] tells when it is there. A consumer whose queue was declared over this connection and
/// is gone (404) is named, too, and repaired right afterwards: mostly the queue deletes itself, and went with the dead
/// connection after it was declared again. It is declared once more, and the consumer goes on
/// ([`ConsumerRecovered`](crate::ChannelEvent::ConsumerRecovered)). What is refused otherwise is tried again at the next
/// reconnect.
///
/// # Examples
/// ```
/// use actix_pika_actors::ConnectionEvent;
///
/// fn look(event: &ConnectionEvent) {
///     if let ConnectionEvent::Recovered { skipped, .. } = event {
///         for skipped in skipped.iter() {
///             eprintln!("{skipped}");
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// What it is.
    pub kind: EntityKind,
    /// Its name; for a binding, `source -> destination (routing key)`.
    pub name: String,
    /// Why it is not there: mostly `Refused`, with the broker's reply code.
    pub error: Error,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.kind, self.name, self.error)
    }
}

/// Lists the kinds of things that are restored.
///
/// # Examples
/// ```
/// use actix_pika_actors::EntityKind;
///
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
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Consumer => "consumer",
            Self::Channel => "channel",
        })
    }
}

/// Tells how well a connection does what it is there for.
///
/// **Over a reconnect**: `Down` with the cause, then `Degraded` by [`Restoring`](Degradation::Recovering), then `Up`, or
/// `Degraded` by what is [missing](Degradation::Missing).
///
/// Source: <https://www.rabbitmq.com/docs/monitoring>
///
/// # Examples
/// ```
/// use actix_pika_actors::Health;
///
/// fn status_code(health: &Health) -> u16 {
///     match health {
///         Health::Down(_) => 503,
///         _ => 200, // degraded is better than restarted
///     }
/// }
/// assert!(Health::Up.is_up());
/// assert_eq!(status_code(&Health::Down(None)), 503);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Health {
    /// Connected, and everything that was declared on it is there.
    #[default]
    Up,
    /// Connected, but for these reasons not all that it should be.
    Degraded(Vec<Degradation>),
    /// Not connected: not yet, not now, or not any more; the error where there is one.
    Down(Option<Error>),
}

impl Health {
    /// Tells whether all is well.
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

/// Tells why a connection is not all that it should be.
///
/// # Examples
/// ```
/// use actix_pika_actors::{Degradation, Health};
///
/// fn publishes(health: &Health) -> bool {
///     match health {
///         Health::Up => true,
///         Health::Degraded(why) => !why.iter().any(|one| matches!(one, Degradation::Blocked(_))),
///         _ => false,
///     }
/// }
/// assert!(publishes(&Health::Up));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Degradation {
    /// The topology, the channels and their consumers are being restored.
    Recovering,
    /// The broker takes no publishes, for the reason given.
    Blocked(String),
    /// Something is not there any more, or not yet.
    Missing(Skipped),
}
