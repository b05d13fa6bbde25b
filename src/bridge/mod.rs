//! Topic bridge: one consumer passes the messages of an exchange on to many local subscribers, such as web sockets and
//! server-sent events.
//!
//! ```no_run
//! # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
//! use actix_pika::bridge::BridgeEvent;
//! use futures_util::StreamExt;
//!
//! let bridge = channel.exchange("orders").bridge().start().await?; // once in a process
//!
//! let mut austrian = bridge.stream("orders.*.at", 64).await?; // for each client
//! while let Some(event) = austrian.next().await {
//!     match event {
//!         BridgeEvent::Message(order) => println!("{}", order.routing_key()),
//!         BridgeEvent::Lagged(lost) => println!("this client was too slow, {lost} orders are lost"),
//!         BridgeEvent::Gap => println!("orders may be lost, read all again"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! [`Bridge::subscribe`] does the same for an actor. `examples/sse.rs` serves both over HTTP.
//!
//! # What it does
//!
//! The bridge declares an exclusive queue, which the broker names, and binds it with each pattern that at least one
//! subscriber wants. A binding is added with the first subscriber of its pattern, and removed with the last one.
//! Messages are matched in this process by the rules of topic exchanges, in one walk for each message, and shared: none
//! is copied for a subscriber. With another type of exchange, see [`BridgeBuilder::kind`].
//!
//! # What may be lost, and who is told
//!
//! | | who loses | is told |
//! |---|---|---|
//! | a subscriber does not keep up | that subscriber, as its [`Lagging`] says | [`BridgeEvent::Lagged`], with the number, at the place of the loss |
//! | the connection is lost, or the queue is deleted | all | [`BridgeEvent::Gap`], once the bridge consumes again |
//! | the bridge is stopped, or ends | - | [`BridgeEvent::Ended`], after what waits |
//!
//! Each message reaches a subscriber at most once. The bridge acknowledges it as soon as it is in the buffers: it is not
//! for work that must be done, for which [`tasks`](crate::tasks) are. A prefetch bounds what the broker sends ahead, so
//! that a process that is busy for a moment does not keep the other channels of its connection from being read; its
//! queue grows at the broker meanwhile.
//!
//! # Bounds
//!
//! A subscriber has at most its own bound of messages, and an actor 16 more in its mailbox. A stuck one keeps no more,
//! and costs the others nothing. The memory of a bridge is at most the sum of these bounds, times the size of a message;
//! what several subscribers wait for is there once. A bound should be larger than the bursts that are expected: 64 is
//! little, and costs about 2 KiB.
//!
//! # Routing by headers
//!
//! The keys of a `CC` header count as those of the message. Those of `BCC` do not, because the broker removes them: a
//! message that comes only by its `BCC` finds no subscriber.
//!
//! Source: <https://www.rabbitmq.com/tutorials/tutorial-five-python>

mod bindings;
mod buffer;
mod builder;
mod event;
mod handle;
mod inbox;
mod pump;
mod registry;
mod routes;
mod subscribe;
#[cfg(test)]
mod topic_rules;
mod topics;

pub use self::{
    builder::BridgeBuilder,
    event::{BridgeEvent, Lagging},
    handle::{Bridge, BridgeStats, BridgeStream, Subscription},
    subscribe::Subscribe,
};
