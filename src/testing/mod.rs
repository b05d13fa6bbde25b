//! Testing an application, on three levels.
//!
//! | level | what there is | what it is for |
//! |---|---|---|
//! | without a socket | this module: [`TestDelivery`], [`TestTask`], [`Detached`], [`Probe`] | what a handler publishes, settles and returns, for each answer of a broker |
//! | a broker in the process | the crate `actix-pika-broker` | what needs routing, redelivery, dead letters, expiry, several clients; faults on order, virtual time |
//! | RabbitMQ | the nodes that you run | what depends on its version, plug-ins, policies, disk, cluster; the last word |
//!
//! Begin with the first one that has what the test is about. A [`Detached`] connection routes nothing: a test of
//! bindings, of a retry ladder or of two services belongs to the second level, where the same code connects to the
//! URL of the test broker, or in memory ([`Connector::memory`](crate::Connector::memory)).
//!
//! | to test | use |
//! |---|---|
//! | a `Handler<Delivery>`, or a function of a delivery | [`TestDelivery`]: the delivery, and a [`SettleProbe`] that returns how it was settled |
//! | a `Handler<Task<T>>` | [`TestTask`]: the task, and what the handler returns |
//! | what publishes: an [`Exchange`], a [`Publisher`](crate::publisher::Publisher), an outbox | [`Detached`]: what was published, and the [`Answer`] to it |
//! | what consumes, from `consume` to the settlement | [`Detached::deliver`](Recorder::deliver) |
//! | an RPC client | [`Detached::reply`](Recorder::reply) |
//! | what sends to an actor, or to a [`RemoteRecipient`](crate::rpc::RemoteRecipient) | [`Probe`], which answers messages that have a result |
//! | what the library itself does on the wire | [`Peer`] and [`MemoryPeer`], which play a server frame by frame, with the types of amq-protocol |
//!
//! Every wait has a limit, [`TIME_LIMIT`] unless another one is set. A [`TestError`] says what was awaited and what
//! came instead, so tests return it, or unwrap.
//!
//! # Examples
//!
//! A service with a consumer, a publisher and its handler, and its test, which takes about 2.8 ms in a debug build
//! (`cargo test --all-features --lib testing::tests::a_service -- --nocapture`, median of 5 under load: 2.4 to 9.3):
//!
//! ```
//! use actix::prelude::*;
//! use actix_pika::{Delivery, Exchange, testing::{Answer, Detached}};
//!
//! /// Publishes a bill for each order.
//! struct Billing {
//!     bills: Exchange,
//! }
//!
//! impl Actor for Billing {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Delivery> for Billing {
//!     type Result = ResponseFuture<()>;
//!
//!     fn handle(&mut self, order: Delivery, _: &mut Self::Context) -> Self::Result {
//!         let bills = self.bills.clone();
//!         Box::pin(async move {
//!             let billed = bills.publish(order.body(), "bill").await;
//!             let _ = if billed.is_ok() { order.ack() } else { order.nack(true) };
//!         })
//!     }
//! }
//!
//! # #[allow(clippy::needless_doctest_main)]
//! #[actix::main] // #[actix::test]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let rabbit = Detached::start().await?;
//!     let billing = Billing { bills: rabbit.exchange("bills") }.start();
//!     rabbit.queue("orders").consume(billing).await?;
//!
//!     rabbit.deliver("orders", "order 7").acked().await?;
//!     let bill = rabbit.next_published().await?;
//!     assert_eq!((bill.exchange(), bill.routing_key()), ("bills", "bill"));
//!     assert_eq!(bill.body(), "order 7");
//!
//!     rabbit.answer(Answer::Nack);
//!     rabbit.deliver("orders", "order 8").nacked(true).await?;
//!     Ok(())
//! }
//! ```

mod detached;
mod task;
#[cfg(test)]
mod tests;

#[doc(inline)]
pub use actix_pika_actors::testing::*;

pub use self::{detached::Detached, task::TestTask};
#[cfg(doc)]
use crate::Exchange;
