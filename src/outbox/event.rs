//! What the watchers of a relay are told.

use std::time::Duration;

use actix::Message;
use actix_pika_actors::facade::Event;

use crate::Error;

/// What happens to an [`OutboxRelay`](super::OutboxRelay), for the actors that [watch](super::OutboxRelay::watch) it.
///
/// At most 256 events wait for a watcher; what it misses is counted in [`EventsDropped`](Self::EventsDropped).
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::outbox::RelayEvent;
///
/// struct Alarm;
///
/// impl Actor for Alarm {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<RelayEvent> for Alarm {
///     type Result = ();
///
///     fn handle(&mut self, event: RelayEvent, _: &mut Self::Context) {
///         if let RelayEvent::Parked { message_id, reason, .. } = event {
///             println!("{message_id} is parked: {reason}");
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RelayEvent {
    /// The relay has the lease and publishes from now on.
    LeaseTaken {
        /// A number that grows with each change of the holder.
        fence: i64,
    },
    /// Another relay has the lease. This one publishes nothing until it has it again.
    LeaseLost,
    /// A message was refused, and is [parked](super#what-is-refused). The later ones of its lane wait for it.
    Parked {
        /// Its message id; empty if the row cannot be read.
        message_id: String,
        /// Its lane.
        lane: Option<String>,
        /// Why.
        reason: String,
    },
    /// The database has failed. It is asked again after a pause.
    DatabaseFailed {
        /// Why.
        error: Error,
        /// The pause.
        next_in: Duration,
    },
    /// A publish has failed for no fault of its message, as without a connection. It is tried again after a pause.
    BrokerFailed {
        /// Why.
        error: Error,
        /// The pause.
        next_in: Duration,
    },
    /// The relay has panicked, and starts again after a pause.
    Panicked {
        /// The pause.
        next_in: Duration,
    },
    /// So many events were dropped before this one, because they were not handled in time.
    EventsDropped(u64),
    /// The relay has ended. This is the last event. The error is there if nobody asked for the end: its connection is
    /// closed.
    Ended(Option<Error>),
}

impl Message for RelayEvent {
    type Result = ();
}

impl Event for RelayEvent {
    fn is_minor(&self) -> bool {
        matches!(self, Self::DatabaseFailed { .. } | Self::BrokerFailed { .. })
    }

    fn bytes(&self) -> usize {
        0
    }

    fn dropped(count: u64) -> Self {
        Self::EventsDropped(count)
    }
}
