//! How a delivery was settled, for tests.

use std::{fmt, sync::Weak, time::Duration};

use tokio::{sync::watch, time};

use super::{TIME_LIMIT, TestError, TestErrorKind, recorder::Shared};

/// How a delivery was settled.
///
/// # Examples
/// ```
/// use actix_pika_actors::testing::{Settlement, TestDelivery};
///
/// let (delivery, settled) = TestDelivery::new("resize 7.png").build();
/// delivery.nack(true).unwrap();
/// assert_eq!(settled.now(), Some(Settlement::Nacked { requeue: true }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// By [`ack`](crate::Delivery::ack), alone or with others.
    Acked,
    /// By [`nack`](crate::Delivery::nack), alone or with others.
    Nacked {
        /// Whether the message returns to its queue.
        requeue: bool,
    },
    /// By [`reject`](crate::Delivery::reject).
    Rejected {
        /// Whether the message returns to its queue.
        requeue: bool,
    },
    /// It was dropped unsettled: its channel would return the message to the queue.
    ///
    /// Only of a [`TestDelivery`](super::TestDelivery), which has no such channel. What a
    /// [`Recorder`](super::Recorder) delivers has one: there it is `Rejected { requeue: true }`.
    Dropped,
}

impl fmt::Display for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |requeue: &bool| if *requeue { "requeued" } else { "not requeued" };
        match self {
            Self::Acked => write!(f, "an ack"),
            Self::Nacked { requeue } => write!(f, "a nack, {}", after(requeue)),
            Self::Rejected { requeue } => write!(f, "a reject, {}", after(requeue)),
            Self::Dropped => write!(f, "a drop without settling"),
        }
    }
}

/// Returns to a test how a delivery was settled, now or when that happens.
///
/// [`TestDelivery::build`](super::TestDelivery::build) returns one with each delivery.
///
/// # Examples
/// ```
/// use actix_pika_actors::{Delivery, testing::TestDelivery};
///
/// async fn handle(job: Delivery) {
///     if job.body().starts_with(b"resize") { job.ack() } else { job.reject(false) }.unwrap();
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let (job, settled) = TestDelivery::new("resize 7.png").build();
/// handle(job).await;
/// settled.acked().await?;
///
/// let (job, settled) = TestDelivery::new("no such job").queue("jobs").build();
/// handle(job).await;
/// let error = settled.acked().await.unwrap_err();
/// assert_eq!(error.to_string(), "awaited an ack of delivery 1 of \"jobs\", but a reject, not requeued came");
/// # Ok::<(), actix_pika_actors::testing::TestError>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[must_use = "it tells how the delivery was settled"]
pub struct SettleProbe {
    settled: watch::Receiver<Option<Settlement>>,
    what: String,
    limit: Duration,
    /// Reads what the channel of the delivery has written.
    recorder: Option<Weak<Shared>>,
}

impl SettleProbe {
    pub(super) fn new(settled: watch::Receiver<Option<Settlement>>, what: String) -> Self {
        Self { settled, what, limit: TIME_LIMIT, recorder: None }
    }

    pub(super) fn recorded_by(mut self, recorder: Weak<Shared>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    fn read(&self) {
        if let Some(recorder) = self.recorder.as_ref().and_then(Weak::upgrade) {
            recorder.read();
        }
    }

    /// Sets the limit of every wait. The default is [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// let settled = settled.time_limit(std::time::Duration::from_millis(10));
    /// assert!(settled.acked().await.is_err());
    /// delivery.ack().unwrap();
    /// # });
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns how the delivery was settled, or `None` as long as it is not.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Settlement, TestDelivery};
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// assert_eq!(settled.now(), None);
    /// drop(delivery);
    /// assert_eq!(settled.now(), Some(Settlement::Dropped));
    /// ```
    pub fn now(&self) -> Option<Settlement> {
        self.read();
        *self.settled.borrow()
    }

    /// Waits until the delivery is settled, and returns how.
    ///
    /// # Errors
    /// [`TimedOut`](TestErrorKind::TimedOut) if it is not settled within the limit;
    /// [`Disconnected`](TestErrorKind::Disconnected) if it cannot be any more: its consumer has `no_ack`, or its
    /// channel is closed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Settlement, TestDelivery, TestError};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// delivery.ack().unwrap();
    /// assert_eq!(settled.settled().await?, Settlement::Acked);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn settled(&self) -> Result<Settlement, TestError> {
        self.awaited("a settlement").await
    }

    /// Waits for an ack.
    ///
    /// # Errors
    /// Those of [`settled`](Self::settled); [`Unexpected`](TestErrorKind::Unexpected) for another settlement,
    /// which the error names.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestDelivery, TestError};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// delivery.ack().unwrap();
    /// settled.acked().await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn acked(&self) -> Result<(), TestError> {
        self.expect(Settlement::Acked).await
    }

    /// Waits for a nack.
    ///
    /// # Errors
    /// Those of [`acked`](Self::acked).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestDelivery, TestError};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// delivery.nack(true).unwrap();
    /// settled.nacked(true).await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn nacked(&self, requeue: bool) -> Result<(), TestError> {
        self.expect(Settlement::Nacked { requeue }).await
    }

    /// Waits for a reject.
    ///
    /// # Errors
    /// Those of [`acked`](Self::acked).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestDelivery, TestError};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// delivery.reject(false).unwrap();
    /// settled.rejected(false).await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn rejected(&self, requeue: bool) -> Result<(), TestError> {
        self.expect(Settlement::Rejected { requeue }).await
    }

    /// Waits until the delivery, which a [`TestDelivery`](super::TestDelivery) has built, is dropped unsettled. If a
    /// [`Recorder`](super::Recorder) has delivered it, its channel then [rejects](Self::rejected) it, with `requeue`.
    ///
    /// # Errors
    /// Those of [`acked`](Self::acked).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestDelivery, TestError};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// drop(delivery);
    /// settled.dropped().await?;
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn dropped(&self) -> Result<(), TestError> {
        self.expect(Settlement::Dropped).await
    }

    /// Checks that the delivery is not settled until now.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected), which names the settlement.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestDelivery;
    /// let (delivery, settled) = TestDelivery::new("hello").build();
    /// settled.unsettled().unwrap();
    /// delivery.ack().unwrap();
    /// settled.unsettled().unwrap_err();
    /// ```
    pub fn unsettled(&self) -> Result<(), TestError> {
        match self.now() {
            None => Ok(()),
            Some(settled) => Err(TestError::unexpected(format!("no settlement of {}", self.what), settled)),
        }
    }

    async fn expect(&self, wanted: Settlement) -> Result<(), TestError> {
        match self.awaited(wanted).await? {
            settled if settled == wanted => Ok(()),
            settled => Err(TestError::unexpected(format!("{wanted} of {}", self.what), settled)),
        }
    }

    async fn awaited(&self, wanted: impl fmt::Display) -> Result<Settlement, TestError> {
        self.read();
        let mut settled = self.settled.clone();
        let ended = match time::timeout(self.limit, settled.wait_for(Option::is_some)).await {
            Ok(Ok(settled)) => *settled,
            Ok(Err(_)) => None,
            Err(_) => {
                return Err(TestError::timed_out(format!("{wanted} of {}", self.what), self.limit));
            }
        };
        ended.ok_or_else(|| {
            let awaited = format!("{wanted} of {}", self.what);
            TestError::new(TestErrorKind::Disconnected, awaited, "it cannot be settled any more")
        })
    }
}

impl fmt::Debug for SettleProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettleProbe")
            .field("of", &self.what)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
