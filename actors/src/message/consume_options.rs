//! The arguments of a consumer that RabbitMQ knows, typed, and what must hold for streams.

use std::time::{Duration, SystemTime};

use super::{Consume, arguments::seconds};
use crate::{
    error::{Error, Result},
    wire::Value,
};

/// Says where in a stream a consumer begins (`x-stream-offset`).
///
/// Source: RabbitMQ, "Streams and Super Streams", section "Consuming".
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Consume, StreamOffset};
/// let from_the_start = Consume::new().stream_offset(StreamOffset::First);
/// let one_hour = std::time::Duration::from_secs(3600);
/// let the_last_hour = Consume::new().stream_offset(StreamOffset::Ago(one_hour));
/// let one_hour_back = std::time::SystemTime::now() - one_hour;
/// let the_same = Consume::new().stream_offset(StreamOffset::Timestamp(one_hour_back));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamOffset {
    /// With the first message that is kept.
    First,
    /// With the last chunk that was written, which may hold many messages.
    Last,
    /// With what is published from now on. The broker's default.
    Next,
    /// With the message of this offset, or the first one that is kept after it.
    Offset(u64),
    /// With the chunk that holds what was published at this time, or the first one after it; whole seconds.
    Timestamp(SystemTime),
    /// With the chunk that holds what was published this long ago, or the first one after it; whole seconds, rounded up.
    #[doc(alias = "interval")]
    Ago(Duration),
}

impl From<StreamOffset> for Value {
    fn from(offset: StreamOffset) -> Self {
        match offset {
            StreamOffset::First => "first".into(),
            StreamOffset::Last => "last".into(),
            StreamOffset::Next => "next".into(),
            StreamOffset::Offset(offset) => i64::try_from(offset).unwrap_or(i64::MAX).into(),
            StreamOffset::Timestamp(time) => time.into(),
            StreamOffset::Ago(time) => seconds(time).into(),
        }
    }
}

impl Consume {
    /// Sets the priority among the consumers of the queue (`x-priority`): those with the highest are served first, as
    /// long as their prefetch has room. 0 unless set.
    ///
    /// Source: RabbitMQ, "Consumer Priorities".
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let preferred = Consume::new().priority(10);
    /// ```
    pub fn priority(self, priority: i32) -> Self {
        self.argument("x-priority", priority)
    }

    /// Sets where in a stream to begin (`x-stream-offset`).
    ///
    /// Reading a stream takes a prefetch and acknowledgements; without, the call is refused here.
    ///
    /// **Over a reconnect**: it goes on behind the highest offset up to which all was settled, and not from
    /// here again.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams#consuming>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Consume, StreamOffset};
    /// let options = Consume::new().stream_offset(StreamOffset::Offset(4711));
    /// ```
    pub fn stream_offset(self, from: StreamOffset) -> Self {
        self.argument("x-stream-offset", from).from_stream()
    }

    /// Says that the queue is a stream.
    #[doc(hidden)]
    pub fn from_stream(mut self) -> Self {
        self.stream = true;
        self
    }

    /// Refuses what the broker would: without a prefetch it closes the channel (406), with `no_ack` the connection
    /// (540).
    pub(crate) fn check_stream(&self, prefetch: u16) -> Result<()> {
        if self.stream && self.no_ack {
            return Err(Error::refused_here("a stream cannot be read with no_ack").on(&*self.queue));
        }
        if self.stream && prefetch == 0 {
            return Err(Error::refused_here("a stream cannot be read without a prefetch").on(&*self.queue));
        }
        Ok(())
    }
}
