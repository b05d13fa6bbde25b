//! A probe: an actor to hand to whatever reports to a `Recipient`, and the end at which a test reads the reports.

use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, Message, Recipient};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time,
};

use super::{TIME_LIMIT, TestError, TestErrorKind};

/// Receives messages of type `M` as an actor does, and hands them to the test one by one.
///
/// # Examples
///
/// ```
/// use actix::prelude::*;
/// use actix_pika_actors::testing::Probe;
///
/// #[derive(Message, Debug, PartialEq)]
/// #[rtype(result = "()")]
/// struct Rang(u32);
///
/// # actix::System::new().block_on(async {
/// let mut probe = Probe::<Rang>::start();
/// let bell: Recipient<Rang> = probe.recipient(); // goes to what is under test
///
/// bell.do_send(Rang(1));
/// assert_eq!(probe.next().await?, Rang(1));
/// probe.expect_none_until(async { /* whatever must not ring it */ }).await?;
/// assert_eq!(probe.count().await, 1);
/// # Ok::<(), actix_pika_actors::testing::TestError>(()) }).unwrap();
/// ```
pub struct Probe<M: Message<Result = ()> + Send + 'static> {
    recorder: Addr<Recorder<M>>,
    tape: UnboundedReceiver<M>,
    /// Came while none should: the next to be taken.
    peeked: Option<M>,
    count: Arc<AtomicUsize>,
    limit: Duration,
}

impl<M: Message<Result = ()> + Send + 'static> Probe<M> {
    /// Starts the actor on the current arbiter. It stops when the probe and all its recipients are dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ding>::start();
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn start() -> Self {
        let (sender, tape) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let recorder = Recorder { tape: sender, count: Arc::clone(&count) }.start();
        Self { recorder, tape, peeked: None, count, limit: TIME_LIMIT }
    }

    /// Sets the limit of every wait.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ding>::start().time_limit(std::time::Duration::from_millis(10));
    /// assert!(probe.next().await.is_err());
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Makes an address to report to.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ding>::start();
    /// probe.recipient().do_send(Ding(1));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn recipient(&self) -> Recipient<M> {
        self.recorder.clone().recipient()
    }

    /// Awaits the next message.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](TestErrorKind::TimedOut) when none comes, [`Disconnected`](TestErrorKind::Disconnected) when its arbiter
    /// ended.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ding>::start();
    /// probe.recipient().do_send(Ding(1));
    /// assert_eq!(probe.next().await?, Ding(1));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn next(&mut self) -> Result<M, TestError> {
        if let Some(message) = self.peeked.take() {
            return Ok(message);
        }
        match time::timeout(self.limit, self.tape.recv()).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => {
                Err(TestError::new(TestErrorKind::Disconnected, awaited::<M>(), "the probe's arbiter ended"))
            }
            Err(_) => Err(TestError::timed_out(awaited::<M>(), self.limit)),
        }
    }

    /// Awaits messages until one is wanted, and returns it; drops the others.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ding>::start();
    /// (1..=3).for_each(|n| probe.recipient().do_send(Ding(n)));
    /// assert_eq!(probe.next_matching(|ding| ding.0 > 1).await?, Ding(2));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn next_matching(&mut self, mut wanted: impl FnMut(&M) -> bool) -> Result<M, TestError> {
        let deadline = time::Instant::now() + self.limit;
        loop {
            let left = deadline.saturating_duration_since(time::Instant::now());
            match time::timeout(left, self.next()).await {
                Ok(Ok(message)) if wanted(&message) => return Ok(message),
                Ok(Ok(_)) => {}
                Ok(Err(mismatch)) => return Err(mismatch),
                Err(_) => {
                    return Err(TestError::timed_out(format!("a certain {}", awaited::<M>()), self.limit));
                }
            }
        }
    }

    /// Runs this future to its end, and fails as soon as a message is there, one from before included.
    ///
    /// Everything that was sent to the probe before the future ended is seen, so no time has to be waited for. The
    /// message stays and can be taken with [`next`](Self::next). A future that needs a limit brings its own.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) when a message is there.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ding>::start();
    /// assert_eq!(probe.expect_none_until(async { 7 }).await?, 7);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn expect_none_until<F: Future>(&mut self, event: F) -> Result<F::Output, TestError> {
        let mut event = pin!(event);
        let output = poll_fn(|cx| match event.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.peek(cx).is_ready() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.fence().await;
        match output {
            Some(output) if self.peeked.is_none() && self.tape.is_empty() => Ok(output),
            _ => {
                let came = self.tape.len() + usize::from(self.peeked.is_some());
                let awaited = format!("no {}", awaited::<M>());
                Err(TestError::new(TestErrorKind::Unexpected, awaited, format!("{came} came")))
            }
        }
    }

    /// Takes all messages that were sent until now and not taken yet.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ding>::start();
    /// probe.recipient().do_send(Ding(1));
    /// assert_eq!(probe.drain().await, [Ding(1)]);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn drain(&mut self) -> Vec<M> {
        self.fence().await;
        let mut messages = Vec::from_iter(self.peeked.take());
        while let Ok(message) = self.tape.try_recv() {
            messages.push(message);
        }
        messages
    }

    /// Counts the messages that were sent to it until now, taken or not.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ding(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ding>::start();
    /// probe.recipient().do_send(Ding(1));
    /// assert_eq!(probe.count().await, 1);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn count(&self) -> usize {
        self.fence().await;
        self.count.load(Ordering::Acquire)
    }

    /// Ready when a message is there, which stays.
    fn peek(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.peeked.is_none() {
            // A closed tape brings nothing any more: that is quiet too.
            let Poll::Ready(Some(message)) = self.tape.poll_recv(cx) else { return Poll::Pending };
            self.peeked = Some(message);
        }
        Poll::Ready(())
    }

    /// Returns when the actor has handled all that was sent to it before: a mailbox keeps the order.
    async fn fence(&self) {
        // An error means that the actor is gone and handles nothing more.
        let _ = self.recorder.send(Fence(PhantomData)).await;
    }
}

impl<M: Message<Result = ()> + Send + 'static> fmt::Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("of", &awaited::<M>())
            .field("waiting", &self.tape.len())
            .finish_non_exhaustive()
    }
}

/// The actor behind a probe.
struct Recorder<M> {
    tape: UnboundedSender<M>,
    count: Arc<AtomicUsize>,
}

/// Says that everything before it was handled.
struct Fence<M>(PhantomData<fn() -> M>);

impl<M> Message for Fence<M> {
    type Result = ();
}

impl<M: Message<Result = ()> + Send + 'static> Actor for Recorder<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + 'static> Handler<M> for Recorder<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        self.count.fetch_add(1, Ordering::Release);
        // The test may have dropped the probe and kept a recipient.
        let _ = self.tape.send(message);
    }
}

impl<M: Message<Result = ()> + Send + 'static> Handler<Fence<M>> for Recorder<M> {
    type Result = ();

    fn handle(&mut self, _: Fence<M>, _: &mut Self::Context) {}
}

/// The name of the message type, without its path.
fn awaited<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    name.rsplit("::").next().unwrap_or(name)
}
