//! Prefetched deliveries with too many bytes: the consumer starts again with a smaller prefetch.

use std::{collections::BTreeSet, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use actix_pika::{
    Channel, ChannelEvent, Connection, Connector, Consume, DeclareQueue, Delivery, Publishing,
    connect_robust, events::Events,
};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::support::{eventually, modes::Bench, oracle::Oracle, proxy::Proxy, within};

const MESSAGES: usize = 40;
const BODY: usize = 2_000_000;
const BOUND: usize = 16 << 20;

fn body(n: usize) -> Bytes {
    let mut body = vec![b'.'; BODY];
    body[..8].copy_from_slice(&n.to_be_bytes());
    body.into()
}

/// Returns a channel of a robust connection, its events, and what keeps both.
async fn relay(bench: &Bench) -> (Channel, Events<ChannelEvent>, (Connection, Proxy, Oracle)) {
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    for queue in ["from", "to"] {
        bench.channel.declare_queue(DeclareQueue::new(queue)).await.unwrap();
    }
    let exchange = bench.channel.default_exchange();
    for n in 0..MESSAGES {
        within("a publish", 30, exchange.publish(Publishing::new(body(n)), "from")).await.unwrap();
    }
    let proxy = Proxy::to(&bench.vhost.broker().address());
    let connector = Connector::new(&proxy.url(&bench.vhost.url())).unwrap().prefetch_bytes(BOUND);
    let connection = connect_robust(connector).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let events = channel.events();
    (channel, events, (connection, proxy, oracle))
}

async fn assert_relayed(
    channel: Channel,
    mut events: Events<ChannelEvent>,
    kept: (Connection, Proxy, Oracle),
) {
    let (connection, proxy, oracle) = kept;
    oracle.wait_for_count("from", 0).await;
    let event = within("the event", 5, events.next()).await.unwrap();
    let ChannelEvent::PrefetchReduced { tag, from: 250, to: 4 } = event else { panic!("{event:?}") };
    assert_eq!(&*tag, "relay");
    assert_eq!(proxy.accepted_count(), 1, "no reconnect");
    assert_eq!(channel.load().unconfirmed, 0);
    let to = channel.queue("to");
    let mut seen = BTreeSet::new();
    while let Some(delivery) = within("a get", 30, to.get()).await.unwrap() {
        seen.insert(usize::from_be_bytes(delivery.body()[..8].try_into().unwrap()));
        delivery.ack().unwrap();
    }
    assert!(seen.into_iter().eq(0..MESSAGES));
    within("close", 30, connection.close()).await.unwrap();
}

/// PRO-20: a relay publishes each message of 2 MB and awaits the confirm before it settles, on one connection:
/// nothing times out.
#[actix::test]
async fn a_relay_of_large_messages_by_stream_needs_no_reconnect() {
    let bench = Bench::open(true).await;
    let (channel, events, kept) = relay(&bench).await;
    let options = Consume::new().tag("relay");
    let mut deliveries = channel.queue("from").deliveries_with(options).await.unwrap();
    let exchange = channel.default_exchange();
    for _ in 0..MESSAGES {
        let delivery = within("a delivery", 30, deliveries.next()).await.unwrap();
        let content = Publishing::new(delivery.body_bytes());
        within("a confirm", 30, exchange.publish(content, "to")).await.unwrap();
        delivery.ack().unwrap();
    }
    deliveries.close().await.unwrap();
    assert_relayed(channel, events, kept).await;
}

/// Handles one delivery after the other.
struct Relay(Channel);

impl Actor for Relay {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Relay {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        let exchange = self.0.default_exchange();
        let relayed = async move {
            let content = Publishing::new(delivery.body_bytes());
            exchange.publish(content, "to").await.unwrap();
            delivery.ack().unwrap();
        };
        ctx.wait(relayed.into_actor(self).map(|(), _, _| ()));
    }
}

/// PRO-20: the same by an actor.
#[actix::test]
async fn a_relay_of_large_messages_by_actor_needs_no_reconnect() {
    let bench = Bench::open(true).await;
    let (channel, events, kept) = relay(&bench).await;
    let relay = Relay(channel.clone()).start();
    let options = Consume::new().tag("relay");
    let consumer = channel.queue("from").consume_with(options, relay.recipient()).await.unwrap();
    let relayed = || async { (kept.2.count("to").await as usize >= MESSAGES).then_some(()) };
    eventually("all are relayed", 90, relayed).await;
    consumer.drain(Duration::from_secs(30)).await.unwrap();
    assert_relayed(channel, events, kept).await;
}

/// PRO-20: a queue with auto_delete goes with its last consumer, so that one keeps its prefetch: nothing is lost.
#[actix::test]
async fn a_queue_with_auto_delete_is_not_deleted_for_a_smaller_prefetch() {
    let bench = Bench::open(true).await;
    let connector = Connector::new(&bench.vhost.url()).unwrap().prefetch_bytes(BOUND);
    let connection = connect_robust(connector).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let mut events = channel.events();
    let queue = channel.declare_queue(DeclareQueue::new("volatile").auto_delete(true)).await.unwrap();
    let exchange = channel.default_exchange();
    for n in 0..MESSAGES {
        within("a publish", 30, exchange.publish(Publishing::new(body(n)), "volatile")).await.unwrap();
    }
    let mut deliveries = queue.deliveries_with(Consume::new().tag("all")).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..MESSAGES {
        held.push(within("a delivery", 30, deliveries.next()).await.unwrap());
    }
    let numbers = held.iter().map(|delivery| usize::from_be_bytes(delivery.body()[..8].try_into().unwrap()));
    assert!(numbers.eq(0..MESSAGES));
    held.into_iter().for_each(|delivery| delivery.ack().unwrap());
    deliveries.close().await.unwrap();
    within("close", 30, connection.close()).await.unwrap();
    while let Some(event) = within("the last event", 5, events.next()).await {
        assert!(!matches!(event, ChannelEvent::PrefetchReduced { .. }), "{event:?}");
    }
}
