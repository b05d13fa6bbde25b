//! Typed arguments of consumers, and the checks for streams and quorum queues.

use std::time::{Duration, SystemTime};

use super::{Consume, QueueType, arguments::seconds};
use crate::{
    error::{Error, Result},
    wire::Value,
};

/// Selects the position in a stream at which a consumer starts (`x-stream-offset`).
///
/// Source: <https://www.rabbitmq.com/docs/streams#consuming>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Consume, StreamOffset};
/// let first = Consume::new().stream_offset(StreamOffset::First);
/// let one_hour = std::time::Duration::from_secs(3600);
/// let last_hour = Consume::new().stream_offset(StreamOffset::Ago(one_hour));
/// let an_hour_ago = std::time::SystemTime::now() - one_hour;
/// let same = Consume::new().stream_offset(StreamOffset::Timestamp(an_hour_ago));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamOffset {
    /// The first message that the stream still has.
    First,
    /// The last chunk that was written, which may contain many messages.
    Last,
    /// Messages that are published from now on. The broker's default.
    Next,
    /// The message with this offset, or the first later one that the stream still has.
    Offset(u64),
    /// The chunk that contains messages of this time, or the first later one; whole seconds.
    Timestamp(SystemTime),
    /// The chunk that contains messages published this long ago, or the first later one; whole seconds,
    /// rounded up.
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
    /// Sets the priority of this consumer among those of the queue (`x-priority`); 0 unless set.
    ///
    /// Consumers with the highest priority are served first, as long as their prefetch allows.
    ///
    /// Source: <https://www.rabbitmq.com/docs/consumer-priority>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Consume;
    /// let options = Consume::new().priority(10);
    /// ```
    pub fn priority(self, priority: i32) -> Self {
        self.argument("x-priority", priority)
    }

    /// Sets the position in a stream at which the consumer starts (`x-stream-offset`).
    ///
    /// Streams require a prefetch and acknowledgements. Otherwise the call is refused before anything
    /// is sent.
    ///
    /// **Over a reconnect**: the consumer continues after the highest offset up to which all deliveries are
    /// settled.
    ///
    /// Source: <https://www.rabbitmq.com/docs/streams#consuming>
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{Consume, StreamOffset};
    /// let options = Consume::new().stream_offset(StreamOffset::Offset(4711));
    /// let last_day = Consume::new().stream_offset(StreamOffset::Ago(Duration::from_secs(24 * 3600)));
    /// ```
    pub fn stream_offset(self, from: StreamOffset) -> Self {
        self.argument("x-stream-offset", from).of_type(Some(QueueType::Stream))
    }

    /// Sets the type of the queue, if it is known.
    pub(crate) fn of_type(mut self, queue_type: Option<QueueType>) -> Self {
        self.queue_type = queue_type.or(self.queue_type);
        self
    }

    /// Refuses what the broker would refuse: a stream without a prefetch closes the channel (406); a
    /// stream with `no_ack`, or with a prefetch shared by the channel, closes the connection (540).
    pub(crate) fn check_type(&self, prefetch: u16, shared: bool) -> Result<()> {
        let reason = match self.queue_type {
            Some(QueueType::Stream) if self.no_ack => "a stream cannot be consumed with no_ack",
            Some(QueueType::Stream) if prefetch == 0 => "a stream cannot be consumed without a prefetch",
            Some(QueueType::Stream | QueueType::Quorum) if shared => {
                "a stream or a quorum queue cannot be consumed with a prefetch that the channel shares (Qos::global)"
            }
            _ => return Ok(()),
        };
        Err(Error::refused_here(reason).on(&*self.queue))
    }
}
