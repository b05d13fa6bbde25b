//! A connection without a socket: what is published and called is recorded, and answered as a test says.
//!
//! The supervisor, the channels and the outboxes are those of every connection. An actor (`stand_in`) takes the
//! place of the `Connection` actor. It reads the frames that the channels write (`channel`), and sends the
//! replies (`calls`) back as frames.

mod calls;
mod channel;
mod publish;
mod shared;
mod stand_in;
mod world;

use std::{fmt, sync::Arc, time::Duration};

use actix::{Actor, Addr, ArbiterHandle};
use tokio::{sync::watch, time::timeout_at};

pub use self::publish::{Answer, RecordedPublish};
pub(super) use self::shared::Shared;
use self::{stand_in::StandIn, world::Queued};
use super::{SettleProbe, TIME_LIMIT, TestDelivery, TestError, deadline_after};
use crate::{
    error::Error,
    message::{ConnectionState, Publishing},
    options::ConnectionOptions,
    outbox::ConnectionTally,
    supervisor::ConnectionSupervisor,
};

/// The largest frame of a connection without a socket.
const FRAME_MAX: u32 = 131_072;
/// The queue of replies that each channel has of its own.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Records what is published and called on a connection without a socket, and answers it.
///
/// The connection is a real one, from the handle to the bytes of the frames, so that publishes, confirms, windows,
/// deadlines, prefetches and settlements are what they are with a broker. What is missing is the broker:
///
/// - Publishes are not routed. Each is recorded, and [confirmed](Answer::Ack) unless a test says otherwise.
/// - Calls are recorded, and succeed. Nothing is checked: a queue need not be declared.
/// - Consumers get what a test [delivers](Self::deliver) to their queue, within their prefetch. What they return
///   to the queue is not delivered again.
/// - Transactions are calls like others: publishes and settlements count at once, and a rollback takes none back.
///
/// Clones are handles of the same recorder. In the crate `actix-pika`, `testing::Detached` has the handles of
/// a connection, too.
///
/// # Examples
/// ```
/// use actix_pika_actors::{ConnectionOptions, ConnectionState, OpenChannel, Publish, testing::Recorder};
///
/// # actix::System::new().block_on(async {
/// let recorder = Recorder::new();
/// let (connection, mut state) = recorder.launch(ConnectionOptions::default());
/// state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
/// let channel = connection.send(OpenChannel::new()).await??;
///
/// let confirmation = channel.actor.send(Publish::new("orders", "order.at", "{}")).await??;
/// assert!(confirmation.is_confirmed());
/// assert_eq!(recorder.next_published().await?.routing_key(), "order.at");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    limit: Duration,
}

impl Recorder {
    /// Creates a recorder that confirms every publish.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::Recorder;
    /// assert!(Recorder::new().published().is_empty());
    /// ```
    pub fn new() -> Self {
        Self { shared: Shared::new(), limit: TIME_LIMIT }
    }

    /// Sets the limit of every wait of this handle. The default is [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::Recorder;
    /// let patient = Recorder::new().time_limit(std::time::Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts a connection on the current arbiter, which is open after some messages between its actors. A
    /// recorder has one connection at a time.
    ///
    /// # Panics
    /// Outside of an actix `System`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionOptions, ConnectionState, testing::Recorder};
    /// # actix::System::new().block_on(async {
    /// let (connection, mut state) = Recorder::new().launch(ConnectionOptions::default());
    /// state.wait_for(|state| matches!(state, ConnectionState::Open(_))).await.unwrap();
    /// # });
    /// ```
    pub fn launch(
        &self,
        options: ConnectionOptions,
    ) -> (Addr<ConnectionSupervisor>, watch::Receiver<ConnectionState>) {
        self.launch_counted(options, None, Arc::default())
    }

