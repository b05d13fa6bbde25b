//! [`Probe`]: an actor that records messages for a test.

mod actor;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use actix::{Actor, Addr, Message, Recipient};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time,
};

use self::actor::{Fence, ProbeActor};
use super::{TIME_LIMIT, TestError, TestErrorKind, deadline_after};

/// Receives messages of type `M` as an actor, and returns them to the test one by one.
///
/// Messages with a result are [answered](Self::answering) by a function, or all with
/// [one value](Self::returning).
///
/// # Examples
///
/// ```
/// use actix::prelude::*;
/// use actix_pika_actors::testing::Probe;
///
/// #[derive(Message, Debug, PartialEq)]
/// #[rtype(result = "()")]
/// struct Ping(u32);
///
/// # actix::System::new().block_on(async {
/// let mut probe = Probe::<Ping>::start();
/// let recipient: Recipient<Ping> = probe.recipient(); // for the code under test
///
/// recipient.do_send(Ping(1));
/// assert_eq!(probe.next().await?, Ping(1));
/// probe.expect_none_until(async { /* must send no message */ }).await?;
/// assert_eq!(probe.count().await, 1);
/// # Ok::<(), actix_pika_actors::testing::TestError>(()) }).unwrap();
/// ```
pub struct Probe<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    actor: Addr<ProbeActor<M>>,
    messages: UnboundedReceiver<M>,
    /// A message that [`expect_none_until`](Self::expect_none_until) received: the next one to return.
    peeked: Option<M>,
    count: Arc<AtomicUsize>,
    limit: Duration,
}

impl<M: Message<Result = ()> + Send + 'static> Probe<M> {
    /// Starts a probe on the current arbiter. Its actor stops when the probe and all its recipients are
    /// dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ping>::start();
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn start() -> Self {
        Self::answering(|_| ())
    }
}

