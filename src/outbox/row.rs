//! The rows of the outbox: as they are written, and as the relay reads them.

use std::time::Duration;

use actix_pika_actors::facade;
use bytes::Bytes;

use crate::{Publishing, Result};

/// A message to be written.
#[derive(Clone, Debug)]
pub(super) struct NewRow {
    pub(super) message_id: String,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) lane: Option<String>,
    pub(super) mandatory: bool,
    /// As a content header has them.
    pub(super) properties: Vec<u8>,
    pub(super) body: Bytes,
}

/// A row that is to be published.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) lane: Option<String>,
    /// How often the broker has refused it.
    pub(super) tries: u32,
    /// What is published, or why the row cannot be read.
    pub(super) message: Result<Message, String>,
}

/// What the broker gets.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) message_id: String,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) publishing: Publishing,
}

impl Message {
    /// Puts together what the columns of a row have.
    ///
    /// # Errors
    /// Why it cannot be published, such as properties that are none.
    pub(super) fn read(
        message_id: String,
        exchange: String,
        routing_key: String,
        mandatory: bool,
        properties: &[u8],
        body: Vec<u8>,
    ) -> Result<Self, String> {
        let properties = facade::decode_properties(properties)
            .map_err(|error| format!("its properties cannot be decoded: {error}"))?;
        let publishing =
            Publishing::new(body).properties(properties).message_id(&*message_id).mandatory(mandatory);
        Ok(Self { message_id, exchange, routing_key, publishing })
    }
}

/// A row that was not published, and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldRow {
    pub(super) id: i64,
    pub(super) tries: u32,
    pub(super) hold: Hold,
    pub(super) reason: String,
}

/// How long a row waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    For(Duration),
    /// Until somebody unparks it.
    Parked,
}

impl HeldRow {
    /// Returns how many milliseconds the row waits; `None` for ever.
    pub(super) fn millis(&self) -> Option<i64> {
        match self.hold {
            Hold::For(wait) => Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2)),
            Hold::Parked => None,
        }
    }
}

/// Why and where a message is parked: [`Outbox::parked`](super::Outbox::parked) returns them.
///
/// # Examples
/// ```
/// # use actix_pika::outbox::Parked;
/// fn line(parked: &Parked) -> String {
///     format!("{} after {} tries: {}", parked.message_id, parked.tries, parked.reason)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// The message id.
    pub message_id: String,
    /// The exchange that it is for.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its lane, whose later messages wait behind it.
    pub lane: Option<String>,
    /// How often the broker has refused it.
    pub tries: u32,
    /// Why it is parked.
    pub reason: String,
    /// How long ago it was written.
    pub age: Duration,
}

/// How much an outbox has to publish: [`Outbox::lag`](super::Outbox::lag) returns it.
///
/// # Examples
/// ```
/// # use actix_pika::outbox::Lag;
/// fn is_late(lag: &Lag) -> bool {
///     lag.oldest.is_some_and(|age| age.as_secs() > 60)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Messages that are to be published, those behind a parked one included.
    pub waiting: u64,
    /// How long ago the oldest of them was written, by the clock of the database.
    pub oldest: Option<Duration>,
    /// Messages that are parked.
    pub parked: u64,
}
