//! Retries with delays, and dead letters: a ladder of queues for the messages of a job queue.
//!
//! A task that fails is not returned to its queue, where it would run again at once. A copy of its message is
//! published to a *step*: a queue without consumers, whose messages expire after its delay and go back to the
//! job queue. The copy is confirmed before the original is acknowledged, so that a crash between the two runs the task
//! twice, and loses nothing. After the last step the copy goes to the queue of dead letters, with its reason.
//!
//! [`Channel::declare_jobs`](crate::Channel::declare_jobs) declares everything. For the queue `mail` and the
//! ladder `[1 s, 30 s]`:
//!
//! | queue | what it is | arguments, all quorum queues |
//! |---|---|---|
//! | `mail.dead`, or [`Retry::dead_letters`] | the last stop, read by people and [`Queue::redrive`](crate::Queue::redrive) | a delivery limit that is never reached |
//! | `mail` | the jobs | dead-lettering at least once to `mail.dead`; a delivery limit of 20, unless it has another |
//! | `mail.retry.1000`, `mail.retry.30000` | the steps; named by their milliseconds, so that another ladder has others | a TTL; dead-lettering at least once to `mail` |
//!
//! All of them refuse what they cannot keep (`overflow` is `reject-publish`), which at-least-once dead-lettering needs.
//! The delivery limit is for messages that end the process: only the broker can count those.
//!
//! # What a copy has
//!
//! | header | meaning |
//! |---|---|
//! | `retry-attempt` | how many tries have failed |
//! | `retry-cause` | why the last one has failed, the first 1,024 bytes |
//! | `retry-queue`, `retry-time` | dead letters only: the job queue, and when the last try has failed |
//! | `retry-redriven` | how often it was moved back from the dead letters |
//!
//! They do not begin with `x-`, because RabbitMQ owns such headers, and does not count on in those that are
//! published. The body, message id, timestamp, correlation id, priority and all other headers (such as
//! `traceparent`) are kept, and the copy is persistent. Not kept are the expiration, which would end the delay, `CC` and
//! `BCC`, which would send copies elsewhere, the user id, which is that of another publisher, and the
//! broker's `x-death`, `x-first-death-…`, `x-last-death-…`, `x-delivery-count` and `x-acquired-count`. The routing key
//! of a retried message is the name of the job queue. A dead letter that the broker made, because of the
//! delivery limit, has `x-death` in place of these headers.
//!
//! # Precision and limits
//!
//! A message comes back to the end of its queue, some milliseconds after its delay. Jobs are overtaken by
//! later ones: what must be in order has no ladder. A pause asked for by
//! [`Failure::retry_in`](crate::tasks::Failure::retry_in) takes the first step that is long enough, or the longest one.
//! If the job queue is deleted, the steps keep what they have and try again every three minutes. A step
//! or the queue of dead letters that somebody has deleted is declared again by the next message that needs it. A message whose
//! headers fill a frame has no room for a cause: its copy has only the count of tries.
//!
//! A queue that was declared otherwise has no ladder: [`Tasks::retry`](crate::tasks::Tasks::retry) refuses it, and names the
//! argument that is missing, as far as its handle knows them: that of [`Channel::queue`](crate::Channel::queue)
//! knows none, for queues whose dead letters are set by a policy. RabbitMQ cannot change the arguments of a
//! queue: declare the jobs under a new name, and move what is left in the old queue with
//! [`Queue::redrive`](crate::Queue::redrive).
//!
//! **Classic queues** ([`Retry::classic`]) dead-letter at most once: a broker that is killed while messages expire
//! loses some of them (4 of 4,744 in a test), and they have no delivery limit: a message that ends the process comes back
//! for ever.
//!
//! # Why not the delayed retry of RabbitMQ 4.3
//!
//! A quorum queue can delay what is returned to it itself
//! ([`DeclareQueue::delayed_retry`](crate::DeclareQueue::delayed_retry)). A ladder does not use it: its delay grows by one
//! fixed amount (with 4.3.6, a minimum of 0.5 s and a maximum of 1.2 s: 0.5, 1.0, 1.2, 1.2 s) and cannot have the steps of a
//! ladder or a pause for one message; its count is that of the broker, in which crashes and lost connections are
//! failures, too, and `basic.nack` is none; a returned message cannot carry a reason; and
//! it is an argument of the job queue, which older brokers ignore without a word, so that a rolling upgrade has no delay. For
//! [`Failure::requeue`](crate::tasks::Failure::requeue) it is useful beside a ladder: `declare_jobs` keeps it.
//!
//! # Examples
//! ```no_run
//! # use std::time::Duration;
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
//! # mod smtp { pub async fn send(_: &str) -> std::io::Result<()> { Ok(()) } }
//! # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
//! use actix_pika::{DeclareQueue, retry::Retry, tasks::Task};
//!
//! let channel = connection.channel().await?;
//! let ladder = Retry::ladder(&[1, 30, 600].map(Duration::from_secs));
//! let mail = channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder).await?;
//!
//! // What fails is tried again after a second, half a minute and ten minutes, and then a dead letter.
//! let tasks = mail.tasks::<Email>().at_once(8).retry(ladder);
//! let consumer = tasks.for_each(|email: Task<Email>| async move { Ok(smtp::send(&email.to).await?) }).await?;
//!
//! mail.publisher::<Email>().publish(&Email { to: "somebody@example.com".into() }).await?;
//!
//! // Later, when the reason is gone:
//! let moved = channel.queue("mail.dead").redrive("mail").rate(50).run().await?;
//! println!("{} moved, {} failed", moved.moved, moved.failed);
//! # Ok(()) }
//! ```

use std::time::Duration;

pub(crate) use self::{
    copy::{attempts, cut_cause, redriven_times},
    ladder::{Retried, RetryLadder},
};

mod check;
pub(crate) mod copy;
mod declare;
mod ladder;
mod plan;

/// The delays between the tries of a task, and where its message goes after the last one.
///
/// It is a description, which [`Channel::declare_jobs`](crate::Channel::declare_jobs) declares.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika::retry::Retry;
///
/// // Four tries: at once, then after a second, half a minute and ten minutes.
/// let ladder = Retry::ladder(&[1, 30, 600].map(Duration::from_secs)).dead_letters("mail.failed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a ladder does nothing until it is declared or used"]
pub struct Retry {
    steps: Vec<Duration>,
    dead_letters: Option<String>,
    classic: bool,
}

impl Retry {
    /// Creates a ladder with a delay before each further try, in whole milliseconds, rounded up.
    ///
    /// There is one try more than delays; without delays, the first failure is the last. At most 32 delays of ten years
    /// each.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::retry::Retry;
    /// let thrice = Retry::ladder(&[Duration::from_millis(200), Duration::from_secs(5)]);
    /// let once = Retry::ladder(&[]);
    /// ```
    pub fn ladder(delays: &[Duration]) -> Self {
        Self { steps: delays.to_vec(), dead_letters: None, classic: false }
    }

    /// Sets the queue of dead letters; the name of the job queue with `.dead` unless set. Several job queues can share one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::retry::Retry;
    /// let ladder = Retry::ladder(&[]).dead_letters("failed");
    /// ```
    pub fn dead_letters(mut self, queue: impl Into<String>) -> Self {
        self.dead_letters = Some(queue.into());
        self
    }

    /// Makes all queues classic ones: for job queues that exist and are classic. They lose what [the
    /// module](self#precision-and-limits) lists.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::retry::Retry;
    /// let ladder = Retry::ladder(&[Duration::from_secs(30)]).classic();
    /// ```
    pub fn classic(mut self) -> Self {
        self.classic = true;
        self
    }
}
