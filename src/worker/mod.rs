//! Supervised workers: an actor that handles the tasks of one or several queues, and is built again by its factory after
//! a panic or a stop.
//!
//! The consumers belong to the supervisor and outlive the actor: there is one for each queue, however often a worker is
//! built. What a worker leaves behind goes to the next one, without a trip to the broker.
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_pika::{tasks::{Done, Task}, worker::{SupervisedWorker, WorkerEvent}};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Welcome { to: String }
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Bill { to: String, amount: u64 }
//!
//! #[derive(Default)]
//! struct Mailer { sent: u64 }
//!
//! impl Actor for Mailer {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Task<Welcome>> for Mailer {
//!     type Result = ResponseFuture<Done>;
//!
//!     fn handle(&mut self, welcome: Task<Welcome>, _: &mut Context<Self>) -> Self::Result {
//!         Box::pin(async move { Ok(println!("welcome, {}", welcome.to)) })
//!     }
//! }
//!
//! impl Handler<Task<Bill>> for Mailer {
//!     type Result = Done;
//!
//!     fn handle(&mut self, bill: Task<Bill>, _: &mut Context<Self>) -> Done {
//!         self.sent += 1;
//!         Ok(println!("{} pays {}", bill.to, bill.amount))
//!     }
//! }
//!
//! # async fn run(welcome: actix_pika::Queue, bills: actix_pika::Queue, alarm: Recipient<WorkerEvent>) -> actix_pika::Result<()> {
//! let mailer = SupervisedWorker::new(Mailer::default)
//!     .feed(welcome.tasks::<Welcome>().at_once(8))
//!     .feed(bills.tasks::<Bill>())
//!     .watch(alarm)
//!     .start()
//!     .await?;
//! // ... until the process has to end:
//! mailer.drain(std::time::Duration::from_secs(20)).await;
//! # Ok(()) }
//! ```
//!
//! # When a worker ends
//!
//! | its task | what becomes of it |
//! |---|---|
//! | whose handler panicked | has failed: it is tried again by the policy of the consumer, which counts an attempt |
//! | was being handled, and is cut off | the next worker handles it; no attempt is counted, except at the third such accident |
//! | is a future of its own (`ResponseFuture`), and runs | goes on, and settles |
//! | was not looked at | goes to the next worker, in the order of delivery |
//!
//! [`tasks`](crate::tasks) lists which response types end the actor by a panic. If the token of a task is dropped before its
//! handler panics ([`Task::into_parts`](crate::tasks::Task::into_parts)), the task counts as one that was cut off.
//!
//! The next worker is built after 100 milliseconds, and after pauses that double up to 10 seconds (each up to a half
//! shorter, at random); after a worker that ran for 30 seconds, the pauses are short again. `stopping` and `stopped` of
//! the actor run after a panic, too. An actor whose `stopping` returns `Running::Continue` then handles what is in its
//! mailbox once more: do not do that.
//!
//! | what happens | what the supervisor does | [event](WorkerEvent) |
//! |---|---|---|
//! | the actor panics, or stops | builds the next one, after a pause | `Ended`, later `Started` |
//! | the factory panics | cancels the consumers of its thread; what they hold returns to the queues | `FactoryPanicked` |
//! | a consumer ends: its queue was deleted, its channel closed | goes on with the others; ends with the last one | `ConsumerLost` |
//! | the connection is lost, and recovers | goes on: what runs is finished, and copies wait for it | |
//! | [`drain`](SupervisedWorker::drain) | cancels the consumers, waits for what runs, stops the actor | `Ended`, `Finished` |
//! | the arbiter or the `System` ends | everything returns to the queues | |
//!
//! # Actix's `Supervisor` and registry
//!
//! **Do not consume in `started`.** It runs again after each restart, and each run adds a consumer: three restarts under
//! actix's `Supervisor` make four. Start the consumer once, outside of the actor.
//!
//! A service of the registry handles tasks like any actor: `queue.tasks::<Job>().to(Service::from_registry())`. When it
//! stops itself, actix restarts it with the same address, and its consumer goes on. **A panic ends a service until the
//! process ends**: its consumer ends with [`TargetGone`](crate::ConsumerEnd::TargetGone), what it has not done
//! returns to the queue, and `from_registry` goes on returning the address that is dead. So a service that others look up
//! should run no handler of tasks. It can hold a [`SupervisedWorker`], and ask for its [`addr`](SupervisedWorker::addr)
//! each time.

#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
pub(crate) use self::running_actor::live;
pub use self::{
    event::WorkerEvent,
    supervised::{SupervisedWorker, WorkerBuilder},
};

#[cfg(all(test, feature = "testing"))]
mod blame_tests;
mod event;
mod feed;
mod link;
mod machine;
mod running_actor;
mod supervised;
mod thread;
