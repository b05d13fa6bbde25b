//! A publish that was recorded, and how it is answered.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;

use super::shared::Shared;
use crate::{testing::TestError, wire::Properties};

/// How a [`Recorder`](super::Recorder) answers a publish.
///
/// On a channel without confirms, only [`Return`](Self::Return) and [`Close`](Self::Close) send something.
///
/// # Examples
/// ```
/// use actix_pika_actors::testing::{Answer, Recorder};
///
/// let recorder = Recorder::new();
/// recorder.answer_next(Answer::Return { code: 312, text: "NO_ROUTE".to_owned() });
/// recorder.answer(Answer::Nack); // all others
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Confirms it.
    Ack,
    /// Refuses it, as a full queue does: the publish fails with `Nacked`.
    Nack,
    /// Returns it and confirms it, as a broker that has no queue for it: it fails with `Unroutable`.
    ///
    /// RabbitMQ returns only mandatory messages, a recorder all of them. A publish with `mandatory(false)` is
    /// confirmed nevertheless: no client awaits a return of it.
    Return {
        /// The reply code, 312 for `NO_ROUTE`.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// Closes the channel.
    ///
    /// On a connection that is not recovered, the channel stays closed: the publish fails with `ChannelClosed`, and
    /// so do all others of the channel, to which no later answer is given.
    ///
    /// On one that is, the channel is opened again. The publish fails alone, and all others are resent and
    /// answered anew, if the text is that of RabbitMQ, which names it. By another text, a client knows the
    /// publish only if no other is unconfirmed, and otherwise resends all of them.
    Close {
        /// The reply code, such as 404.
        code: u16,
        /// The reply text, such as `NOT_FOUND - no exchange 'orders' in vhost '/'`.
        text: String,
    },
    /// Leaves it without an answer, until [`RecordedPublish::answer`] or
    /// [`Recorder::answer_held`](super::Recorder::answer_held) gives one, or its deadline passes.
    Hold,
}

/// A publish that a [`Recorder`](super::Recorder) has received.
///
/// # Examples
/// ```
/// use actix_pika_actors::testing::RecordedPublish;
///
/// fn check(publish: &RecordedPublish) {
///     assert_eq!((publish.exchange(), publish.routing_key()), ("orders", "order.at"));
///     assert_eq!(publish.properties().content_type(), Some("application/json"));
///     assert_eq!(publish.body(), r#"{"id":7}"#);
///     assert!(publish.is_mandatory());
/// }
/// ```
#[derive(Clone)]
pub struct RecordedPublish {
    inner: Arc<Inner>,
    shared: Weak<Shared>,
}

/// What was published.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) place: Place,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    pub(super) properties: Properties,
    pub(super) body: Bytes,
}

/// Where the confirm of a publish goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) channel: u16,
    /// Which opening of a channel it is, of all that the recorder has had.
    pub(super) opening: u64,
    /// How many publishes of the channel it is.
    pub(super) count: u64,
    /// 0 without confirms.
    pub(super) sequence: u64,
}

impl RecordedPublish {
    pub(super) fn new(inner: Inner, shared: Weak<Shared>) -> Self {
        Self { inner: Arc::new(inner), shared }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn place(&self) -> Place {
        self.inner.place
    }

    /// Returns the exchange; empty for the default exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.exchange() == "orders"
    /// }
    /// ```
    pub fn exchange(&self) -> &str {
        &self.inner.exchange
    }

    /// Returns the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.routing_key() == "order.at"
    /// }
    /// ```
    pub fn routing_key(&self) -> &str {
        &self.inner.routing_key
    }

    /// Returns whether it was published as mandatory.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.is_mandatory()
    /// }
    /// ```
    pub fn is_mandatory(&self) -> bool {
        self.inner.mandatory
    }

    /// Returns the properties, with the headers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.properties().content_type() == Some("application/json")
    /// }
    /// ```
    pub fn properties(&self) -> &Properties {
        &self.inner.properties
    }

    /// Returns the body.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.body() == "{}"
    /// }
    /// ```
    pub fn body(&self) -> &Bytes {
        &self.inner.body
    }

    /// Returns the number of the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RecordedPublish;
    /// fn is_wanted(publish: &RecordedPublish) -> bool {
    ///     publish.channel() == 1
    /// }
    /// ```
    pub fn channel(&self) -> u16 {
        self.inner.place.channel
    }

    /// Answers a publish that was [held](Answer::Hold).
    ///
    /// # Errors
    /// [`Unexpected`](super::super::TestErrorKind::Unexpected) if it has an answer, or its channel is closed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Answer, Recorder, TestError};
    /// # async fn run(recorder: Recorder) -> Result<(), TestError> {
    /// recorder.answer_next(Answer::Hold);
    /// // The service publishes, and waits for the confirm.
    /// recorder.next_published().await?.answer(Answer::Ack)
    /// # }
    /// ```
    pub fn answer(&self, answer: Answer) -> Result<(), TestError> {
        let is_held = self.shared.upgrade().is_some_and(|shared| shared.answer_one(self, &answer));
        let awaited = || format!("{self:?} without an answer");
        is_held.then_some(()).ok_or_else(|| TestError::unexpected(awaited(), "one that has an answer"))
    }
}

impl fmt::Debug for RecordedPublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { exchange, routing_key, body, .. } = &*self.inner;
        write!(f, "a publish to {exchange:?} with the key {routing_key:?} and {} bytes", body.len())
    }
}