    #[doc(hidden)]
    pub fn launch_counted(
        &self,
        options: ConnectionOptions,
        arbiter: Option<&ArbiterHandle>,
        tally: Arc<ConnectionTally>,
    ) -> (Addr<ConnectionSupervisor>, watch::Receiver<ConnectionState>) {
        let shared = self.shared.clone();
        ConnectionSupervisor::launch_without_socket(options, arbiter, tally, move |epoch, supervisor| {
            let actor = StandIn::new(shared.clone(), epoch, supervisor).start();
            (actor.clone().recipient(), actor.recipient())
        })
    }

    /// Sets the answer to publishes that have none of [`answer_next`](Self::answer_next). The default is
    /// [`Answer::Ack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, Publish, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// use actix_pika_actors::ErrorKind;
    /// recorder.answer(Answer::Nack);
    /// let error = channel.actor.send(Publish::new("", "jobs", "1")).await?.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Nacked);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn answer(&self, answer: Answer) {
        self.shared.with(|state| state.world.answer = answer);
    }

    /// Adds the answer to the next publish that has none yet.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Answer, Recorder};
    /// # let recorder = Recorder::new();
    /// recorder.answer_next(Answer::Nack);
    /// let text = "NOT_FOUND - no exchange 'orders' in vhost '/'".to_owned();
    /// recorder.answer_next(Answer::Close { code: 404, text });
    /// ```
    pub fn answer_next(&self, answer: Answer) {
        self.shared.with(|state| state.world.next_answers.push_back(answer));
    }

    /// Answers all publishes that are [held](Answer::Hold), in their order; returns how many they are.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, Publishing, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// recorder.answer(Answer::Hold);
    /// let message = Publishing::new("resize 7.png");
    /// let confirm = channel.outbox.try_publish("", "jobs", &message)?.unwrap();
    /// assert_eq!(recorder.answer_held(Answer::Ack), 1);
    /// assert!(confirm.await?.is_confirmed());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn answer_held(&self, answer: Answer) -> usize {
        self.shared.with(|state| {
            let published = state.world.published.clone();
            published.iter().filter(|publish| state.answer(publish, &answer)).count()
        })
    }

    /// Returns everything that was published until now, on all channels.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, Publishing, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))?;
    /// assert_eq!(recorder.published()[0].body(), "resize 7.png");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn published(&self) -> Vec<RecordedPublish> {
        self.shared.with(|state| state.world.published.clone())
    }

    /// Waits for the next publish, from the first one on.
    ///
    /// # Errors
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when nothing is published within the limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, Publishing, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))?;
    /// assert_eq!(recorder.next_published().await?.body(), "resize 7.png");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn next_published(&self) -> Result<RecordedPublish, TestError> {
        let deadline = deadline_after(self.limit);
        let mut published = self.shared.published.subscribe();
        loop {
            let next = self.shared.with(|state| {
                let next = state.world.published.get(state.taken).cloned();
                state.taken += usize::from(next.is_some());
                next.ok_or(state.taken)
            });
            let taken = match next {
                Ok(publish) => return Ok(publish),
                Err(taken) => taken,
            };
            let more = timeout_at(deadline, published.wait_for(|count| *count > taken)).await;
            more.map_err(|_| TestError::timed_out("a publish", self.limit)).map(drop)?;
        }
    }

    /// Checks that until now nothing was published but what [`next_published`](Self::next_published) has
    /// returned.
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected), which names the first publish.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, Publishing, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// recorder.nothing_published()?;
    /// channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))?;
    /// recorder.nothing_published().unwrap_err();
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn nothing_published(&self) -> Result<(), TestError> {
        match self.shared.with(|state| state.world.published.get(state.taken).cloned()) {
            None => Ok(()),
            Some(publish) => Err(TestError::unexpected("no publish", format!("{publish:?}"))),
        }
    }

    /// Delivers a message to a consumer of a queue, as soon as there is one that has room in its prefetch, or to
    /// the next `basic.get`.
    ///
    /// The probe returns how it was settled. A delivery that is dropped unsettled is
    /// [rejected](super::Settlement::Rejected) by its channel, which requeues it.
    ///
    /// Of a [`TestDelivery`], the queue and what the channel decides, as the delivery tag, are not used.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Publishing, testing::{Recorder, TestDelivery, TestError}};
    /// # async fn run(recorder: Recorder) -> Result<(), TestError> {
    /// let first = recorder.deliver("jobs", "resize 7.png");
    /// let again = recorder.deliver("jobs", TestDelivery::new("resize 7.png").redelivered(true));
    /// first.acked().await?;
    /// again.rejected(false).await?;
    /// # Ok(()) }
    /// ```
    pub fn deliver(&self, queue: &str, message: impl Into<TestDelivery>) -> SettleProbe {
        let (settled, receiver) = watch::channel(None);
        let queued = Queued::new(message.into(), settled);
        self.shared.with(|state| {
            state.world.queues.entry(queue.to_owned()).or_default().push_back(queued);
        });
        SettleProbe::new(receiver, format!("what was delivered to {queue:?}"))
            .recorded_by(Arc::downgrade(&self.shared))
            .time_limit(self.limit)
    }

    /// Delivers the reply to a request, with its correlation id, to the queue that the request names.
    ///
    /// As RabbitMQ does, it drops the reply to a direct request (`amq.rabbitmq.reply-to`) whose channel has been
    /// closed since, has been opened again, or has no consumer of replies any more.
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected) if the publish has no `reply_to`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Recorder, TestError};
    /// # async fn run(recorder: Recorder) -> Result<(), TestError> {
    /// let request = recorder.next_published().await?;
    /// assert_eq!(request.body(), "7");
    /// recorder.reply(&request, "49")
    /// # }
    /// ```
    pub fn reply(&self, request: &RecordedPublish, message: impl Into<Publishing>) -> Result<(), TestError> {
        let Some(queue) = request.properties().reply_to() else {
            return Err(TestError::unexpected("a publish with reply_to", format!("{request:?}")));
        };
        let mut message = message.into();
        if let Some(id) = request.properties().correlation_id() {
            message = message.correlation_id(id);
        }
        let delivery = TestDelivery::new(message).published_to("", queue);
        if queue == DIRECT_REPLY_TO {
            let reply = Queued::new(delivery, watch::Sender::new(None));
            self.shared.with(|state| state.reply_to(request, reply));
        } else {
            let _settled = self.deliver(queue, delivery);
        }
        Ok(())
    }

    /// Returns the calls until now, with the names in them: `queue.declare jobs`, `queue.bind jobs amq.topic
    /// job.*`, `basic.get jobs`.
    ///
    /// A consumer is two of them, since its prefetch comes first: `basic.qos 250`, `basic.consume jobs`. What opens and
    /// closes a channel is not listed (`channel.open`, `confirm.select`), nor are publishes and settlements. A connection
    /// that recovers makes its calls again.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, DeclareQueue, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// channel.actor.send(DeclareQueue::new("jobs")).await??;
    /// assert_eq!(recorder.calls(), ["queue.declare jobs"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn calls(&self) -> Vec<String> {
        self.shared.with(|state| state.world.calls.clone())
    }

    /// Ends the connection as the loss of a socket does.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionState, OpenChannel, testing::{Answer, Recorder}};
    /// # actix::System::new().block_on(async {
    /// # let recorder = Recorder::new();
    /// # let (connection, mut state) = recorder.launch(Default::default());
    /// # state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await?;
    /// # let channel = connection.send(OpenChannel::new()).await??;
    /// recorder.lose_connection();
    /// state.wait_for(|state| matches!(state, ConnectionState::Closed(_))).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn lose_connection(&self) {
        self.shared.end(Error::connection_closed("the test has ended the connection", None));
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("published", &self.published()).finish_non_exhaustive()
    }
}
