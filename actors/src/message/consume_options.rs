//! The arguments of a consumer that RabbitMQ knows, typed, and what must hold for streams.

use std::time::{Duration, SystemTime};

use super::{Consume, QueueType, arguments::seconds};
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
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{Consume, StreamOffset};
    /// let options = Consume::new().stream_offset(StreamOffset::Offset(4711));
    /// let of_today = Consume::new().stream_offset(StreamOffset::Ago(Duration::from_secs(24 * 3600)));
    /// ```
    pub fn stream_offset(self, from: StreamOffset) -> Self {
        self.argument("x-stream-offset", from).of_type(Some(QueueType::Stream))
    }

    /// Says what the queue is, where that is known.
    #[doc(hidden)]
    pub fn of_type(mut self, queue_type: Option<QueueType>) -> Self {
        self.queue_type = queue_type.or(self.queue_type);
        self
    }

    /// Refuses what the broker would: a stream without a prefetch costs the channel (406), a stream with `no_ack` and
    /// a bound that consumers share the connection (540).
    pub(crate) fn check_type(&self, prefetch: u16, shared: bool) -> Result<()> {
        let why = match self.queue_type {
            Some(QueueType::Stream) if self.no_ack => "a stream cannot be read with no_ack",
            Some(QueueType::Stream) if prefetch == 0 => "a stream cannot be read without a prefetch",
            Some(QueueType::Stream | QueueType::Quorum) if shared => {
                "a stream or a quorum queue cannot be read on a channel whose prefetch is shared (Qos::global)"
            }
            _ => return Ok(()),
        };
        Err(Error::refused_here(why).on(&*self.queue))
    }
}
