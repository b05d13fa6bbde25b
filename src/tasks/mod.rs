//! Typed consumers: a message is decoded into a [`Task`], a handler returns [`Done`], and that settles the message.
//!
//! A handler is a closure ([`Queue::for_each`](crate::Queue::for_each), [`Tasks::for_each`], [`Tasks::run`]), or an actor
//! ([`Tasks::to`]) with any of actix's response types. It cannot settle messages itself: what it returns does. A closure can also
//! handle tasks in batches ([`Tasks::batches`]).
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika::tasks::{Done, OrReject, Task};
//! # mod smtp { pub struct To; impl std::str::FromStr for To { type Err = std::fmt::Error; fn from_str(_: &str) -> Result<To, Self::Err> { Ok(To) } }
//! # pub async fn send(_: To) -> std::io::Result<()> { Ok(()) } }
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Email { to: String }
//!
//! struct Mailer;
//!
//! impl Actor for Mailer {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Task<Email>> for Mailer {
//!     type Result = ResponseFuture<Done>;
//!
//!     fn handle(&mut self, email: Task<Email>, _: &mut Context<Self>) -> Self::Result {
//!         Box::pin(async move {
//!             let to: smtp::To = email.to.parse().or_reject()?; // dead-lettered: no try will succeed
//!             smtp::send(to).await?; // an error is tried again
//!             Ok(()) // acknowledged
//!         })
//!     }
//! }
//!
//! # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
//! let mails = channel.declare_queue(actix_pika::DeclareQueue::new("mail").quorum()).await?;
//! let consumer = mails.tasks::<Email>().at_once(8).to(Mailer.start()).await?;
//! // ... until the process has to end:
//! consumer.drain(std::time::Duration::from_secs(20)).await;
//! # Ok(()) }
//! ```
//!
//! # What becomes of a message
//!
//! | the handler | the message |
//! |---|---|
//! | returns `Ok(())` | is acknowledged |
//! | returns a [`Failure`] to retry, as `?` does; panics; exceeds its [time-out](Tasks::timeout) | is tried again: see below |
//! | returns [`Failure::reject`] | is rejected, and dead-lettered with the reason by a [ladder](Tasks::retry), or else by the dead-letter exchange of its queue; without one, the broker drops it |
//! | returns [`Failure::requeue`] | returns to its queue |
//! | is an actor that stops | returns to its queue, and the consumer ends |
//! | loses the connection | is delivered again; that copy waits until the handler has ended |
//!
//! A message that cannot be decoded gets its [`Undecodable`] policy.
//!
//! **A retry** publishes a copy of the message to a step of a ladder of delays, if the consumer has one
//! ([`Tasks::retry`]). Otherwise it runs the task again in place, after pauses of 200 milliseconds, 1 and 5 seconds. Meanwhile it counts as one
//! of the tasks that run [at once](Tasks::at_once), and the prefetch holds it. After the last try its message is rejected,
//! if the queue was declared with a dead-letter exchange; otherwise it is held for 5 seconds and returns to the queue.
//!
//! # How many run at once, in which order
//!
//! | response type | at once, with `at_once(4)` | end in order | a panic costs | the actor after it |
//! |---|---|---|---|---|
//! | `Done`, `MessageResult` | 1 | yes | that task | has ended |
//! | `ResponseFuture`, `Response::fut` | 4 | no | that task | goes on |
//! | the same, if it panics before it returns the future | | | that task; futures that run go on and settle | has ended |
//! | `ResponseActFuture` | 4 | no | that task; those beside it are cut off, without blame | has ended |
//! | `AtomicResponse` | 1 | yes | that task | has ended |
//! | `ctx.wait` in the handler, and one of these | as without it: what the actor waits for comes before the next message | | | |
//! | an actor in a `SyncArbiter` of 3 threads | 3 | no | that task, and one of the threads for ever | goes on |
//! | a closure | 4 | no | that task | |
//!
//! When an actor ends, its consumer ends with [`TargetGone`](crate::ConsumerEnd::TargetGone), and what it had not done
//! returns to the queue. A [supervised worker](crate::worker) is built again instead, and goes on with it. A
//! blocking closure stops everything on its arbiter: use `actix_web::web::block`, or an actor in a `SyncArbiter`.
//!
//! # The end of a process
//!
//! [`TaskConsumer::drain`] takes no more tasks, waits for those that run, and gives back the rest. Close the connection
//! after it, which writes the last acknowledgements: `consumer.drain(limit).await`, then `connection.close().await`. A
//! consumer that [`Tasks::run`] runs has no handle: dropping its future gives everything back, and cuts off what runs.
//!
//! # How often a task runs
//!
//! At least once. A message is delivered again if its handler ran while the connection was lost, or if the process ended.
//! For messages with an id, the outcome of a handler that ended too late is kept, and its copy gets it without a second
//! run, if this consumer receives it. With a ladder, a failure is kept as well: the copy goes to the ladder. A message that
//! comes back from a ladder or by dead-lettering always runs. That is no protection from duplicates when a process ends.
//!
//! A handler that runs longer than the broker's delivery timeout (30 minutes) loses its delivery in the same way. So does a
//! pause of a retry in place ([`Failure::retry_in`]): longer ones need a ladder.

#[cfg(feature = "aio-pika")]
pub(crate) use self::front::ClosureFront;
pub use self::{
    batches::{BatchOutcome, TaskBatches},
    builder::Tasks,
    failure::{Done, Failure, OrReject, Verdict},
    task::Task,
    task_consumer::{DrainReport, TaskConsumer},
    token::TaskToken,
    undecodable::Undecodable,
};

#[cfg(all(test, feature = "testing"))]
pub(crate) use self::{
    blame::{Blame, blame_of_ended},
    token::Progress,
};
pub(crate) use self::{
    front::{Front, Gone, Ran},
    token::blame_nobody,
};

mod batch_front;
mod batches;
mod blame;
mod builder;
mod control;
mod failure;
pub(crate) mod front;
mod hooking;
mod intake;
mod outcomes;
pub(crate) mod runner;
mod schedule;
mod settling;
mod share;
mod start;
mod task;
mod task_consumer;
mod token;
mod undecodable;
mod verdict;
