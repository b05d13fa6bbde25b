//! What a subscriber gets, and what happens when it does not keep up.

use std::sync::Arc;

use actix::Message;

use crate::{ConsumerEnd, message::Content};

/// What a subscriber of a [`Bridge`](super::Bridge) gets, as a message of its actor or an item of its stream.
///
/// # Examples
/// A web socket, or anything else with an actor:
/// ```
/// use actix::prelude::*;
/// use actix_pika::bridge::BridgeEvent;
///
/// struct Board;
///
/// impl Actor for Board {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<BridgeEvent> for Board {
///     type Result = ();
///
///     fn handle(&mut self, event: BridgeEvent, ctx: &mut Self::Context) {
///         match event {
///             BridgeEvent::Message(order) => println!("{}: {} bytes", order.routing_key(), order.body().len()),
///             BridgeEvent::Lagged(lost) => println!("{lost} orders were lost here: read them again"),
///             BridgeEvent::Gap => println!("orders may have been lost on the way: read them again"),
///             BridgeEvent::Ended(_) => ctx.stop(),
///             _ => {}
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BridgeEvent {
    /// A message, which all its subscribers share.
    Message(Arc<Content>),
    /// So many messages are lost at this place of the order, because the subscriber did not take them in time.
    Lagged(u64),
    /// Messages may be lost at this place of the order, because the bridge had no consumer at the broker: the connection
    /// was lost, or the queue was deleted. The bridge consumes again; what is published from now on arrives.
    Gap,
    /// This is the last event. `Cancelled`: the bridge was stopped. `TooSlow`: this subscriber did not keep up, under
    /// [`Lagging::Disconnect`]. Others: why the consumer of the bridge has ended.
    Ended(ConsumerEnd),
}

impl Message for BridgeEvent {
    type Result = ();
}

/// What happens to a message for a subscriber that already has as many as its bound allows. The subscriber is told, and
/// no other subscriber notices it.
///
/// # Examples
/// ```
/// use actix_pika::bridge::{Lagging, Subscribe};
///
/// let prices = Subscribe::new("prices.#", 16); // the newest prices count
/// let audit = Subscribe::new("orders.#", 1024).lagging(Lagging::Disconnect); // all or nothing
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lagging {
    /// The oldest message that waits is lost. The default.
    #[default]
    DropOldest,
    /// The new message is lost.
    DropNewest,
    /// All that waits is lost, and the subscription ends with `TooSlow`.
    Disconnect,
}