impl<M> Probe<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Starts a probe that answers each message with what the function returns.
    ///
    /// # Examples
    /// ```
    /// use actix::prelude::*;
    /// use actix_pika_actors::testing::Probe;
    ///
    /// #[derive(Message, Debug, PartialEq)]
    /// #[rtype(result = "u32")]
    /// struct Square(u32);
    ///
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::answering(|Square(number)| number * number);
    /// assert_eq!(probe.recipient().send(Square(7)).await.unwrap(), 49);
    /// assert_eq!(probe.next().await?, Square(7));
    /// # Ok::<(), actix_pika_actors::testing::TestError>(()) }).unwrap();
    /// ```
    pub fn answering(answer: impl FnMut(&M) -> M::Result + Send + 'static) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let actor = ProbeActor::new(sender, Arc::clone(&count), Box::new(answer));
        Self { actor: actor.start(), messages, peeked: None, count, limit: TIME_LIMIT }
    }

    /// Starts a probe that answers each message with a copy of `value`.
    ///
    /// # Examples
    /// ```
    /// use actix::prelude::*;
    /// use actix_pika_actors::testing::Probe;
    ///
    /// #[derive(Message)]
    /// #[rtype(result = "Result<(), String>")]
    /// struct Save;
    ///
    /// # actix::System::new().block_on(async {
    /// let disk = Probe::<Save>::returning(Err("the disk is full".to_owned()));
    /// assert_eq!(disk.recipient().send(Save).await.unwrap().unwrap_err(), "the disk is full");
    /// assert_eq!(disk.count().await, 1);
    /// # });
    /// ```
    pub fn returning(value: M::Result) -> Self
    where
        M::Result: Clone,
    {
        Self::answering(move |_| value.clone())
    }

    /// Sets the limit of every wait. The default is [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ping>::start().time_limit(std::time::Duration::from_millis(10));
    /// assert!(probe.next().await.is_err());
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns a recipient for the code under test.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ping>::start();
    /// probe.recipient().do_send(Ping(1));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub fn recipient(&self) -> Recipient<M> {
        self.actor.clone().recipient()
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](TestErrorKind::TimedOut) when none comes within the limit,
    /// [`Disconnected`](TestErrorKind::Disconnected) when its arbiter has ended, or the function that
    /// [answers](Self::answering) has panicked.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ping>::start();
    /// probe.recipient().do_send(Ping(1));
    /// assert_eq!(probe.next().await?, Ping(1));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn next(&mut self) -> Result<M, TestError> {
        if let Some(message) = self.peeked.take() {
            return Ok(message);
        }
        match time::timeout(self.limit, self.messages.recv()).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => {
                let came = "the probe has ended: its function has panicked, or its arbiter has ended";
                Err(TestError::new(TestErrorKind::Disconnected, awaited::<M>(), came))
            }
            Err(_) => Err(TestError::timed_out(awaited::<M>(), self.limit)),
        }
    }

    /// Waits for a message for which `wanted` returns true, and returns it. Drops the messages before it.
    ///
    /// # Errors
    /// The same as [`next`](Self::next).
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ping>::start();
    /// (1..=3).for_each(|n| probe.recipient().do_send(Ping(n)));
    /// assert_eq!(probe.next_matching(|ping| ping.0 > 1).await?, Ping(2));
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn next_matching(&mut self, mut wanted: impl FnMut(&M) -> bool) -> Result<M, TestError> {
        let deadline = deadline_after(self.limit);
        loop {
            let left = deadline.saturating_duration_since(time::Instant::now());
            match time::timeout(left, self.next()).await {
                Ok(Ok(message)) if wanted(&message) => return Ok(message),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(TestError::timed_out(format!("a certain {}", awaited::<M>()), self.limit));
                }
            }
        }
    }

    /// Runs a future to its end, during which no message may arrive and none may be left.
    ///
    /// It sees every message that was sent before the future ended, so no time has to pass afterwards.
    ///
    /// # Errors
    /// [`Unexpected`](TestErrorKind::Unexpected) when a message is there; [`next`](Self::next) still returns
    /// it. [`TimedOut`](TestErrorKind::TimedOut) when the future has not ended within the limit.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ping>::start();
    /// assert_eq!(probe.expect_none_until(async { 7 }).await?, 7);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn expect_none_until<F: Future>(&mut self, event: F) -> Result<F::Output, TestError> {
        let deadline = deadline_after(self.limit);
        let mut event = pin!(event);
        let output = poll_fn(|cx| match event.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.peek(cx).is_ready() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let Ok(output) = time::timeout_at(deadline, output).await else {
            let awaited = format!("the end of what sends no {}", awaited::<M>());
            return Err(TestError::timed_out(awaited, self.limit));
        };
        self.fence().await?;
        match output {
            Some(output) if self.peeked.is_none() && self.messages.is_empty() => Ok(output),
            _ => {
                let came = self.messages.len() + usize::from(self.peeked.is_some());
                let awaited = format!("no {}", awaited::<M>());
                Err(TestError::new(TestErrorKind::Unexpected, awaited, format!("{came} came")))
            }
        }
    }

    /// Returns all messages that were sent until now and not returned yet.
    ///
    /// # Panics
    /// If the probe has not handled them within the limit, because something keeps its arbiter.
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let mut probe = Probe::<Ping>::start();
    /// probe.recipient().do_send(Ping(1));
    /// assert_eq!(probe.drain().await, [Ping(1)]);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn drain(&mut self) -> Vec<M> {
        self.handled().await;
        let mut messages = Vec::from_iter(self.peeked.take());
        while let Ok(message) = self.messages.try_recv() {
            messages.push(message);
        }
        messages
    }

    /// Returns the number of all messages that were sent until now.
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    ///
    /// # Examples
    /// ```
    /// # use actix::Message;
    /// # use actix_pika_actors::testing::{TestError, Probe};
    /// # #[derive(Message, Debug, PartialEq)]
    /// # #[rtype(result = "()")]
    /// # struct Ping(u32);
    /// # actix::System::new().block_on(async {
    /// let probe = Probe::<Ping>::start();
    /// probe.recipient().do_send(Ping(1));
    /// assert_eq!(probe.count().await, 1);
    /// # Ok::<(), TestError>(()) }).unwrap();
    /// ```
    pub async fn count(&self) -> usize {
        self.handled().await;
        self.count.load(Ordering::Acquire)
    }

    /// Waits until a message is there, and keeps it.
    fn peek(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.peeked.is_none() {
            // A closed queue stays pending: no message can arrive.
            let Poll::Ready(Some(message)) = self.messages.poll_recv(cx) else { return Poll::Pending };
            self.peeked = Some(message);
        }
        Poll::Ready(())
    }

    /// Waits until the actor has handled all messages that were sent before: a mailbox keeps the order.
    async fn fence(&self) -> Result<(), TestError> {
        match time::timeout(self.limit, self.actor.send(Fence::new())).await {
            // Fails if the actor has stopped, which handles nothing more.
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => {
                let awaited = format!("a probe to handle each {}", awaited::<M>());
                Err(TestError::timed_out(awaited, self.limit))
            }
        }
    }

    async fn handled(&self) {
        if let Err(error) = self.fence().await {
            panic!("{error}");
        }
    }
}

impl<M> fmt::Debug for Probe<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("of", &awaited::<M>())
            .field("waiting", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// Returns the name of the message type, without paths.
fn awaited<M>() -> String {
    let name = std::any::type_name::<M>();
    let parts = name.split_inclusive(['<', '>', '(', ')', ',', ' ']);
    parts.map(|part| part.rsplit("::").next().unwrap_or(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_have_no_paths() {
        assert_eq!(awaited::<Box<Vec<Arc<u8>>>>(), "Box<Vec<Arc<u8>>>");
        assert_eq!(awaited::<std::time::Duration>(), "Duration");
    }
}
